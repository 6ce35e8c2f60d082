"""`bnexport fold`: BatchNormalization into the operators beside it, and both graphs run before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport import datasets
from bnexport.comparison import sides
from bnexport.comparison.subject import Subject, open_feeds, open_subject
from bnexport.datasets.arrays.fit import is_text
from bnexport.datasets.preprocess import preprocess
from bnexport.errors import InputError
from bnexport.folding.transform import fold as folded_graph
from bnexport.numerics.compare import RunningDifference
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.results import tolerance
from bnexport.results.outcomes import Folding
from bnexport.results.overrides import Overrides
from bnexport.system import files
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

RANDOM_IMAGES = 8


def fold(
    model: Path | str, output: Path | str, source: str | Path | None = None, *, progress: Progress | None = None
) -> Folding:
    """Writes an ONNX file with its BatchNormalization nodes folded, if that does not change what it computes.

    Both graphs are run on the images, or on random ones where none are given, and compared on the outputs and logits.

    Args:
        model: .onnx.
        output: .onnx.
        source: images (`bnexport.datasets.find`).
        progress: notified of each stage.

    Raises:
        InputError: the file is no ONNX model, or has nothing to fold, or onnxruntime cannot run it.
        UsageError: the output is invalid.
    """
    progress = progress or Progress()
    output = files.writable(Path(output), (".onnx",))
    if files.model_format(Path(model)) != files.Format.ONNX:
        raise InputError(
            f"{model} is a Keras model",
            expected="an ONNX file",
            fix=f"export it first: bnexport export {model} -o model.onnx",
        )
    pictures = datasets.find(source) if source is not None else None
    subject = open_subject(Path(model), progress, pictures=(pictures,))
    progress.stage("folding")
    folding = folded_graph(subject.graph)
    if not folding:
        raise InputError(
            f"{model} contains nothing to fold",
            found=f"{len(folding.refusals)} normalisations that have to stay",
            fix=folding.refusals[0].reason if folding.refusals else "the file may already be folded",
        )
    progress.stage("comparing both graphs")
    difference = distance(subject, folding.model, pictures)
    allowed = folding_tolerance(subject)
    passed = difference <= allowed
    if passed:
        files.write_bytes(output, serialise(folding.model))
    return Folding(
        folded=tuple((f.name, f.into, f.how) for f in folding.folds),
        refused=tuple((r.name, r.reason) for r in folding.refusals),
        max_rel=difference,
        tolerance=allowed,
        written=output if passed else None,
    )


def folding_tolerance(subject: Subject) -> float:
    """The largest distance that is rounding and no mistake."""
    return tolerance.STATED_HALF if subject.half else tolerance.STATED["inference"]


def distance(subject: Subject, other: onnx.ModelProto, pictures: datasets.Listing | None) -> float:
    """How far another graph's outputs and logits are from the subject's, relative to their size; NaN where they cannot be compared."""
    pair = [sides.onnx_sides(graph, ["cpu"], modes=("inference",))[0] for graph in (other, subject.graph)]
    running: dict[str, RunningDifference] = {}
    for feeds in _batches(subject, pictures):
        actual, reference = (runner.compute(feeds) for runner in pair)
        for name, value in reference.items():
            running.setdefault(name, RunningDifference()).add(actual[name], value)
    differences = [difference.result().max_rel for difference in running.values()]
    return float("nan") if any(np.isnan(differences)) else max(differences)


def _batches(subject: Subject, pictures: datasets.Listing | None) -> Iterator[dict[str, Array]]:
    if pictures is not None:
        feeds, _ = open_feeds(subject, pictures, None, Overrides(), RANDOM_IMAGES)
        yield from (dict(feed.inputs) for feed in feeds)
        return
    rng = np.random.default_rng(0)
    spec = subject.model_sidecar.preprocessing if subject.model_sidecar else None
    if spec is not None and len(subject.shapes) == 1:
        noise = rng.integers(0, 256, (RANDOM_IMAGES, *spec.size, spec.channels), dtype=np.uint8)
        yield {next(iter(subject.shapes)): np.stack([preprocess(image, spec) for image in noise])}
        return
    # An open axis other than the batch's: 64 is a size that most image models take.
    noises = {
        name: rng.normal(size=[RANDOM_IMAGES if shape[0] is None else shape[0], *(side or 64 for side in shape[1:])])
        for name, shape in subject.shapes.items()
    }
    text = {name for name, dtype in subject.input_dtypes.items() if is_text(dtype)}
    yield {name: x.astype(np.str_ if name in text else np.float32) for name, x in noises.items()}
