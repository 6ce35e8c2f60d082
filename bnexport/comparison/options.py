"""The options of a check: one record for the keywords of `bnexport.check`, the flags of `bnexport check` and pack, and the keys of a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnexport.errors import UsageError
from bnexport.results.option_values import parse_batch_sizes, parse_shard, parse_size, parse_tolerances
from bnexport.results.options import DATA, MODEL, TARGETS, TOLERANCES, Flag, option, options_of
from bnexport.results.overrides import Overrides
from bnexport.results.target_names import parse_required_targets, parse_targets

REFERENCES = ("keras", "keras2")
"""The frameworks whose outputs are taken as right on request."""


SHARD = Flag(
    name="shard",
    metavar="K/N",
    panel=DATA,
    read=parse_shard,
    help="Use only part K of N equal parts of the images, for example 2/8. The parts are the same in every run.",
)
ARRAYS = Flag(
    name="arrays",
    kind=Path,
    metavar="FILE",
    panel=DATA,
    help="Use arrays in place of images: an .npz file with one array for each input of the model and, optionally, an array named "
    "labels; a table (.csv, .tsv or .parquet) whose columns are the inputs; or a folder with one .npy, .npz, .wav, .flac or "
    ".ogg file for each item.",
)
TARGET = Flag(
    name="target",
    kind=list[str],
    default=("onnxruntime",),
    metavar="RUNTIME[:DEVICE][:OPTION=VALUE]",
    choices=("onnxruntime", "onnxruntime:cpu", "onnxruntime:cuda"),
    panel=TARGETS,
    read=parse_targets,
    help="Run the model on this runtime and device, for example onnxruntime:cuda or onnx-reference. onnxruntime "
    "without a device runs on the CPU, and on CUDA where CUDA works. Other runtimes are compared in addition to "
    "onnxruntime, which verify runs only if it is named too. keras:jax, keras:torch and keras:tensorflow run a Keras file on that backend of Keras, in both modes. "
    "'command:./infer {model} {inputs} {outputs}' runs a program of your own, "
    "and http://HOST/v2/models/NAME or grpc://HOST:PORT/NAME asks a server. "
    "Options of the runtime follow, for example openvino:cpu:threads=1; timeout=SECONDS and memory=SIZE limit its process. "
    "Repeatable.",
)
PYTHON = Flag(
    name="python",
    kind=Path,
    metavar="PATH",
    panel=TARGETS,
    help="The Python interpreter for targets that run in a process of their own, for example in an environment that has "
    "another version of the runtime. It needs numpy and lazy-loader besides the runtime.",
)
REQUIRE_TARGET = Flag(
    name="require-target",
    kind=list[str],
    metavar="RUNTIME[:DEVICE][:OPTION=VALUE]",
    choices=("onnxruntime:cpu", "onnxruntime:cuda"),
    panel=TARGETS,
    read=parse_required_targets,
    help="Exit with code 3 unless this target works on this machine. It runs as one of --target does. Repeatable.",
)
BATCH_SIZE = Flag(
    name="batch-size",
    kind=int,
    default=32,
    least=1,
    metavar="N",
    panel=DATA,
    help="The largest number of items in a batch. Outputs in training mode depend on it.",
)
LABELS = Flag(
    name="labels",
    kind=Path,
    metavar="FILE",
    panel=DATA,
    help="Read the labels from this CSV file. It has two columns, file and label.",
)
DEPLOYED = Flag(
    name="deployed",
    kind=Path,
    metavar="FILE",
    panel=MODEL,
    help="Compare the model with this file, the one that is deployed, in place of a new export: .onnx, .tflite, or .xml of an "
    "OpenVINO IR with its .bin.",
)
RTOL = Flag(
    name="rtol",
    kind=list[str],
    metavar="[TENSOR=]X",
    panel=TOLERANCES,
    read=lambda texts: parse_tolerances(texts, "--rtol") or {},
    help="The largest error that passes, relative to the scale of the tensor, for example 1e-4 or logits=1e-3. "
    "By default it is 8 measured noise floors. Repeatable.",
)
ATOL = Flag(
    name="atol",
    kind=list[str],
    metavar="[TENSOR=]X",
    panel=TOLERANCES,
    read=lambda texts: parse_tolerances(texts, "--atol") or {},
    help="The largest absolute error that passes, in the unit of the tensor. It is added to the relative tolerance. Repeatable.",
)
MIN_AGREEMENT = Flag(
    name="min-agreement",
    kind=float,
    metavar="X",
    panel=TOLERANCES,
    help="The smallest share of items, from 0 to 1, to which a file of reduced precision (int8, float16) must give the same "
    "class as the model, for example 0.99.",
)
MAX_ACCURACY_DROP = Flag(
    name="max-accuracy-drop",
    kind=float,
    metavar="X",
    panel=TOLERANCES,
    help="The largest share of labelled items, from 0 to 1, by which a file of reduced precision may get fewer right than the "
    "model, for example 0.01.",
)
LAYERWISE = Flag(
    name="layerwise",
    kind=bool,
    default=False,
    panel=TARGETS,
    help="Compare layer by layer even if the outputs agree, and show how the error grows.",
)
SWEEP = Flag(
    name="sweep",
    kind=bool,
    default=False,
    panel=TARGETS,
    help="Also try what the data do not show: the same input twice, other batch sizes, other sizes of open axes, and an item of "
    "zeros and one of NaN. Each is compared with the model.",
)
SPEED = Flag(
    name="speed",
    default="",
    metavar="SIZE[,SIZE]",
    panel=TARGETS,
    read=parse_batch_sizes,
    help="Measure how fast each runtime is at these batch sizes, for example 1,32, as a ratio to onnxruntime on the CPU.",
)
MAX_SLOWDOWN = Flag(
    name="max-slowdown",
    kind=float,
    metavar="X",
    panel=TARGETS,
    help="Fail the check if a runtime takes more than X times as long as onnxruntime on the CPU (RT020). Without --speed it is "
    "measured at batch size 1.",
)
NO_CPU_FALLBACK = Flag(
    name="no-cpu-fallback",
    kind=bool,
    default=False,
    panel=TARGETS,
    help="Fail the check if onnxruntime runs a compute node on the CPU although the target is CUDA or another provider (RT002).",
)
GPU_MEM_LIMIT = Flag(
    name="gpu-mem-limit",
    metavar="SIZE",
    panel=TARGETS,
    read=parse_size,
    help="The largest amount of GPU memory to use, for example 500MB or 4GiB. A plain number is in bytes.",
)
ALLOW_CUSTOM_CODE = Flag(
    name="allow-custom-code",
    kind=bool,
    default=False,
    panel=MODEL,
    help="Load a model that contains code of its own, such as Lambda layers, and run that code. Use it only for "
    "models from a source that you trust.",
)
SIGNATURE = Flag(
    name="signature",
    default="",
    metavar="NAME",
    panel=MODEL,
    help="The function of a SavedModel to run. By default this is serving_default, or the only function.",
)
ARCHITECTURE = Flag(
    name="architecture",
    default="",
    metavar="FILE.json|NET",
    panel=MODEL,
    help="The architecture of a Keras file with weights only: a file that model.to_json() wrote, or the name of a network of "
    "keras.applications, for example ResNet50. By default it is model.json or config.json beside the file.",
)
WEIGHTS = Flag(
    name="weights",
    kind=Path,
    metavar="FILE",
    panel=MODEL,
    help="Load these weights into the PyTorch module that MODEL names as package.module:factory: a state dict (.pt, .pth or "
    ".safetensors).",
)
REFERENCE = Flag(
    name="reference",
    default="keras",
    metavar="keras|keras2|FILE.npz",
    panel=MODEL,
    help="What the outputs are compared with: keras is Keras 3, keras2 is Keras 2 (it needs tf_keras). FILE.npz contains "
    "recorded outputs for an ONNX file, one array for each output with one row for each item of the data.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """How a model is checked.

    Args:
        shard: the position of a part of the images, from 0, and how many parts there are.
        inputs: arrays in place of images: a file or folder, or arrays in memory.
        targets: runtimes to execute the file on, NAME or NAME:DEVICE, such as "onnx-reference" (`bnexport.runtimes.protocols`);
            "onnxruntime:cuda" takes the place of `providers`.
        python: the interpreter of targets that run in a process of their own; None for this one.
        providers: "auto", "cpu", "cuda".
        require: providers and other targets without which the check makes no sense.
        batch_size: the largest batch; training mode depends on it.
        labels: a CSV file with the columns file and label.
        overrides: what is known better than the sidecar about preprocessing.
        onnx: the deployed file, ONNX or another one that runtimes execute, to be held against the model in place of bnexport's own export of it.
        rtol: the largest error, relative to the tensor's scale, that passes, by tensor ("" for all others); empty where the noise floors decide.
        atol: the same in the tensor's own unit; an error passes up to the sum of both.
        min_agreement: the smallest share of items, from 0 to 1, to which a file of reduced precision must give the same class; None for no limit.
        max_accuracy_drop: the largest share of labelled items, from 0 to 1, of which it may get fewer right; None for no limit.
        layers: compare layer by layer also where the outputs agree.
        sweep: also try other batch sizes, other sizes of open axes, and items of zeros and of NaN.
        speed: the batch sizes at which the speed of each run is measured; empty for none.
        max_slowdown: how many times as long as onnxruntime on the CPU a run may take; None for no limit.
        strict_placement: a compute node that CUDA or another provider leaves to the CPU fails the check.
        gpu_memory_limit: the most GPU memory that onnxruntime may take, in bytes.
        trust: load a Keras model even where it holds code of its own.
        signature: which function of a SavedModel is meant; "" for "serving_default", or the only one.
        architecture: of a Keras file that has weights only: a JSON file that `model.to_json()` wrote, or the name of a network of keras.applications;
            "" for model.json or config.json beside it.
        weights: a state dict (.pt, .pth, .safetensors) that is loaded into a PyTorch module.
        reference: whose outputs are taken as right: "keras", or "keras2" for what the file computes in Keras 2 (tf_keras); or an .npz
            file of recorded outputs.
        local: refuse images outside of the folder, or of the manifest's folder, that names them: links and URLs.

    Raises:
        UsageError: a tolerance or a share is invalid.
    """

    shard: tuple[int, int] | None = option(SHARD)
    inputs: Any = option(ARRAYS)
    targets: Sequence[str] = option(TARGET, ())
    python: Path | None = option(PYTHON)
    providers: Sequence[str] = ("auto",)
    require: Sequence[str] = option(REQUIRE_TARGET, ())
    batch_size: int = option(BATCH_SIZE)
    labels: Path | None = option(LABELS)
    overrides: Overrides = options_of(Overrides)
    onnx: Path | None = option(DEPLOYED)
    rtol: Mapping[str, float] = option(RTOL)
    atol: Mapping[str, float] = option(ATOL)
    min_agreement: float | None = option(MIN_AGREEMENT)
    max_accuracy_drop: float | None = option(MAX_ACCURACY_DROP)
    layers: bool = option(LAYERWISE)
    sweep: bool = option(SWEEP)
    speed: Sequence[int] = option(SPEED, ())
    max_slowdown: float | None = option(MAX_SLOWDOWN)
    strict_placement: bool = option(NO_CPU_FALLBACK)
    gpu_memory_limit: int | None = option(GPU_MEM_LIMIT)
    trust: bool = option(ALLOW_CUSTOM_CODE)
    signature: str = option(SIGNATURE)
    architecture: str = option(ARCHITECTURE)
    weights: Path | None = option(WEIGHTS)
    reference: str = option(REFERENCE)
    local: bool = False

    def __post_init__(self) -> None:
        for name, share in (("min_agreement", self.min_agreement), ("max_accuracy_drop", self.max_accuracy_drop)):
            if share is not None and not 0 <= share <= 1:
                raise UsageError(f"{name} is invalid", found=str(share), expected="a share, from 0 to 1")
        if self.max_slowdown is not None and not 0 < self.max_slowdown < math.inf:
            raise UsageError("max_slowdown is invalid", found=str(self.max_slowdown), expected="a factor above 0")
        if any(size < 1 for size in self.speed):
            raise UsageError("the batch sizes of speed are invalid", found=str(self.speed), expected="1 or more")
        for tolerance in [*self.rtol.values(), *self.atol.values()]:
            if not 0 <= tolerance < math.inf:
                raise UsageError("the tolerance is invalid", found=str(tolerance), expected="a number, 0 or more")


def by_tensor(tolerance: float | Mapping[str, float] | None) -> Mapping[str, float]:
    """A tolerance by tensor, "" for all others, also where it was given as one number for all, or not at all."""
    return {} if tolerance is None else tolerance if isinstance(tolerance, Mapping) else {"": tolerance}
