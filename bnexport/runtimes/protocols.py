"""What a runtime is: the protocols that a plug-in implements, and the registry that finds it.

A plug-in is a class with `about` and `open`, and one line in its package's metadata:

    [project.entry-points."bnexport.runtimes"]
    my-runtime = "my_package.module:MyRuntime"

`bnexport check model.keras images/ --target my-runtime` then executes the exported or deployed file on it, and
`tests/e2e/test_runtimes.py` holds every runtime that is installed to the same contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TypeGuard, runtime_checkable

from bnexport.results.runs import Switch as Switch
from bnexport.results.signature import Port as Port, Signature as Signature, Tensors as Tensors
from bnexport.system.plugins import Plugins
from bnexport.types import Array, Nested

GROUP = "bnexport.runtimes"
"""The group of entry points."""


@dataclass(frozen=True, slots=True)
class About:
    """What a runtime is on this machine.

    Args:
        version: of the library; "" where it is not installed.
        unavailable: why it cannot run here; "" where it can.
        fix: what to do about that, if possible the command that installs what is missing.
        devices: where it runs.
        formats: which artifacts it executes, such as "onnx".
        shows_tensors: whether it gives out any tensor of a graph, not only its outputs.
        isolated: whether each run needs a process of its own.
        reduced_by_default: whether it may compute in less than float32 where nothing is asked for; the file is then run both ways.
        setting: what asks the library for float32, as its users write it, such as `INFERENCE_PRECISION_HINT="f32"`; "" where nothing does.
            A target that sets the option of that name itself is run as deployed only.
        switches: what to try, one by one, where the runtime is wrong with a file or refuses it.
        opaque: what computes in place of the file, such as "program" or "server": nothing but the outputs of the file can be asked
            of it; "" where the runtime executes the file itself.
        hidden: options that are no part of the name of a run.
    """

    version: str
    unavailable: str = ""
    fix: str = ""
    devices: tuple[str, ...] = ("cpu",)
    formats: tuple[str, ...] = ("onnx",)
    shows_tensors: bool = False
    isolated: bool = False
    reduced_by_default: bool = False
    setting: str = ""
    switches: tuple[Switch, ...] = ()
    opaque: str = ""
    hidden: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Nested]) -> Self:
        """What `dataclasses.asdict` made of it, and JSON."""
        fields: dict[str, Nested] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        fields["switches"] = tuple(Switch(**switch) for switch in fields.get("switches", ()))
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a runtime executes.

    Args:
        format: such as "onnx".
        content: the file's bytes.
        name: what messages call it.
        companions: other files that it is read with, by the ends of their names, such as the weights ".bin" of an OpenVINO IR.
        added: outputs that bnexport added to the file; a runtime that is opaque need not give them.
    """

    format: str
    content: bytes
    name: str = "the model"
    companions: Mapping[str, bytes] = field(default_factory=dict)
    added: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Want:
    """How an artifact is to be executed.

    Args:
        device: one of the runtime's devices.
        as_deployed: with the runtime's own defaults; otherwise as precisely as it can compute in float32.
        options: the runtime's own options, by name.
    """

    device: str = "cpu"
    as_deployed: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Session(Protocol):
    """An artifact that is open, to be inherited. Closing it twice does nothing; sessions do not know of each other."""

    signature: Signature
    computes: str = ""
    """What the runtime says it computes in, such as "float32" or "bfloat16"; "" where it does not say."""
    left_to_cpu: Sequence[tuple[str, str]] = ()
    """The nodes that its device leaves to the CPU, by operator and name; empty where nobody says."""
    elapsed: float = 0.0
    """Seconds in which it computed, all batches together, without the way to its process; 0 where nobody measures that."""

    notes: tuple[str, ...] = ()
    """How what computes in place of the file is called otherwise than the file, where that is so."""
    switches: tuple[Switch, ...] = ()
    """What to try where it is wrong with the file, known only once it is open."""

    def run(self, inputs: Tensors, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The tensors named `outputs`, or all outputs, for one batch.

        Raises:
            InputError: the batch does not fit, or there is no such tensor.
            MachineError: the runtime fails on it.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@runtime_checkable
class Runtime(Protocol):
    """What executes artifacts."""

    def about(self) -> About:
        """What it is on this machine; never raises."""
        ...

    def open(self, artifact: Artifact, want: Want) -> Session:
        """An artifact, ready to run.

        Raises:
            InputError: the runtime cannot read it.
            MachineError: the runtime, or the device, does not run here.
        """
        ...


@runtime_checkable
class ReadsTargets(Protocol):
    """An ability of a runtime: to say what it is for one target, where that depends on the device or the options."""

    def about_target(self, device: str, options: Mapping[str, str]) -> About:
        """What it is on a device with these options.

        Args:
            device: as the user named it; "" where none was named.
            options: the runtime's own.

        Raises:
            UsageError: it has no such option.
        """
        ...


def _is_runtime(plugin: object) -> TypeGuard[Runtime]:
    return isinstance(plugin, Runtime)


RUNTIMES = Plugins(GROUP, "runtime", _is_runtime, "about and open")
"""The runtimes that are installed."""


def about_target(runtime: Runtime, device: str, options: Mapping[str, str]) -> About:
    """What a runtime is for one target.

    Raises:
        UsageError: it has no such option, and says so.
    """
    return runtime.about_target(device, options) if isinstance(runtime, ReadsTargets) else runtime.about()


def runtime_names() -> list[str]:
    """The names of the runtimes that are installed."""
    return RUNTIMES.names()


def open_runtime(name: str) -> Runtime:
    """The runtime of a name.

    Raises:
        UsageError: none is installed under it.
        MachineError: its plug-in cannot be imported, or is none.
    """
    return RUNTIMES.open(name)
