"""The process in which Keras runs on another backend (keras, through `keras_reference`): `keras_elsewhere` starts it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from bnexport.frameworks.keras.custom_modules import import_modules
from bnexport.frameworks.keras.reference import Keras
from bnexport.frameworks.protocols import Want
from bnexport.system.child_server import Compute, serve


def main(path: str, trust: str, architecture: str, *modules: str) -> None:
    """Serves the model in a file.

    Args:
        path: a Keras file.
        trust: "trust" to run code of the file's own; anything else refuses it.
        architecture: of a file that has weights only.
        modules: those that register classes with Keras.
    """

    def open_model() -> tuple[Mapping[str, object], Compute]:
        if modules:
            import_modules(modules, trust=trust == "trust")
        model = Keras().load(Path(path), Want(trust=trust == "trust", architecture=architecture))
        names = [port.name for port in model.signature.inputs]

        description = {**model.signature.as_dict(), "versions": dict(model.info.versions), "sha256": model.info.sha256}
        return description, lambda arrays, asked: model.forward(
            dict(zip(names, arrays, strict=True)), mode=asked["mode"], dtype=asked["dtype"], seed=asked["seed"]
        )

    serve(open_model)


if __name__ == "__main__":
    main(*sys.argv[1:])
