"""Programs written with the real libraries, right and wrong in six ways: each is named, or listed with what cannot be distinguished."""

from __future__ import annotations

import io
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bnexport.datasets.identify.geometry import Fit
from bnexport.datasets.identify.identify import identify
from bnexport.datasets.identify.sources import read_source
from bnexport.results.preprocessing import Layout
from tests.e2e import recorded_programs as programs
from tests.e2e.recorded_programs import Library, Program

PICTURES = programs.photos(3)
SIDE = 64
MISTAKES: dict[str, Callable[[Program], Program]] = {
    "right": lambda program: program,
    "BGR": lambda program: replace(program, order="BGR"),
    "/255 twice": lambda program: replace(program, scaling="x / 255 twice"),
    "never /255": lambda program: replace(program, scaling="no scaling (0 to 255)"),
    "other kernel": lambda program: replace(program, kernel=sorted(program.library.kernels)[-1]),
    "crop for stretch": lambda program: replace(program, fit=Fit("crop", 8 * SIDE // 7)),
    "NCHW for NHWC": lambda program: replace(program, mixed=True, layout=Layout.NHWC),
    "EXIF": lambda program: replace(program, turned=not program.turned),
}
KERNELS = {
    "opencv": "OpenCV INTER_LINEAR",
    "pillow": "Pillow BICUBIC",
    "tensorflow": "TensorFlow bilinear",
    "torch": "torch bilinear on uint8 (antialias=True)",
    "canvas": "canvas drawImage (Chromium)",
}
MARKS = {"tensorflow": [pytest.mark.keras], "torch": [pytest.mark.torch], "canvas": [pytest.mark.browser]}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS.get(name, []), id=name) for name in KERNELS])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Library]]:
    """One library at a time."""
    name = request.param
    if name == "canvas":
        with programs.canvas(tmp_path_factory.mktemp("canvas") / "page.html") as canvas:
            yield name, canvas
        return
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    yield name, programs.libraries()[name]()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_program_is_named(library: tuple[str, Library], mistake: str) -> None:
    """The way is the only one that is named, or among those that cannot be distinguished, and the residual is rounding."""
    name, itself = library
    program = MISTAKES[mistake](Program(itself, KERNELS[name], SIDE))
    result = programs.search(program, PICTURES)
    assert programs.verdict(program, result) in ("named", "listed"), result
    assert result.residual < 0.5
    assert len(result.alternatives) < 6


def test_no_random_program_is_misnamed() -> None:
    """No false name for random programs of OpenCV and Pillow (BNEXPORT_PROGRAMS=200 for more, `scripts/recorded.py` with all libraries)."""
    available = {"opencv": programs.opencv(), "pillow": programs.pillow()}
    rng = random.Random(1)  # noqa: S311 - the same programs each time
    counts: Counter[str] = Counter()
    for nth in range(int(os.environ.get("BNEXPORT_PROGRAMS", "4"))):
        program = programs.random_program(rng, available)
        program = replace(program, side=min(program.side, 64), fit=replace(program.fit, shorter=0, kind="stretch"))
        verdict = programs.verdict(program, programs.search(program, programs.photos(nth)))
        counts[verdict] += 1
        assert verdict != "FALSE", program
    assert counts["named"] + counts["listed"] >= 0.9 * counts.total()


def test_pictures_that_show_nothing_name_nothing() -> None:
    """Of pictures of one color no way is named, and of square ones of the right size the size and the kernel are not stated."""
    stream = io.BytesIO()
    Image.new("RGB", (80, 60), (10, 20, 30)).save(stream, "PNG")
    program = Program(programs.pillow(), "Pillow BICUBIC", SIDE)
    assert not programs.search(program, {"plain.png": stream.getvalue()}).named
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(stream, "PNG")
    steps = programs.search(program, {"noise.png": stream.getvalue()}).steps
    assert steps is not None
    assert (steps.kernel, steps.fit, steps.order, steps.scaling) == ("", "", "RGB", "x / 255")


@pytest.mark.torch
@pytest.mark.parametrize("tensor", [False, True], ids=["Pillow image", "uint8 tensor"])
def test_torchvision(tensor: bool) -> None:
    """The transforms of torchvision's classifiers, on Pillow images and on tensors: shorter side, centre, kernel and scaling are named."""
    try:
        from torchvision.transforms._presets import ImageClassification
        from torchvision.transforms.functional import pil_to_tensor
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision is not installed for this PyTorch ({error})")
    transform = ImageClassification(crop_size=64, resize_size=73)
    sources = [source for name, content in PICTURES.items() if (source := read_source(name, content))]
    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in PICTURES.values()]
    rows = [transform(pil_to_tensor(image) if tensor else image).numpy() for image in images]
    result = identify(sources, rows, Layout.NCHW)
    assert result.named
    ways = [way for way in (result.steps, *result.alternatives) if way is not None]
    if tensor:  # torchvision resizes a float32 copy and rounds it
        rounded = [way for way in ways if way.rounding == "rounded to uint8"]
        assert any("torch bilinear (antialias=True)" in way.kernel.split(" or ") for way in rounded)
    else:
        assert "Pillow BILINEAR" in {way.kernel for way in ways}
    assert {way.fit for way in ways} == {"the shorter side resized to 73, then the centre cut out"}
    assert {(way.order, way.orientation) for way in ways} == {("RGB", "EXIF orientation not applied")}
    assert {way.scaling for way in ways} == {"x / 255, minus the ImageNet mean, divided by its deviation (torch)"}
