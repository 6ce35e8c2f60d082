"""Items in files of their own, tables, recordings, several pictures for one item, and pixels for integers."""

from __future__ import annotations

import pickle
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from PIL import Image

from bnexport import Overrides, Scaling, check, datasets, pack, recalibrate, verify
from bnexport.comparison.opening import Request
from bnexport.datasets.arrays.items import Item, of_items
from bnexport.datasets.arrays.opening import open_arrays
from bnexport.datasets.arrays.picture_sets import open_sets
from bnexport.datasets.reader import Prepared
from bnexport.errors import InputError, UsageError
from bnexport.results.verdict import CheckReport

RNG = np.random.default_rng(0)


def saved(folder: Path, text: str, **weights: Any) -> Path:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def codes(report: CheckReport) -> dict[str, Any]:
    return {finding.code: finding for finding in report.findings}


def normalising(folder: Path) -> Path:
    """A net on sequences of any length, with the statistics of other data."""
    ones = np.ones(2, np.float32)
    return saved(
        folder,
        """g (float[N, T, 2] x) => (float[N, 2] y) { c = Transpose<perm = [0, 2, 1]>(x)
        n = BatchNormalization(c, gamma, beta, mean, var)  y = ReduceMean<axes = [2], keepdims = 0>(n) }""",
        gamma=ones,
        beta=ones,
        mean=9 * ones,
        var=ones,
    )


LENGTHS = [5, 3, 5, 7, 3, 5, 9, 3, 5, 5, 3, 5]


def sequences() -> list[np.ndarray]:
    return [RNG.normal(size=(length, 2)).astype(np.float32) for length in LENGTHS]


def test_items_of_one_shape_are_run_together() -> None:
    """The shape of most comes first, nothing is padded, and every item keeps its position."""
    items = [Item(str(row), "", {"x": (x.shape, x.dtype)}, lambda x=x: {"x": x}) for row, x in enumerate(sequences())]
    source = of_items(items, "data", {"x": (None, None, 2)}, {}, None, 4)
    batches = [(feed.inputs["x"].shape[:2], feed.positions) for feed in source]
    assert [shape for shape, _ in batches] == [(3, 5), (3, 5), (4, 3), (1, 7), (1, 9)]
    assert sorted(row for _, rows in batches for row in rows or ()) == list(range(12))
    assert all(LENGTHS[row] == length for (_, length), rows in batches for row in rows or ())
    assert [feed.names for feed in source.shard(1, 3)] == [("1", "4", "7", "10")]
    assert {len(feed.names) for feed in source.sample(12, batch_size=4, whole=True)} == {4}
    assert source.fingerprint() == source.spread(99).fingerprint() != source.spread(3).fingerprint()


def test_sequences_of_any_length(tmp_path: Path) -> None:
    """The same from a list, from .npy files and from .npz files; a bundle holds and a recalibration repairs them."""
    model, folder = normalising(tmp_path), tmp_path / "items"
    folder.mkdir()
    for row, x in enumerate(sequences()):
        np.save(folder / f"{row:02}.npy", x)
    items = [np.load(folder / f"{row:02}.npy") for row in range(12)]
    reports = [
        check(model, items, providers=["cpu"]),
        check(model, folder, providers=["cpu"]),
        check(model, inputs=folder, providers=["cpu"]),
    ]
    for report in reports:
        assert len(report.images.names) == 12
        assert "IN002" in codes(report)  # the statistics are of other sequences
        assert {c.difference.images for c in report.comparisons if "one by one" not in c.reference} == {12}
    assert reports[1].images.names == tuple(f"{row:02}.npy" for row in range(12))
    assert pack(Request(model, folder, providers=["cpu"]), tmp_path / "bundle")
    assert verify(tmp_path / "bundle", providers=["cpu"])
    recalibrate(model, folder, tmp_path / "new.onnx", force=True)
    assert "IN002" not in codes(check(tmp_path / "new.onnx", folder, providers=["cpu"]))


def test_items_of_equal_length_and_batches_of_others(tmp_path: Path) -> None:
    """A list of arrays with an axis less is a list of items; batches of other lengths are split."""
    model = normalising(tmp_path)
    x = RNG.normal(size=(6, 4, 2)).astype(np.float32)
    assert len(check(model, list(x), providers=["cpu"]).images.names) == 6
    assert len(check(model, [x, x[:2, :3]], providers=["cpu"]).images.names) == 8
    assert check(model, [(row, nth % 2) for nth, row in enumerate(x)], providers=["cpu"]).images.names[-1] == "5"
    with pytest.raises(InputError, match=r"the data: 1: the input x has the wrong shape: found \(1, 4, 3\); expected"):
        check(model, [x[0], np.zeros((4, 3), np.float32)], providers=["cpu"])


TWO = "g (float[N, 2] a, float[N, 3] b) => (float[N, 5] y) { y = Concat<axis = 1>(a, b) }"


def test_files_of_several_inputs(tmp_path: Path) -> None:
    """An .npz file for each item, or a folder for each input; a file that is missing is named."""
    model = saved(tmp_path, TWO)
    (tmp_path / "npz").mkdir()
    for row in range(4):
        a, b = RNG.normal(size=2).astype("f"), RNG.normal(size=3).astype("f")
        np.savez(tmp_path / f"npz/{row}.npz", a=a, b=b, labels=row % 2)
        for name, x in {"a": a, "b": b}.items():
            (tmp_path / "npy" / name).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "npy" / name / f"{row}.npy", x)
    for folder in ("npz", "npy"):
        report = check(model, tmp_path / folder, providers=["cpu"])
        assert report, str(report)
        assert len(report.images.names) == 4
    (tmp_path / "npy/b/2.npy").unlink()
    with pytest.raises(
        InputError, match=r"the item 2.npy has no file for the input b: found a/2.npy; expected b/2.npy"
    ):
        check(model, tmp_path / "npy", providers=["cpu"])
    np.save(tmp_path / "npz/4.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"not a folder of items of one kind: found \.npy, \.npz"):
        check(model, tmp_path / "npz", providers=["cpu"])


def test_classes_of_files(tmp_path: Path) -> None:
    """Subfolders are classes, and labels.csv goes before them."""
    model = saved(tmp_path, "g (float[N, 2] x) => (float[N, 2] y) { y = Softmax(x) }")
    for nth, name in enumerate(["cat/0.npy", "dog/1.npy"]):
        (tmp_path / "items" / name).parent.mkdir(parents=True)
        np.save(tmp_path / "items" / name, np.eye(2, dtype=np.float32)[nth])
    report = check(model, tmp_path / "items", providers=["cpu"])
    assert (tuple(report.images.labels), report.images.classes) == ((0, 1), ("cat", "dog"))
    assert report.sides[0].correct == 2
    (tmp_path / "items/labels.csv").write_text("file,label\ncat/0.npy,dog\ndog/1.npy,cat\n")
    assert check(model, tmp_path / "items", providers=["cpu"]).sides[0].correct == 0


TABLE = "a,b,label\n1,0.5,yes\n2,1.5,no\n3,-1,yes\n"


@pytest.mark.parametrize(
    "net",
    [
        "g (float[N, 2] x) => (float[N, 2] y) { y = Softmax(x) }",
        "g (float[N, 1] b, int64[N] a) => (float[N, 1] y) { c = Cast<to = 1>(a)  d = Unsqueeze(c, one)  y = Add(b, d) }",
    ],
    ids=["columns", "by name"],
)
def test_a_table_is_an_input(tmp_path: Path, net: str) -> None:
    """All columns in order for one input, or each column by its name; CSV and Parquet are the same."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow.csv")
    model = saved(tmp_path, net, one=np.int64([1]))
    (tmp_path / "t.csv").write_text(TABLE)
    parquet.write_table(table.read_csv(tmp_path / "t.csv"), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        report = check(model, inputs=tmp_path / name, providers=["cpu"])
        assert report, str(report)
        assert report.images.classes == ("no", "yes")
        assert tuple(report.images.labels) == ((1, 0, 1) if "Softmax" in net else (-1, -1, -1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,\n", "the column b of t.csv has a missing value: found nothing in row 1; expected a number"),
        ("a,b\n1,2\n1,nan\n", "the column b of t.csv has a missing value: found nothing in row 2"),
        ("a,b\n1,2\nx,2\n", "the column a of t.csv is not numeric: found text in row 2; expected numbers"),
        ("a,b,c\n1,2,3\n", "other columns than the input x of the model: found 3 columns (a, b, c); expected 2, from"),
        ("1,2\n3,4\n", "the first line of t.csv does not name the columns: found the number 1"),
        ("a,b\n1\n", "row 1 of t.csv has another number of cells than its first line: found 1; expected 2"),
        ("a,b\n", "t.csv has no rows"),
        ("a,b\n1_0,2\n", "the column a of t.csv is not numeric: found text in row 1"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path: Path, text: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that names the column and the row."""
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(text)
    with pytest.raises(InputError) as refused:
        check(
            saved(tmp_path, "g (float[N, 2] x) => (float[N, 2] y) { y = Softmax(x) }"),
            inputs="t.csv",
            providers=["cpu"],
        )
    assert sentence in str(refused.value)


def recording(path: Path, samples: int, *, rate: int = 8000, channels: int = 1) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(RNG.integers(-20000, 20000, (samples, channels)).astype("<i2").tobytes())


@pytest.mark.parametrize("shape", ["N, T", "N, T, 1", "N, 1, T", "N, 64"])
def test_recordings_are_waveforms(tmp_path: Path, shape: str) -> None:
    """One channel, as floats, at the rate of the files; cut where the input has a length."""
    pytest.importorskip("soundfile")
    for nth, samples in enumerate([100, 80, 100]):
        recording(tmp_path / f"clips/{nth % 2}/{nth}.wav", samples, channels=1 + nth // 2)
    model = saved(tmp_path, f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Sin(x) }}")
    report = check(model, tmp_path / "clips", providers=["cpu"])
    assert report, str(report)
    assert report.images.names == ("0/0.wav", "0/2.wav", "1/1.wav")
    said = codes(report)["IN007"].message
    assert "at 8000 Hz" in said
    assert "the channels of 1 recordings are averaged" in said
    assert ("3 recordings are longer than the input" in said) == (shape == "N, 64")


def test_a_model_may_state_its_sample_rate(tmp_path: Path) -> None:
    """What the metadata say is held against the files."""
    pytest.importorskip("soundfile")
    recording(tmp_path / "clips/0.wav", 100)
    path = saved(tmp_path, "g (float[N, T] x) => (float[N, T] y) { y = Sin(x) }")
    model = onnx.load(path)
    for rate, sentence in (
        ("8000", ""),
        ("16000", "than the metadata of the model say.*found 8000 Hz; expected 16000 Hz"),
    ):
        del model.metadata_props[:]
        model.metadata_props.append(onnx.StringStringEntryProto(key="sample_rate", value=rate))
        onnx.save(model, path)
        if sentence:
            with pytest.raises(InputError, match=sentence):
                check(path, tmp_path / "clips", providers=["cpu"])
        else:
            assert "has to expect" not in codes(check(path, tmp_path / "clips", providers=["cpu"]))["IN007"].message


@pytest.mark.parametrize(
    ("shape", "rate", "sentence"),
    [
        (
            "N, 128",
            8000,
            r"does not fit the input x, and recordings are not padded: found 100 samples, 1 channels; expected an input of shape \(\?, 128\)",
        ),
        (
            "N, T",
            16000,
            "another sample rate than 0.wav, and recordings are not resampled: found 16000 Hz; expected 8000 Hz",
        ),
        ("N, 8, 8, 3", 8000, "the input x takes no waveform"),
    ],
)
def test_recordings_that_do_not_fit(tmp_path: Path, shape: str, rate: int, sentence: str) -> None:
    """Too short, of another rate, or no waveform."""
    pytest.importorskip("soundfile")
    recording(tmp_path / "clips/0.wav", 100)
    recording(tmp_path / "clips/1.wav", 100, rate=rate)
    model = saved(tmp_path, f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Sin(x) }}")
    with pytest.raises(InputError, match=sentence):
        check(model, tmp_path / "clips", providers=["cpu"])


def pictures(folder: Path, count: int = 4, size: int = 4) -> Path:
    folder.mkdir(parents=True)
    for nth in range(count):
        Image.fromarray(RNG.integers(0, 256, (size, size, 3), np.uint8)).save(folder / f"{nth}.png")
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("uint8", None),
        ("int8", "the input x is int8: it is fed the pixels before scaling minus 128"),
        ("int32", "the input x is int32: it is fed the pixels before scaling"),
        ("float16", "the images are cast to float16 for the input x"),
        ("bool", "pixels that are not 0 are true for the input x"),
    ],
)
def test_pictures_for_inputs_of_other_types(tmp_path: Path, kind: str, said: str | None) -> None:
    """V8: pixels before scaling for integers; the bundle makes the same inputs of the packed pictures."""
    net = f"g ({kind}[N, 4, 4, 3] x) => (float[N, 4, 4, 3] y) {{ h = Cast<to = 1>(x)  y = Neg(h) }}"
    model, images = saved(tmp_path, net), pictures(tmp_path / "images")
    report = check(model, images, providers=["cpu"])
    assert report, str(report)
    assert report.preprocessing["scaling"] == ("minus-128" if kind == "int8" else "none")
    assert (said is None and "IN007" not in codes(report)) or said in codes(report)["IN007"].message
    packing = pack(Request(model, images, providers=["cpu"]), tmp_path / "bundle")
    assert packing, packing.refused
    verified = verify(tmp_path / "bundle", providers=["cpu"])
    assert verified, str(verified)
    assert "IN006" not in codes(verified)
    if kind == "int8":
        with pytest.raises(UsageError, match="the input x takes int8 pixels, which are not scaled"):
            check(model, images, overrides=Overrides(scaling=Scaling.UNIT), providers=["cpu"])


def test_several_pictures_for_each_item(tmp_path: Path) -> None:
    """A folder for each input with the same file names; a pair that lacks one is refused, one that cannot be read is left out."""
    net = """g (float[N, 4, 4, 3] left, float[N, 3, 6, 6] right) => (float[N, 4, 4, 3] y, float[N, 3, 6, 6] z) {
        y = Neg(left)  z = Neg(right) }"""
    model = saved(tmp_path, net)
    for side in ("left", "right"):
        pictures(tmp_path / "images" / side, size=5)
    report = check(model, tmp_path / "images", providers=["cpu"])
    assert report, str(report)
    assert report.images.names == ("0.png", "1.png", "2.png", "3.png")
    assert pack(Request(model, tmp_path / "images", providers=["cpu"]), tmp_path / "bundle")
    assert verify(tmp_path / "bundle", providers=["cpu"])
    (tmp_path / "images/left/1.png").write_bytes(b"no picture")
    report = check(model, tmp_path / "images", providers=["cpu"])
    assert report.images.unreadable[0][0] == "1.png"
    assert len(report.images.names) == 3
    with pytest.raises(
        UsageError, match="which images cannot provide: pass one folder of images for each, called as the input"
    ):
        check(model, tmp_path / "images/left", providers=["cpu"])
    (tmp_path / "images/right/1.png").unlink()
    with pytest.raises(InputError, match=r"the item 1\.png has no file for the input right"):
        check(model, tmp_path / "images", providers=["cpu"])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',   ",
        b"\x93NUMPY\x09\x00" + b"\x00" * 20,
        b"PK\x03\x04",
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, head: bytes) -> None:
    """One sentence, whatever NumPy stumbles over."""
    (tmp_path / "items").mkdir()
    (tmp_path / "items/a.npy").write_bytes(head)
    model = saved(tmp_path, "g (float[N, 2] x) => (float[N, 2] y) { y = Softmax(x) }")
    with pytest.raises(InputError, match=r"items/a\.npy is not an \.npy file"):
        check(model, tmp_path / "items", providers=["cpu"])


@pytest.mark.parametrize("shape", [(10**15,), (2, 10**6, 10**6)])
def test_an_array_that_is_shorter_than_it_says(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """What its head promises is not taken for granted, and not allocated."""
    (tmp_path / "items").mkdir()
    with (tmp_path / "items/a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    sides = ", ".join("ABC"[: len(shape)])
    model = saved(tmp_path, f"g (float[N, {sides}] x) => (float[N, {sides}] y) {{ y = Neg(x) }}")
    with pytest.raises(InputError, match=r"none of the 1 items can be read: found a\.npy"):
        check(model, tmp_path / "items", providers=["cpu"])


def test_items_travel_and_have_a_fingerprint(tmp_path: Path) -> None:
    """Workers on a cluster get them by pickle, and a batch knows them again."""
    pytest.importorskip("soundfile")
    for nth in range(2):
        recording(tmp_path / f"clips/{nth}.wav", 50)
    source = open_arrays(tmp_path / "clips", {"x": (None, None)}, {}, None, 4)
    sides = dict.fromkeys(("left", "right"), (None, 4, 4, 3))
    for side in sides:
        pictures(tmp_path / "images" / side)
    sets, _ = open_sets(datasets.find(tmp_path / "images"), sides, {}, None, "", Overrides(), 2, Prepared(1 << 20))
    for items in (source, sets):
        [there, here] = [[feed.inputs for feed in each] for each in (pickle.loads(pickle.dumps(items)), items)]  # noqa: S301 - its own
        assert all((a[name] == b[name]).all() for a, b in zip(there, here, strict=True) for name in b)
    before = datasets.fingerprint(str(tmp_path / "clips"), lambda compute, *_: compute())
    recording(tmp_path / "clips/1.wav", 51)
    assert datasets.fingerprint(str(tmp_path / "clips"), lambda compute, *_: compute()) != before


def test_a_parquet_table_of_bad_text_is_named(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, in a table of numbers and in a list of pictures."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ends = arrow.array([0, 1], arrow.int32()).buffers()[1]
    text = arrow.Array.from_buffers(arrow.string(), 1, [None, ends, arrow.py_buffer(b"\xc4")])
    parquet.write_table(arrow.table({"path": text}), tmp_path / "t.parquet")
    model = saved(tmp_path, "g (float[N, 1] x) => (float[N, 1] y) { y = Neg(x) }")
    with pytest.raises(InputError, match=r"cannot read .*t\.parquet"):
        check(model, inputs=tmp_path / "t.parquet", providers=["cpu"])
    with pytest.raises(InputError, match=r"cannot read .*t\.parquet"):
        datasets.find(tmp_path / "t.parquet")
