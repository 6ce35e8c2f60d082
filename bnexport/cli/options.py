"""The options that several commands share, and how their text is read."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.errors import UsageError
from bnexport.numerics.spec import Fit, Order, Resize, Scaling

if TYPE_CHECKING:
    from bnexport.cache import Cache
    from bnexport.subjects.preparation import Overrides


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
    JUNIT = "junit"
    """JUnit XML, as CI systems read it"""
    GITHUB = "github"
    """annotations of GitHub Actions, and the step summary"""


class PlainFormat(StrEnum):
    """How stdout tells what is not a check."""

    TEXT = "text"
    JSON = "json"


Images = Annotated[
    Path | None,
    typer.Argument(
        metavar="IMAGES",
        help="A folder of images (flat, one subfolder for each class, or with a labels.csv), one image, or - for a list of paths on standard input.",
    ),
]
Inputs = Annotated[
    Path | None,
    typer.Option(
        "--inputs",
        metavar="FILE.npz",
        help="Arrays in place of images, one for each input of the model; `labels` may be among them.",
    ),
]
Onnx = Annotated[
    Path | None,
    typer.Option(
        "--onnx",
        metavar="FILE",
        help="The ONNX file that is really deployed, whoever exported it: hold it against the Keras model in place of a fresh export.",
    ),
]
Rtol = Annotated[
    list[str],
    typer.Option(
        "--rtol",
        metavar="[TENSOR=]X",
        help="The largest error that passes, relative to the tensor's scale, in place of 8 measured noise floors; for one tensor or all; repeatable.",
    ),
]
Atol = Annotated[
    list[str],
    typer.Option(
        "--atol",
        metavar="[TENSOR=]X",
        help="The same in the tensor's own unit; an error passes up to the sum of both.",
    ),
]
StrictPlacement = Annotated[
    bool, typer.Option("--strict-placement", help="Fail where CUDA leaves a compute node to the CPU (RT002).")
]
GpuMemoryLimit = Annotated[
    str | None, typer.Option("--gpu-mem-limit", metavar="SIZE", help="The most GPU memory to take, such as 4GiB.")
]


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
        help="none: raw 0-255; unit: x/255; minus-one-one: x/127.5-1; caffe, torch: as in keras.applications; mean-std: (x/255-mean)/std with --mean and --std.",
    ),
]
FitKind = Annotated[
    Fit | None,
    typer.Option(
        "--fit", help="What becomes of pictures of another aspect ratio: stretched, cropped or padded with black."
    ),
]
ChannelOrder = Annotated[Order | None, typer.Option("--channel-order", help="The order of the colour channels.")]
Mean = Annotated[
    str | None, typer.Option("--mean", metavar="X[,X,X]", help="For --scaling mean-std, on a scale of 0 to 1.")
]
Std = Annotated[str | None, typer.Option("--std", metavar="X[,X,X]", help="The same.")]
Format = Annotated[OutputFormat, typer.Option("--format", help="How stdout tells the answer.")]
TextOrJson = Annotated[PlainFormat, typer.Option("--format", help="How stdout tells the answer.")]
Reports = Annotated[
    list[Path],
    typer.Option(
        "--report",
        metavar="FILE",
        help="Also write the report to this file, by its suffix (.json, .xml for JUnit, .html, .md); repeatable.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load the model even where it holds code of its own (Lambda layers, unknown modules), and run that code.",
    ),
]
Untrusted = Annotated[
    bool,
    typer.Option(
        "--untrusted", help="Run in a process of its own, with limits of time and memory: for files of others."
    ),
]
TimeLimit = Annotated[
    float, typer.Option("--time-limit", metavar="SECONDS", min=1, help="With --untrusted: how long it may take.")
]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", metavar="SIZE", help="With --untrusted: the most memory it may take, such as 8GiB."),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Compute everything anew, and keep nothing.")]


def store(*, no_cache: bool) -> Cache:
    """What was computed before."""
    from bnexport.cache import NOTHING_KEPT, Cache, folder

    return NOTHING_KEPT if no_cache else Cache(folder())


def listed(images: Path | None) -> Path | list[Path] | None:
    """The images as they were named; the list on standard input for "-"."""
    if images != Path("-"):
        return images
    return [Path(line) for line in sys.stdin.read().splitlines() if line.strip()]


def memory(text: str | None) -> int | None:
    """A number of bytes from "4GiB", "500MB" or "1073741824".

    Raises:
        UsageError: the text is none of these.

    >>> memory("4GiB"), memory("500 MB"), memory(None)
    (4294967296, 500000000, None)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    size = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ") if found else 0
    if size < 1:
        raise UsageError(f"cannot read the memory size {text}", expected="a size such as 4GiB or 500MB")
    return int(size)


def tolerances(texts: Sequence[str], option: str) -> dict[str, float] | None:
    """Tolerances by tensor, "" for all others, from texts such as "1e-3" and "logits=1e-4"; None where there are none.

    Raises:
        UsageError: a text is neither.

    >>> tolerances(["1e-3", "logits=1e-4"], "--rtol")
    {'': 0.001, 'logits': 0.0001}
    """
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise UsageError(
                f"cannot read {option} {text}",
                expected="a number such as 1e-3, or a tensor and a number such as logits=1e-3",
            ) from error
    return found or None


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


def overrides(
    size_text: str | None,
    channels: int | None,
    resize: Resize | None,
    scaling: Scaling | None,
    fit: Fit | None = None,
    order: Order | None = None,
    mean: str | None = None,
    std: str | None = None,
) -> Overrides:
    """What the user said about preprocessing."""
    from bnexport.subjects.preparation import Overrides

    if (mean or std) and scaling is None:
        scaling = Scaling.MEAN_STD
    numbers_given = [numbers(text, name) if text else None for text, name in ((mean, "--mean"), (std, "--std"))]
    return Overrides(size(size_text) if size_text else None, channels, resize, scaling, fit, order, *numbers_given)


def numbers(text: str, option: str) -> tuple[float, ...]:
    """The numbers in a text such as "0.5" or "0.485,0.456,0.406".

    Raises:
        UsageError: there is something else in it.

    >>> numbers("0.485,0.456,0.406", "--mean")
    (0.485, 0.456, 0.406)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"cannot read {option} {text}", expected="a number such as 0.5, or three such as 0.485,0.456,0.406"
        ) from error
