"""Seeded damage: what bad disks, bad downloads and bad people do to a file."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Callable

_NUMBERS = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff" * 8)
_WORDS = (
    b"null",
    b"-1",
    b"0",
    b"1e309",
    b"999999999999",
    b"[]",
    b"{}",
    b'""',
    b"true",
    b"NaN",
    b"\xc3\x28",
    b"\x1b[2J",
)


def flipped(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwritten(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content))
    value = rng.choice(_NUMBERS)
    content[place : place + len(value)] = value


def cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def removed(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 4, 64, 4096))]


def doubled(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    part = content[start : start + rng.choice((1, 8, 256))]
    content[start:start] = part * rng.choice((1, 3, 50))


def filled(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    size = rng.choice((16, 512))
    content[start : start + size] = rng.randbytes(size)


def reworded(content: bytearray, rng: random.Random) -> None:
    """Another value for a number, a word or a bracket of a text inside."""
    places = [match.span() for match in re.finditer(rb'\b\d+\b|"\w+"|[\[\]{}:,]', content)]
    if places:
        start, end = rng.choice(places)
        content[start:end] = rng.choice(_WORDS)


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flipped,
    flipped,
    overwritten,
    cut,
    removed,
    doubled,
    filled,
    reworded,
    reworded,
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content after one to three mutations."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if changed:
            rng.choice(MUTATIONS)(changed, rng)
    return bytes(changed)


def mutated_archive(content: bytes, rng: random.Random) -> bytes:
    """A zip file with one member mutated, or the file itself: a damaged archive alone would never get past its checksums."""
    if rng.random() < 0.3:
        return mutated(content, rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        names = old.namelist()
        chosen = rng.choice([*names, "config.json"] if "config.json" in names else names)
        for name in names:
            part = old.read(name)
            new.writestr(name, mutated(part, rng) if name == chosen else part)
    return packed.getvalue()
