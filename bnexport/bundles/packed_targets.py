"""The packed file on other runtimes than onnxruntime, as `bnexport check` has its own file there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.bundles.bundle import Bundle
from bnexport.checking.company import Company
from bnexport.checking.target_runs import end_of_target, open_target_runs
from bnexport.comparison.options import CheckOptions
from bnexport.comparison.sides import Feeds, Runner
from bnexport.comparison.tally import Tally
from bnexport.comparison.targets import ONNX, Target, open_targets, target_run, target_spec
from bnexport.datasets.feeds import Feed
from bnexport.errors import EndedError, RefusedError, UsageError
from bnexport.onnx_graph import protobuf
from bnexport.progress import Progress
from bnexport.results.verdict import Finding
from bnexport.system.memory_file import MODEL

if TYPE_CHECKING:
    import onnx


class PackedFile:
    """The file of a bundle.

    Args:
        index: of the bundle.
        content: the bytes of the file, with everything that is compared among its outputs.
        path: the file, for messages.
    """

    def __init__(self, index: Bundle, content: Callable[[], bytes], path: Path) -> None:
        self._names, self._content, self._path = {t.name: t.tensor for t in index.tensors}, content, path
        self._outputs = frozenset(tensor.tensor for tensor in index.tensors if tensor.file.startswith("output_"))

    @cached_property
    def _model(self) -> onnx.ModelProto:
        return protobuf.model_from(self._content())

    def open(self, target: Target, *, as_deployed: bool) -> Runner:
        """The file on a target."""
        path, names, outputs = str(self._path), self._names, self._outputs
        return target_run(self._model, target, path, as_deployed=as_deployed, names=names, outputs=outputs)

    def graph(self, target: Target) -> onnx.ModelProto:  # noqa: ARG002 - it is the same on all of them
        """The graph that a target executes."""
        return self._model

    def run_id(self, target: Target, *, as_deployed: bool) -> str:
        """What reports call the run of a target that does not run."""
        return target_spec(self._model, target, as_deployed=as_deployed).id


@dataclass(slots=True)
class PackedTargets:
    """The targets of a verification.

    Args:
        file: what they execute.
        required: the texts of targets without which there is nothing to verify.
        targets: those that are open.
        runners: the runs that computed a batch.
        findings: what is to be reported about the others.
        names: the target of each run, by the run's id.
    """

    file: PackedFile
    required: frozenset[str]
    targets: list[Target]
    runners: list[Runner] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, str]:
        """The version of each runtime."""
        return {target.name: target.about.version for target in self.targets}

    def examine_servers(
        self,
        runners: Sequence[Runner],
        batch: Feed,
        tally: Tally,
        onnxruntime: Callable[[], Runner],
        progress: Progress,
    ) -> list[Finding]:
        """RT019 for each server whose answers depend on other requests, unless those of the file itself do.

        Args:
            runners: the runs.
            batch: what is sent.
            tally: what was seen.
            onnxruntime: opens the file in onnxruntime.
            progress: notified of each server.
        """
        company = Company(tally.heads, tally.tolerances, None, progress)
        raised = [company.examine(runner, batch) for runner in runners if runner.opaque == "server"]
        findings = [finding for finding in raised if finding is not None]
        return findings if findings and company.examine(onnxruntime(), batch) is None else []

    def leave_out(self, error: EndedError | RefusedError, runners: list[Runner]) -> list[Runner]:
        """The runs without those of a target that fails on a later batch, which is a finding.

        Raises:
            EndedError: the target is required, or it is none of these.
            RefusedError: it is none of these.
        """
        if not error.target or (isinstance(error, EndedError) and error.target in self.required):
            raise error
        self.findings.append(end_of_target(error, self.targets, self.file))
        return [run for run in runners if self.names.get(run.id) != error.target]


def open_packed_targets(
    how: CheckOptions, index: Bundle, content: Callable[[], bytes], folder: Path, first: Feeds, progress: Progress
) -> PackedTargets:
    """The packed file on the targets that are asked for.

    Args:
        how: names the targets, those that are required among them.
        index: of the bundle.
        content: the bytes of its model, with everything that is compared among its outputs.
        folder: the bundle.
        first: a batch.
        progress: notified of each runtime.

    Raises:
        UsageError: there is no such target, or it executes other files.
        MachineError: it does not run here.
    """
    targets = open_targets(how.targets, how.python)
    for target in targets:
        if ONNX not in target.about.formats:
            kinds = " or ".join(f".{name}" for name in target.about.formats)
            raise UsageError(f"the target {target.name} executes {kinds} files", found=str(folder / MODEL))
    file, required = PackedFile(index, content, folder / MODEL), frozenset(how.require)
    runs = open_target_runs(targets, file, first, progress, how.require, strict_placement=how.strict_placement)
    return PackedTargets(file, required, targets, runs.runners, runs.findings, runs.targets)
