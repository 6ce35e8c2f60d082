"""The options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bnexport.results.preprocessing import Fit, Order, Resize, Scaling


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
    NDJSON = "ndjson"
    """a line of JSON for each image, side, comparison, layer and finding, and one for the verdict"""
    GITHUB = "github"
    """annotations of GitHub Actions, and the step summary"""


class ReferenceKind(StrEnum):
    """Whose outputs are taken as right."""

    KERAS = "keras"
    KERAS2 = "keras2"


class PlainFormat(StrEnum):
    """How stdout tells what is not a check."""

    TEXT = "text"
    JSON = "json"


class Engine(StrEnum):
    """Which machines do the work."""

    LOCAL = "local"
    RAY = "ray"


EngineKind = Annotated[
    Engine, typer.Option("--engine", help="ray: on a Ray cluster, whose nodes see the same files, or URLs.")
]
Address = Annotated[
    str,
    typer.Option("--address", help="Of the Ray cluster; default: the one that Ray finds, else one on this machine."),
]
Images = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGES",
        help="A folder of images (flat, one subfolder for each class, or with a labels.csv), one image, a manifest (.csv, .tsv, .parquet), tar shards (.tar), each here or at a URL; or - for a list of paths and URLs on standard input.",
    ),
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", help="The list on standard input is separated by null bytes, as by find -print0."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Only the Kth of N parts of the images: together they are all, each time the same.",
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
Targets = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="RUNTIME[:DEVICE]",
        help="Also execute the file on this runtime, such as onnx-reference or onnxruntime:cuda; repeatable.",
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
Mlflow = Annotated[bool, typer.Option("--mlflow", help="Also log metrics, findings and the HTML report to MLflow.")]
MlflowUri = Annotated[
    str,
    typer.Option(
        "--mlflow-uri", metavar="URI", help="Where to; default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here."
    ),
]
Experiment = Annotated[
    str, typer.Option("--mlflow-experiment", metavar="NAME", help="Default: $MLFLOW_EXPERIMENT_NAME, else bnexport.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


ReferenceOption = Annotated[
    ReferenceKind,
    typer.Option(
        "--reference",
        help="Whose outputs are taken as right: keras, which is Keras 3; or keras2, what the file computes in Keras 2 (needs tf_keras).",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load the model even where it holds code of its own (Lambda layers, unknown modules), and run that code.",
    ),
]
Signature = Annotated[
    str,
    typer.Option(
        "--signature",
        metavar="NAME",
        help="Which function of a SavedModel to run; default: serving_default, or the only one.",
    ),
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="With --trust: import this module, which registers classes of its own with Keras; repeatable.",
    ),
]
Untrusted = Annotated[
    bool,
    typer.Option(
        "--untrusted", help="Run in a process of its own, with limits of time and memory: for files of others."
    ),
]
AllowRemote = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        help="With --untrusted: let a folder or manifest lead to URLs and to files outside of its folder.",
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
