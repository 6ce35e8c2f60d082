"""Writes bnexport/keras_files/nets.json: by what the weights of each network of keras.applications are recognised.

    python scripts/write_nets.py [NAME ...]

Each is built with and without the layers on top, which takes some minutes for all. Names that are given are built anew; the
others stay as they are.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

TABLE = Path(__file__).parent.parent / "bnexport" / "keras_files" / "nets.json"


def names() -> list[str]:
    """Every network there is."""
    import keras

    return sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))


def describe(name: str) -> dict[str, object]:
    """The usual size of its images, and its fingerprints: with the layers on top, and without."""
    import keras

    from bnexport.keras_files.architecture import fingerprint

    marks, size = [], 0
    for top in (True, False):
        net = getattr(keras.applications, name)(
            weights=None, include_top=top, **({} if top else {"input_shape": (size, size, 3)})
        )
        size = size or net.input_shape[1] or 224
        marks.append(fingerprint(tuple(v.shape) for v in net.weights if "float" in v.dtype))
        keras.backend.clear_session()
    return {"size": size, "fingerprints": marks}


def main() -> None:
    """Writes the table."""
    import keras

    keras.initializers.GlorotUniform.__call__ = keras.initializers.Zeros.__call__  # values do not matter, and take time
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    for name in sys.argv[1:] or names():
        table[name] = describe(name)
        print(name, table[name], flush=True)
    TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
