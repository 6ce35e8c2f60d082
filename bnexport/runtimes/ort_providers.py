"""onnxruntime's other execution providers, built in or as plug-in libraries: `--target onnxruntime:NAME` (onnxruntime).

Options of a provider are those of its documentation (onnxruntime, "Execution Providers"), by onnxruntime's names. A provider that was
asked for runs at least one node, or this is an error: onnxruntime itself falls back to the CPU without a word.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from bnexport.errors import InputError, MachineError, UsageError, reason
from bnexport.runtimes import ort_library
from bnexport.runtimes.checked_session import CheckedSession, read_onnx, signature_of
from bnexport.runtimes.protocols import About, Artifact, Signature, Want
from bnexport.system import machine
from bnexport.system.suggestions import suggest
from bnexport.types import Array

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider.

    Args:
        name: onnxruntime's.
        brought_by: what brings it.
        strict: the options with which it computes in float32; empty where it does so anyway, or cannot be asked.
        environment: variables with which it does, likewise.
        library: the module of the package that has it as a plug-in library; "" where there is none.
        reduced: whether it may compute in less where nothing is asked for.
        needs: shared libraries that it loads.
    """

    name: str
    brought_by: str
    strict: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    reduced: bool = False
    needs: tuple[str, ...] = ()

    @property
    def setting(self) -> str:
        """What asks it for float32, in words."""
        return ", ".join(f"{name}={value}" for name, value in {**self.strict, **self.environment}.items())


PROVIDERS = {
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        "onnxruntime-gpu with TensorRT",
        {"trt_fp16_enable": "0", "trt_int8_enable": "0"},
        {"NVIDIA_TF32_OVERRIDE": "0"},
        reduced=True,
        needs=("libcuda.so.1", "libnvinfer.so.10"),
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        "onnxruntime-openvino in an environment of its own (--python), or the plug-in onnxruntime-ep-openvino",
        {"precision": "FP32"},
        library="onnxruntime_ep_openvino",
        reduced=True,
    ),
    "qnn": Provider(
        "QNNExecutionProvider",
        "onnxruntime-qnn on a Qualcomm processor",
        {"enable_htp_fp16_precision": "0"},
        library="onnxruntime_qnn",
        reduced=True,
    ),
    "directml": Provider("DmlExecutionProvider", "onnxruntime-directml on Windows"),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime on macOS", {"MLComputeUnits": "CPUOnly"}, reduced=True),
    "xnnpack": Provider("XnnpackExecutionProvider", "an onnxruntime that is built with XNNPACK"),
    "webgpu": Provider(
        "WebGpuExecutionProvider", "the plug-in onnxruntime-ep-webgpu and a GPU", library="onnxruntime_ep_webgpu"
    ),
    "migraphx": Provider(
        "MIGraphXExecutionProvider", "onnxruntime-migraphx on an AMD GPU", {"migraphx_fp16_enable": "0"}, reduced=True
    ),
    "cann": Provider(
        "CANNExecutionProvider",
        "onnxruntime-cann on an Ascend processor",
        {"precision_mode": "must_keep_origin_dtype"},
        reduced=True,
    ),
    "acl": Provider("ACLExecutionProvider", "an onnxruntime that is built with the Arm Compute Library"),
    "vitis": Provider("VitisAIExecutionProvider", "onnxruntime-vitisai on an AMD NPU"),
}
"""By the names that a target has. Others are named as onnxruntime names them, such as DnnlExecutionProvider."""

_RECORD = "session.record_ep_graph_assignment_info"


class OrtProviders:
    """The runtime `onnxruntime-provider`, which `onnxruntime:NAME` stands for."""

    def about(self) -> About:
        """The providers of this onnxruntime besides those for the CPU and CUDA."""
        try:
            version, built = ort_library.version(), set(ort_library.load().get_available_providers())
        except MachineError as error:
            return About("", str(error), isolated=True)
        names = [name for name, provider in PROVIDERS.items() if not _missing(provider, version, built)]
        if not names:
            why = f"onnxruntime {version} runs no provider here but those for the CPU and CUDA"
            return About("", why, "docs/runtimes/onnxruntime-providers.md lists what brings others", isolated=True)
        return About(version, devices=tuple(names), isolated=True)

    def about_target(self, device: str, options: Mapping[str, str]) -> About:  # noqa: ARG002 - any provider has options
        """What one provider is here; whether its libraries load shows only when it is opened."""
        provider = provider_named(device)
        try:
            version, built = ort_library.version(), set(ort_library.load().get_available_providers())
        except MachineError as error:
            return About("", str(error), isolated=True)
        about = About(version, devices=(device,), isolated=True)
        if missing := _missing(provider, version, built):
            return replace(about, unavailable=missing, fix=f"it comes with {provider.brought_by}")
        return replace(about, reduced_by_default=provider.reduced, setting=provider.setting)

    def open(self, artifact: Artifact, want: Want) -> ProviderSession:
        """An ONNX model of which the provider runs at least one node."""
        provider = provider_named(want.device)
        model = read_onnx(artifact, f"onnxruntime:{want.device}")
        ort = ort_library.load()
        options = ort.SessionOptions()
        options.intra_op_num_threads = machine.threads()
        options.log_severity_level = 4
        options.add_session_config_entry(_RECORD, "1")
        settings = {**({} if want.as_deployed else provider.strict), **want.options}
        if not want.as_deployed:
            os.environ.update(provider.environment)  # this process is the session's own
        try:
            session = _open(ort, artifact.content, provider, options, settings)
        except MachineError:
            raise
        except Exception as error:  # onnxruntime raises errors of many classes
            raise InputError(f"onnxruntime:{want.device} cannot open {artifact.name} ({reason(error)})") from error
        nodes = [
            (part.ep_name, node) for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()
        ]
        left = [(node.op_type, node.name) for name, node in nodes if name != provider.name]
        if len(left) == len(nodes):
            raise InputError(
                f"{provider.name} runs no node of {artifact.name}, onnxruntime left all {len(nodes)} to the CPU"
            )
        return ProviderSession(session, signature_of(model), left)


class ProviderSession(CheckedSession):
    """An ONNX model that onnxruntime has opened with a provider."""

    def __init__(
        self, session: onnxruntime.InferenceSession, signature: Signature, left_to_cpu: Sequence[tuple[str, str]]
    ) -> None:
        super().__init__(signature)
        self.left_to_cpu = left_to_cpu
        self._session = session

    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """All outputs."""
        names = [port.name for port in self.signature.outputs]
        try:
            return dict(zip(names, self._session.run(names, inputs), strict=True))
        except Exception as error:
            raise InputError(f"onnxruntime cannot run the model ({reason(error)})") from error


def provider_named(name: str) -> Provider:
    """The provider that a target names.

    Raises:
        UsageError: there is none of this name.
    """
    if name in PROVIDERS:
        return PROVIDERS[name]
    if name.endswith("ExecutionProvider"):
        return Provider(name, "another onnxruntime package")
    names = ["cpu", "cuda", *PROVIDERS]
    raise UsageError(
        "onnxruntime does not support this device", found=name, expected=" or ".join(names), fix=suggest(name, names)
    )


def _missing(provider: Provider, version: str, built: Collection[str]) -> str:
    """Why a provider does not run here; "" where nothing is known to be missing."""
    if provider.name not in built and not (provider.library and find_spec(provider.library)):
        return f"onnxruntime {version} has no {provider.name}"
    absent = [name for name in provider.needs if not ort_library.loads(name)]
    return f"{', '.join(absent)} cannot be loaded" if absent else ""


def _open(
    ort: ModuleType,
    content: bytes,
    provider: Provider,
    options: onnxruntime.SessionOptions,
    settings: Mapping[str, str],
) -> onnxruntime.InferenceSession:
    """A session; a plug-in library is registered first, which says nothing where it finds no device."""
    if provider.name in ort.get_available_providers():
        session = ort.InferenceSession(content, options, providers=[(provider.name, dict(settings))], enable_fallback=0)
        if provider.name not in session.get_providers():
            raise MachineError(f"{provider.name} does not run here: onnxruntime created a session without it")
        return session
    library = import_module(provider.library)
    ort.register_execution_provider_library(provider.name, library.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == provider.name]
    if not devices:
        raise MachineError(f"{provider.name} does not run here: its plug-in library offers no device")
    options.add_provider_for_devices(devices[:1], dict(settings))
    return ort.InferenceSession(content, options)
