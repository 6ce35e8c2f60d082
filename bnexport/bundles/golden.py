"""What is in a bundle, as a check has it: inputs, the side that is stored, the packed graph as a side, and what this machine makes of the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnexport import datasets
from bnexport.bundles import bundle
from bnexport.bundles.bundle import Bundle, DataSet, Item
from bnexport.comparison.engine import Baseline
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.onnx_graph import protobuf
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.runs import STORED, Role, RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Finding
from bnexport.rules.inputs import decoding_difference
from bnexport.runtimes.ort_session import Session
from bnexport.system import machine
from bnexport.types import Array


def feed(index: Bundle, part: DataSet, contents: Mapping[str, bytes], folder: Path) -> Feed:
    """The inputs of one data set.

    Raises:
        InputError: a file of it is no tensor, or holds another number of images.
    """
    inputs = {}
    for nth, name in enumerate(index.inputs):
        path = f"{part.folder}/input_{nth}.pb"
        inputs[name] = protobuf.array_from(contents[path], str(folder / path))
        if inputs[name].ndim == 0 or len(inputs[name]) != len(part.items):
            raise InputError(
                f"{folder / path} does not match {bundle.INDEX}",
                found=f"the shape {inputs[name].shape}",
                expected=f"{len(part.items)} images",
            )
    return Feed(inputs, tuple(i.name for i in part.items), np.array([i.label for i in part.items], np.int64))


def stored_run(index: Bundle) -> RunSpec:
    """What was computed when the bundle was packed, as a run that others are compared with."""
    return RunSpec(STORED, "inference", index.reference, Role.CONTROL)


def baseline(index: Bundle, feeds: Sequence[Feed], contents: Mapping[str, bytes], folder: Path) -> Baseline:
    """The batches of a bundle, with the outputs that are stored in it."""
    run, loaded = stored_run(index).id, Baseline()
    for part, feed in zip(index.sets, feeds, strict=True):
        files = {tensor.name: f"{part.folder}/{tensor.file}" for tensor in index.tensors}
        outputs = {name: protobuf.array_from(contents[file], str(folder / file)) for name, file in files.items()}
        loaded.add(feed, {run: outputs})
    return loaded


def open_packed_graph(session: Session, index: Bundle, model: Callable[[], bytes]) -> Runner:
    """The packed graph in a session; `model` is asked for its bytes where it has to be taken apart."""
    names = {tensor.name: tensor.tensor for tensor in index.tensors}

    def compute(feeds: Feeds) -> Outputs:
        outputs = session.run(feeds, list(names.values()))
        return {name: outputs[tensor] for name, tensor in names.items()}

    return Runner(
        RunSpec("onnxruntime", "inference", session.provider, artifact="onnx"),
        compute,
        graph=lambda: protobuf.model_from(model()),
        names=names,
        placement=session.placement,
    )


def tolerances(index: Bundle) -> Tolerances:
    """How close is close enough, as the check knew it that was made before packing."""
    stored = index.tolerance
    floors = {("inference", floor.tensor): floor.value for floor in stored.floors}
    return Tolerances(floors, stored.images, stored.missing, stored.half, stored.rtol, stored.atol, stored.method)


def preprocessing(index: Bundle) -> Preprocessing | None:
    """How the pictures of a bundle are prepared; None for arrays."""
    return None if index.preprocessing is None else Preprocessing.from_dict(dict(index.preprocessing))


def decode_images(index: Bundle, contents: Mapping[str, bytes], feeds: Sequence[Feed]) -> list[Array | None]:
    """What this machine makes of the pictures of each data set; None where it holds arrays.

    Raises:
        InputError: a picture cannot be read here, or becomes something of another shape.
    """
    if index.preprocessing is None:
        return [None] * len(feeds)
    spec = Preprocessing.from_dict(dict(index.preprocessing))
    made: list[Array | None] = []
    with ThreadPoolExecutor(machine.threads()) as pool:
        for part, feed in zip(index.sets, feeds, strict=True):
            [stored] = feed.inputs.values()
            if stored.shape != (len(part.items), *spec.shape):
                raise InputError(
                    f"the images in {part.folder} do not have the shape of its stored inputs",
                    found=str((len(part.items), *spec.shape)),
                    expected=str(stored.shape),
                )
            whole = stored.dtype.kind in "iu"
            some = np.stack(list(pool.map(partial(_prepare, contents=contents, spec=spec, whole=whole), part.items)))
            made.append(some.astype(stored.dtype))
    return made


def preprocessing_difference(
    images: Sequence[Array | None], baseline: Baseline, stored: str, runners: Sequence[Runner], tally: Tally
) -> Finding | None:
    """IN006 where this machine makes other inputs of the pictures; None where they are the same to the last bit."""
    differing: dict[str, float] = {}
    harmless = True
    strict = [runner for runner in runners if not runner.spec.as_deployed]
    for made, feed, recorded in zip(images, baseline.batches, baseline.outputs, strict=True):
        if made is None:
            continue
        [(input_name, packed)] = feed.inputs.items()
        far = np.abs(made.astype(np.float64) - packed.astype(np.float64)).reshape(len(made), -1).max(axis=1)
        differing |= {item: float(d) for item, d in zip(feed.names, far, strict=True) if d > 0}
        if far.any():
            harmless &= all(
                tally.agree("inference", run.compute({input_name: made}), recorded[stored]) for run in strict
            )
    return decoding_difference(differing, baseline.count, harmless=harmless)


def _prepare(item: Item, *, contents: Mapping[str, bytes], spec: Preprocessing, whole: bool) -> NDArray[np.float32]:
    try:
        return datasets.decode_image(contents[item.file], spec, whole=whole)
    except InputError as error:
        raise InputError(f"cannot read the image {item.file} of the bundle on this machine ({error})") from error
