"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.results.preprocessing import Preprocessing, Resize, Scaling
from bnexport.system import files

MODELS = Path(__file__).parent.parent.parent / "models"


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """The target is replaced at the end of the block only, and nothing else stays behind."""
    target = tmp_path / "file.json"
    target.write_text("old")

    def interrupted() -> None:
        with files.whole(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_ends_replaces_it(tmp_path: Path) -> None:
    """And then the new file has the permissions that any new file gets."""
    target = tmp_path / "file.json"
    files.write_text(target, "neu ⬤")
    plain = tmp_path / "plain"
    plain.touch()
    assert target.read_text(encoding="utf-8") == "neu ⬤"
    assert target.stat().st_mode == plain.stat().st_mode


def test_a_disk_that_refuses_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk exits with 3 and leaves nothing."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match="No space left on device"):
        files.write_bytes(tmp_path / "net.onnx", b"x")
    assert list(tmp_path.iterdir()) == []


def test_output_paths_are_looked_at_first(tmp_path: Path) -> None:
    """A wrong suffix, a missing folder and a directory of that name are found before any work is done."""
    (tmp_path / "dir.onnx").mkdir()
    for path, words in (
        (tmp_path / "a.txt", "suffix"),
        (tmp_path / "no" / "a.onnx", "create the folder"),
        (tmp_path / "dir.onnx", "a directory"),
    ):
        with pytest.raises(UsageError, match=words):
            files.writable(path, (".onnx",))


def test_a_sidecar_comes_back_as_it_went(tmp_path: Path) -> None:
    """Every part of a sidecar survives the file, names beyond ASCII and with quotes included."""
    model = tmp_path / "net.h5"
    spec = Preprocessing((197, 224), 3, Resize.PIL_NEAREST, Scaling.TORCH)
    told = Sidecar(spec, ('a "b"', "ü"), {'x "1".png': "ü"}, {"epochs": 5, "loss": 1e-9})
    sidecar.write(model, told)
    assert sidecar.read(model) == told
    assert sidecar.read(tmp_path / "other.h5") is None


@pytest.mark.parametrize(
    "text",
    [
        "[preprocessing",
        'preprocessing = "x"',
        "[preprocessing]\nsize = [1]",
        "[preprocessing]\nsize = [8, 8]\nscaling = 'half'",
        "[preprocessing]\nsize=[8,8]\ncolour=1",
        "[classes]\nnames = 3",
    ],
)
def test_a_broken_sidecar_is_one_sentence(tmp_path: Path, text: str) -> None:
    """Whatever is wrong with it, it is an input error."""
    (tmp_path / "net.h5.toml").write_text(text)
    with pytest.raises(InputError):
        sidecar.read(tmp_path / "net.h5")


def test_small_models_are_those_of_the_readme() -> None:
    """models/README.md lists every model with its hash, and none is above 1 MB."""
    text = (MODELS / "README.md").read_text(encoding="utf-8")
    found = [p for p in MODELS.iterdir() if p.suffix in {".h5", ".keras", ".onnx"}]
    assert found
    for path in found:
        assert f"| {path.name} | {path.stat().st_size} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in text
        assert path.stat().st_size < 1_000_000
