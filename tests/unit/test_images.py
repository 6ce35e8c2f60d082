"""Pictures as the model sees them."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnexport import datasets
from bnexport.datasets import reader
from bnexport.datasets.preprocess import preprocess, rescale
from bnexport.errors import InputError
from bnexport.numerics.variety import Variety
from bnexport.results.preprocessing import Fit, Layout, Order, Preprocessing, Resize, Scaling

RNG = np.random.default_rng(0)


def encoded(array: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_of_the_right_size_is_not_touched(channels: int) -> None:
    """No resize, no rounding: the pixels of a PNG come out as they went in."""
    pixels = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    ours = datasets.pixels(encoded(pixels.squeeze()), Preprocessing((5, 7), channels))
    np.testing.assert_array_equal(ours, pixels)


@pytest.mark.parametrize(
    ("kernel", "theirs"),
    [(Resize.PIL_LANCZOS, Image.Resampling.LANCZOS), (Resize.PIL_NEAREST, Image.Resampling.NEAREST)],
)
def test_pil_kernels_are_pils(kernel: Resize, theirs: Image.Resampling) -> None:
    """A kernel called pil-… gives Pillow's pixels."""
    pixels = RNG.integers(0, 256, (50, 30, 3), dtype=np.uint8)
    ours = datasets.pixels(encoded(pixels), Preprocessing((20, 10), 3, kernel))
    np.testing.assert_array_equal(ours, np.asarray(Image.fromarray(pixels).resize((10, 20), theirs)))


def test_sixteen_bits_keep_the_high_byte() -> None:
    """A 16-bit grey picture is scaled, not clipped."""
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    assert datasets.pixels(encoded(deep), Preprocessing((1, 4))).ravel().tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F"])
def test_every_mode_becomes_pixels(mode: str, channels: int) -> None:
    """Palettes, alpha, CMYK and the like are converted, never refused by accident."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (10, 200, 30)).convert("L" if mode in "IF" else "RGB").convert(mode).save(stream, "TIFF")
    assert datasets.pixels(stream.getvalue(), Preprocessing((3, 4), channels)).shape == (3, 4, channels)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_of_every_kind(mode: str, channels: int) -> None:
    """JPEG goes another way than the other formats, and arrives all the same."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 100, 50)).convert(mode).save(stream, "JPEG", quality=95)
    grey = datasets.pixels(stream.getvalue(), Preprocessing((16, 16), channels))
    assert grey.shape == (16, 16, channels)
    expected = [124] if channels == 1 or mode == "L" else [200, 100, 50]
    # the colour conversions of JPEG and CMYK cost up to 3 levels
    assert np.abs(grey[..., : len(expected)].astype(int) - expected).max() <= 3


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of more pixels than the limit is an error that says how many."""
    monkeypatch.setattr("bnexport.datasets.decode.MAX_PIXELS", 99)
    for form in ("PNG", "JPEG"):
        with pytest.raises(InputError, match="10x10 pixels"):
            datasets.pixels(encoded(np.zeros((10, 10, 3), np.uint8), form), Preprocessing((2, 2), 3))


def test_batches_are_even_and_in_order(tmp_path: Path) -> None:
    """Seven pictures at a batch size of three come as 2, 3 and 2, in the order of their names, each with its own pixels."""
    for i in range(7):
        (tmp_path / f"{i}.png").write_bytes(encoded(np.full((2, 2), i, np.uint8)))
    (tmp_path / "notes.txt").write_text("not a picture")
    batches = list(datasets.Reader(datasets.find(tmp_path), Preprocessing((2, 2)), batch_size=3))
    assert [len(b.x) for b in batches] == [2, 3, 2]
    assert [name for b in batches for name in b.names] == [f"{i}.png" for i in range(7)]
    assert np.concatenate([b.x for b in batches])[:, 0, 0, 0].tolist() == list(range(7))


def test_a_reader_can_be_read_twice(tmp_path: Path) -> None:
    """The second reading finds the same pictures and does not list unreadable ones twice."""
    (tmp_path / "a.png").write_bytes(encoded(np.zeros((2, 2), np.uint8)))
    (tmp_path / "b.png").write_bytes(b"broken")
    reader = datasets.Reader(datasets.find(tmp_path), Preprocessing((2, 2)))
    first, second = list(reader), list(reader)
    assert [b.names for b in first] == [b.names for b in second] == [("a.png",)]
    assert [u.name for u in reader.unreadable] == ["b.png"]


def test_labels_that_name_no_picture_are_an_error(tmp_path: Path) -> None:
    """A label table for other pictures is refused, with one name of each."""
    (tmp_path / "a.png").write_bytes(encoded(np.zeros((2, 2), np.uint8)))
    (tmp_path / "labels.csv").write_text("file,label\nx.png,cat\n")
    with pytest.raises(InputError, match=r"found x\.png; expected a\.png"):
        datasets.find(tmp_path)


@pytest.mark.keras
@pytest.mark.parametrize(
    ("scaling", "mode"), [(Scaling.MINUS_ONE_ONE, "tf"), (Scaling.CAFFE, "caffe"), (Scaling.TORCH, "torch")]
)
def test_scalings_are_keras_own(scaling: Scaling, mode: str) -> None:
    """The presets equal keras.applications.imagenet_utils.preprocess_input to the last bit."""
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import keras

    pixels = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    theirs = keras.applications.imagenet_utils.preprocess_input(
        pixels.astype(np.float32), data_format="channels_last", mode=mode
    )
    np.testing.assert_array_equal(preprocess(pixels, Preprocessing((6, 5), 3, scaling=scaling)), theirs)


def test_channels_first() -> None:
    """The layout of the model decides where the channels stand."""
    pixels = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    spec = Preprocessing((6, 5), 3, layout=Layout.NCHW, scaling=Scaling.UNIT)
    ours = preprocess(pixels, spec)
    assert ours.shape == spec.shape == (3, 6, 5)
    np.testing.assert_array_equal(ours, (pixels.astype(np.float32) / np.float32(255)).transpose(2, 0, 1))


PREPARED = [
    {"scaling": scaling, "order": order, **extra}
    for scaling in Scaling
    for order in Order
    for extra in [{"mean": (0.4, 0.5, 0.6), "std": (0.2,)} if scaling == Scaling.MEAN_STD else {}]
    if not (scaling == Scaling.CAFFE and order == Order.BGR)
]


@pytest.mark.parametrize("layout", Layout)
def test_one_preparation_becomes_another(layout: Layout) -> None:
    """What was prepared with one scaling and channel order, as the other would have prepared it: equal to float32 rounding of values up to 255."""
    pixels = RNG.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    for old, new in itertools.product(PREPARED, PREPARED):
        specs = [Preprocessing((6, 5), 3, layout=layout, **values) for values in (old, new)]
        made, wanted = (np.stack([preprocess(p, spec) for p in pixels]) for spec in specs)
        np.testing.assert_allclose(rescale(made, *specs), wanted, atol=1e-6 * max(1, np.abs(wanted).max()) * 4)


def test_mean_and_std_are_torchvisions() -> None:
    """Y = (x / 255 - mean) / std, channel by channel, after the channel order."""
    pixels = np.array([[[255, 0, 51]]], np.uint8)
    spec = Preprocessing((1, 1), 3, scaling=Scaling.MEAN_STD, mean=(0.5,), std=(0.25, 0.5, 1.0))
    assert preprocess(pixels, spec).ravel().tolist() == pytest.approx([2.0, -1.0, -0.3])
    assert preprocess(pixels, spec.changed(order=Order.BGR)).ravel().tolist() == pytest.approx([-1.2, -1.0, 0.5])


@pytest.mark.parametrize(
    "values",
    [
        {"scaling": Scaling.MEAN_STD},
        {"scaling": Scaling.MEAN_STD, "mean": (0.5, 0.5), "std": (1.0,)},
        {"scaling": Scaling.MEAN_STD, "mean": (0.5,), "std": (0.0,)},
        {"mean": (0.5,)},
        {"scaling": Scaling.CAFFE, "order": Order.BGR},
    ],
)
def test_specifications_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    """No mean, too many numbers, a deviation of zero, a mean nobody uses, channels reversed twice."""
    with pytest.raises(InputError):
        Preprocessing((2, 2), 3, **values)


def test_a_specification_survives_the_file() -> None:
    """Every field goes through plain values and back."""
    for values in PREPARED:
        spec = Preprocessing((6, 5), 3, Resize.TF_BILINEAR, fit=Fit.CROP, **values)
        assert Preprocessing.from_dict(spec.as_dict()) == spec


@pytest.mark.parametrize(
    ("fit", "columns"), [(Fit.STRETCH, [0, 1, 2, 3, 4, 5]), (Fit.CROP, [2, 3]), (Fit.PAD, [0, 0, 1, 2, 3, 4, 5, 0])]
)
def test_other_aspect_ratios(fit: Fit, columns: list[int]) -> None:
    """A wide picture is stretched, cut to its middle, or padded with black to the aspect ratio that is wanted."""
    wide = np.repeat(np.arange(6, dtype=np.uint8)[None], 2, axis=0)
    size = (2, len(columns)) if fit != Fit.PAD else (2, 8)
    spec = Preprocessing(size, 1, Resize.PIL_NEAREST, fit=fit)
    assert datasets.pixels(encoded(wide), spec)[0, :, 0].tolist() == columns


@pytest.mark.keras
def test_jpeg_is_decoded_as_tensorflow_does() -> None:
    """Bit for bit: any quality, subsampling and size, progressive or not, as grey and as colours."""
    from bnexport.frameworks.keras.model import load_framework

    load_framework()
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for subsampling, progressive, quality in itertools.product((0, 1, 2), (False, True), (5, 60, 99)):
        height, width = (int(side) for side in rng.integers(1, 70, 2))
        smooth = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height))
        for picture in (smooth, smooth.convert("L")):
            content = encoded(
                np.asarray(picture), "JPEG", quality=quality, progressive=progressive, subsampling=subsampling
            )
            for channels in (1, 3):
                ours = datasets.pixels(content, Preprocessing((height, width), channels))
                np.testing.assert_array_equal(ours, tf.io.decode_jpeg(content, channels=channels).numpy())


ODD = Path(__file__).parent.parent / "odd_images"


@pytest.mark.parametrize("path", sorted(ODD.iterdir()), ids=lambda p: p.name)
def test_odd_pictures_are_pixels_or_a_named_reason(path: Path) -> None:
    """Truncated, mislabelled, animated, deep, rotated by EXIF: an image of the right shape, or one entry with a reason (scripts/make_odd_images.py)."""
    spec = Preprocessing((8, 8), 3)
    found = reader._prepare(datasets.Picture(str(path), path.name), spec)
    if path.name.startswith("broken"):
        assert isinstance(found, datasets.Unreadable)
        assert found.reason
        assert "\n" not in found.reason
    else:
        assert not isinstance(found, datasets.Unreadable), found
        assert found.shape == (8, 8, 3)


def test_variety_counts_what_is_different() -> None:
    """Stripes and ramps are not of one colour, a flat red is, in either layout; copies are named."""
    stripes = np.repeat(np.arange(5.0), 5).reshape(5, 5, 1) * np.ones(3)
    red = np.array([1.0, 0, 0]) * np.ones((5, 5, 3))
    noise = RNG.random((5, 5, 3))
    for move in (lambda x: x, lambda x: np.moveaxis(x, -1, 1)):
        found = Variety()
        x = np.stack([stripes, stripes.transpose(1, 0, 2), red, noise, noise, 2 * red])
        found.add(list("abcdef"), {"x": move(x)})
        assert (found.images, found.usable, found.constant, found.repeated) == (6, 3, ["c", "f"], ["e"])


def test_vectors_are_never_of_one_colour() -> None:
    """A model of vectors may well get constant ones."""
    found = Variety()
    found.add(["a", "b"], {"x": np.ones((2, 5)) * [[1], [2]]})
    assert (found.usable, found.constant) == (2, [])
