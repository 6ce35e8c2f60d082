"""Why two sides that must be equal are not: the runtime's optimisations, another mode, another form of input, other weights, or a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bnexport.checking.artifact_causes import explain_artifact
from bnexport.checking.artifact_layers import artifact_layers
from bnexport.checking.called_otherwise import called_otherwise
from bnexport.checking.class_order import find_class_order
from bnexport.checking.exchanges import nearer
from bnexport.checking.file_weights import find_reduced
from bnexport.checking.hidden_errors import find_clamped, find_hidden, find_unlike, first_unlike
from bnexport.checking.localise import layer_errors
from bnexport.checking.optimisations import find_blame, on_provider
from bnexport.checking.recorded_causes import explain_recorded
from bnexport.checking.repeat import ONCE, Repetition
from bnexport.checking.rounding_by_layer import describe_form, weights_only, with_expected
from bnexport.checking.server_causes import explain_server
from bnexport.checking.target_causes import explain_target, onnxruntime_agrees
from bnexport.comparison.deployed import Deployed
from bnexport.comparison.expectations import Expected
from bnexport.comparison.pairs import Lost
from bnexport.comparison.precision import OpenForm
from bnexport.comparison.recorded import Recorded
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics.depth import first_off
from bnexport.numerics.permuted import Permuted
from bnexport.onnx_graph import kernels
from bnexport.progress import Progress
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.rounding import LARGEST, Cause
from bnexport.results.runs import Precision, Role
from bnexport.results.tolerance import STATED_HALF
from bnexport.results.verdict import Finding, LayerError, Severity
from bnexport.rules import backends, export, hidden_errors, interface, model_files, runtime
from bnexport.runtimes.ort_session import Provider, provider_of

IMAGES = 4
"""The layers of a graph whose outputs agree are compared on so many images,"""

OF_A_FILE = 1
"""and the nodes of two files on so many: most of the time of such a check would go there."""


@dataclass(slots=True)
class Inquiry:
    """What is needed to find out.

    Args:
        subject: what is checked; None where only its graph is there.
        tally: what was seen.
        runners: the sides by id.
        spec: how images are prepared; None for arrays.
        deployed: the deployed file; None where bnexport's own export is checked.
        recorded: outputs that somebody else recorded, where they are the reference.
        dependent: the BN006 findings.
        progress: notified of each stage.
        forms: the runs of reduced precision in float32, by id.
        repetition: what became of the same input twice.
        onnxruntime: opens the file in onnxruntime, where that is not among the runs; None where it cannot.
    """

    subject: Subject | None
    tally: Tally
    runners: Mapping[str, Runner]
    spec: Preprocessing | None
    deployed: Deployed | None
    recorded: Recorded | None
    dependent: Sequence[Finding]
    progress: Progress
    forms: Mapping[str, OpenForm] = field(default_factory=dict)
    repetition: Repetition = ONCE
    onnxruntime: Callable[[], Runner] | None = None

    def findings(self, first: Feed, *, layers: bool) -> tuple[list[Finding | None], tuple[LayerError, ...]]:
        """Everything that says why sides differ, and the layers where they were compared.

        Args:
            first: a batch.
            layers: compare layers also where the sides agree.
        """
        findings: list[Finding | None] = []
        errors: tuple[LayerError, ...] = ()
        every = [lost for lost in self.tally.lost() if not self.repetition.explains(lost)]  # RT013 does
        inference_lost = any(lost.pair.expectation.mode == "inference" for lost in every)
        for lost in every:
            finding, compared = self.explain(lost, inference_lost=inference_lost)
            findings.append(finding)
            errors = errors or compared
        notes = (*(self.subject.notes if self.subject else ()), *(self.deployed.notes if self.deployed else ()))
        findings += [model_files.file_notes(notes), self.tally.uneven()]
        others = [runner.file.interface.differences for runner in self.runners.values() if runner.file]
        findings += [interface.interface_differs(differences) for differences in dict.fromkeys(others)]
        if self.recorded is not None:
            findings.append(interface.outputs_matched(self.recorded.matches))
        if self.deployed is not None:
            findings.append(interface.interface_differs(self.deployed.interface.differences))
            on_batch = {f.evidence["side"] for f in self.dependent}
            if not any(f and f.code == "EX003" for f in findings) and any(
                runner.spec.external and runner.id in on_batch and self.tally.matches_other_mode(runner.id)
                for runner in self.runners.values()
            ):
                findings.append(export.training_exported(()))
        candidates = (r for r in self.runners.values() if r.spec.role == Role.CANDIDATE and not r.spec.as_deployed)
        shown = next((r for r in candidates if r.graph is not None), None)
        # Layers are compared with float32 rounding: they say nothing about 16 bits and fewer.
        references = [runner for name, runner in self.runners.items() if name in self.tally.references]
        plain = all(runner.spec.precision == Precision.FLOAT32 for runner in references)
        exact = plain and shown is not None and shown.spec.precision == Precision.FLOAT32
        sound = not any(f and f.severity == Severity.ERROR for f in findings)
        agreed = self.deployed is not None and exact and sound
        if self.deployed is not None and self.subject is not None and shown and sound and not exact:
            findings.append(find_unlike(self.deployed, self.subject, self._reference_name, self.tally.noun))
        if sound:
            findings.append(find_reduced(self.runners.values(), self.subject, self._reference_name, self.tally.noun))
        if shown and not errors and (layers or agreed):
            of_a_file = self.subject is not None and self.subject.reference.graph_itself
            count = OF_A_FILE if of_a_file and not layers else IMAGES
            few = {name: x[:count] for name, x in first.inputs.items()}
            errors = self.layers(shown, few)
            if plain:
                file = self.deployed if agreed else None
                findings.append(
                    find_hidden(errors, file, self.subject, self._reference_name, self.tally.noun, shown.given(few))
                )
        if layers and not errors and shown is None and self.subject is not None:
            model, progress = self.subject.reference, self.progress
            few = {name: x[:IMAGES] for name, x in first.inputs.items()}
            each = (artifact_layers(runner, model, few, progress) for runner in self.runners.values())
            errors = next(filter(None, each), ())
        return findings, errors if layers or any(layer.off for layer in errors) else ()

    def explain(self, lost: Lost, *, inference_lost: bool = True) -> tuple[Finding | None, tuple[LayerError, ...]]:
        """The finding that names the cause, and the layers where they were compared.

        A quantised file that loses answers has its own finding already; None where nothing else is wrong with it,
        where the same items are not finite on both sides, which RT006 says, and where float16 cannot hold values, which EX009 does.
        """
        cost = self.tally.costs.get(lost.pair.key)
        if self.tally.answers.alike_where_finite(lost) or (cost is not None and cost.cause == Cause.OVERFLOW):
            return None, ()
        runner, reference = self.runners[lost.pair.actual], lost.pair.expectation.reference
        if runner.spec.runtime == reference.runtime == "keras":
            return backends.backend_differs(lost.failed, reference), ()
        if runner.mode == "training" and not reference.artifact and not inference_lost:
            return model_files.training_graph_differs(lost.failed), ()
        if runner.file is not None:
            return explain_artifact(
                lost, runner, self.tally, self.spec, self.subject, self._reference_name, self.progress
            )
        measured = lost.pair.expected == Expected.QUANTIZED and not lost.pair.broken
        if runner.spec.artifact and runner.spec.runtime != "onnxruntime":
            if measured:
                return None, ()
            agrees = onnxruntime_agrees(lost, self.tally, self.runners.values(), self.onnxruntime)
            if runner.opaque == "server":
                return explain_server(lost, runner, self.tally, self.spec, agrees, self.progress), ()
            return explain_target(lost, runner, self.subject, self.deployed, self.tally, agrees, self.progress)
        if runner.graph is None:
            return export.parity_lost(lost.failed, runner.spec, reference, None, (), self._reference_name), ()
        wanted = lost.wanted
        as_in = None if lost.pair.expected == Expected.EQUAL else lost.pair

        def right(outputs: Outputs) -> bool:
            return self.tally.agree(runner.mode, outputs, wanted, as_in)

        if not measured and not right(runner.compute(lost.feed.inputs)):  # one batch alone shows it
            given = runner.given(lost.feed.inputs)
            blame = find_blame(
                runner.graph(), on_provider(_provider(runner)), given, runner.names, right, self.progress
            )
            if blame is not None:
                return runtime.optimised_away(lost.failed, blame.optimizers, blame.nodes, blame.tensor), ()
        permuted, unlike = tuple[Permuted, ...](), dict[str, float]()
        clamped = find_clamped(self.deployed, self.subject, runner.spec.precision)
        if self.deployed is not None and self.subject is not None:
            if self.tally.matches_other_mode(runner.id):
                return export.training_exported(lost.failed), ()
            better = right if as_in is None else nearer(right, runner.compute(lost.feed.inputs), wanted)
            ways = called_otherwise(
                self.deployed, runner, lost.feed.inputs, wanted, better, self.spec, self.subject, self.tally
            )
            for how in () if clamped else ways:
                return interface.taken_otherwise(lost.failed, how), ()
            matched = kernels.compare_kernels(self.deployed.graph, self.subject.weights)
            if matched.foreign and not clamped:
                return export.other_checkpoint(lost.failed, matched.compared, tuple(matched.other)), ()
            permuted, unlike = matched.permuted, matched.unlike
            called = {} if permuted or clamped else self.deployed.interface.outputs
            for how in find_class_order(called, runner.compute(lost.feed.inputs), wanted, better):
                return interface.taken_otherwise(lost.failed, how), ()
            if unlike and runner.spec.precision != Precision.FLOAT32:
                return hidden_errors.unlike_kernels(unlike, self._reference_name, self.tally.noun, lost.failed), ()
        if measured and not self._is_beyond_quantisation(lost):
            return None, ()
        if self.recorded is not None:
            return explain_recorded(self.recorded, lost, runner, self.spec, self.tally), ()
        if reference.runtime == "keras2":
            return export.read_otherwise(lost.failed, as_keras3=self._as_keras3(runner, lost.feed.inputs)), ()
        layers = self.layers(runner, lost.feed.inputs, structure=True)
        scaled = self.deployed is not None and bool(self.deployed.interface.pixels)
        return export.parity_lost(
            lost.failed,
            runner.spec,
            reference,
            (self.subject and first_unlike(layers, unlike, self.subject.graph)) or first_off(layers),
            layers,
            self._reference_name,
            scaled=scaled,
            permuted=permuted,
            clamped=clamped,
        ), layers

    def _is_beyond_quantisation(self, lost: Lost) -> bool:
        """Whether a quantised file differs from its reference even where nothing but its stored weights is quantised."""
        cost = self.tally.costs.get(lost.pair.key)
        unknown = cost is not None and cost.cause == Cause.UNKNOWN and not cost.apart_explained
        return unknown and self.deployed is not None

    @property
    def _reference_name(self) -> str:
        """What sentences call the reference."""
        if self.subject is None:
            return "Keras"
        if self.recorded is not None:
            return "the recorded outputs"
        return "the reference file" if self.subject.reference.graph_itself else self.subject.reference.title

    def _as_keras3(self, runner: Runner, feeds: Feeds) -> bool | None:
        """Whether a side computes what Keras 3 makes of the file; None where Keras 3 cannot read it."""
        if self.subject is None:
            return None
        try:
            wanted = self.subject.reference.run_in_float32(runner.mode, feeds)
        except InputError as error:
            self.progress.note(f"Keras 3 cannot be compared: {error}")
            return None
        return self.tally.agree(runner.mode, runner.compute(feeds), wanted)

    def layers(self, runner: Runner, feeds: Feeds, *, structure: bool = False) -> tuple[LayerError, ...]:
        """The error of every layer of the reference in the graph of a side; none where there is no other model, or the graph does not run so.

        With `structure` a quantised file is compared with its activations in float.
        """
        itself = self.subject is not None and self.subject.reference.graph_itself and self.deployed is None
        if self.subject is None or runner.graph is None or itself:
            return ()
        try:
            opened, graph, given = self.forms.get(runner.id), runner.graph(), runner.given(feeds)
            if opened is not None:
                describe_form(opened)
            form = None if opened is None or runner.quantised is None else opened.form
            if form is not None:  # tensors and activations have the names of the float file there
                graph = form.graph
            errors = layer_errors(
                self.subject.reference,
                graph,
                runner.mode,
                _provider(runner),
                feeds,
                given if form is None else {**given, **form.gates(0.0 if structure else 1.0)},
                self.progress,
                self.deployed.interface.outputs if self.deployed is not None else {},
            )
            if opened is None:
                half = runner.spec.precision.half
                return tuple(replace(e, expected=STATED_HALF / LARGEST) for e in errors) if half else tuple(errors)
            noise = weights_only(opened) if form is not None and structure else 1.0
            return tuple(with_expected(errors, opened, given, noise))
        except InputError as error:
            self.progress.note(f"the layers cannot be compared: {error}")
            return ()


def _provider(runner: Runner) -> Provider:
    return provider_of(runner.spec.device)
