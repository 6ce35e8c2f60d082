"""Only regular files of bounded size are opened, whatever a name leads to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bnexport
from bnexport import datasets
from bnexport.batch import plan
from bnexport.bundles import bundle
from bnexport.datasets import manifest, places, sidecar
from bnexport.datasets.feeds import Arrays
from bnexport.errors import InputError, MachineError
from bnexport.results.preprocessing import Preprocessing
from bnexport.system import files
from bnexport.system.memory_file import MemoryFile

SPEC = Preprocessing((8, 8))


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe that nobody writes to: whoever opens it for reading waits for ever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_pipe_is_refused_wherever_a_file_is_read(pipe: Path) -> None:
    """A model, arrays, a picture, a table of labels, a plan, a bundle's model and a sidecar are refused without waiting."""
    pipe.rename(table := pipe.with_name("labels.csv"))
    (pipe.parent / "net.h5.toml").symlink_to(table)
    readers = {
        "model": lambda: files.model_format(table),
        "hash": lambda: files.sha256(table),
        "arrays": lambda: Arrays.read(table, {"x": (None, 2)}, (), 1),
        "picture": lambda: places.read(str(table)),
        "manifest": lambda: list(manifest.rows(str(table))),
        "plan": lambda: plan.read(table),
        "bundle": lambda: MemoryFile(table, table),
        "sidecar": lambda: sidecar.read(pipe.parent / "net.h5"),
    }
    for name, read in readers.items():
        with pytest.raises(InputError, match="a named pipe"):
            raise AssertionError(f"{name}: {read()}")


def test_a_device_behind_a_picture_costs_that_picture_only(tmp_path: Path) -> None:
    """A link to /dev/zero among pictures is listed as unreadable, and a pipe in a class folder too."""
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "set" / name / "good.png")
    (tmp_path / "set/a/zero.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "set/b/pipe.png")
    reader = datasets.Reader(datasets.find(tmp_path / "set"), SPEC)
    assert [len(batch.names) for batch in reader] == [2]
    assert {u.name: u.reason.split("found ")[1].split(";")[0] for u in reader.unreadable} == {
        "a/zero.png": "a device",
        "b/pipe.png": "a named pipe",
    }


def test_a_size_is_bounded_also_where_the_system_names_none(tmp_path: Path) -> None:
    """A sparse file of 3 GiB is refused by its size, one of /proc, whose size reads 0, by what comes."""
    path = tmp_path / "sparse.onnx"
    path.touch()
    os.truncate(path, 3 << 30)
    (tmp_path / "end").touch()
    with pytest.raises(InputError, match="too large"):
        MemoryFile(path, tmp_path / "end")
    with pytest.raises(InputError, match="too large"):
        places.read(str(path))
    with pytest.raises(InputError, match="at most 10 bytes"):
        files.read_bounded(Path("/proc/self/status"), 10)
    assert files.read_bounded(Path("/proc/self/status"), 1 << 20) != b""


def test_a_bundle_reads_nothing_outside_of_it(tmp_path: Path) -> None:
    """A link to a file beside the bundle is refused before it is opened; one within is followed."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    (folder / "inside").write_bytes(b"model")
    (folder / "end").touch()
    (folder / "good").symlink_to("inside")
    (folder / "bad").symlink_to("../outside")
    held = MemoryFile(folder / "good", folder / "end")
    assert held.content() == b"model"
    held.close()
    with pytest.raises(InputError, match="outside"):
        MemoryFile(folder / "bad", folder / "end")
    (folder / bundle.INDEX).symlink_to("../outside")
    with pytest.raises(InputError, match="outside"):
        bundle.read(folder)


@pytest.mark.parametrize("name", ["x" * 300, "y/" * 2500 + "z", "a\0b"])
def test_a_path_that_no_system_takes_is_one_sentence(name: str, tmp_path: Path) -> None:
    """Too long, or with a null byte: an input error, of models, images and outputs."""
    for look in (
        lambda: files.model_format(tmp_path / f"{name}.onnx"),
        lambda: datasets.find(str(tmp_path / name)),
        lambda: files.writable(tmp_path / f"{name}.json", (".json",)),
    ):
        with pytest.raises(InputError, match="cannot read"):
            look()


def test_a_name_that_is_not_utf8_is_checked_as_any_other(tmp_path: Path, models: Path) -> None:
    """An image named by the byte 255 is read, hashed and reported."""
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("L", (32, 32)).save(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    report = bnexport.check(models / "tiny_residual.onnx", folder)
    assert report.images.names == ("\udcff.png",)


def test_new_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing sets the umask of the process, which other threads share."""

    def refuse(mask: int) -> int:
        raise AssertionError(f"umask({mask})")

    old = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", refuse)
        files.write_bytes(tmp_path / "file", b"x")
        with files.whole_folder(tmp_path / "folder") as folder:
            (folder / "inner").touch()
    finally:
        monkeypatch.undo()
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_file_is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is written through before the name changes, the folder after; a disk that refuses leaves the old file."""
    target = tmp_path / "file"
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replaced(path: Path, to: Path) -> Path:
        events.append("replace")
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replaced)
    files.write_bytes(target, b"old")
    assert events == ["file", "replace", "folder"]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        files.write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type] # arrays of every kind
    return path


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((2, 2), "a"), "is not numeric"),
        (np.full((2, 2), b"a"), "is not numeric"),
        (np.zeros((2, 2), "V4"), "is not numeric"),
        (np.zeros((2, 2), "M8[s]"), "is not numeric"),
        (np.zeros((2, 2), [("a", "f4")]), "is not numeric"),
        (np.zeros((2, 2), "c8"), "is complex, which models do not support"),
    ],
    ids=["strings", "bytes", "void", "dates", "structured", "complex"],
)
def test_arrays_that_are_no_numbers_are_refused(array: object, reason: str, tmp_path: Path) -> None:
    """One sentence that names the input and its dtype."""
    with pytest.raises(InputError, match=reason):
        Arrays.read(npz(tmp_path / "x.npz", x=array), {"x": (None, 2)}, (), 1)


@pytest.mark.parametrize("label", [np.int64(-5), np.uint64(2**64 - 1), np.int64(2**31)])
def test_labels_beyond_every_class_are_refused(label: np.integer, tmp_path: Path) -> None:
    """-1 says that the class is unknown; no other number does so silently."""
    path = npz(tmp_path / "x.npz", x=np.zeros((1, 2)), labels=np.array([label]))
    with pytest.raises(InputError, match=f"found {label}"):
        Arrays.read(path, {"x": (None, 2)}, (), 1)
    good = npz(tmp_path / "y.npz", x=np.zeros((2, 2)), labels=np.array([-1, 3]))
    assert [feed.labels.tolist() for feed in Arrays.read(good, {"x": (None, 2)}, (), 2)] == [[-1, 3]]


@pytest.mark.parametrize("scale", [1.0, 300.0, np.nan, -255.0])
def test_a_picture_of_floats_that_are_no_grey_levels_is_refused(scale: float, tmp_path: Path) -> None:
    """Values from 0 to 1 would become a black picture; from 0 to 255 they are grey levels."""
    gradient = np.linspace(0, 1, 64, dtype="f4").reshape(8, 8)
    Image.fromarray((gradient * np.float32(scale)).astype("f4")).save(tmp_path / "odd.tiff")
    with pytest.raises(InputError, match="not gray levels"):
        datasets.decode_image((tmp_path / "odd.tiff").read_bytes(), SPEC)
    Image.fromarray(gradient * 255).save(tmp_path / "good.tiff")
    assert datasets.decode_image((tmp_path / "good.tiff").read_bytes(), SPEC).max() == 255
