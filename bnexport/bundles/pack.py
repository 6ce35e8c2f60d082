"""`bnexport pack`: the deployed file, sample images and what Keras makes of them, in a folder that `bnexport verify` reads without TensorFlow."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport import datasets
from bnexport.bundles import bundle, checksums, triton
from bnexport.bundles.bundle import Bundle, DataSet, Floor, Item, Tensor
from bnexport.bundles.signatures import open_signer
from bnexport.bundles.signing import Signing
from bnexport.checking.examine import Examination, examine
from bnexport.comparison import floors, sides
from bnexport.comparison.interface import Interface
from bnexport.comparison.opening import Opening, Request, open_request
from bnexport.comparison.sides import Feeds, Outputs
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError, UsageError
from bnexport.onnx_graph import protobuf
from bnexport.onnx_graph.outputs import fetches
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.results.preprocessing import Layout, Scaling
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import CheckReport
from bnexport.system import files, memory_file
from bnexport.version import __version__

if TYPE_CHECKING:
    import onnx

SAMPLES = 32
"""How many images a bundle holds by default."""


@dataclass(frozen=True, slots=True)
class Packing:
    """What came of it; truthy when a bundle was written.

    Args:
        path: the bundle.
        report: the check that was made first.
        samples: how many images it holds.
        sets: in how many data sets.
        size: its size in bytes.
        refused: why nothing was written; "" where it was.
    """

    path: Path
    report: CheckReport
    samples: int
    sets: int
    size: int
    refused: str = ""

    def __bool__(self) -> bool:
        return not self.refused


def pack(
    request: Request,
    output: Path | str,
    *,
    samples: int = SAMPLES,
    layout: str = "",
    name: str = "",
    signing: Signing | None = None,
    with_inputs: bool = False,
    progress: Progress | None = None,
) -> Packing:
    """Checks a model, and packs what a machine without TensorFlow needs to check it again.

    What the check finds wrong with the model itself (stale statistics) is packed as known; a file that does not compute what the model computes is not packed.
    The hashes in it detect accidents. A signature detects changes by somebody who can rewrite the bundle (`bnexport.verify`).

    Args:
        request: the check.
        output: the folder; a bundle that is there already is replaced.
        samples: how many of the images it shall hold, evenly spread.
        layout: "triton" for a Triton model repository in it as well.
        name: of the model in that repository; "" for the file's own.
        signing: how the bundle is signed; None where it is not.
        with_inputs: also store the inputs as .npy files, and a table of the items, for programs that read no protobuf.
        progress: notified of each stage.

    Raises:
        InputError: the model or the images cannot be read.
        UsageError: the arguments do not fit, or `output` is something else than a bundle.
        MachineError: TensorFlow, a required provider or model-signing is missing, or the disk is full.
    """
    progress, output = progress or Progress(), Path(output)
    _refuse_odd_output(output)
    if samples < 1:
        raise UsageError("the number of samples is invalid", found=str(samples), expected="1 or more")
    sign = open_signer(signing) if signing is not None else None
    opening = open_request(request, progress)
    if opening.other is not None:
        raise UsageError("a bundle holds an ONNX file", found=opening.other.artifact.name, fix="check it instead")
    examination = examine(opening, progress)
    opening = examination.opening
    report = examination.report
    wrong = [c for c in report.comparisons if not c and c.actual in examination.deployed]
    if wrong:
        reason = f"{wrong[0].actual} does not compute what {wrong[0].reference} computes: {wrong[0].reason}"
        return Packing(output, report, 0, 0, 0, reason)
    progress.stage("packing")
    graph, content = _deployed_file(opening)
    index, parts = _build_bundle(opening, examination, graph, samples)
    parts = {memory_file.MODEL: content, **parts}
    if with_inputs:
        parts |= _plain_inputs(index, parts)
    if layout:
        stem = name or request.model.stem
        parts |= triton.repository(graph, content, stem, index.heads.classes, request.batch_size)
    index = replace(index, files={path: hashlib.sha256(part).hexdigest() for path, part in parts.items()})
    with files.whole_folder(output) as folder:
        for path, part in {**parts, bundle.INDEX: bundle.index_text(index)}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(part)
        (folder / checksums.SUMS).write_bytes(checksums.sums(index, folder))
        if sign is not None:
            progress.stage("signing")
            sign(folder, output.name)
    count = sum(len(part.items) for part in index.sets)
    return Packing(output, report, count, len(index.sets), sum(len(part) for part in parts.values()))


def _plain_inputs(index: Bundle, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The inputs of each data set as .npy, and items.csv, which says where the rows of each item are."""
    plain: dict[str, bytes] = {}
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["item", "name", "file", "data_set", "row"])
    count = 0
    for part in index.sets:
        for nth in range(len(index.inputs)):
            path = f"{part.folder}/input_{nth}"
            array, stream = protobuf.array_from(parts[f"{path}.pb"], path), io.BytesIO()
            if array.dtype.kind != "U":  # text has no plain form that other languages read
                np.save(stream, array)
                plain[f"{path}.npy"] = stream.getvalue()
        for row, item in enumerate(part.items):
            rows.writerow([f"{count:06d}", item.name, item.file, part.folder, row])
            count += 1
    return {**plain, "items.csv": table.getvalue().encode("utf-8", "surrogateescape")}


def _refuse_odd_output(output: Path) -> None:
    if not output.parent.is_dir():
        raise UsageError(f"cannot write {output}", fix=f"create the folder {output.parent} first")
    if (
        files.status(output) is not None
        and not (output / bundle.INDEX).is_file()
        and (output.is_file() or any(output.iterdir()))
    ):
        raise UsageError(
            f"cannot write {output}",
            found="a file or folder that is not a bundle",
            fix="choose another name or remove it",
        )


def _deployed_file(opening: Opening) -> tuple[onnx.ModelProto, bytes]:
    """The graph that is deployed, and its file's content: to the byte where there is one file already."""
    path = opening.request.onnx or (opening.request.model if opening.subject.reference.graph_itself else None)
    graph = opening.deployed.graph if opening.deployed else opening.subject.graph
    if path is None or protobuf.keeps_weights_elsewhere(path):
        return graph, serialise(graph)
    return graph, path.read_bytes()


def _measure_floors(opening: Opening, tolerances: Tolerances) -> Tolerances:
    """The tolerances of a check, with the noise floors of a graph, which no difference here asked for: on another machine it may."""
    if not tolerances.provisional:
        return tolerances
    subject = opening.subject
    try:
        measured = floors.measure(
            subject.reference, next(iter(opening.feeds)), subject.reference.modes, subject.heads(())
        )
    except InputError as error:
        return replace(tolerances, floors={}, missing=str(error))
    return replace(tolerances, floors=measured.floors, images=floors.IMAGES, method=measured.method)


def _build_bundle(
    opening: Opening, examination: Examination, graph: onnx.ModelProto, samples: int
) -> tuple[Bundle, dict[str, bytes]]:
    """The index, still without hashes, and the files of the samples."""
    subject, deployed = opening.subject, opening.deployed
    interface = deployed.interface if deployed else Interface({n: n for n in subject.shapes}, {})
    names = deployed.names if deployed else fetches(graph)
    golden, compute = _reference_run(opening)
    dtypes = protobuf.input_dtypes(graph)
    inputs = tuple(name for name in dtypes if name in interface.inputs.values())
    outputs = [info.name for info in graph.graph.output]
    inner = [tensor for tensor in names.values() if tensor not in outputs]
    fixed = interface.batch
    feeds = opening.feeds.sample(samples, batch_size=fixed or opening.request.batch_size, whole=fixed is not None)
    parts: dict[str, bytes] = {memory_file.APPENDED: protobuf.giving_out(graph, names.values())}
    sets: list[DataSet] = []
    compared: dict[str, Tensor] = {}
    for nth, feed in enumerate(feeds):
        folder = f"test_data_set_{nth}"
        given = interface.given(feed.inputs)
        for position, name in enumerate(inputs):
            parts[f"{folder}/input_{position}.pb"] = protobuf.tensor_bytes(given[name].astype(dtypes[name]), name)
        wanted = compute(feed.inputs)
        for check_name, tensor in names.items():
            if check_name not in wanted:
                continue
            owner = check_name.removesuffix("/logits")
            array = np.moveaxis(wanted[check_name], -1, 1) if owner in interface.moved_out else wanted[check_name]
            file = f"output_{outputs.index(tensor)}.pb" if tensor in outputs else f"inner_{inner.index(tensor)}.pb"
            if owner != check_name and tensor not in outputs:
                file = f"logits_{outputs.index(names[owner])}.pb"
            parts[f"{folder}/{file}"] = protobuf.tensor_bytes(array, tensor)
            compared[check_name] = Tensor(check_name, tensor, file)
        sets.append(
            DataSet(folder, _items(feed, feeds.pictures(feed.names), sum(len(part.items) for part in sets), parts))
        )
    spec = opening.preparation.spec if opening.preparation else None
    if len(inputs) != 1:
        spec = None  # pictures of several inputs are packed as arrays
    if spec is not None and interface.moved_in:
        spec = spec.changed(layout=Layout.NCHW)
    if spec is not None and interface.pixels:
        pixels = Scaling.MINUS_128 if interface.signed else Scaling.NONE
        spec = spec.changed(scaling=pixels, order=interface.order)
    tolerances = _measure_floors(opening, examination.tolerances)
    index = Bundle(
        schema_version=bundle.SCHEMA_VERSION,
        bundle_sha256="",
        tool={"name": "bnexport", "version": __version__},
        environment=examination.report.environment,
        model=examination.report.model,
        reference=golden,
        inputs=inputs,
        tensors=tuple(compared.values()),
        heads=subject.heads(feeds.classes),
        preprocessing=spec.as_dict() if spec else None,
        preprocessing_origin=opening.preparation.origin if opening.preparation else "",
        tolerance=bundle.Tolerance(
            tuple(Floor(name, value) for (mode, name), value in tolerances.floors.items() if mode == "inference"),
            tolerances.images,
            tolerances.missing,
            tolerances.half,
            tolerances.rtol,
            tolerances.atol,
            tolerances.method,
        ),
        sets=tuple(sets),
        verdict="pass" if examination.report else "fail",
        findings=examination.report.findings,
        files={},
    )
    return index, parts


def _reference_run(opening: Opening) -> tuple[str, Callable[[Feeds], Outputs]]:
    """The side whose outputs are stored: Keras, or for an ONNX file alone the graph without optimisations."""
    runner = next(run for run in sides.reference_sides(opening.subject.reference) if run.mode == "inference")
    return runner.id, runner.compute


def _items(
    feed: Feed, pictures: Mapping[str, datasets.Picture], position: int, parts: dict[str, bytes]
) -> tuple[Item, ...]:
    """The pictures of a batch, their files put among `parts` under numbers: names may be anything."""
    items = []
    for offset, (name, label) in enumerate(zip(feed.names, feed.labels.tolist(), strict=True)):
        file = ""
        if name in pictures:
            file = f"images/{position + offset:06d}{pictures[name].suffix}"
            parts[file] = pictures[name].read()
        items.append(Item(name, label, file))
    return tuple(items)
