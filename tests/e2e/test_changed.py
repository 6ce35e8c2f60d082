"""A model that is replaced while it is read is refused, and nothing about it gets into the cache."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import onnx
import pytest

import bnexport
from bnexport.batch.plan import Check
from bnexport.batch.results import Folder
from bnexport.comparison import subject
from bnexport.comparison.options import CheckOptions
from bnexport.errors import InputError
from bnexport.frameworks.keras import model as keras_model
from bnexport.keras_files.read import read_file
from bnexport.results.batched import Result
from bnexport.system.cache import NOTHING_KEPT, Cache


def _replace(path: Path, content: bytes) -> None:
    """As a training job writes a checkpoint: whole, under another name, and then renamed."""
    beside = path.with_name("written.tmp")
    beside.write_bytes(content)
    beside.replace(path)


@pytest.mark.keras
@pytest.mark.parametrize("back", [False, True])
def test_a_keras_model_that_is_replaced_while_it_loads_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """Also where the old file is back before anybody looks; the cache then holds nothing that was computed from the other one."""
    path = tmp_path / "m.h5"
    shutil.copyfile(models / "tiny_residual.h5", path)
    own, other = path.read_bytes(), path.read_bytes() + b"another"
    load, ended = keras_model.load, threading.Event()

    def swapped(file: Path, **options: Any) -> Any:
        _replace(path, other)
        try:
            loaded = load(file, **options)
        finally:
            if back:
                _replace(path, own)
            ended.set()
        if back:
            return type(loaded)(
                **{n: getattr(loaded, n) for n in loaded.__slots__} | {"sha256": keras_model.sha256(path)}
            )
        return loaded

    monkeypatch.setattr(keras_model, "load", swapped)
    store = Cache(tmp_path / "cache")
    with pytest.raises(InputError, match=r"changed while it was read.*again"):
        bnexport.check(path, models / "three", store=store)
    assert ended.wait(60)  # the export may have seen the other file first
    monkeypatch.undo()
    _replace(path, own)
    again = bnexport.check(path, models / "three", store=store)
    alone = bnexport.check(path, models / "three")
    assert again.comparisons == alone.comparisons
    assert [f.code for f in again.findings] == [f.code for f in alone.findings]


@pytest.mark.keras
@pytest.mark.parametrize("reader", ["bnexport.frameworks.keras.file.read_file", "bnexport.exporter.native.read_file"])
def test_a_keras_file_that_is_replaced_before_it_is_read_is_refused(
    reader: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is described and what is exported is what was hashed."""
    path = tmp_path / "m.h5"
    shutil.copyfile(models / "tiny_residual.h5", path)
    other = path.read_bytes() + b"another"

    def swapped(file: Path, architecture: Any = None) -> Any:
        _replace(path, other)
        return read_file(file, architecture)

    monkeypatch.setattr(reader, swapped)
    with pytest.raises(InputError, match=r"changed while it was read.*again"):
        bnexport.check(path, models / "three", store=Cache(tmp_path / "cache"))


def test_an_onnx_file_is_read_once(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash in the report is that of the bytes that were parsed, though the file was replaced right after they were read."""
    import hashlib

    path = tmp_path / "m.onnx"
    shutil.copyfile(models / "tiny_residual.onnx", path)
    own, parse = path.read_bytes(), onnx.load_model_from_string
    other = onnx.load(path)
    other.graph.name = "another"

    def swapped(content: bytes, *args: Any, **kwargs: Any) -> Any:
        _replace(path, other.SerializeToString())
        return parse(content, *args, **kwargs)

    monkeypatch.setattr(onnx, "load_model_from_string", swapped)
    read = subject.open_subject(path, subject.Progress(), store=Cache(tmp_path / "cache"))
    assert read.graph.graph.name != "another"
    assert read.facts.sha256 == hashlib.sha256(own).hexdigest()


def test_nothing_is_kept_about_a_file_whose_weights_are_beside_it(models: Path, tmp_path: Path) -> None:
    """Entries are named by the hash of the file, which stays where the weights in another file change."""
    path = tmp_path / "m.onnx"
    model = onnx.load(models / "tiny_residual.onnx")
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    store = Cache(tmp_path / "cache")
    assert subject.open_subject(path, subject.Progress(), store=store).store is NOTHING_KEPT
    assert subject.open_subject(models / "tiny_residual.onnx", subject.Progress(), store=store).store is store


def test_a_batch_keeps_no_result_of_another_file(models: Path, tmp_path: Path) -> None:
    """A result whose report names other bytes than its key is not kept; one that names the same is."""
    path = tmp_path / "m.onnx"
    shutil.copyfile(models / "tiny_residual.onnx", path)
    folder = Folder(tmp_path / "results", NOTHING_KEPT)
    check = Check(
        name="m", model=path, images="", arrays=None, deployed=None, labels=None, options=CheckOptions(), arguments=()
    )
    key = folder.key(check)
    for digest, kept in (("0" * 64, False), (keras_model.sha256(path), True)):
        report = {"verdict": "pass", "findings": [], "model": {"sha256": digest}}
        folder.put(Result(key, "m", (), "pass", 0, 1.0, 1.0, "", report), check)
        assert (folder.get(key) is not None) is kept
