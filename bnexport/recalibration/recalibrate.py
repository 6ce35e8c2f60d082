"""`bnexport recalibrate`: moving statistics that fit the images, in ONNX or in Keras, unless they would do harm."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport import datasets
from bnexport.comparison import sides
from bnexport.comparison.engine import compare
from bnexport.comparison.sides import Runner
from bnexport.comparison.subject import Subject, open_feeds, open_subject
from bnexport.comparison.tally import Tally
from bnexport.datasets import sidecar
from bnexport.datasets.arrays.opening import arrays_named
from bnexport.datasets.feeds import Source
from bnexport.datasets.preparation import Preparation
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, UsageError
from bnexport.folding.fold import distance, folding_tolerance
from bnexport.folding.transform import fold as folded_graph
from bnexport.frameworks.protocols import RewritesFiles, SavesWeights, Want
from bnexport.frameworks.registry import recognise
from bnexport.onnx_graph import metadata, stages, statistics
from bnexport.onnx_graph.protobuf import write
from bnexport.onnx_graph.sites import sites
from bnexport.progress import Progress
from bnexport.recalibration.evidence import build_evidence, refits
from bnexport.recalibration.options import SAMPLES
from bnexport.recalibration.pool import residual
from bnexport.recalibration.remedy import harm
from bnexport.recalibration.settling import settle
from bnexport.recalibration.staged import Measured
from bnexport.recalibration.worker import Alone, Team, Worker, Workers
from bnexport.results.actions import spell_options
from bnexport.results.nouns import noun_of
from bnexport.results.outcomes import Recalibration
from bnexport.results.overrides import Overrides
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Side
from bnexport.rules.actions import Names, add_files
from bnexport.rules.diagnose import diagnose
from bnexport.rules.inputs import input_changes
from bnexport.rules.rule import sort_findings
from bnexport.system import files
from bnexport.system.cache import NOTHING_KEPT
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


JUDGED = 4 << 20
"""So many bytes of images are in memory at a time while answers before and after are counted."""

LEAST = 8
"""A worker on a cluster has at least so many images."""


def recalibrate(
    model: Path | str,
    source: Path | str | None,
    output: Path | str,
    *,
    inputs: Path | str | None = None,
    evaluate: Path | str | None = None,
    labels: Path | str | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    batch_size: int = 32,
    overrides: Overrides | None = None,
    scratch: Path | str | None = None,
    memory: int | None = None,
    fold: bool = False,
    force: bool = False,
    trust: bool = False,
    signature: str = "",
    architecture: str | Path = "",
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Recalibration:
    """Measures the self-consistent statistics of every BatchNormalization node on the images, and writes the model with them.

    Self-consistent: every site's moving statistics equal the statistics of its own input in inference mode with those very statistics
    (`bnexport.recalibration.staged`). The result does not depend on the batch size, on the order of the images, or on how many machines share them.

    Args:
        model: .h5, .hdf5, .keras or .onnx.
        source: images (`bnexport.datasets.find`).
        output: .onnx, .keras or .h5; a Keras file only from a Keras model.
        inputs: a file or folder of arrays in place of `source` (`bnexport.datasets.arrays.opening`).
        evaluate: other images for judging before and after; by default the same ones.
        labels: a CSV file with the columns file and label.
        samples: at most so many images, chosen at random.
        seed: for that choice.
        batch_size: images at a time.
        overrides: what is known better than the sidecar about preprocessing.
        scratch: where tensors go that do not fit into memory; by default the system's temporary folder.
        memory: how many bytes of them stay in memory; by default half of what is free.
        fold: fold the BatchNormalization nodes afterwards (`bnexport.folding.fold`); for an ONNX output only.
        force: write even where accuracy falls, the images are unfit, or nothing shows that the old statistics are wrong.
        trust: load a Keras model even where it holds code of its own.
        signature: which function of a SavedModel is meant; "" for "serving_default", or the only one.
        architecture: of a Keras file that has weights only (`bnexport.check`).
        cluster: the address of a Ray cluster, "" for the one that Ray finds or starts; None for this machine.
        progress: notified of each stage.

    Raises:
        InputError: the model has no BatchNormalization node to recalibrate, or model or images cannot be read.
        UsageError: the output does not fit the model.
        MachineError: the disk or the scratch folder is full, TensorFlow is missing, or there is no such cluster.
    """
    progress, overrides = progress or Progress(), overrides or Overrides()
    model, output = Path(model), files.writable(Path(output), (".onnx", ".keras", ".h5"))
    inputs, labels, scratch = (Path(path) if path is not None else None for path in (inputs, labels, scratch))
    if (source is None) == (inputs is None):
        raise UsageError(
            "recalibration requires images or arrays",
            fix=f"pass a folder of images or {spell_options(inputs='data.npz')}",
        )
    if samples < 1 or batch_size < 1:
        raise UsageError(
            "the number of images is invalid",
            found=f"{samples} samples, batch size {batch_size}",
            expected="1 or more",
        )
    if recognise(model).about.executable and output.suffix != ".onnx":
        raise UsageError("an ONNX file cannot be written as a Keras model", found=str(output), expected=".onnx")
    if fold and output.suffix != ".onnx":
        raise UsageError("only an ONNX file can be folded", found=str(output), expected=".onnx")
    data = inputs or arrays_named(source)
    pictures = datasets.find(source, labels=labels) if source is not None and data is None else None
    judged_on = datasets.find(evaluate, labels=labels) if evaluate is not None else None
    if pictures is not None and len(pictures) > samples:
        pictures = pictures.select(np.sort(np.random.default_rng(seed).choice(len(pictures), samples, replace=False)))

    subject = open_subject(
        model, progress, want=Want(trust, signature, str(architecture)), pictures=(pictures, judged_on)
    )
    feeds, preparation = open_feeds(subject, pictures, data, overrides, batch_size, labels=labels)
    settled = settle(subject, feeds, preparation, progress)
    feeds, preparation = settled.feeds, settled.preparation
    others = feeds
    if judged_on is not None:
        others, _ = open_feeds(subject, judged_on, None, overrides, batch_size)
        others = others.with_preprocessing(preparation.spec) if preparation is not None else others
    _announce(subject.graph, feeds.count, progress)
    with _team(subject, feeds, others, scratch, memory, cluster, progress) as team:
        measured, variety, on_disk = team.measure()
        values = statistics.by_initializer(measured.moments, subject.graph)
        repaired = statistics.with_statistics(subject.graph, values)
        seen, before, after = team.assess(values)
        remaining = residual(repaired, seen)
    others_fit = refits(subject.graph, measured.moments, feeds, variety, progress)
    evidence = build_evidence(
        subject.graph, measured.moments, variety, others_fit, noun_of(preparation.spec if preparation else None)
    )
    causes = diagnose(evidence, answers_differ=before.answers != after.answers, stored_iterations=subject.iterations)
    refused, folded = "" if force else harm(before, after, evidence, causes), 0
    if fold and not refused:
        repaired, folded, refused = _fold(subject, repaired, pictures)
    if not refused:
        _write(subject, repaired, values, measured, _build_sidecar(subject, preparation), output)
    return Recalibration(
        images=measured.images,
        stages=measured.stages,
        sites=len(measured.moments),
        residual=remaining,
        scratch_bytes=on_disk,
        before=before,
        after=after,
        findings=add_files(sort_findings([settled.finding, input_changes(feeds.notes), *causes]), Names(model)),
        written=None if refused else output,
        refused=refused,
        folded=folded,
    )


def _announce(graph: onnx.ModelProto, count: int, progress: Progress) -> None:
    each = stages.bytes_per_image(graph, stages.stages(graph, sites(graph)))
    if each is not None:
        progress.note(
            f"intermediate tensors: {each / 1e6:.1f} MB per image, {each * count / 1e6:.0f} MB for {count} images"
        )


@contextmanager
def _team(
    subject: Subject,
    feeds: Source,
    others: Source,
    scratch: Path | None,
    memory: int | None,
    cluster: str | None,
    progress: Progress,
) -> Iterator[Team]:
    """Who measures: this process, or workers on a cluster, each with a shard of the images."""
    workers: Workers
    if cluster is None:
        shares = [feeds.count]
        workers = Alone(Worker(subject, feeds, others, _collect_answers, scratch, memory, progress))
    else:
        from bnexport.system import cluster as machines

        ray = machines.connect(cluster)
        count = max(1, min(machines.cpus(ray), feeds.count // LEAST, others.count // LEAST))
        there = dataclasses.replace(
            subject, reference=subject.reference.without_model(), whole=None, store=NOTHING_KEPT
        )
        shards = [(feeds.shard(nth, count), others.shard(nth, count)) for nth in range(count)]
        shares = [part.count for part, _ in shards]
        progress.note(f"{count} workers on the cluster")
        workers = machines.Workers(
            ray, Worker, there, [(part, other, _collect_answers, scratch, memory) for part, other in shards]
        )
    try:
        yield Team(subject, workers, shares, progress)
    finally:
        workers.close()


def answers(model: Path, source: Path) -> Side:
    """What an ONNX file answers on a folder of images, in inference mode on the CPU.

    Raises:
        InputError: the file or the images cannot be read.
    """
    pictures = datasets.find(source)
    subject = open_subject(model, Progress(), pictures=(pictures,))
    feeds, _ = open_feeds(subject, pictures, None, Overrides(), 32)
    [side] = _collect_answers(
        sides.onnx_sides(subject.graph, ["cpu"], modes=("inference",)), subject, feeds, Progress()
    )
    return side


def _collect_answers(runners: Sequence[Runner], subject: Subject, feeds: Source, progress: Progress) -> list[Side]:
    """What each runner answers on all feeds."""
    tally = Tally([run.spec for run in runners], subject.heads(feeds.classes), Tolerances())
    progress.start("judging", feeds.count * len(runners))
    compare(feeds, runners, tally, progress, part=JUDGED)
    return [tally.answers.side(run.spec, run.seconds) for run in runners]


def _fold(
    subject: Subject, repaired: onnx.ModelProto, pictures: datasets.Listing | None
) -> tuple[onnx.ModelProto, int, str]:
    """The repaired graph folded, how many nodes went, and why it must not be written ("" where it may)."""
    folding = folded_graph(repaired)
    moved = distance(dataclasses.replace(subject, graph=repaired), folding.model, pictures)
    if not moved <= folding_tolerance(subject):
        return (
            repaired,
            0,
            f"folding changes the outputs by {moved:.1e} of their scale, more than float rounding: omit --fold",
        )
    return folding.model, len(folding.folds), ""


def _build_sidecar(subject: Subject, preparation: Preparation | None) -> Sidecar:
    """What travels with the new model: what did with the old one, and how its images were prepared if that was stated."""
    model_sidecar = subject.model_sidecar or Sidecar()
    if preparation is None or "scaling" in preparation.assumed:
        return model_sidecar
    return dataclasses.replace(model_sidecar, preprocessing=preparation.spec)


def _write(
    subject: Subject,
    repaired: onnx.ModelProto,
    values: Mapping[str, Array],
    measured: Measured,
    model_sidecar: Sidecar,
    output: Path,
) -> None:
    reference, framework = subject.reference, subject.reference.recognition.framework
    with files.whole(output) as temporary:
        if output.suffix == ".onnx":
            about = {"recalibrated": {"images": measured.images, "sites": len(measured.moments)}}
            metadata.write(repaired, about | sidecar.for_metadata(model_sidecar))
            write(repaired, temporary)
        elif isinstance(framework, RewritesFiles) and framework.rewrite(
            reference.path, reference.want, values, temporary
        ):
            pass
        elif isinstance(model := reference.model, SavesWeights):
            model.save_with(values, temporary)
        else:
            raise InputError(
                f"{subject.facts.path} cannot be written with other statistics",
                found=f"a model that {reference.title} runs as a whole",
                fix="choose an output that ends in .onnx",
            )
    if output.suffix != ".onnx" and sidecar.values(model_sidecar):
        sidecar.write(output, model_sidecar)
