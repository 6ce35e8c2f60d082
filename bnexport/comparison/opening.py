"""What is asked of a check, and everything that is opened for it before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bnexport import datasets
from bnexport.comparison.artifacts import (
    OtherArtifact,
    open_other,
    refuse_onnxruntime,
    refuse_unreadable,
    with_reader,
)
from bnexport.comparison.backends import BackendTarget, open_backends, split_backends
from bnexport.comparison.cuda import settle_providers
from bnexport.comparison.data_ports import ports_of_data
from bnexport.comparison.deployed import Deployed, open_deployed
from bnexport.comparison.options import REFERENCES, CheckOptions
from bnexport.comparison.recorded import Recorded, open_recorded
from bnexport.comparison.subject import Subject, open_feeds, open_subject
from bnexport.comparison.targets import Target, open_targets
from bnexport.datasets.arrays.opening import arrays_named
from bnexport.datasets.feeds import Pictures, Source
from bnexport.datasets.preparation import Preparation
from bnexport.errors import UsageError
from bnexport.frameworks.formats import other_format
from bnexport.frameworks.names import is_name
from bnexport.frameworks.protocols import Want
from bnexport.frameworks.registry import recognise
from bnexport.progress import Progress
from bnexport.results.actions import spell_options
from bnexport.results.target_names import required_plugins
from bnexport.results.verdict import Finding
from bnexport.rules.actions import Names
from bnexport.runtimes.ort_session import Cuda, Provider
from bnexport.system.cache import NOTHING_KEPT, Cache
from bnexport.system.files import Format
from bnexport.types import Array

KEPT = 256 << 20
"""A check goes through its images several times: so many bytes of prepared ones stay in memory."""


@dataclass(frozen=True, slots=True)
class Request(CheckOptions):
    """What is asked of a check: its options, and what it is about.

    Args:
        model: .h5, .hdf5 or .keras; or .onnx, then only the ONNX sides are run.
        source: a folder of images, one image, a manifest, tar shards (`bnexport.datasets.find`), or a list of images; or a folder of
            arrays or recordings.
        inputs: in place of `source` a file or folder of arrays, or arrays in memory (`bnexport.datasets.arrays.opening`).
        store: what was computed before; nothing by default.
        temporary: whether `model` is a file that is there for this check only.
        recorded: recorded outputs by name; None where they are in a file, or something else is the reference.
    """

    model: Path
    source: str | Path | Sequence[str | Path] | None = None
    inputs: Path | Mapping[str, NDArray[Any]] | Sequence[Mapping[str, NDArray[Any]]] | None = field(
        default=None, kw_only=True
    )
    store: Cache = NOTHING_KEPT
    temporary: bool = False
    recorded: Mapping[str, NDArray[Any]] | None = None

    @property
    def cuda(self) -> Cuda:
        """How CUDA runs where parity is asked for."""
        return Cuda(memory_limit=self.gpu_memory_limit)

    def names(self) -> Names:
        """What commands in findings call the files (`bnexport.rules.actions`); nothing for what is in memory only."""
        if self.temporary:
            return Names()
        data: dict[str, Any] = {}
        if isinstance(self.inputs, Path):
            data["inputs"] = self.inputs
        elif isinstance(self.source, str | Path) and str(self.source) not in ("", "-"):
            data["data"] = self.source
        if data:
            data |= {"labels": self.labels} if self.labels is not None else {}
            data |= {"signature": self.signature} if self.signature else {}
            data |= {"architecture": self.architecture} if self.architecture else {}
            data |= self.overrides.given
        check = {"onnx": self.onnx, "weights": self.weights}
        named = {name: path for name, path in check.items() if path is not None}
        foreign = recognise(self.model).about.weights  # no command writes such models
        graph = self.onnx if self.onnx is not None and not other_format(self.onnx) else None
        return Names(self.model, data, named, graph, written=not foreign)

    @property
    def data_name(self) -> str:
        """Where the images or arrays are, in words."""
        if self.inputs is not None:
            return str(self.inputs) if isinstance(self.inputs, Path) else "arrays in memory"
        return str(self.source) if isinstance(self.source, str | Path) else "a list of images"


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything that is open.

    Args:
        request: what was asked.
        subject: the model.
        feeds: what it is run on.
        preparation: how images are prepared; None for arrays.
        deployed: the deployed file; None where bnexport's own export is checked.
        providers: where onnxruntime runs.
        lost: a finding for each provider that was asked for and cannot run.
        targets: the other runtimes.
        backends: the other backends of Keras.
        recorded: recorded outputs that are the reference.
        other: the deployed file where it is not ONNX; `deployed` is None then.
    """

    request: Request
    subject: Subject
    feeds: Source
    preparation: Preparation | None
    deployed: Deployed | None
    providers: Sequence[Provider]
    lost: Sequence[Finding]
    targets: Sequence[Target]
    backends: Sequence[BackendTarget] = ()
    recorded: Recorded | None = None
    other: OtherArtifact | None = None

    @property
    def foreign(self) -> bool:
        """Whether a file is checked that somebody deploys, and not bnexport's own export."""
        return self.deployed is not None or self.other is not None

    @property
    def versions(self) -> dict[str, str]:
        """The versions of what the targets run."""
        versions = {target.name: target.about.version for target in self.targets}
        return versions | {name: number for backend in self.backends for name, number in backend.versions.items()}


def open_request(request: Request, progress: Progress) -> Opening:
    """Opens what `request` names.

    Raises:
        InputError: the model or the images cannot be read.
        UsageError: the request does not fit the model.
        MachineError: a required provider or TensorFlow is missing.
    """
    # Everything that can be wrong with the request is looked at before a framework is loaded, which takes seconds.
    if (request.source is None) == (request.inputs is None):
        raise UsageError(
            "a check requires images or arrays", fix=f"pass a folder of images or {spell_options(inputs='data.npz')}"
        )
    if request.batch_size < 1:
        raise UsageError("the batch size is invalid", found=str(request.batch_size), expected="1 or more")
    outputs = _recorded_outputs(request)
    kind = other_format(request.onnx) if request.onnx is not None else ""
    onnx = None if kind else request.onnx
    _refuse_odd_pair(request.model, request.onnx, layers=request.layers, other=bool(kind))
    inputs = request.inputs if request.inputs is not None else arrays_named(request.source)
    pictures = (
        datasets.find(request.source, labels=request.labels, local=request.local)
        if request.source is not None and inputs is None
        else None
    )
    if request.shard is not None:
        pictures = _part(pictures, *request.shard)
    other = open_other(request.onnx, kind) if request.onnx is not None and kind else None
    if other is not None:
        refuse_onnxruntime(other, request.providers, request.require)
    providers, lost = settle_providers(request.providers, request.require) if other is None else ([], [])
    named, runtimes = split_backends([*request.targets, *required_plugins(request.require)])
    backends = open_backends(named, request.model, request.reference)
    targets = open_targets(with_reader(runtimes, kind), request.python)
    refuse_unreadable(targets, request.model, onnx, other)
    subject = open_subject(
        request.model,
        progress,
        store=request.store,
        want=Want(
            request.trust,
            request.signature,
            request.architecture,
            request.weights,
            onnx,
            ports_of_data(inputs, request.overrides) if is_name(request.model) and onnx is None else (),
        ),
        deployed=onnx,
        reference="keras" if outputs is not None else request.reference,
        pictures=(pictures,),
        preload=True,
    )
    feeds, preparation = open_feeds(
        subject, pictures, inputs, request.overrides, request.batch_size, KEPT, labels=request.labels
    )
    deployed = open_deployed(onnx, subject, preparation.spec if preparation else None) if onnx is not None else None
    if deployed is not None and deployed.interface.pixels and isinstance(feeds, Pictures):
        feeds = feeds.with_whole_pixels()
    recorded = open_recorded(outputs, subject, feeds.count) if outputs is not None else None
    return Opening(request, subject, feeds, preparation, deployed, providers, lost, targets, backends, recorded, other)


def _recorded_outputs(request: Request) -> Path | Mapping[str, Array] | None:
    """Where recorded outputs are; None where something else is the reference."""
    outputs = request.recorded
    if outputs is None and request.reference in REFERENCES:
        return None
    if outputs is None and Path(request.reference).suffix != ".npz":
        raise UsageError(
            "the reference is invalid", found=request.reference, expected=f"{', '.join(REFERENCES)} or an .npz file"
        )
    if not recognise(request.model).about.executable or request.onnx is not None:
        raise UsageError(
            "recorded outputs are compared with one ONNX file",
            found=f"{request.model} and {request.onnx}" if request.onnx is not None else str(request.model),
            fix="pass the ONNX file alone: bnexport check model.onnx images/ --reference outputs.npz",
        )
    if request.shard is not None:
        raise UsageError("recorded outputs have a row for each item, so that --shard cannot be used with them")
    return outputs if outputs is not None else Path(request.reference)


def _part(pictures: datasets.Listing | None, nth: int, count: int) -> datasets.Listing:
    if pictures is None:
        raise UsageError(
            "--shard selects a part of the images, but there are no images", fix="omit --shard with --arrays"
        )
    if len(pictures) < count:
        raise UsageError(f"{len(pictures)} images are too few for {count} parts", fix="choose fewer parts")
    return pictures.shard(nth, count)


def _refuse_odd_pair(model: Path, onnx: Path | None, *, layers: bool, other: bool) -> None:
    if layers and onnx is None and recognise(model).about.executable:
        raise UsageError(
            "--layerwise compares with the layers of a model in a framework, or of a reference file",
            found=f"{model}, an ONNX file alone",
            fix=f"pass the file to compare it with: bnexport check {model} images/ --deployed other.onnx",
        )
    if onnx is not None and not other and (theirs := recognise(onnx)).format != Format.ONNX:
        raise UsageError(
            f"{onnx} is not an ONNX file, and no other file that runtimes execute (.tflite, .xml)",
            found=f"a {theirs.about.title or theirs.name} model",
            fix="omit --deployed to check the export of bnexport",
        )
