"""Whether a set of pictures is what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from bnexport.datasets import places
from bnexport.datasets.find import find
from bnexport.datasets.listing import Listing
from bnexport.errors import InputError, reason
from bnexport.system import files

RememberHash = Callable[[Callable[[], str], float, str, str], str]
"""Remembers a hash (`bnexport.system.cache.Cache.remember_hash`).

It takes what computes it, when the last of the facts it depends on changed, the kind, and the facts.
"""


def fingerprint(source: str, remember_hash: RememberHash) -> str:
    """A hash of the names, labels and content of pictures, or of the files of arrays or recordings.

    What files contain is read once, and then again when size, inode or times of one have changed. Of a URL, what its server says (size, date, tag) stands for its content.

    Args:
        source: as `find` takes it.
        remember_hash: stores the hash, and returns it while the facts are the same.

    Raises:
        InputError: the pictures cannot be listed.
        MachineError: a package that it needs is missing.
    """
    from bnexport.datasets.arrays.opening import arrays_named  # which imports this package

    arrays = arrays_named(source)
    if arrays is not None:
        return files.sha256(arrays)
    listing = find(source)
    facts, changed = _facts(listing)
    return remember_hash(lambda: _content(listing), changed, "pictures", facts)


def _facts(listing: Listing) -> tuple[str, float]:
    """A hash of what is known of the files without reading them, and when the last of them changed."""
    digest, latest = hashlib.sha256(), 0.0
    seen: dict[str, str] = {}
    for picture in listing:
        facts = seen.get(picture.location)
        if facts is None:
            facts, changed = _fact(picture.location)
            latest = max(latest, changed)
            if picture.span is not None:  # many pictures, one file
                seen[picture.location] = facts
        digest.update(f"{picture.name}\0{picture.label}\0{picture.span}\0{facts}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest(), latest


def _fact(location: str) -> tuple[str, float]:
    if places.is_url(location):
        return places.version(location), 0.0
    try:
        facts = Path(location).stat()
    except (OSError, ValueError) as error:
        return reason(error), 0.0
    return f"{facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}", facts.st_ctime


def _content(listing: Listing) -> str:
    digest = hashlib.sha256()
    for picture in listing:
        try:
            url = places.is_url(picture.location)
            content = places.version(picture.location).encode() if url else hashlib.sha256(picture.read()).digest()
        except InputError as error:
            content = str(error).encode("utf-8", "replace")
        digest.update(f"{picture.name}\0{picture.label}\0{picture.span}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()
