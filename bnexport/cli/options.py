"""The options that several commands share, and how their text is read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.errors import UsageError
from bnexport.numerics.spec import Resize, Scaling

if TYPE_CHECKING:
    from bnexport.jobs.preparation import Overrides


class Provider(StrEnum):
    """Where onnxruntime may run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Required(StrEnum):
    """A provider without which a command has nothing to do."""

    CPU = "cpu"
    CUDA = "cuda"


class OutputFormat(StrEnum):
    """How stdout tells the answer."""

    TEXT = "text"
    JSON = "json"


Providers = Annotated[
    list[Provider],
    typer.Option(
        "--provider", help="Run onnxruntime on this provider; repeatable. auto: the CPU, and CUDA where it truly runs."
    ),
]
Require = Annotated[
    list[Required], typer.Option("--require", help="Exit with 3 unless this provider truly runs; repeatable.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="The largest batch; training mode depends on it.")]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="FILE", help="CSV file of two columns, file and label.")
]
Size = Annotated[
    str | None, typer.Option("--size", metavar="N|HxW", help="Height and width the images are brought to.")
]
Channels = Annotated[int | None, typer.Option("--channels", help="1 (grey), 3 (RGB) or 4 (RGBA).")]
ResizeKernel = Annotated[
    Resize | None, typer.Option("--resize", help="The resize kernel, named by whose pixels it reproduces.")
]
ScalingKind = Annotated[
    Scaling | None,
    typer.Option(
        "--scaling",
        help="none: raw 0-255; unit: x/255; minus-one-one: x/127.5-1; caffe, torch: as in keras.applications.",
    ),
]
Format = Annotated[OutputFormat, typer.Option("--format", help="How stdout tells the answer.")]
Reports = Annotated[
    list[Path],
    typer.Option(
        "--report", metavar="FILE", help="Also write the report to this file, by its suffix (.json); repeatable."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


def size(text: str) -> tuple[int, int]:
    """Height and width from "197" or "197x224".

    Raises:
        UsageError: the text is neither.

    >>> size("197x224")
    (197, 224)
    """
    try:
        parts = [int(part) for part in text.lower().split("x")]
        height, width = parts * 2 if len(parts) == 1 else parts
    except ValueError as error:
        raise UsageError(
            f"cannot read --size {text}", expected="a number such as 224, or height x width such as 197x224"
        ) from error
    if min(height, width) < 1:
        raise UsageError(f"cannot use --size {text}", expected="1 or more")
    return height, width


def overrides(size_text: str | None, channels: int | None, resize: Resize | None, scaling: Scaling | None) -> Overrides:
    """What the user said about preprocessing."""
    from bnexport.jobs.preparation import Overrides

    return Overrides(size(size_text) if size_text else None, channels, resize, scaling)
