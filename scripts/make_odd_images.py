"""Writes tests/odd_images: small pictures of the kinds that trip decoders. Those called broken-... must be refused, the others read.

python scripts/make_odd_images.py
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent.parent / "tests" / "odd_images"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG that says what it likes about its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def odd() -> dict[str, bytes]:
    """Every picture by its file name."""
    jpeg, plain = encoded(PICTURE, "JPEG"), encoded(PICTURE, "PNG")
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: rotate by 90 degrees
    deep = Image.fromarray(np.linspace(0, 65535, 99).astype(np.uint16).reshape(9, 11))
    return {
        "animated.gif": encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
        "bilevel.tiff": encoded(PICTURE.convert("1"), "TIFF"),
        "cmyk.jpg": encoded(PICTURE.convert("CMYK"), "JPEG"),
        "deep.png": encoded(deep, "PNG"),
        "grey-alpha.png": encoded(PICTURE.convert("LA"), "PNG"),
        "one-pixel.bmp": encoded(PICTURE.crop((0, 0, 1, 1)), "BMP"),
        "palette-with-transparency.png": encoded(PICTURE.convert("P"), "PNG", transparency=0),
        "progressive.jpg": encoded(PICTURE, "JPEG", progressive=True),
        "really-a-jpeg.png": jpeg,
        "turned-by-exif.jpg": encoded(PICTURE, "JPEG", exif=turned),
        "broken-bomb.png": png(60_000, 60_000, b"\0" * 1000),
        "broken-cut-short.png": plain[: len(plain) // 2],
        "broken-empty.jpg": b"",
        "broken-head-only.jpg": jpeg[:40],
        "broken-no-width.png": png(0, 5, b"\0" * 5),
        "broken-not-a-picture.png": b"<html>404</html>",
        "broken-pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    }


def main() -> None:
    """The command."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in odd().items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
