"""OpenVINO as a runtime (openvino): ONNX, OpenVINO IR and TFLite files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import BnexportError, InputError, MachineError, UsageError
from bnexport.results.signature import dtype_named
from bnexport.runtimes.checked_session import CheckedSession, read_onnx, signature_of
from bnexport.runtimes.libraries import about_library, first_line
from bnexport.runtimes.protocols import About, Artifact, Port, Signature, Switch, Want
from bnexport.types import Array

if TYPE_CHECKING:
    import openvino

PRECISION = "INFERENCE_PRECISION_HINT"
"""OpenVINO's property for what is computed in; without it the CPU takes bfloat16 where it has instructions for that."""

DEVICES = ("cpu", "auto")
"""What OpenVINO has on every machine."""

_SHORT = {"threads": "INFERENCE_NUM_THREADS"}
"""Options that are shorter than OpenVINO's names of the same properties."""

_PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
"""Precisions by OpenVINO's names of its types."""

_WHERE = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "Summary:", "While ")
"""How the lines of an error begin that say where it happened."""


class OpenVino:
    """The runtime `openvino`. Each option is a property of the compiled model, by OpenVINO's name."""

    def about(self) -> About:
        """The version of OpenVINO; it is not imported."""
        return replace(
            about_library("openvino", ("openvino",), "openvino"),
            devices=DEVICES,
            formats=("onnx", "openvino-ir", "tflite"),
            reduced_by_default=True,
            setting=f'{PRECISION}="f32"',
            switches=(Switch("EXECUTION_MODE_HINT", "ACCURACY", 'EXECUTION_MODE_HINT="ACCURACY"'),),
        )

    def about_target(self, device: str, options: Mapping[str, str]) -> About:  # noqa: ARG002 - OpenVINO reads them
        """The same for one device: whether OpenVINO has it shows when a model is opened on it."""
        about = self.about()
        return about if device in ("", *DEVICES) else replace(about, devices=(*DEVICES, device))

    def open(self, artifact: Artifact, want: Want) -> OpenVinoSession:
        """A model, compiled for a device; in float32 unless as deployed."""
        signature = signature_of(read_onnx(artifact, "OpenVINO")) if artifact.format == "onnx" else None
        import openvino

        core = openvino.Core()
        model = _read(core, artifact)
        device = want.device.upper()
        properties = {} if want.as_deployed else {PRECISION: "f32"}
        properties |= {_SHORT.get(name, name): value for name, value in want.options.items()}
        try:
            compiled = core.compile_model(model, device, properties)
        except RuntimeError as error:
            raise _refusal(error, core, artifact, device, properties) from error
        return OpenVinoSession(compiled, signature or _signature(model), _computes(core, compiled, device, properties))


class OpenVinoSession(CheckedSession):
    """A model that OpenVINO has compiled."""

    def __init__(self, compiled: openvino.CompiledModel, signature: Signature, computes: str) -> None:
        super().__init__(signature)
        self.computes = computes
        self._outputs = {name: port for port in compiled.outputs for name in port.get_names()}
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """All outputs for a batch."""
        if self._request is None:
            raise InputError("the session is closed", fix="open it again")
        try:
            values = self._request.infer(inputs)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"OpenVINO does not run the batch ({_words(error)})") from error
        return {name: values[port] for name, port in self._outputs.items()}

    def close(self) -> None:
        """Gives the compiled model back."""
        super().close()
        self._request = None


def _read(core: openvino.Core, artifact: Artifact) -> openvino.Model:
    try:
        if artifact.format == "onnx":
            return core.read_model(artifact.content)
        if artifact.format == "openvino-ir":
            weights = next((content for name, content in artifact.companions.items() if name.endswith(".bin")), b"")
            return core.read_model(artifact.content, weights)
        if artifact.format == "tflite" and artifact.content[4:8] == b"TFL3":  # OpenVINO reads it by its name only
            with tempfile.NamedTemporaryFile(prefix="bnexport-", suffix=".tflite") as file:
                file.write(artifact.content)
                file.flush()
                return core.read_model(file.name)
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot read {artifact.name} ({_words(error)})") from error
    raise InputError(f"OpenVINO cannot read {artifact.name}", found=artifact.format)


def _refusal(
    error: RuntimeError, core: openvino.Core, artifact: Artifact, device: str, properties: Mapping[str, str]
) -> BnexportError:
    """What is wrong where a model cannot be compiled: the device, an option, or the model."""
    words = _words(error)
    if device.split(".")[0] not in {name.split(".")[0] for name in [*core.available_devices, "AUTO"]}:
        there = ", ".join(core.available_devices).lower()
        return MachineError(f"OpenVINO does not run on {device.lower()} here ({words})", expected=there)
    if named := [name for name in properties if re.search(rf"\b{re.escape(name)}\b", words)]:
        return UsageError(f"OpenVINO refuses the option {named[0]}={properties[named[0]]} ({words})")
    return InputError(f"OpenVINO cannot compile {artifact.name} ({words})")


def _computes(core: openvino.Core, compiled: openvino.CompiledModel, device: str, properties: Mapping[str, str]) -> str:
    """What a compiled model says it computes in; with automatic choice of the device, what that device takes by default."""
    try:
        if device != "AUTO":
            value = compiled.get_property(PRECISION)
            if value.get_type_name() == "dynamic":  # EXECUTION_MODE_HINT=ACCURACY: as the model is written
                return "float32" if "ACCURACY" in str(compiled.get_property("EXECUTION_MODE_HINT")) else ""
        elif PRECISION in properties:
            return ""
        else:
            [chosen] = compiled.get_property("EXECUTION_DEVICES")
            value = core.get_property(chosen.strip("()"), PRECISION)
    except (RuntimeError, ValueError):  # a device that does not say
        return ""
    return _PRECISIONS.get(value.get_type_name(), "")


def _signature(model: openvino.Model) -> Signature:
    """The inputs and outputs of a model that is no ONNX file."""
    return Signature(*(tuple(_port(port) for port in ports) for ports in (model.inputs, model.outputs)))


def _port(port: openvino.Output) -> Port:
    shape = port.get_partial_shape()
    sides = () if shape.rank.is_dynamic else tuple(None if side.is_dynamic else side.get_length() for side in shape)
    kind = port.get_element_type().to_dtype()
    return Port(port.get_any_name(), sides, np.dtype(kind) if kind is not None else dtype_named("object"))


def _words(error: Exception) -> str:
    """What an error of OpenVINO says, without where in its sources."""
    line = first_line(str(error), _WHERE).removeprefix("-- ").partition(" Error: Exception from ")[0]
    return line.replace("NotFound: ", "")
