"""What the text of an option means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bnexport.errors import UsageError
from bnexport.system.suggestions import suggest


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Which part of how many, from "2/8".

    Raises:
        UsageError: the text is something else.

    >>> parse_shard("2/8"), parse_shard(None)
    ((1, 8), None)
    """
    if text is None:
        return None
    nth, _, count = text.partition("/")
    if not (nth.isdecimal() and count.isdecimal() and 0 < int(nth) <= int(count)):
        raise UsageError("--shard is invalid", found=text, expected="K/N with K from 1 to N, such as 2/8")
    return int(nth) - 1, int(count)


def parse_size(text: str | None, *, unit: int = 1, least: int = 1) -> int | None:
    """A number of bytes from a size such as "4GiB", "500MB" or "1073741824".

    Args:
        text: the size; None for none.
        unit: the number of bytes that a number without a unit counts in.
        least: the smallest size that is accepted, in bytes.

    Raises:
        UsageError: the text is not a size.

    >>> parse_size("4GiB"), parse_size("500 MB"), parse_size("500", unit=1_000_000), parse_size(None)
    (4294967296, 500000000, 500000000, None)
    """
    if text is None:
        return None
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]?)(i?)B|([KMGT])(i?))?\s*", text, re.IGNORECASE)
    if parts is None:
        size = -1.0
    elif parts[0].strip() == parts[1]:
        size = float(parts[1]) * unit
    else:
        prefix, binary = parts[2] or parts[4] or " ", parts[3] or parts[5]
        size = float(parts[1]) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper())
    if size < least:
        raise UsageError(f"cannot read the memory size {text}", expected="a size such as 4GiB or 500MB")
    return int(size)


def parse_color_mode(text: str) -> int:
    """The number of channels of a color mode: gray, rgb or rgba; or the number itself.

    Raises:
        UsageError: the text is neither.

    >>> parse_color_mode("gray"), parse_color_mode("rgb"), parse_color_mode("4")
    (1, 3, 4)
    """
    if text in _COLOR_MODES:
        return _COLOR_MODES[text]
    if not text.isdecimal():
        raise UsageError(
            f"cannot read --color-mode {text}", expected="gray, rgb or rgba", fix=suggest(text, _COLOR_MODES)
        )
    return int(text)


_COLOR_MODES = {"gray": 1, "rgb": 3, "rgba": 4}


def parse_tolerances(texts: Sequence[str], option: str) -> dict[str, float] | None:
    """Tolerances by tensor, "" for all others, from texts such as "1e-3" and "logits=1e-4"; None where there are none.

    Raises:
        UsageError: a text is neither.

    >>> parse_tolerances(["1e-3", "logits=1e-4"], "--rtol")
    {'': 0.001, 'logits': 0.0001}
    """
    tolerances = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            tolerances[name] = float(number)
        except ValueError as error:
            raise UsageError(
                f"cannot read {option} {text}",
                expected="a number such as 1e-3, or a tensor and a number such as logits=1e-3",
            ) from error
    return tolerances or None


def parse_image_size(text: str) -> tuple[int, int]:
    """Height and width from "197" or "197x224".

    Raises:
        UsageError: the text is neither.

    >>> parse_image_size("197x224")
    (197, 224)
    """
    try:
        parts = [int(part) for part in text.lower().split("x")]
        height, width = parts * 2 if len(parts) == 1 else parts
    except ValueError as error:
        raise UsageError(
            f"cannot read --size {text}", expected="a number such as 224, or height x width such as 197x224"
        ) from error
    if min(height, width) < 1:
        raise UsageError(f"cannot use --size {text}", expected="1 or more")
    return height, width


def parse_batch_sizes(text: str) -> tuple[int, ...]:
    """The batch sizes in a text such as "1,32"; none in an empty one.

    Raises:
        UsageError: there is something else in it.

    >>> parse_batch_sizes("1, 32"), parse_batch_sizes("")
    ((1, 32), ())
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"cannot read --speed {text}", expected="batch sizes such as 1,32")
    return tuple(int(part) for part in parts)


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """The numbers in a text such as "0.5" or "0.485,0.456,0.406".

    Raises:
        UsageError: there is something else in it.

    >>> parse_numbers("0.485,0.456,0.406", "--mean")
    (0.485, 0.456, 0.406)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"cannot read {option} {text}", expected="a number such as 0.5, or three such as 0.485,0.456,0.406"
        ) from error
