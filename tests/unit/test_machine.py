"""What a process may use of a machine is cut by its own control group and by those around it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bnexport.system import machine

GIB = 2**30


def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """Control groups with these files, and this process in one of them."""
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    (tmp_path / "self").write_text(f"4:memory:/other\n0::{own}\n")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "self")
    monkeypatch.setattr(machine, "cores", lambda: list(range(8)))


@pytest.mark.parametrize(
    ("own", "files", "threads", "memory"),
    [
        ("/", {}, 8, None),
        ("/", {"cpu.max": "max 100000", "memory.max": "max"}, 8, None),
        ("/", {"cpu.max": "250000 100000", "memory.max": str(GIB)}, 2, GIB),
        ("/", {"cpu.max": "50000 100000"}, 1, None),
        (
            "/a/b",
            {"a/b/memory.max": str(3 * GIB), "a/memory.max": str(2 * GIB), "a/cpu.max": "300000 100000"},
            3,
            2 * GIB,
        ),
        ("/a/b", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "max 100000", "c/memory.max": "1"}, 1, None),
        ("/../..", {"memory.max": str(GIB)}, 8, GIB),
    ],
)
def test_the_smallest_limit_counts(
    own: str,
    files: dict[str, str],
    threads: int,
    memory: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group without a limit says nothing; one that is no ancestor is not asked; a group outside of the container's root falls back on the root."""
    groups(tmp_path, monkeypatch, own, files)
    assert machine.threads() == threads
    assert machine.memory_limit() == memory


def test_memory_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a group already uses is not available; never less than nothing."""
    files = {
        "memory.max": str(GIB),
        "memory.current": str(GIB - 4096),
        "full/memory.max": "8",
        "full/memory.current": "9",
    }
    groups(tmp_path, monkeypatch, "/", files)
    assert machine.memory_available() == 4096
    groups(tmp_path, monkeypatch, "/full", files)
    assert machine.memory_available() == 0


def test_this_machine() -> None:
    """There is at least one core and some memory; cores can be told apart."""
    assert len(set(machine.cores())) == len(machine.cores()) >= machine.threads() >= 1
    assert machine.memory_available() > 0


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (
            RuntimeError(
                "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc"
            ),
            True,
        ),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libx.so.1: failed to map segment from shared object"), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), True),
        (ImportError("No module named 'onnxruntime'"), False),
        (RuntimeError("pthread_create failed, error code: 11 error msg: Resource temporarily unavailable"), False),
    ],
)
def test_a_lack_of_memory_is_recognised(error: Exception, *, lacks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what libraries say that have no class of their own for it."""
    monkeypatch.setattr(machine, "data_limit", lambda: None)
    assert machine.is_out_of_memory(error) is lacks


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (None, "this machine has too little memory for the graph (bad_alloc): try a smaller --batch-size"),
        (
            150_000_000,
            "the graph requires more memory than the 150 MB that this process may take (bad_alloc): "
            "if you trust the file, allow more with --isolate-memory",
        ),
    ],
)
def test_a_lack_of_memory_names_the_limit(limit: int | None, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a limit is the reason, it can be raised; where the machine is, the batches can be smaller."""
    monkeypatch.setattr(machine, "data_limit", lambda: limit)
    assert str(machine.lack_of_memory("the graph", "bad_alloc")) == sentence
