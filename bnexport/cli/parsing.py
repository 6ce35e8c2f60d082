"""What the text of options means."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from bnexport.errors import UsageError

if TYPE_CHECKING:
    from bnexport.system.cache import Cache


def open_cache(*, no_cache: bool) -> Cache:
    """What was computed before."""
    from bnexport.system.cache import NOTHING_KEPT, Cache, folder

    return NOTHING_KEPT if no_cache else Cache(folder())


def read_images_argument(images: str | None, *, null: bool = False) -> str | list[str] | None:
    """The images as they were named; the list on standard input for "-".

    Raises:
        UsageError: null bytes were announced, and nothing is read from standard input.
    """
    if images != "-":
        if null:
            raise UsageError("--null says how standard input is read", fix="name the images as -")
        return images
    content = os.fsdecode(sys.stdin.buffer.read())
    return [line for line in (content.split("\0") if null else content.splitlines()) if line.strip()]
