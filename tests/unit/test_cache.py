"""What was computed before comes back whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bnexport.comparison.description import Description
from bnexport.comparison.reference import Reference
from bnexport.frameworks.protocols import ModelInfo, Want
from bnexport.frameworks.registry import framework_named
from bnexport.progress import Progress
from bnexport.system import cache, files
from bnexport.system.cache import NOTHING_KEPT, Cache


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    """Bytes and arrays, by their key and no other."""
    store = Cache(tmp_path)
    arrays = {"a/b": np.arange(6.0).reshape(2, 3), "names": np.array([1], np.int64)}
    store.put(b"content", "graph", "1")
    store.put_arrays(arrays, "pass", "1")
    assert store.get("graph", "1") == b"content"
    assert store.get("graph", "2") is None
    found = store.get_arrays("pass", "1")
    assert found is not None
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_entry_is_absent(damage: bytes | None, tmp_path: Path) -> None:
    """Cut short, emptied, or with one byte changed: it is computed again."""
    store = Cache(tmp_path)
    store.put(b"content", "key")
    [entry] = tmp_path.glob("??/*")
    content = entry.read_bytes()
    entry.write_bytes(content[:-1] + b"X" if damage is None else damage)
    assert store.get("key") is None
    store.put(b"content", "key")
    assert store.get("key") == b"content"


DESCRIPTION = Description(
    ModelInfo(parameters=7, versions={"keras": "3.13.0"}),
    inputs=(("x", (None, 3), "float32"),),
    outputs=("y",),
    modes=("inference",),
)


@pytest.mark.parametrize(
    "stored",
    [
        *(b"", b"null", b"[]", b"{}", b"\xff"),
        json.dumps({**asdict(DESCRIPTION), "info": {"parameters": "7"}}).encode(),
        json.dumps({**asdict(DESCRIPTION), "inputs": [["x", 3, "float32"]]}).encode(),
    ],
)
def test_a_description_of_other_types_is_made_anew(
    stored: bytes, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R8: an entry that another version, or somebody, wrote is not believed; the right one is, and the model is not loaded."""
    shutil.copy(models / "tiny_residual.h5", tmp_path / "m.h5")
    store = Cache(tmp_path / "cache")
    reference = Reference(framework_named("keras", "h5"), tmp_path / "m.h5", Want(), store, Progress())
    monkeypatch.setattr(Reference, "_describe", lambda _: DESCRIPTION)
    store.put(stored, "description", reference._key)
    assert reference.description() == DESCRIPTION
    monkeypatch.setattr(Reference, "_describe", lambda _: pytest.fail("it was in the cache"))
    again = reference.description()
    assert json.loads(json.dumps(asdict(again))) == json.loads(json.dumps(asdict(DESCRIPTION)))


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """It costs time later, nothing else."""
    (tmp_path / "file").write_text("")
    store = Cache(tmp_path / "file" / "cache")
    store.put(b"content", "key")
    assert store.get("key") is None
    NOTHING_KEPT.put(b"content", "key")
    assert NOTHING_KEPT.get("key") is None


def test_the_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder stays below its limit, and what was read last stays longest."""
    monkeypatch.setattr(cache, "LIMIT", 350)
    store = Cache(tmp_path)
    for age, name in ((30, "a"), (20, "b")):
        store.put(b"x" * 100, name)
        newest = max(tmp_path.glob("??/*"), key=lambda p: p.stat().st_mtime_ns)
        os.utime(newest, (1e9 - age, 1e9 - age))
    assert store.get("a")  # read: now the newest
    store.put(b"x" * 100, "c")
    assert (store.get("a") is None, store.get("b") is None, store.get("c") is None) == (False, True, False)


def test_clearing_removes_entries_and_nothing_else(tmp_path: Path) -> None:
    """A folder that was named by mistake keeps what is in it."""
    (tmp_path / "notes.txt").write_text("mine")
    store = Cache(tmp_path)
    store.put(b"content", "key")
    assert cache.size(tmp_path) == (1, 39)
    assert cache.clear(tmp_path) == (1, 39)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_keys_depend_on_versions_and_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After an update nothing old is found."""
    store = Cache(tmp_path)
    store.put(b"content", "key")
    monkeypatch.setattr(cache, "surroundings", lambda: "another version")
    assert store.get("key") is None


def test_fingerprints_tell_arrays_apart() -> None:
    """By name, shape, dtype and content."""
    x = np.zeros((2, 3), np.float32)
    found = {
        cache.fingerprint(arrays)
        for arrays in ({"x": x}, {"y": x}, {"x": x.reshape(3, 2)}, {"x": x.astype(np.int32)}, {"x": x + 1})
    }
    assert len(found) == 5


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while the file is young; then until its content, or anything about its inode, is another."""
    store, path = Cache(tmp_path / "cache"), tmp_path / "model.h5"
    counted: list[Path] = []
    hashed = files.sha256
    monkeypatch.setattr(files, "sha256", lambda p: counted.append(p) or hashed(p))
    path.write_bytes(b"one")
    assert store.sha256(path) == store.sha256(path) == hashed(path)
    assert len(counted) == 2  # too young
    monkeypatch.setattr(cache, "SETTLED", -1.0)
    assert store.sha256(path) == store.sha256(path) == hashed(path)
    assert len(counted) == 3
    facts = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # same size, same time of modification
    assert store.sha256(path) == hashed(path)
    assert NOTHING_KEPT.sha256(path) == hashed(path)


def test_a_file_is_hashed_once_while_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readers of a file in one command hash it once; one that changed within the last seconds is hashed each time."""
    path, hashed = tmp_path / "model", []
    compute = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: hashed.append(path) or compute(path))
    path.write_bytes(b"one")
    first = [cache.hash_once(path), cache.hash_once(path)]
    assert first == [compute(path)] * 2
    assert len(hashed) == 2
    monkeypatch.setattr(cache, "SETTLED", -1.0)
    assert [cache.hash_once(path), NOTHING_KEPT.sha256(path), cache.hash_once(path)] == first[:1] * 3
    assert len(hashed) == 3
    path.write_bytes(b"two")
    assert cache.hash_once(path) == compute(path) != first[0]
    assert len(hashed) == 4
