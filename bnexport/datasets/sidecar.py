"""The file beside a model that says how its images are prepared and what its classes are called: MODEL.toml.

[preprocessing]                 as in bnexport.results.preprocessing
[classes]
names = ["circle", "cross"]     in the order of the model's outputs
[labels]                        only after training on a flat folder: which picture is which class
"a.png" = "circle"
[outputs.NAME]                  what an output is for, as in bnexport.datasets.output_tasks
[training]                      how `bnexport train` made the model
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnexport.datasets.output_tasks import as_values, read_tasks
from bnexport.errors import InputError
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.tasks import OutputTask
from bnexport.system import files


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What travels with a model; every part may be missing."""

    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, OutputTask] = field(default_factory=dict)


def path_for(model: Path) -> Path:
    """Where the sidecar of a model file is.

    >>> path_for(Path("nets/model.h5")).name
    'model.h5.toml'
    """
    return model.with_name(model.name + ".toml")


def read(model: Path) -> Sidecar | None:
    """The sidecar of a model file; None where there is none.

    Raises:
        InputError: it is there and cannot be read.
    """
    path = path_for(model)
    if files.status(path) is None:
        return None
    try:
        values = tomllib.loads(files.read_bounded(path, files.MOST_TEXT).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read {path} ({error})", fix="correct or remove it") from error
    return from_values(values, str(path))


def from_values(values: Mapping[str, Any], source: str) -> Sidecar:
    """The same from plain values, as they stand in a TOML file or in an ONNX file's metadata.

    Raises:
        InputError: a part has another shape than this module's docstring says.
    """
    preprocessing, labels = values.get("preprocessing"), values.get("labels", {})
    classes = values.get("classes", {}).get("names", []) if isinstance(values.get("classes", {}), Mapping) else None
    if (
        not isinstance(labels, Mapping)
        or not isinstance(classes, list)
        or not isinstance(preprocessing, Mapping | None)
    ):
        raise InputError(
            f"{source} is not a valid bnexport sidecar", expected="the tables [preprocessing], [classes] and [labels]"
        )
    return Sidecar(
        preprocessing=Preprocessing.from_dict(dict(preprocessing)) if preprocessing is not None else None,
        classes=tuple(str(name) for name in classes),
        labels={str(k): str(v) for k, v in labels.items()},
        training=values.get("training", {}),
        outputs=read_tasks(values.get("outputs", {}), source),
    )


def values(sidecar: Sidecar) -> dict[str, object]:
    """The inverse of `from_values`; parts that are missing are left out."""
    parts: dict[str, object] = {
        "preprocessing": sidecar.preprocessing.as_dict() if sidecar.preprocessing else None,
        "classes": {"names": list(sidecar.classes)} if sidecar.classes else None,
        "labels": dict(sidecar.labels) or None,
        "training": dict(sidecar.training) or None,
        "outputs": as_values(sidecar.outputs) or None,
    }
    return {name: part for name, part in parts.items() if part is not None}


def for_metadata(sidecar: Sidecar | None) -> dict[str, object]:
    """What of it goes into an ONNX file's metadata: everything but how the model was trained."""
    return {key: value for key, value in values(sidecar or Sidecar()).items() if key != "training"}


def write(model: Path, sidecar: Sidecar) -> Path:
    """Writes the sidecar of a model file, whole or not at all; returns where."""
    import tomli_w

    path = path_for(model)
    files.write_text(path, tomli_w.dumps(values(sidecar)))
    return path
