"""The package as it is installed: typed, callable with text or paths, and with exactly one onnxruntime."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bnexport
from bnexport.bundles.pack import pack
from bnexport.bundles.verify import verify
from bnexport.comparison.opening import Request
from bnexport.demo.train import train
from bnexport.environment import doctor
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.exporter.export import export
from bnexport.folding.fold import fold
from bnexport.recalibration.recalibrate import recalibrate
from bnexport.results.health import State
from bnexport.runtimes import ort_library
from bnexport.system import installed


def test_the_wheel_is_typed() -> None:
    """py.typed lies in the one package that the wheel holds, which is what the classifier promises."""
    root = Path(bnexport.__file__).parent
    assert (root / "py.typed").is_file()
    project = tomllib.loads((root.parent / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["bnexport"]}


@pytest.mark.parametrize("kind", [str, Path])
def test_functions_take_text_and_paths(kind: Callable[[Path], Path], models: Path, tmp_path: Path) -> None:
    """Check, pack, verify, fold and recalibrate do their work; export and train say what is wrong with their input."""
    net, pictures, out = (
        kind(models / "tiny_residual.onnx"),
        kind(models / "three"),
        lambda name: kind(tmp_path / name),
    )
    assert bnexport.check(net, pictures, labels=None).images.count == 3
    assert pack(Request(Path(net), pictures), out("bundle"))
    assert verify(out("bundle")).images.count == 3
    assert fold(net, out("folded.onnx"), pictures)
    assert recalibrate(net, pictures, out("new.onnx"), force=True)
    np.savez(tmp_path / "x.npz", image=np.zeros((2, 32, 32, 1), "f4"))
    assert bnexport.check(net, inputs=out("x.npz")).images.count == 2
    with pytest.raises(InputError, match="does not exist"):
        export(out("no.keras"), out("a.onnx"))
    with pytest.raises(UsageError, match="suffix"):
        train(pictures, out("a.txt"))


@pytest.fixture
def two_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of packages in which onnxruntime was installed twice."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime/__init__.py").write_text("__version__ = 'mixed'\n")
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-extensions"):
        folder = tmp_path / f"{name.replace('-', '_')}-1.2.3.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
        (folder / "RECORD").write_text("" if "extensions" in name else "onnxruntime/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "onnxruntime", raising=False)
    ort_library.load.cache_clear()
    yield
    ort_library.load.cache_clear()


@pytest.mark.usefixtures("two_packages")
def test_two_packages_of_onnxruntime_are_refused_at_first_use() -> None:
    """One sentence with the command that repairs it, exit code 3; doctor says the same, and that nothing can run."""
    with pytest.raises(
        MachineError, match=r"onnxruntime-gpu 1\.2\.3.* are installed and write the same files"
    ) as caught:
        ort_library.version()
    assert "pip uninstall -y" in str(caught.value)
    assert caught.value.exit_code == 3
    [point] = doctor._runtime()
    assert (point.name, point.state) == ("one package", State.BROKEN)
    assert point.told in str(caught.value)
    assert set(installed.packages()) == {"onnxruntime", "onnxruntime-gpu"}
