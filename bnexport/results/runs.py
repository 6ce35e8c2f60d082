"""What a check executes: a run is one artifact or framework, on one device, in one mode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Mode = Literal["inference", "training"]
"""Inference mode normalises by moving statistics, training mode by the batch."""


STORED = "golden"
"""The runtime of outputs that were stored."""


RECORDED = "recorded"
"""The runtime of outputs that somebody else recorded."""


USUAL_BACKEND = "tensorflow"
"""What Keras computes with where an id does not name it."""


PROVIDERS = "onnxruntime-provider"
"""The runtime of onnxruntime's providers other than those for the CPU and CUDA."""


def runtime_title(runtime: str, device: str) -> str:
    """A runtime and its device, as a target calls them.

    >>> runtime_title("openvino", "cpu"), runtime_title(PROVIDERS, "xnnpack")
    ('openvino', 'onnxruntime:xnnpack')
    >>> runtime_title("server", "grpc://localhost:8001/net")
    'grpc://localhost:8001/net'
    """
    if runtime == "server":
        return device  # its address says what it is
    name = "onnxruntime" if runtime == PROVIDERS else runtime
    return name if device == "cpu" else f"{name}:{device}"


class Role(StrEnum):
    """What a run is for."""

    CANDIDATE = "candidate"
    """It must compute what the control of its mode computes."""
    CONTROL = "control"
    """Others are compared with it: the reference, stored outputs, or a graph with the runtime's optimisations off."""
    PREVIEW = "preview"
    """It shows what a repair would give, and is compared with nothing."""


class Precision(StrEnum):
    """What a run computes in, as its artifact says."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    QDQ = "int8-qdq"
    """QuantizeLinear and DequantizeLinear around float operators."""
    QOPERATOR = "int8-qoperator"
    """Operators on integers, such as QLinearConv."""
    DYNAMIC = "int8-dynamic"
    """The ranges of activations are measured on each batch."""
    WEIGHT_ONLY = "weight-only"
    """Weights are quantised, activations are not."""
    MIXED = "mixed"
    """Several of these."""
    QUANTIZED = "quantized"
    """In another way."""

    @property
    def quantised(self) -> bool:
        """Whether it has fewer than 16 bits somewhere."""
        return self not in (Precision.FLOAT32, Precision.FLOAT16, Precision.BFLOAT16)

    @property
    def half(self) -> bool:
        """Whether it has 16 bits."""
        return self in (Precision.FLOAT16, Precision.BFLOAT16)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What is executed. The id is for people and reports; nothing reads it.

    Args:
        runtime: what executes it: "keras", "keras2", "tensorflow", "onnxruntime", or "golden" for stored outputs.
        mode: in which mode.
        device: where: "cpu", "cuda", or for a framework what it computes with.
        role: what the run is for.
        precision: what its artifact computes in.
        artifact: the format of the file that is executed; "" where a framework or a store gives the outputs.
        external: whether another exporter made the file.
        as_deployed: whether the runtime has its own defaults, which may compute in less than float32.
        options: those of the runtime that were given, such as "threads=1".
        setting: what asks the runtime for float32, as its users write it; "" where nothing does.
        variant: what it is in place of the mode, such as "recalibrated".
        detail: follows the device, such as "one by one".
        release: of its runtime, where several are run; "" for the one that is installed.
    """

    runtime: str
    mode: Mode
    device: str
    role: Role = Role.CANDIDATE
    precision: Precision = Precision.FLOAT32
    artifact: str = ""
    external: bool = False
    as_deployed: bool = False
    options: str = ""
    setting: str = ""
    variant: str = ""
    detail: str = ""
    release: str = ""

    @property
    def id(self) -> str:
        """What reports call it.

        >>> RunSpec("keras", "training", "tensorflow", Role.CONTROL).id
        'keras-training'
        >>> RunSpec("onnxruntime", "inference", "cuda", artifact="onnx", as_deployed=True).id
        'onnx-inference@cuda-as-deployed'
        >>> RunSpec("onnxruntime", "inference", "cpu", Role.PREVIEW, artifact="onnx", variant="recalibrated").id
        'onnx-recalibrated@cpu'
        >>> RunSpec("onnx-reference", "inference", "cpu", artifact="onnx").id
        'onnx-inference@onnx-reference'
        >>> RunSpec("onnxruntime-provider", "inference", "xnnpack", artifact="onnx").id
        'onnx-inference@onnxruntime:xnnpack'
        >>> RunSpec("openvino", "inference", "cpu", artifact="onnx", options="threads=1").id
        'onnx-inference@openvino:threads=1'
        >>> RunSpec("onnxruntime", "inference", "cpu", artifact="onnx", release="1.20.1").id
        'onnx-inference@onnxruntime==1.20.1'
        >>> RunSpec("keras", "training", "jax", Role.CONTROL).id
        'keras-training@jax'
        """
        name = f"{self.artifact or self.runtime}-{self.variant or self.mode}"
        device = self.device
        if self.runtime != "onnxruntime" or self.release:  # the runtime that a device stands for where none is named
            device = runtime_title(self.runtime, self.device)
        device += f"=={self.release}" if self.release else ""
        device += f":{self.options}" if self.options else ""
        elsewhere = self.runtime == "keras" and self.device != USUAL_BACKEND
        where = f"@{self.device}" if elsewhere else f"@{device}" if self.artifact else ""
        return f"{name}{where}{'-as-deployed' if self.as_deployed else ''}{f' {self.detail}' if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Switch:
    """An option of a runtime that is tried where the runtime is wrong with a file, or refuses it.

    Args:
        option: its name.
        value: such as "0".
        meaning: what it is to the users of the library, such as "net.enableWinograd(False)".
    """

    option: str
    value: str
    meaning: str

    @property
    def options(self) -> dict[str, str]:
        """What it adds to the options of a target."""
        return {self.option: self.value}

    @property
    def described(self) -> str:
        """As a target names it, with what that means.

        >>> Switch("winograd", "0", "net.enableWinograd(False)").described
        'winograd=0 (net.enableWinograd(False))'
        """
        return f"{self.option}={self.value} ({self.meaning})"
