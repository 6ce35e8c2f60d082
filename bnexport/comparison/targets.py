"""Other runtimes than onnxruntime, as runs of a check: what `--target` names, found by its entry point."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.comparison.sides import ComputeTensors, Feeds, Outputs, Runner, graph_run, graph_spec
from bnexport.comparison.target_processes import PROCESS_OPTIONS, process_of, process_options
from bnexport.errors import EndedError, InputError, MachineError, RefusedError, UsageError
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.outputs import fetches
from bnexport.onnx_graph.protobuf import serialise
from bnexport.results.runs import RunSpec, runtime_title
from bnexport.results.target_names import SERVER, split_target
from bnexport.runtimes.inputs import cast_input
from bnexport.runtimes.isolated import OWN, IsolatedSession, Process, about_elsewhere
from bnexport.runtimes.ort_session import Node
from bnexport.runtimes.protocols import (
    RUNTIMES,
    About,
    Artifact,
    Runtime,
    Session,
    Signature,
    Switch,
    Want,
    about_target,
    open_runtime,
)
from bnexport.system.suggestions import suggest

if TYPE_CHECKING:
    import onnx


ONNX = "onnx"
"""The format that nearly all runtimes execute."""


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime, one of its devices, and how it is to run.

    Args:
        text: what the user calls it.
        name: of the runtime.
        device: where it runs.
        runtime: the plug-in.
        about: what it is here.
        options: the runtime's own options, by name.
        process: where it runs, if it has a process of its own.
        told_by: the options of that process, where nothing else tells it from another target.
    """

    text: str
    name: str
    device: str
    runtime: Runtime
    about: About
    options: Mapping[str, str] = field(default_factory=dict)
    process: Process = OWN
    told_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The runtime and its version."""
        return f"{runtime_title(self.name, self.device)} {self.about.version}".rstrip()

    @property
    def settings(self) -> str:
        """The options as they were given."""
        shown = {name: value for name, value in self.options.items() if name not in self.about.hidden}
        return ":".join(f"{name}={value}" for name, value in {**shown, **self.told_by}.items())

    @property
    def switches(self) -> tuple[Switch, ...]:
        """What may be tried: options that it does not have already."""
        return tuple(s for s in self.about.switches if self.options.get(s.option) != s.value)

    @property
    def sets_precision(self) -> bool:
        """Whether its options ask for a precision."""
        return any(f"{name}=" in self.about.setting for name in self.options)

    def open(self, artifact: Artifact, *, as_deployed: bool = False) -> OpenTarget:
        """Opens a file.

        Args:
            artifact: the file.
            as_deployed: with the defaults of the runtime; otherwise in float32.

        Raises:
            InputError: the runtime cannot read it.
            EndedError: its process came to an end.
            MachineError: it does not run here, or fails in a way of its own.
        """
        want = Want(self.device, as_deployed, self.options)
        with self._naming_itself():
            if self.about.isolated or self.process.python is not None:
                session: Session = IsolatedSession(self.name, artifact, want, self.process)
            else:
                session = RUNTIMES.guard(self.name, lambda: self.runtime.open(artifact, want))
        kinds = {port.name: port.dtype.type for port in session.signature.inputs}

        def run(feeds: Feeds, names: Sequence[str]) -> Outputs:
            typed = {name: cast_input(name, value, kinds.get(name)) for name, value in feeds.items()}
            with self._naming_itself():
                try:
                    return RUNTIMES.guard(self.name, lambda: session.run(typed, names))
                except InputError as error:
                    raise RefusedError(str(error), target=self.text) from error

        left = tuple(session.left_to_cpu)
        signature, switches = session.signature, session.switches
        return OpenTarget(
            run, session.computes, signature, artifact, left, lambda: session.elapsed, session.notes, switches
        )

    @contextmanager
    def _naming_itself(self) -> Iterator[None]:
        try:
            yield
        except EndedError as error:
            error.target = self.text
            raise


@dataclass(frozen=True, slots=True)
class OpenTarget:
    """A model that a target has opened.

    Args:
        run: computes the tensors of these names for a batch.
        computes: what the runtime says it computes in; "" where it does not say.
        signature: what the file takes and gives, as the runtime says.
        artifact: the file.
        left_to_cpu: the nodes that its device leaves to the CPU, by operator and name.
        elapsed: the seconds in which it computed so far; 0.0 where the runtime does not measure that.
        notes: how it is called otherwise than the file.
        switches: what to try where it is wrong.
    """

    run: ComputeTensors
    computes: str
    signature: Signature
    artifact: Artifact
    left_to_cpu: tuple[tuple[str, str], ...] = ()
    elapsed: Callable[[], float] = float
    notes: Sequence[str] = ()
    switches: Sequence[Switch] = ()


def open_targets(wanted: Sequence[str], python: Path | None = None) -> list[Target]:
    """The targets of these names, NAME[:DEVICE][:OPTION=VALUE ...].

    Three options are not the runtime's own: python, the interpreter in which it runs; timeout, the seconds that opening or one
    batch may take; and memory, such as 4GiB. Each gives it a process of its own.

    Args:
        wanted: the texts.
        python: the interpreter of all that have a process of their own.

    Raises:
        UsageError: there is no such runtime, or it has no such device or option.
        MachineError: it does not run here.
    """
    targets = [_open_target(text, python) for text in dict.fromkeys(wanted)]
    titles = [target.title for target in targets if target.about.hidden]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise UsageError(
            f"two targets are called {twice[0]}", fix="give each a name, for example command:name=board:./infer ..."
        )
    called = [(target.name, target.device, target.settings) for target in targets]
    pairs = zip(targets, called, strict=True)
    return [replace(t, told_by=process_options(t.text)) if called.count(names) > 1 else t for t, names in pairs]


def _open_target(text: str, python: Path | None) -> Target:
    parts = split_target(text)
    runtime = open_runtime(parts.name)
    remote = parts.name == SERVER  # it has no process here, and a time limit of its own
    own = {name: value for name, value in parts.options.items() if remote or name not in PROCESS_OPTIONS}
    about = about_target(runtime, parts.device, own)
    elsewhere = python if about.isolated and not about.opaque else None
    process = OWN if remote else process_of(text, parts.options, elsewhere)
    if process.python is not None:
        about = about_elsewhere(parts.name, process, parts.device, own)
    elif process != OWN:
        about = replace(about, isolated=True)
    if about.unavailable:
        raise MachineError(
            f"the runtime {runtime_title(parts.name, parts.device or 'cpu')} does not run on this machine",
            found=about.unavailable,
            fix=about.fix,
        )
    if parts.device and parts.device not in about.devices:
        raise UsageError(
            f"the runtime {parts.name} does not support the device {parts.device} on this machine",
            expected=" or ".join(about.devices),
            fix=suggest(parts.device, about.devices),
        )
    return Target(text, parts.name, parts.device or about.devices[0], runtime, about, own, process)


def open_target_in(name: str, python: Path) -> Target:
    """A runtime as another interpreter has it, on its first device; whether it runs there is in `about`.

    Args:
        name: of the runtime.
        python: the interpreter.

    Raises:
        MachineError: that interpreter does not run, or lacks what the runtime needs.
    """
    process = Process(python)
    about = about_elsewhere(name, process)
    return Target(name, name, about.devices[0], open_runtime(name), about, process=process)


def target_spec(model: onnx.ModelProto, target: Target, *, as_deployed: bool) -> RunSpec:
    """What a graph is as a run on a target."""
    spec = graph_spec(model, "inference", target.device, runtime=target.name)
    return replace(spec, as_deployed=as_deployed, options=target.settings, setting=target.about.setting)


def target_run(
    model: onnx.ModelProto,
    target: Target,
    file: str,
    *,
    as_deployed: bool = False,
    names: Mapping[str, str] | None = None,
    outputs: Collection[str] = (),
) -> Runner:
    """The inference graph on another runtime, with everything that is compared among its outputs.

    Args:
        model: the graph.
        target: the runtime.
        file: what messages call it.
        as_deployed: with the defaults of the runtime.
        names: the tensors that are compared, by the name a check gives them; None where they follow from the graph.
        outputs: those of the file, where the graph has more; empty where it has not.
    """
    names = fetches(model) if names is None else names
    whole, artifact = whole_artifact(model, names, file, outputs)
    opened = target.open(artifact, as_deployed=as_deployed)
    spec = target_spec(model, target, as_deployed=as_deployed)
    return as_target(graph_run(model, lambda: whole, spec, opened.run, names), target, opened)


def whole_artifact(
    model: onnx.ModelProto, names: Mapping[str, str], file: str, outputs: Collection[str] = ()
) -> tuple[onnx.ModelProto, Artifact]:
    """A graph with everything that is compared among its outputs, and the same as a file.

    Args:
        model: the graph.
        names: the tensors that are compared, by the name a check gives them.
        file: what messages call it.
        outputs: those of the file, where the graph has more; empty where it has not.
    """
    whole = tensors.with_outputs(model, names.values())
    own = set(outputs) or {output.name for output in model.graph.output}
    added = tuple(output.name for output in whole.graph.output if output.name not in own)
    return whole, Artifact(ONNX, serialise(whole), file, added=added)


def as_target(runner: Runner, target: Target, opened: OpenTarget) -> Runner:
    """A run with what is known because it is a target's.

    Args:
        runner: the run.
        target: what it runs on.
        opened: the file on the target.
    """
    as_deployed, artifact = runner.spec.as_deployed, opened.artifact

    def reopen(graph: onnx.ModelProto | None, options: Mapping[str, str]) -> ComputeTensors:
        other = replace(target, options={**target.options, **options})
        file = artifact if graph is None else Artifact(ONNX, serialise(graph), artifact.name)
        return other.open(file, as_deployed=as_deployed).run

    opaque = target.about.opaque
    return replace(
        runner,
        computes=opened.computes,
        placement=lambda: [Node("cpu", operator, name) for operator, name in opened.left_to_cpu],
        elapsed=opened.elapsed,
        reopen=None if opaque == "program" else reopen,
        switches=(*target.switches, *opened.switches),
        opaque=opaque,
        notes=opened.notes,
    )
