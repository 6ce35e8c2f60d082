"""verify --recorded: every format is read, and the preprocessing or the runtime of another program is named as the cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.datasets.decode import decode_image
from bnexport.errors import InputError, UsageError
from bnexport.onnx_graph import protobuf
from bnexport.reporting.json import SCHEMA
from bnexport.results.verdict import CheckReport, Finding
from tests.e2e.recorded_bundles import OWN, Place, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("recorded"), batch_size=2)


def own(path: Path) -> Any:
    """The picture as the bundle prepares it."""
    return decode_image(path.read_bytes(), OWN)


def bgr(path: Path) -> Any:
    """Without EXIF, by Pillow's decoder, in the order BGR, halved without antialiasing."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((48, 48), Image.Resampling.NEAREST))
    return pixels[..., ::-1] / np.float32(255)


def finding(report: CheckReport, code: str) -> Finding:
    [one] = [one for one in report.findings if one.code == code]
    return one


def stacked(place: Place) -> tuple[Any, Any]:
    x = np.stack([np.moveaxis(own(path), -1, 0) for path in place.images])
    return x, place.compute(x)


def write(folder: Path, form: str, x: Any, y: Any, names: list[str]) -> None:
    folder.mkdir()
    match form:
        case "npy":
            np.save(folder / "x.npy", x)
            np.save(folder / "y.npy", y)
        case "npz":
            np.savez(folder / "anything.npz", x=x, y=y)
        case "pb":
            for nth, rows in enumerate((slice(0, 2), slice(2, 3))):
                part = folder / f"test_data_set_{nth}"
                part.mkdir()
                (part / "input_0.pb").write_bytes(protobuf.tensor_bytes(x[rows], "x"))
                (part / "output_0.pb").write_bytes(protobuf.tensor_bytes(y[rows], "y"))
        case "raw":
            for nth in range(3):
                for name, values in (("x", np.moveaxis(x[nth : nth + 1], 1, -1)), ("y", y[nth : nth + 1])):
                    stem = folder / f"{nth:06d}.{name}"
                    Path(f"{stem}.bin").write_bytes(values.astype(">f4").tobytes())
                    header = {"dtype": "float32", "shape": values.shape, "byteorder": "big"}
                    Path(f"{stem}.json").write_text(json.dumps(header | ({"layout": "NHWC"} if name == "x" else {})))
        case "csv":
            lines = [",".join([name, *map(repr, map(float, row))]) for name, row in zip(names, y, strict=True)]
            (folder / "y.csv").write_text("\n".join(["file,a,b,c,d,e", *reversed(lines)]))
        case "flat":
            for nth in range(3):
                (folder / f"{nth:06d}").mkdir()
                np.save(folder / f"{nth:06d}/x.npy", x[nth].ravel())
                np.save(folder / f"{nth:06d}/probabilities.npy", y[nth])


@pytest.mark.parametrize("form", ["npy", "npz", "pb", "raw", "csv", "flat"])
def test_every_format_is_read(place: Place, tmp_path: Path, form: str) -> None:
    """A program that is right passes in each format; the same outputs moved by a thousandth fail as its runtime's fault."""
    x, y = stacked(place)
    names = [path.name for path in place.images]
    write(tmp_path / "right", form, x, y, names)
    report = verify(place.bundle, recorded=tmp_path / "right")
    assert report, str(report)
    assert [side.id for side in report.sides] == ["golden-inference", "onnx-inference@cpu", "recorded-inference"]
    assert [c.difference.images for c in report.comparisons if c.actual == "recorded-inference"] == [3]
    write(tmp_path / "wrong", form, x, y + np.float32(1e-3), names)
    wrong = finding(verify(place.bundle, recorded=tmp_path / "wrong"), "RT009")
    assert wrong.evidence["onnxruntime_agrees"] is True
    same = form != "csv"
    assert wrong.evidence["inputs"] == ("same" if same else "not recorded")
    assert ("so its runtime is the cause" in wrong.message) is same


def test_some_of_the_pictures_are_enough(place: Place, tmp_path: Path) -> None:
    """What is recorded of one picture is compared, and the report says that it is one of three."""
    path = place.images[1]
    np.save(tmp_path / f"{path.stem}.npy", place.compute(np.moveaxis(own(path), -1, 0)[None]))
    report = verify(place.bundle, recorded=tmp_path)
    assert report
    assert [c.difference.images for c in report.comparisons if c.actual == "recorded-inference"] == [1]
    message = finding(report, "EX004").message
    assert "1 of 3 items were recorded" in message
    assert "matched with the recorded array files without a name by its shape" in message


def test_other_inputs_are_named_and_the_runtime_is_right(place: Place, tmp_path: Path) -> None:
    """IN008 names the kernel, the order and the decoder, exactly, and what to change; the command exits with 1."""
    folder = place.record(tmp_path / "rec", bgr)
    done = CliRunner().invoke(app, ["verify", str(place.bundle), "--recorded", str(folder), "--format", "json", "-q"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    [one] = [f for f in report["findings"] if f["code"] == "IN008"]
    evidence = one["evidence"]
    assert evidence["runtime_right"] is True
    assert evidence["named"] is evidence["exact"] is True
    assert evidence["residual"] < 1e-3
    assert evidence["identified"]["order"] == "BGR"
    assert evidence["identified"]["kernel"] == "Pillow NEAREST"
    assert evidence["identified"]["orientation"] == "EXIF orientation not applied"
    assert "its runtime is right" in one["message"]
    assert any(
        a["reason"].startswith("change the channel order of that program from BGR to RGB") for a in one["actions"]
    )


def test_both_may_be_wrong(place: Place, tmp_path: Path) -> None:
    """Other inputs, and outputs that onnxruntime does not compute from them: IN008 and RT009 say both."""
    report = verify(place.bundle, recorded=place.record(tmp_path / "rec", bgr, noise=1e-2))
    assert finding(report, "IN008").evidence["runtime_right"] is False
    assert finding(report, "RT009").evidence["inputs"] == "different"


def test_no_name_for_what_is_not_known(place: Place, tmp_path: Path) -> None:
    """Pictures blurred by hand are a best fit with its residual, and no name."""

    def blurred(path: Path) -> Any:
        x = own(path)
        return (x + np.roll(x, 1, 0) + np.roll(x, 1, 1)) / 3

    one = finding(verify(place.bundle, recorded=place.record(tmp_path / "rec", blurred)), "IN008")
    assert one.evidence["named"] is False
    assert "no known preprocessing gives them exactly; best fit" in one.message
    assert one.evidence["residual"] > 1


@pytest.mark.parametrize(
    ("files", "kind", "sentence"),
    [
        ({}, InputError, "is not a folder of recorded outputs"),
        ({"y.bin": b"1234"}, InputError, "has no header"),
        ({"y.bin": b"1234", "y.json": b'{"shape": [3, 5]}'}, InputError, "does not have the size that y.json states"),
        ({"y.bin": b"", "y.json": b'{"shape": [-1]}'}, InputError, "has an invalid shape"),
        ({"y.bin": b"", "y.json": b'{"shape": [0], "dtype": "object"}'}, InputError, "has an invalid dtype"),
        ({"y.bin": b"", "y.json": b"[" * 100_000}, InputError, "is not JSON"),
        ({"y.csv": b"1,2\n3,x\n"}, InputError, "is not a table of numbers"),
        ({"y.csv": b"other.png,1,2,3,4,5\n"}, InputError, "is no item of the bundle"),
        ({"y.npy": b"\x93NUMPY"}, InputError, "is not an .npy file"),
        ({"y.pb": b"\xff\xff"}, InputError, "is not a tensor"),
        ({"y.csv": b"1,2,3,4\n" * 3}, InputError, "does not have the shape of y"),
        ({"z.csv": b"1,2\n"}, InputError, "has no outputs of the model"),
        ({"a.csv": b"1,2,3,4,5\n" * 3, "b.csv": b"1,2,3,4,5\n" * 3}, UsageError, "can be any of several arrays"),
        ({"y.csv": b"1,2,3,4,5\n" * 3, "000000.y.csv": b"1,2,3,4,5\n"}, InputError, "that another file has, too"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(
    place: Place, tmp_path: Path, files: dict[str, bytes], kind: type[Exception], sentence: str
) -> None:
    """A damaged or doubtful recording is refused with the file and the reason."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=sentence):
        verify(place.bundle, providers=["cpu"], recorded=tmp_path)


def test_outputs_alone_name_the_preprocessing(place: Place, tmp_path: Path) -> None:
    """Without recorded inputs, the way is found whose outputs are those that were recorded, up to rounding."""
    report = verify(place.bundle, recorded=place.record(tmp_path / "rec", bgr, inputs=False))
    one = finding(report, "IN008")
    assert one.evidence["inputs_recorded"] is False
    assert one.evidence["named"] is True
    assert one.evidence["identified"]["order"] == "BGR"
    assert "NEAREST" in one.evidence["identified"]["kernel"] or "nearest" in one.evidence["identified"]["kernel"]
    ways = [one.evidence["identified"], *one.evidence["alternatives"]]
    assert any(way["kernel"] == "Pillow NEAREST" for way in ways)


def test_outputs_of_nothing_known_name_nothing(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other outputs without inputs, which no preprocessing gives: RT009 says that either may be the cause, and IN008 says nothing."""
    monkeypatch.setattr("bnexport.datasets.identify.by_outputs.ROUNDS", 0)
    report = verify(place.bundle, recorded=place.record(tmp_path / "rec", own, inputs=False, noise=1e-2))
    assert "IN008" not in {f.code for f in report.findings}
    one = finding(report, "RT009")
    assert one.evidence["inputs"] == "not recorded"
    assert "the preprocessing of that program or its runtime may be the cause" in one.message
    assert "no known preprocessing gives them exactly" in one.message
