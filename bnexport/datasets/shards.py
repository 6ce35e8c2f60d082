"""Tar files in the WebDataset layout: files with one stem belong together, `KEY.jpg` is the picture, `KEY.cls` its class.

Only the headers are read for the list of what there is; pictures are read from their place in the tar when their turn comes.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence

from bnexport.datasets import places
from bnexport.datasets.decode import SUFFIXES
from bnexport.datasets.listing import Lister, Listing
from bnexport.errors import InputError, reason

SUFFIX = ".tar"

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 1_000_000
_LABEL_BYTES = 256


def is_shard(location: str) -> bool:
    """Whether a path or URL ends like a shard's."""
    return location.endswith((SUFFIX, ".tar.gz", ".tgz"))


def read(source: str | Sequence[str]) -> Listing:
    """The pictures in shards, in the order of the shards.

    Args:
        source: the shards; or one, with `{0000..0099}` or `*` for many.

    Raises:
        InputError: a shard cannot be read, or there is none.
    """
    lister = Lister()
    for location in expand(source) if isinstance(source, str) else source:
        if not location.endswith(SUFFIX):
            raise InputError(
                f"{location} is compressed, and single images cannot be read from it",
                fix="decompress it to a plain .tar file with gunzip",
            )
        lister.shard(location)
        _index(location, lister)
    return lister.listing(numbers=True)


def expand(pattern: str) -> list[str]:
    """The shards that a pattern names.

    Raises:
        InputError: there is none.

    >>> expand("train-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    if match := _RANGE.search(pattern):
        first, last = match.groups()
        count = int(last) - int(first) + 1
        if not 0 < count <= _MOST:
            raise InputError(
                f"the range in {pattern} is invalid", found=match[0], expected="a range such as {0000..0099}"
            )
        numbers = (str(nth).zfill(len(first)) for nth in range(int(first), int(last) + 1))
        return [
            location for nth in numbers for location in expand(pattern[: match.start()] + nth + pattern[match.end() :])
        ]
    if "*" not in pattern:
        return [pattern]
    matching = places.matching(pattern)
    if not matching:
        raise InputError(f"no file matches {pattern}", fix="check the pattern")
    return matching


def _index(location: str, lister: Lister) -> None:
    """Adds the pictures of one shard; the files of one sample lie next to each other."""
    key, label = "", ""
    waiting: list[tuple[str, tuple[int, int]]] = []

    def flush() -> None:
        for name, span in waiting:
            lister.add(name, label, span)
        waiting.clear()

    with places.open_stream(location) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined] # else each header stays in memory
                    if not member.isreg() or member.issparse():
                        continue
                    folder, _, last = member.name.rpartition("/")
                    stem, _, kind = last.partition(".")
                    if (now := f"{folder}/{stem}") != key:
                        flush()
                        key, label = now, ""
                    if f".{kind.rpartition('.')[2].lower()}" in SUFFIXES:
                        waiting.append((member.name, (member.offset_data, member.size)))
                    elif kind == "cls" and member.size <= _LABEL_BYTES:
                        stream.seek(member.offset_data)
                        label = stream.read(member.size).decode("utf-8", "replace").strip()
        except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
            raise InputError(f"{location} is damaged or not a tar file ({reason(error)})") from error
    flush()
