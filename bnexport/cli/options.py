"""The options for data, models, targets, tolerances and clusters that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DATA = "Data"
MODEL = "Model"
TARGETS = "Targets"
TOLERANCES = "Tolerances"
CLUSTER = "Cluster"
"""The panels that group these options in the help."""

MODEL_HELP = "The model: a Keras file (.h5, .hdf5 or .keras), an ONNX file (.onnx) or the folder of a SavedModel."


class ReferenceKind(StrEnum):
    """The framework whose outputs are the reference."""

    KERAS = "keras"
    KERAS2 = "keras2"


class Engine(StrEnum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


def _complete_target() -> list[str]:
    return ["onnxruntime", "onnxruntime:cpu", "onnxruntime:cuda"]


def _complete_required_target() -> list[str]:
    return _complete_target()[1:]


Images = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGES",
        help="The images: a folder (flat, with one subfolder per class, or with a labels.csv), one image, a manifest "
        "(.csv, .tsv or .parquet) or tar shards (.tar), as a path or a URL. Use - to read a list of paths and URLs "
        "from standard input.",
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null",
        "-0",
        rich_help_panel=DATA,
        help="The list on standard input is separated by null bytes, as written by find -print0.",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        rich_help_panel=DATA,
        help="Use only part K of N equal parts of the images, for example 2/8. The parts are the same in every run.",
    ),
]
Arrays = Annotated[
    Path | None,
    typer.Option(
        "--arrays",
        metavar="FILE.npz",
        rich_help_panel=DATA,
        help="Use arrays in place of images: a NumPy file with one array for each input of the model and, "
        "optionally, an array named labels.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        rich_help_panel=DATA,
        help="Read the labels from this CSV file. It has two columns, file and label.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        rich_help_panel=DATA,
        help="The largest number of items in a batch. Outputs in training mode depend on it.",
    ),
]

Deployed = Annotated[
    Path | None,
    typer.Option(
        "--deployed",
        metavar="FILE",
        rich_help_panel=MODEL,
        help="Compare the Keras model with this ONNX file, the one that is deployed, in place of a new export.",
    ),
]
ReferenceOption = Annotated[
    ReferenceKind,
    typer.Option(
        "--reference",
        rich_help_panel=MODEL,
        help="The framework whose outputs are the reference: keras is Keras 3, keras2 is Keras 2 (it needs tf_keras).",
    ),
]
Signature = Annotated[
    str,
    typer.Option(
        "--signature",
        metavar="NAME",
        rich_help_panel=MODEL,
        help="The function of a SavedModel to run. By default this is serving_default, or the only function.",
    ),
]
AllowCustomCode = Annotated[
    bool,
    typer.Option(
        "--allow-custom-code",
        rich_help_panel=MODEL,
        help="Load a model that contains code of its own, such as Lambda layers, and run that code. Use it only for "
        "models from a source that you trust.",
    ),
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        rich_help_panel=MODEL,
        help="Import this Python module, which registers custom classes with Keras. Needs --allow-custom-code. "
        "Repeatable.",
    ),
]
Targets = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="RUNTIME[:DEVICE]",
        autocompletion=_complete_target,
        rich_help_panel=TARGETS,
        help="Run the model on this runtime and device, for example onnxruntime:cuda or onnx-reference. onnxruntime "
        "without a device runs on the CPU, and on CUDA where CUDA works. Other runtimes are compared in addition to "
        "onnxruntime. Repeatable.",
    ),
]
OnnxruntimeTargets = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="onnxruntime[:cpu|:cuda]",
        autocompletion=_complete_target,
        rich_help_panel=TARGETS,
        help="Run the model on this device. Without a device, it runs on the CPU, and on CUDA where CUDA works. "
        "Repeatable.",
    ),
]
RequireTargets = Annotated[
    list[str],
    typer.Option(
        "--require-target",
        metavar="onnxruntime:cpu|onnxruntime:cuda",
        autocompletion=_complete_required_target,
        rich_help_panel=TARGETS,
        help="Exit with code 3 unless this target works on this machine. Repeatable.",
    ),
]
NoCpuFallback = Annotated[
    bool,
    typer.Option(
        "--no-cpu-fallback",
        rich_help_panel=TARGETS,
        help="Fail the check if onnxruntime runs a compute node on the CPU although the target is CUDA (RT002).",
    ),
]
GpuMemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--gpu-mem-limit",
        metavar="SIZE",
        rich_help_panel=TARGETS,
        help="The largest amount of GPU memory to use, for example 500MB or 4GiB. A plain number is in bytes.",
    ),
]

Rtol = Annotated[
    list[str],
    typer.Option(
        "--rtol",
        metavar="[TENSOR=]X",
        rich_help_panel=TOLERANCES,
        help="The largest error that passes, relative to the scale of the tensor, for example 1e-4 or logits=1e-3. "
        "By default it is 8 measured noise floors. Repeatable.",
    ),
]
Atol = Annotated[
    list[str],
    typer.Option(
        "--atol",
        metavar="[TENSOR=]X",
        rich_help_panel=TOLERANCES,
        help="The largest absolute error that passes, in the unit of the tensor. It is added to the relative "
        "tolerance. Repeatable.",
    ),
]

EngineKind = Annotated[
    Engine,
    typer.Option(
        "--engine",
        rich_help_panel=CLUSTER,
        help="Where the work is done: local is this machine, ray is a Ray cluster whose nodes can read the same "
        "paths and URLs.",
    ),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        rich_help_panel=CLUSTER,
        help="The address of the Ray cluster. By default Ray looks for a cluster, and starts one on this machine if "
        "it finds none. Used with --engine ray.",
    ),
]
