"""One encoded picture as the numbers a model sees."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bnexport.datasets.preprocess import preprocess
from bnexport.errors import InputError, reason
from bnexport.numerics.resize import tf_bilinear, tf_nearest
from bnexport.results.actions import spell_options
from bnexport.results.preprocessing import Fit, Preprocessing, Resize

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
MAX_PIXELS = 100_000_000
"""A picture with more pixels than this is refused before it is decoded."""

_KERNELS = {
    Resize.PIL_NEAREST: Image.Resampling.NEAREST,
    Resize.PIL_BILINEAR: Image.Resampling.BILINEAR,
    Resize.PIL_BICUBIC: Image.Resampling.BICUBIC,
    Resize.PIL_LANCZOS: Image.Resampling.LANCZOS,
    Resize.PIL_BOX: Image.Resampling.BOX,
    Resize.PIL_HAMMING: Image.Resampling.HAMMING,
}

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""What a kernel gives: grey levels 0 to 255, float32 where it does not round."""

_TF_KERNELS: dict[Resize, Callable[[NDArray[np.uint8], int, int], Pixels]] = {
    Resize.TF_BILINEAR: tf_bilinear,
    Resize.TF_NEAREST: tf_nearest,
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode_image(content: bytes, spec: Preprocessing, *, whole: bool = False) -> NDArray[np.float32]:
    """One encoded picture as a model sees it, float32 of shape `spec.shape`; where `whole`, made of pixels that are rounded after a kernel that does not.

    Raises:
        InputError: it cannot be read.
    """
    try:
        decoded = pixels(content, spec)
        return preprocess(np.rint(decoded) if whole else decoded, spec)
    except UnidentifiedImageError as error:
        raise InputError("the file is damaged or not a JPEG, PNG, BMP, GIF, WebP or TIFF image") from error
    except InputError:
        raise
    except (
        Exception
    ) as error:  # decoders raise six kinds of exception on damaged pictures; each becomes one named entry
        raise InputError(reason(error)) from error


def pixels(content: bytes, spec: Preprocessing) -> Pixels:
    """One encoded picture, decoded and brought to the size and channels of `spec`.

    JPEG is decoded by libjpeg-turbo with the fast inverse transform, as TensorFlow does; the rest by Pillow. Nothing is
    rotated by EXIF. A 16-bit picture keeps its high byte, as in TensorFlow.

    Returns:
        uint8, shape (H, W, C), channels R G B; float32 where the kernel does not round (tf-bilinear).
    """
    image = _jpeg(content, spec.channels) if content[:3] == b"\xff\xd8\xff" else None
    if image is None:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            _refuse_huge(*opened.size)
            image = _eight_bit(opened).convert(_MODES[spec.channels])
    height, width = spec.size
    image = _fit(image, width, height, spec.fit)
    if image.size == (width, height):
        return np.asarray(image).reshape(height, width, spec.channels)
    if spec.resize in _TF_KERNELS:
        array = np.asarray(image).reshape(image.size[1], image.size[0], spec.channels)
        return _TF_KERNELS[spec.resize](array, height, width)
    return np.asarray(image.resize((width, height), _KERNELS[spec.resize])).reshape(height, width, spec.channels)


def thumbnail(content: bytes, side: int = 96) -> bytes | None:
    """A picture as a small PNG, for a report; None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            _refuse_huge(*opened.size)
            opened.draft("RGB", (side, side))
            small = _eight_bit(opened).convert("RGB")
            small.thumbnail((side, side))
        made = io.BytesIO()
        small.save(made, "PNG")
    except Exception:  # noqa: BLE001 - as in `decode_image`; whoever asks shows nothing then
        return None
    return made.getvalue()


def _fit(image: Image.Image, width: int, height: int, fit: Fit) -> Image.Image:
    """The picture with the aspect ratio of the wanted size, cut or padded in the middle (keras.utils.image_utils.smart_resize)."""
    old_width, old_height = image.size
    if fit == Fit.CROP:
        new_width = min(old_width, int(old_height * width / height))
        new_height = min(old_height, int(old_width * height / width))
    elif fit == Fit.PAD:
        new_width = max(old_width, int(old_height * width / height))
        new_height = max(old_height, int(old_width * height / width))
    else:
        return image
    left, top = int((old_width - new_width) / 2), int((old_height - new_height) / 2)  # towards zero, as Keras does
    return image.crop(
        (left, top, left + max(1, new_width), top + max(1, new_height))
    )  # black where there is no picture


def _jpeg(content: bytes, channels: int) -> Image.Image | None:
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None  # Pillow may still read it, or says what is wrong
    _refuse_huge(width, height)
    if space in ("CMYK", "YCCK") or channels == 4:
        return None
    try:
        array = simplejpeg.decode_jpeg(content, colorspace="GRAY" if channels == 1 else "RGB", fastdct=True)
    except ValueError:
        return None
    return Image.fromarray(array.squeeze(-1) if channels == 1 else array)


def _refuse_huge(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            "the image is too large", found=f"{width}x{height} pixels", expected=f"at most {MAX_PIXELS} pixels"
        )


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        least, largest = float(values.min()), float(values.max())
        if not (least >= 0 and largest <= 255 and (largest > 1 or largest == 0)):
            raise InputError(
                "the image contains floating-point values that are not gray levels",
                found=f"values from {least:g} to {largest:g}",
                expected="0 to 255",
                fix=f"save it with 8 or 16 bits, or pass preprocessed arrays with {spell_options(inputs='data.npz')}",
            )
    return image


def looks_like_a_picture(name: str) -> bool:
    """Whether a name ends like a picture's, and is not hidden."""
    last = name.rsplit("/", 1)[-1]
    return not last.startswith(".") and "." + last.rsplit(".", 1)[-1].lower() in SUFFIXES
