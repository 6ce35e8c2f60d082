"""A bundle: everything a machine without TensorFlow needs to see whether it computes what Keras computed.

bundle.json                     this module's `Bundle`: hashes of all other files, and its own
model.onnx                      the file that is deployed
images/000000.png ...           the pictures themselves, so that decoder and resize are checked too
test_data_set_0/input_0.pb      one TensorProto for each input of the graph: what the pictures became
output_0.pb     and for each output: what Keras made of it (both as onnx.backend.test reads them)
logits_0.pb     what it had before the softmax
inner_0.pb      a tensor by which rows are selected
model_repository/NAME/          with --layout triton
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from bnexport.errors import InputError
from bnexport.results.facts import ModelFacts
from bnexport.results.heads import Heads
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.verdict import Finding
from bnexport.system import files
from bnexport.system.memory_file import APPENDED, MODEL, MOST, MemoryFile

SCHEMA_VERSION = "1.0"
INDEX = "bundle.json"

if TYPE_CHECKING:
    from bnexport.bundles.signatures import SignedFiles

_OWN = re.compile(rb'("bundle_sha256": ")([0-9a-f]{64})(")')


@dataclass(frozen=True, slots=True)
class Item:
    """One picture, or one row of arrays.

    Args:
        name: as it was given.
        label: its class, -1 where unknown.
        file: the picture in the bundle; "" for arrays.
    """

    name: str
    label: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] = -1
    file: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One batch: its folder and what is in it."""

    folder: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor that is compared.

    Args:
        name: what a check calls it; the logits behind an output are `OUTPUT/logits`.
        tensor: its name in the graph.
        file: its file in each data set's folder.
    """

    name: str
    tensor: str
    file: str


@dataclass(frozen=True, slots=True)
class Floor:
    """The noise floor of a tensor."""

    tensor: str
    value: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How close is close enough, as the check that made the bundle knew it (`bnexport.results.tolerance`)."""

    floors: tuple[Floor, ...]
    images: int
    missing: str
    half: bool
    rtol: Mapping[str, float]
    atol: Mapping[str, float]
    method: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The index of a bundle.

    Args:
        schema_version: of this record; fields are only ever added.
        bundle_sha256: of the index itself, with zeros in this place.
        tool: name and version of what wrote it.
        environment: versions and machine where it was packed.
        model: the model that was packed.
        reference: the side whose outputs are stored.
        inputs: the graph's inputs; the data sets hold them as input_0.pb and so on.
        tensors: what is compared.
        heads: what the model gives out.
        preprocessing: how the pictures are prepared; None for arrays.
        preprocessing_origin: where that was learned.
        tolerance: how close is close enough.
        sets: the data sets.
        verdict: of the check when it was packed.
        findings: of that check.
        files: the SHA-256 of every other file, by its path in the bundle.
    """

    schema_version: str
    bundle_sha256: str
    tool: Mapping[str, str]
    environment: Mapping[str, Any]
    model: ModelFacts
    reference: str
    inputs: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    heads: Heads
    preprocessing: dict[str, Any] | None
    preprocessing_origin: str
    tolerance: Tolerance
    sets: tuple[DataSet, ...]
    verdict: str
    findings: tuple[Finding, ...]
    files: Mapping[str, str]


def index_text(bundle: Bundle) -> bytes:
    """The content of bundle.json, its own hash filled in."""
    values = asdict(bundle) | {"bundle_sha256": "0" * 64}
    for finding, values_of in zip(bundle.findings, values["findings"], strict=True):
        values_of["actions"] = [action.as_dict() for action in finding.actions]
    content = msgspec.json.format(msgspec.json.encode(values, enc_hook=str), indent=2)
    return with_own_hash(content)


def with_own_hash(content: bytes) -> bytes:
    """An index whose hash of itself is right; the same where it gives none."""
    hashes, match = own_hash(content), _OWN.search(content)
    return content[: match.start(2)] + hashes[1] + content[match.end(2) :] if hashes and match else content


def own_hash(content: bytes) -> tuple[bytes, bytes] | None:
    """The hash that an index gives of itself, and the one it has: of its content with zeros in that place; None where it gives none."""
    match = _OWN.search(content)
    if match is None:
        return None
    zeroed = content[: match.start(2)] + b"0" * 64 + content[match.end(2) :]
    return match[2], hashlib.sha256(zeroed).hexdigest().encode()


def read(folder: Path, signed: SignedFiles | None = None) -> Bundle:
    """The index of the bundle in a folder.

    Args:
        folder: the bundle.
        signed: what was signed, where that counts; the other files are held against the index.

    Raises:
        InputError: it is no bundle, bundle.json was changed, or it was written by a newer bnexport.
    """
    path = folder / INDEX
    facts = files.status(folder)
    if facts is None or not stat.S_ISDIR(facts.st_mode):
        raise InputError(f"the bundle {folder} does not exist", expected="a folder written by bnexport pack")
    if files.status(path) is None:
        raise InputError(f"{folder} is not a bundle", found=f"no {INDEX}", expected="a folder written by bnexport pack")
    try:
        content = files.read_bounded(path, files.MOST_TEXT, within=folder)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    if signed is not None:
        signed.verify(path, content)
    own = own_hash(content)
    if own is None or own[0] != own[1]:
        raise InputError(f"{path} has changed since the bundle was packed", fix="pack or copy the bundle again")
    try:
        version = msgspec.json.decode(content, type=dict[str, Any]).get("schema_version")
        if str(version).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise InputError(
                f"{path} was written by another version of bnexport",
                found=f"schema version {version}",
                expected=SCHEMA_VERSION,
                fix="pack the bundle again with this version",
            )
        bundle = msgspec.json.decode(content, type=Bundle)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error})", fix="pack or copy the bundle again") from error
    _refuse_incomplete(bundle, folder)
    if bundle.preprocessing is None:
        return bundle
    return replace(bundle, preprocessing=Preprocessing.from_dict(bundle.preprocessing).as_dict())


def _refuse_incomplete(bundle: Bundle, folder: Path) -> None:
    """Refuses an index that names files outside the bundle, or files without a hash."""
    named = {MODEL, APPENDED}
    for part in bundle.sets:
        if not part.items:
            raise InputError(f"{folder / INDEX} is damaged", found=f"{part.folder} without images")
        named |= {f"{part.folder}/input_{nth}.pb" for nth in range(len(bundle.inputs))}
        named |= {f"{part.folder}/{tensor.file}" for tensor in bundle.tensors}
        named |= {item.file for item in part.items if item.file}
        if bundle.preprocessing is not None and not all(item.file for item in part.items):
            raise InputError(f"{folder / INDEX} is damaged", found=f"an image in {part.folder} without a file")
    if missing := sorted(named - set(bundle.files)):
        raise InputError(f"{folder / INDEX} is damaged", found=f"no hash for {missing[0]}")
    if not bundle.sets or not bundle.tensors or not bundle.inputs:
        raise InputError(f"{folder / INDEX} is damaged", found="no inputs or no outputs to compare")
    if bundle.preprocessing is not None and len(bundle.inputs) != 1:
        raise InputError(
            f"{folder / INDEX} is damaged", found=f"images for {len(bundle.inputs)} inputs", expected="one input"
        )
    for name in bundle.files:
        if "\0" in name:
            raise InputError(f"{folder / INDEX} is damaged", found="a file name with a null byte")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder / INDEX} names a file outside the bundle", found=name)


def contents(index: Bundle, folder: Path) -> dict[str, bytes]:
    """The content of every file but the model, held against its hash.

    Raises:
        InputError: a file is missing, cannot be read, or was changed.
    """
    return {name: _content(folder / name, digest, folder) for name, digest in index.files.items() if name != MODEL}


def verify_model(model: Future[MemoryFile], index: Bundle, folder: Path) -> MemoryFile:
    """The model that is being read, held against its hash.

    Raises:
        InputError: it is missing, cannot be read, or was changed.
    """
    path = folder / MODEL
    try:
        file = model.result()
    except OSError as error:
        raise _unreadable(path, error) from error
    _verify_hash(file.sha256(), index.files[MODEL], path)
    return file


def _unreadable(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"the bundle is incomplete: {path} is missing", fix="pack or copy the bundle again")
    return InputError(f"cannot read {path} ({error.strerror})")


def _content(path: Path, digest: str, folder: Path) -> bytes:
    try:
        content = files.read_bounded(path, MOST, within=folder)
    except OSError as error:
        raise _unreadable(path, error) from error
    _verify_hash(hashlib.sha256(content).hexdigest(), digest, path)
    return content


def _verify_hash(actual: str, digest: str, path: Path) -> None:
    if actual != digest:
        raise InputError(
            f"{path} has changed since the bundle was packed",
            found=f"SHA-256 {actual[:12]}…",
            expected=f"{digest[:12]}…",
            fix="pack or copy the bundle again",
        )
