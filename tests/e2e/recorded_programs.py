"""Programs that prepare pictures with the real libraries, and what they do in the words of a search."""

from __future__ import annotations

import base64
import importlib.util
import io
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bnexport.datasets.identify import geometry
from bnexport.datasets.identify.identify import identify
from bnexport.datasets.identify.sources import FAST, PLAIN, Source, read_source
from bnexport.results.identified import Identified, Steps
from bnexport.results.preprocessing import Layout, Preprocessing

Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.generic]]

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
MEAN, STD = (np.array(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
SCALINGS: dict[str, Callable[[Any], Any]] = {
    "x / 255": lambda x: x / 255,
    "x / 255 twice": lambda x: x / 255 / 255,
    "no scaling (0 to 255)": lambda x: x,
    "x / 127.5 - 1": lambda x: x / 127.5 - 1,
    "x / 255, minus the ImageNet mean, divided by its deviation (torch)": lambda x: (x / 255 - MEAN) / STD,
    "minus the ImageNet means (caffe)": lambda x: x - np.array([123.68, 116.779, 103.939]),
}
"""On pixels in the order R G B."""


def photos(seed: int = 0) -> dict[str, bytes]:
    """Parts of photographs of several sizes, as JPEG and PNG, one with an orientation in its EXIF data."""
    rng = random.Random(seed)  # noqa: S311 - the same pictures each time
    made = {}
    for nth in range(3):
        image = Image.open(PHOTOS / ("china.jpg", "flower.jpg")[nth % 2])
        width, height = rng.randint(200, 600), rng.randint(180, 420)
        left, top = rng.randint(0, 640 - width), rng.randint(0, 427 - height)
        exif = Image.Exif()
        if nth == 2:
            exif[0x0112] = rng.choice([3, 6, 8])
        stream, kind = io.BytesIO(), ("JPEG", "PNG", "JPEG")[nth]
        image.crop((left, top, left + width, top + height)).save(stream, kind, exif=exif)
        made[f"{nth}.{kind.lower()}"] = stream.getvalue()
    return made


@dataclass(frozen=True)
class Library:
    """A library that decodes and resizes.

    Args:
        decode: RGB pixels of a file, and whether the EXIF orientation is applied.
        kernels: how it resizes, by the name a search gives it; the name is followed by "|float" for results that are not rounded.
        decoder: the one it uses.
    """

    decode: Callable[[bytes, bool], NDArray[np.uint8]]
    kernels: dict[str, Resize]
    decoder: str = PLAIN


def _opencv(content: bytes, turned: bool) -> NDArray[np.uint8]:
    flag = cv2.IMREAD_COLOR if turned else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def _pillow(content: bytes, turned: bool) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(content))
    return np.asarray((ImageOps.exif_transpose(image) if turned else image).convert("RGB"))


def opencv() -> Library:
    names = ("INTER_LINEAR", "INTER_CUBIC", "INTER_AREA", "INTER_LANCZOS4", "INTER_NEAREST", "INTER_LINEAR_EXACT")

    def resize(flag: int, dtype: Any) -> Resize:
        return lambda x, h, w: cv2.resize(x.astype(dtype), (w, h), interpolation=flag)

    kernels = {f"OpenCV {name}": resize(getattr(cv2, name), np.uint8) for name in names}
    kernels |= {f"OpenCV {name} on float32": resize(getattr(cv2, name), np.float32) for name in names[:3]}
    return Library(_opencv, kernels)


def pillow() -> Library:
    kernels: dict[str, Resize] = {
        f"Pillow {kernel.name}": lambda x, h, w, kernel=kernel: np.asarray(Image.fromarray(x).resize((w, h), kernel))
        for kernel in Image.Resampling
    }
    return Library(_pillow, kernels)


def tensorflow() -> Library:
    import tensorflow as tf

    def decode(content: bytes, turned: bool) -> NDArray[np.uint8]:
        pixels = tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
        if not turned:
            return np.asarray(pixels)
        image, exif = Image.fromarray(pixels), Image.open(io.BytesIO(content)).getexif()
        image.getexif()[0x0112] = exif.get(0x0112, 1)
        return np.asarray(ImageOps.exif_transpose(image))

    kernels: dict[str, Resize] = {}
    for method, antialias in [
        *((m, a) for m in ("bilinear", "bicubic", "lanczos3", "mitchellcubic") for a in (False, True)),
        ("area", False),
        ("nearest", False),
    ]:
        name = f"TensorFlow {method}{' (antialias=True)' if antialias else ''}"
        kernels[name] = lambda x, h, w, m=method, a=antialias: tf.image.resize(x, (h, w), m, antialias=a).numpy()
    return Library(decode, kernels, FAST)


def torch() -> Library:
    import torch
    from torch.nn.functional import interpolate

    def resize(x: NDArray[np.uint8], h: int, w: int, mode: str, antialias: bool, dtype: Any) -> NDArray[np.generic]:
        rows = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 0)))[None].to(dtype)
        smooth = mode in ("bilinear", "bicubic")
        more = {"antialias": antialias, "align_corners": False} if smooth else {}
        return np.moveaxis(interpolate(rows, (h, w), mode=mode, **more)[0].numpy(), 0, -1)

    kernels: dict[str, Resize] = {}
    for mode in ("bilinear", "bicubic"):
        for antialias in (False, True):
            for dtype, text in ((torch.float32, ""), (torch.uint8, " on uint8")):
                kernels[f"torch {mode}{text} (antialias={antialias})"] = lambda x, h, w, m=mode, a=antialias, d=dtype: (
                    resize(x, h, w, m, a, d)
                )
    for mode in ("nearest", "nearest-exact", "area"):
        kernels[f"torch {mode}"] = lambda x, h, w, m=mode: resize(x, h, w, m, False, torch.float32)
    return Library(_pillow, kernels)


CANVAS = """
const [source, width, height, smooth, answer] = arguments;
const image = new Image();
image.onload = () => {
  const canvas = document.createElement('canvas');
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.imageSmoothingEnabled = smooth;
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  let text = '';
  for (let i = 0; i < pixels.length; i += 8192) text += String.fromCharCode.apply(null, pixels.subarray(i, i + 8192));
  answer(btoa(text));
};
image.src = source;
"""


@contextmanager
def canvas(page: Path) -> Iterator[Library]:
    """A canvas in Chromium; it resizes pixels that come as PNG."""
    from tests.e2e.browser import browser

    with browser() as opened:
        page.write_text("<!doctype html><title>canvas</title>")
        opened.open(page)

        def draw(x: NDArray[np.uint8], h: int, w: int) -> NDArray[np.uint8]:
            stream = io.BytesIO()
            Image.fromarray(x).save(stream, "PNG", compress_level=1)
            source = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
            answer = opened._driver.execute_async_script(CANVAS, source, w, h, True)
            return np.frombuffer(base64.b64decode(answer), np.uint8).reshape(h, w, 4)[..., :3]

        yield Library(_pillow, {"canvas drawImage (Chromium)": draw})


def libraries() -> dict[str, Callable[[], Library]]:
    """The libraries that are installed here."""
    every = {"opencv": opencv, "pillow": pillow, "tensorflow": tensorflow, "torch": torch}
    absent = {name for name in ("tensorflow", "torch") if importlib.util.find_spec(name) is None}
    return {name: make for name, make in every.items() if name not in absent}


@dataclass(frozen=True)
class Program:
    """A program that prepares pictures.

    Args:
        library: what it decodes and resizes with.
        kernel: one of the library's.
        side: of the input.
        turned: whether the EXIF orientation is applied.
        fit: how pictures are brought to the size.
        order: "RGB" or "BGR".
        scaling: a key of `SCALINGS`.
        mixed: whether the values are written in the other layout.
        layout: that of the model.
        after: "" for values as the kernel gives them, "rounded" or "cut off" to uint8.
    """

    library: Library
    kernel: str
    side: int = 96
    turned: bool = False
    fit: geometry.Fit = field(default_factory=lambda: geometry.Fit("stretch"))
    order: str = "RGB"
    scaling: str = "x / 255"
    mixed: bool = False
    layout: Layout = Layout.NCHW
    after: str = ""

    def prepare(self, content: bytes) -> NDArray[np.float32]:
        """The input for one picture, in the layout of the model."""
        pixels = self.library.decode(content, self.turned)
        wanted = (self.side, self.side)
        plan = self.fit.plan(pixels.shape[0], pixels.shape[1], wanted)
        assert plan is not None
        part = geometry.cut(pixels, plan.box).astype(np.uint8)
        sized = part if part.shape[:2] == plan.resized else self.library.kernels[self.kernel](part, *plan.resized)
        top, left = plan.offset
        if self.fit.kind.startswith("pad") and self.fit.kind != "pad first":
            grey = np.full((*wanted, 3), 114, sized.dtype)
            grey[-top : -top + sized.shape[0], -left : -left + sized.shape[1]] = sized
            sized = grey
        else:
            sized = sized[top : top + self.side, left : left + self.side]
        if self.after:
            sized = np.clip(np.rint(sized) if self.after == "rounded" else np.floor(sized), 0, 255)
        x = np.asarray(SCALINGS[self.scaling](np.asarray(sized, np.float64)), np.float32)
        x = x[..., ::-1] if self.order == "BGR" else x
        first = np.moveaxis(x, -1, 0)
        if self.layout == Layout.NCHW:
            return np.ascontiguousarray(x).reshape(first.shape) if self.mixed else np.ascontiguousarray(first)
        return np.ascontiguousarray(first).reshape(x.shape) if self.mixed else np.ascontiguousarray(x)

    def is_called(self, steps: Steps) -> bool:
        """Whether a way is this program's; steps that make no difference are not stated."""
        mixed = {Layout.NCHW: "NHWC values in an NCHW tensor", Layout.NHWC: "NCHW values in an NHWC tensor"}
        after = self.after and f"{self.after} to uint8"
        return (
            steps.layout == (mixed[self.layout] if self.mixed else "")
            and steps.decoder in ("", f"JPEG decoder of {self.library.decoder}")
            and steps.orientation in ("", f"EXIF orientation {'' if self.turned else 'not '}applied")
            and steps.fit.removesuffix(" with gray level 114") in ("", self.fit.described)
            and (not steps.kernel or self.kernel in steps.kernel.split(" or "))
            and (steps.rounding or "not rounded") == (after or "not rounded")
            and steps.order == self.order
            and steps.scaling == self.scaling
        )


def search(program: Program, pictures: dict[str, bytes], own: Preprocessing | None = None) -> Identified:
    """What a search says of a program."""
    sources = [source for name, content in pictures.items() if (source := read_source(name, content)) is not None]
    rows = [program.prepare(content) for content in pictures.values()]
    return identify(sources, rows, program.layout, own)


def verdict(program: Program, result: Identified) -> str:
    """Whether the program was named alone, listed with others that cannot be distinguished, given no name ("best fit"), or a FALSE one."""
    if not result.named:
        return "best fit"
    if result.steps is not None and not result.alternatives and program.is_called(result.steps):
        return "named"
    ways = [way for way in (result.steps, *result.alternatives) if way is not None]
    return "listed" if any(map(program.is_called, ways)) else "FALSE"


def random_program(rng: random.Random, available: dict[str, Library]) -> Program:
    """A program that could be anyone's."""
    library = available[rng.choice(sorted(available))]
    side = rng.choice([64, 96, 128, 160, 224])
    kind = rng.choice(["stretch", "stretch", "crop", "crop first", "pad"])
    return Program(
        library,
        rng.choice(sorted(library.kernels)),
        side,
        rng.random() < 0.5,
        geometry.Fit(
            kind, rng.choice([side, side * 8 // 7, rng.randint(side, int(1.35 * side))]) if kind == "crop" else 0
        ),
        rng.choice(["RGB", "BGR"]),
        rng.choice(sorted(SCALINGS)),
        rng.random() < 0.2,
        rng.choice([Layout.NCHW, Layout.NHWC]),
    )


__all__ = ["Library", "Program", "Source", "canvas", "libraries", "photos", "random_program", "search", "verdict"]
