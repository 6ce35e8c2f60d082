"""Other runtimes than onnxruntime, as runs of a check: what `--target` names, found by its entry point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.comparison.sides import Feeds, Outputs, Runner, graph_run, graph_spec
from bnexport.errors import MachineError, UsageError
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.outputs import fetches
from bnexport.onnx_graph.protobuf import serialise
from bnexport.runtimes.inputs import cast_input
from bnexport.runtimes.isolated import IsolatedSession
from bnexport.runtimes.protocols import RUNTIMES, About, Artifact, Runtime, Session, Want, open_runtime

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime and one of its devices.

    Args:
        name: of the runtime.
        device: where it runs.
        runtime: the plug-in.
        about: what it is here.
    """

    name: str
    device: str
    runtime: Runtime
    about: About

    def open(self, content: bytes, file: str) -> Callable[[Feeds, Sequence[str]], Outputs]:
        """Opens an ONNX model; returns what computes the tensors of these names for a batch.

        Raises:
            InputError: the runtime cannot read it.
            MachineError: it does not run here, or fails in a way of its own.
        """
        artifact, want = Artifact("onnx", content, file), Want(self.device)
        if self.about.isolated:
            session: Session = IsolatedSession(self.name, artifact, want)
        else:
            session = RUNTIMES.guard(self.name, lambda: self.runtime.open(artifact, want))
        kinds = {port.name: port.dtype.type for port in session.signature.inputs}

        def run(feeds: Feeds, names: Sequence[str]) -> Outputs:
            typed = {name: cast_input(name, value, kinds.get(name)) for name, value in feeds.items()}
            return RUNTIMES.guard(self.name, lambda: session.run(typed, names))

        return run


def split_targets(targets: Sequence[str]) -> tuple[list[str], list[str]]:
    """The providers of onnxruntime among some targets, and the other targets.

    >>> split_targets(["onnxruntime:cuda", "onnx-reference", "onnxruntime"])
    (['cuda', 'auto'], ['onnx-reference'])

    Raises:
        UsageError: onnxruntime has no such device.
    """
    providers, others = [], []
    for target in targets:
        name, _, device = target.partition(":")
        if name != "onnxruntime":
            others.append(target)
        elif device in ("", "cpu", "cuda"):
            providers.append(device or "auto")
        else:
            raise UsageError("onnxruntime does not support this device", found=device, expected="cpu or cuda")
    return providers, others


def open_targets(wanted: Sequence[str]) -> list[Target]:
    """The targets of these names, NAME or NAME:DEVICE.

    Raises:
        UsageError: there is no such runtime, or it has no such device.
        MachineError: it does not run here.
    """
    targets = []
    for text in dict.fromkeys(wanted):
        name, _, device = text.partition(":")
        runtime = open_runtime(name)
        about = runtime.about()
        if about.unavailable:
            raise MachineError(f"the runtime {name} does not run on this machine", found=about.unavailable)
        if device and device not in about.devices:
            raise UsageError(
                f"the runtime {name} does not support the device {device} on this machine",
                expected=" or ".join(about.devices),
            )
        targets.append(Target(name, device or about.devices[0], runtime, about))
    return targets


def target_run(model: onnx.ModelProto, target: Target, file: str) -> Runner:
    """The inference graph on another runtime, with everything that is compared among its outputs."""
    names = fetches(model)
    whole = tensors.with_outputs(model, names.values())
    run = target.open(serialise(whole), file)
    spec = graph_spec(model, "inference", target.device, runtime=target.name)
    return graph_run(model, lambda: whole, spec, run, names)
