"""The pixels that decoders make of a picture, with and without the orientation in its EXIF data."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bnexport.errors import InputError, reason

PLAIN = "Pillow, OpenCV or a browser"
"""libjpeg-turbo with the accurate inverse transform (JDCT_ISLOW)."""

FAST = "TensorFlow"
"""libjpeg-turbo with the fast inverse transform (JDCT_IFAST)."""

MOST_PIXELS = 1 << 25
"""Pictures with more pixels are not searched."""


@dataclass(frozen=True, slots=True)
class Source:
    """One picture as decoders read it.

    Args:
        name: of the picture.
        pixels: uint8, shape (H, W, 3), by decoder and whether the EXIF orientation was applied; those that give the same pixels once.
    """

    name: str
    pixels: dict[tuple[str, bool], NDArray[np.uint8]]

    def of(self, decoder: str, *, turned: bool) -> NDArray[np.uint8]:
        """The pixels of a decoder; those of another one where this one makes no difference."""
        oriented = turned and (PLAIN, True) in self.pixels
        return self.pixels.get((decoder, oriented), self.pixels[PLAIN, oriented])


def read_source(name: str, content: bytes) -> Source | None:
    """The pixels of an encoded picture; None where it is too large to be searched.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.size[0] * image.size[1] > MOST_PIXELS:
                return None
            eight = image if not image.mode.startswith(("I", "F")) else None
            if eight is None:
                return None
            orientation = image.getexif().get(0x0112, 1)
            plain = np.asarray(eight.convert("RGB"))
            turned = np.asarray(ImageOps.exif_transpose(eight).convert("RGB")) if orientation != 1 else None
    except Exception as error:  # decoders raise six kinds of exception on damaged pictures
        raise InputError(reason(error)) from error
    pixels = {(PLAIN, False): plain}
    if turned is not None:
        pixels[PLAIN, True] = turned
    fast = _fast(content)
    if fast is not None and fast.shape == plain.shape and not np.array_equal(fast, plain):
        pixels[FAST, False] = fast
        if turned is not None:
            pixels[FAST, True] = _turn(fast, int(orientation))
    return Source(name, pixels)


def _fast(content: bytes) -> NDArray[np.uint8] | None:
    """A JPEG file as TensorFlow decodes it by default; None for other formats."""
    if content[:3] != b"\xff\xd8\xff":
        return None
    import simplejpeg

    try:
        array: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colorspace="RGB", fastdct=True)
    except ValueError:
        return None  # CMYK, which TensorFlow does not decode so either
    return array


def _turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels in the orientation that EXIF states (Exif 2.32, table 6)."""
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))
