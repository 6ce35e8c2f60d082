"""A bundle of a small net with photographs, and what other programs record for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import sklearn.datasets
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from bnexport.bundles.pack import pack
from bnexport.comparison.opening import Request
from bnexport.results.overrides import Overrides
from bnexport.results.preprocessing import Layout, Preprocessing, Resize, Scaling

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
SIDE = 48
NET = """<ir_version: 10, opset_import: ["" : 18]>
    g (float[N, 3, 48, 48] x) => (float[N, 5] y) {
        c = Conv <pads = [1, 1, 1, 1], strides = [3, 3]> (x, kernel)
        r = Relu (c)
        f = Flatten (r)
        l = Gemm (f, w, b)
        y = Softmax (l)
    }"""

Prepare = Callable[[Path], NDArray[np.generic]]


def encoded(image: Image.Image, kind: str, orientation: int = 1) -> bytes:
    """A picture as a file."""
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, kind, exif=exif, **({"quality": 92} if kind == "JPEG" else {}))
    return stream.getvalue()


def photos() -> dict[str, bytes]:
    """Photographs of several sizes: wide and high, JPEG and PNG, one with an orientation in its EXIF data."""
    china, flower = (Image.open(PHOTOS / name) for name in ("china.jpg", "flower.jpg"))
    return {
        "china.jpg": (PHOTOS / "china.jpg").read_bytes(),
        "part.png": encoded(flower.crop((150, 20, 410, 420)), "PNG"),
        "turned.jpg": encoded(china.crop((200, 60, 500, 270)), "JPEG", orientation=6),
    }


def net() -> onnx.ModelProto:
    model = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(0)
    for name, shape in (("kernel", (2, 3, 3, 3)), ("w", (512, 5)), ("b", (5,))):
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name))
    return model


@dataclass(frozen=True)
class Place:
    """A bundle and a session of its model.

    Args:
        folder: with the images, the model and the bundle.
        session: what another program would run.
    """

    folder: Path
    session: onnxruntime.InferenceSession

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def images(self) -> list[Path]:
        return sorted((self.folder / "images").iterdir())

    def compute(self, x: NDArray[np.generic]) -> NDArray[np.float32]:
        made: NDArray[np.float32] = self.session.run(None, {"x": np.asarray(x, np.float32)})[0]
        return made

    def record(self, folder: Path, prepare: Prepare, *, inputs: bool = True, noise: float = 0.0) -> Path:
        """Writes what a program computes that prepares pictures in a way, channels last."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.images:
            x = np.moveaxis(np.asarray(prepare(path), np.float32), -1, 0)[None]
            np.save(folder / f"{path.stem}.y.npy", self.compute(x) + np.float32(noise))
            if inputs:
                np.save(folder / f"{path.stem}.x.npy", x)
        return folder


OWN = Preprocessing((SIDE, SIDE), 3, resize=Resize.PIL_BILINEAR, scaling=Scaling.UNIT, layout=Layout.NHWC)


def make_place(folder: Path, batch_size: int = 32) -> Place:
    """A bundle whose net was given pictures in the way `OWN`."""
    (folder / "images").mkdir(parents=True)
    for name, content in photos().items():
        (folder / "images" / name).write_bytes(content)
    onnx.save(net(), folder / "net.onnx")
    overrides = Overrides(resize=OWN.resize, scaling=OWN.scaling)
    request = Request(
        model=folder / "net.onnx",
        source=str(folder / "images"),
        overrides=overrides,
        batch_size=batch_size,
        providers=("cpu",),
    )
    packing = pack(request, folder / "bundle")
    assert packing, packing.refused
    return Place(folder, onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"]))
