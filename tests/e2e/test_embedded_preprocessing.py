"""`bnexport export --embed-preprocessing`: the file takes pixels, and a check with images holds it against the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from bnexport import ExportError, InputError, Overrides, UsageError, check, export, recalibrate, verify
from bnexport.bundles.pack import pack
from bnexport.cli import app
from bnexport.comparison.opening import Request
from bnexport.onnx_graph import metadata
from bnexport.results.preprocessing import Order, Resize, Scaling
from bnexport.results.verdict import Finding
from bnexport.system.cache import Cache
from tests.e2e.test_deployed import small

pytestmark = pytest.mark.keras

TAKEN = Overrides(scaling=Scaling.TORCH, order=Order.BGR)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    small().save(folder / "net.keras")
    (folder / "images").mkdir()
    for nth, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 40, 31, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / "images" / f"{nth}.png")
    exported = export(folder / "net.keras", folder / "net.onnx", embed_preprocessing=True, overrides=TAKEN)
    assert exported.embedded is not None
    assert (exported.embedded.scaling, exported.embedded.order) == (Scaling.TORCH, Order.BGR)
    assert list(exported.inputs) == ["pixels"]
    return folder


def held(folder: Path, file: Path, **options: Any) -> Any:
    options = {"overrides": TAKEN} | options
    return check(folder / "net.keras", folder / "images", deployed=file, **options)


def finding(report: Any, code: str) -> Finding:
    found, *_ = [f for f in report.findings if f.code == code]  # the gravest first
    return found


def test_it_is_right(folder: Path, tmp_path: Path) -> None:
    """The file takes uint8 and says how; with the model, alone and recalibrated it computes the same."""
    graph = onnx.load(folder / "net.onnx")
    assert [i.type.tensor_type.elem_type for i in graph.graph.input] == [TensorProto.UINT8]
    stated = metadata.read(graph, "preprocessing")
    assert (stated["scaling"], stated["order"]) == ("none", "rgb")
    report = held(folder, folder / "net.onnx")
    assert report, str(report)
    assert "it is fed the pixels before scaling" in finding(report, "EX004").message
    assert check(folder / "net.onnx", folder / "images")
    assert recalibrate(folder / "net.onnx", folder / "images", tmp_path / "new.onnx", force=True)
    assert check(tmp_path / "new.onnx", folder / "images")


@pytest.mark.parametrize("kernel", [Resize.PIL_LANCZOS, Resize.TF_BILINEAR])
def test_its_bundle_holds_its_pixels(folder: Path, tmp_path: Path, kernel: Resize) -> None:
    """Pixels in the order that the file takes, rounded: verify makes the same of the pictures."""
    overrides = Overrides(scaling=Scaling.TORCH, order=Order.BGR, resize=kernel)
    store = Cache(tmp_path / "cache")
    request = Request(
        folder / "net.keras", folder / "images", onnx=folder / "net.onnx", overrides=overrides, store=store
    )
    assert pack(request, tmp_path / "bundle")
    report = verify(tmp_path / "bundle", providers=["cpu"])
    assert report, str(report)
    assert "IN006" not in {f.code for f in report.findings}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Overrides(scaling=Scaling.UNIT, order=Order.BGR), "scaling torch"),
        (Overrides(scaling=Scaling.TORCH), "order bgr"),
    ],
)
def test_another_preprocessing_inside_is_named(folder: Path, wrong: Overrides, words: str) -> None:
    """The model, shown images that are prepared as the file prepares its pixels, computes what the file does."""
    report = held(folder, folder / "net.onnx", overrides=wrong)
    assert not report
    named = finding(report, "EX004").message
    assert f"it prepares the pixels that it takes with {words}" in named
    assert "EX001" not in {f.code for f in report.findings}


def test_an_unknown_scaling_inside_may_be_the_cause(folder: Path, tmp_path: Path) -> None:
    """A division by 200: no known scaling is right, and the first layer is not said to have an input that agrees."""
    graph = onnx.load(folder / "net.onnx")
    [divisor] = [t for t in graph.graph.initializer if t.name == "pixels/2_Div/constant"]
    divisor.CopyFrom(numpy_helper.from_array(np.float32([200]), divisor.name))
    onnx.save(graph, tmp_path / "wrong.onnx")
    named = finding(held(folder, tmp_path / "wrong.onnx"), "EX001")
    assert "the pixels before it are scaled inside the file, which may be the cause" in named.message
    assert "its input agrees" not in named.message


def test_a_kernel_that_does_not_round(folder: Path) -> None:
    """The file takes whole numbers: every run gets them, and the report says so; without such a file nothing is rounded."""
    overrides = Overrides(scaling=Scaling.TORCH, order=Order.BGR, resize=Resize.TF_BILINEAR)
    report = held(folder, folder / "net.onnx", overrides=overrides)
    assert report, str(report)
    assert "the pixels are rounded for every run" in finding(report, "IN007").message
    plain = check(folder / "net.keras", folder / "images", overrides=overrides)
    assert "IN007" not in {f.code for f in plain.findings}


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    """Where nobody says how images are scaled, or the model takes no images; nothing is written."""
    import keras

    file = tmp_path / "out.onnx"
    with pytest.raises(UsageError, match=r"nothing says how images are scaled.*--normalize unit.*net\.keras\.toml"):
        export(folder / "net.keras", file, embed_preprocessing=True)
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    with pytest.raises(InputError, match=r"does not take images in one input.*shape \(\?, 5\), float32"):
        export(tmp_path / "dense.keras", file, embed_preprocessing=True, overrides=TAKEN)
    with pytest.raises((InputError, ExportError)):
        export(folder / "net.onnx", file, embed_preprocessing=True, overrides=TAKEN)
    assert not file.exists()


def test_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    """The next command that is shown holds what it needs; without the option, preprocessing is only written down."""
    shutil.copy(folder / "net.keras", tmp_path)
    arguments = ["export", str(tmp_path / "net.keras"), "-o", str(tmp_path / "net.onnx"), "--normalize", "unit"]
    shown = CliRunner().invoke(app, [*arguments, "--embed-preprocessing"])
    assert shown.exit_code == 0, shown.output
    assert "it takes uint8 pixels, R G B, and scales them itself: 24x24, 3 channels" in shown.stdout
    assert f"IMAGES --deployed {tmp_path / 'net.onnx'} --normalize unit" in shown.stdout
    plain = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert json.loads(plain.stdout)["embedded_preprocessing"] is None
    assert metadata.read(onnx.load(tmp_path / "net.onnx"), "preprocessing")["scaling"] == "unit"
