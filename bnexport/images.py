"""A folder or a list of pictures as labelled batches, decoded in threads ahead of whoever reads them."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bnexport.errors import InputError, reason
from bnexport.numerics.preprocess import preprocess
from bnexport.numerics.resize import tf_bilinear, tf_nearest
from bnexport.numerics.spec import Fit, Preprocessing, Resize

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
_TF_KERNELS: dict[Resize, Callable[[NDArray[np.uint8], int, int], NDArray[Any]]] = {
    Resize.TF_BILINEAR: tf_bilinear,
    Resize.TF_NEAREST: tf_nearest,
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, the name it goes by, and the name of its class ("" where unknown)."""

    path: Path
    name: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is not a picture bnexport can read, and why (IN004)."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures that were read: float32, shape (N, H, W, C) or (N, C, H, W), with their names and class names."""

    x: NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...]


def find(source: Path | Sequence[Path], *, labels: Path | None = None) -> list[Picture]:
    """The pictures below `source`, sorted by name.

    A folder may be flat, have one subfolder for each class, or hold a `labels.csv` with the columns file and label.
    `source` may also be one picture, or a list of pictures, which then keep their order.

    Args:
        source: a folder, a file, or a list of files.
        labels: a CSV file that goes before `labels.csv` and before subfolders.

    Raises:
        InputError: there is nothing at `source`, or no file that looks like a picture.
    """
    if not isinstance(source, Path):
        pictures, source = [Picture(path, str(path)) for path in source], Path("the list of images")
    elif not source.exists():
        raise InputError(f"there is no folder {source}", fix="check the path")
    elif source.is_file():
        pictures = [Picture(source, source.name)]
    else:
        try:
            pictures = _walk(source)
        except OSError as error:
            raise InputError(f"cannot read the folder {source} ({error.strerror})") from error
    if not pictures:
        raise InputError(f"there is no image in {source}", expected="files such as " + ", ".join(sorted(SUFFIXES)[:4]))
    table = labels or (source / "labels.csv" if (source / "labels.csv").is_file() else None)
    return _labelled(pictures, table) if table else pictures


def _walk(folder: Path) -> list[Picture]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    flat = [Picture(entry, entry.name) for entry in entries if entry.is_file() and _looks_like_a_picture(entry)]
    classes = [entry for entry in entries if entry.is_dir()]
    below = []
    for part in classes:
        files = sorted(Path(root, name) for root, _, names in os.walk(part) for name in names)
        below += [
            Picture(f, f.relative_to(folder).as_posix(), part.name)
            for f in files
            if not f.name.startswith(".") and _looks_like_a_picture(f)
        ]
    return flat + below


def _looks_like_a_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _labelled(pictures: list[Picture], table: Path) -> list[Picture]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the labels in {table} ({error})") from error
    if not rows or any(len(row) != 2 for row in rows):
        raise InputError(f"{table} is not a table of labels", expected="lines of two columns: file,label")
    label = {name.strip(): text.strip() for name, text in rows}
    if not any(picture.name in label for picture in pictures):
        raise InputError(f"no picture is named in {table}", found=rows[-1][0], expected=pictures[0].name)
    return [Picture(p.path, p.name, label.get(p.name, "")) for p in pictures]


@dataclass(slots=True)
class Reader:
    """Reads pictures batch by batch; what could not be read is listed in `unreadable` as it goes.

    Args:
        pictures: what to read.
        spec: how to prepare it.
        batch_size: the largest batch; the pictures are spread evenly, so that no batch is left with one or two.
        threads: how many pictures are decoded at a time.
    """

    pictures: Sequence[Picture]
    spec: Preprocessing
    batch_size: int = 32
    threads: int = 2
    unreadable: list[Unreadable] = field(default_factory=list)

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in order.

        Raises:
            InputError: not one picture can be read.
        """
        self.unreadable.clear()
        total = len(self.pictures)
        parts = max(1, -(-total // self.batch_size))
        ends = [round(total * (i + 1) / parts) for i in range(parts)]
        read = 0
        with ThreadPoolExecutor(self.threads) as pool:
            queue: deque[Future[NDArray[np.float32] | Unreadable]] = deque()
            ahead = iter(self.pictures)
            done = 0
            for end in ends:
                good: list[tuple[Picture, NDArray[np.float32]]] = []
                for picture in self.pictures[done:end]:
                    while len(queue) < 2 * self.batch_size and (following := next(ahead, None)) is not None:
                        queue.append(pool.submit(_prepared, following, self.spec))
                    result = queue.popleft().result()
                    if isinstance(result, Unreadable):
                        self.unreadable.append(result)
                    else:
                        good.append((picture, result))
                done = end
                if good:
                    read += len(good)
                    yield Batch(
                        np.stack([x for _, x in good]), tuple(p.name for p, _ in good), tuple(p.label for p, _ in good)
                    )
        if not read:
            first = self.unreadable[0]
            raise InputError(
                f"none of the {total} images can be read",
                found=f"{first.name}: {first.reason}",
                expected="JPEG, PNG, BMP, GIF, WebP or TIFF",
            )


def _prepared(picture: Picture, spec: Preprocessing) -> NDArray[np.float32] | Unreadable:
    try:
        return prepared(picture.path.read_bytes(), spec)
    except (InputError, OSError) as error:
        return Unreadable(picture.name, reason(error).replace(str(picture.path), picture.name))


def prepared(content: bytes, spec: Preprocessing) -> NDArray[np.float32]:
    """One encoded picture as a model sees it, float32 of shape `spec.shape`.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return preprocess(pixels(content, spec), spec)
    except UnidentifiedImageError as error:
        raise InputError("it is no JPEG, PNG, BMP, GIF, WebP or TIFF file, or a damaged one") from error
    except InputError:
        raise
    except (
        Exception
    ) as error:  # decoders raise six kinds of exception on damaged pictures; each becomes one named entry
        raise InputError(reason(error)) from error


def pixels(content: bytes, spec: Preprocessing) -> NDArray[Any]:
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
    image = _fitted(image, width, height, spec.fit)
    if image.size == (width, height):
        return np.asarray(image).reshape(height, width, spec.channels)
    if spec.resize in _TF_KERNELS:
        array = np.asarray(image).reshape(image.size[1], image.size[0], spec.channels)
        return _TF_KERNELS[spec.resize](array, height, width)
    return np.asarray(image.resize((width, height), _KERNELS[spec.resize])).reshape(height, width, spec.channels)


def thumbnail(path: Path, side: int = 96) -> bytes | None:
    """A picture as a small PNG, for a report; None where it cannot be read."""
    try:
        with Image.open(path, formats=_FORMATS) as opened:
            _refuse_huge(*opened.size)
            opened.draft("RGB", (side, side))
            small = _eight_bit(opened).convert("RGB")
            small.thumbnail((side, side))
        content = io.BytesIO()
        small.save(content, "PNG")
    except Exception:  # noqa: BLE001 - as in `prepared`; whoever asks shows nothing then
        return None
    return content.getvalue()


def _fitted(image: Image.Image, width: int, height: int, fit: Fit) -> Image.Image:
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


def _jpeg(content: bytes, channels: int) -> Any:
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
        raise InputError("the picture is too large", found=f"{width}x{height} pixels", expected=f"at most {MAX_PIXELS}")


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return image
