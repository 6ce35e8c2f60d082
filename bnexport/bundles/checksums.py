"""SHA256SUMS in a bundle: the hashes of all files as `sha256sum -c` reads them, for machines without bnexport."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bnexport.bundles.bundle import INDEX, Bundle
from bnexport.errors import InputError
from bnexport.system import files

SUMS = "SHA256SUMS"
"""The name of the file."""


def sums(index: Bundle, folder: Path) -> bytes:
    """The content of SHA256SUMS: a line for each file and for the index, whose hash is taken from the folder."""
    hashes = {**index.files, INDEX: hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()}
    return "".join(map(_sum_line, sorted(hashes), (hashes[name] for name in sorted(hashes)))).encode()


def _sum_line(name: str, digest: str) -> str:
    r"""A line as sha256sum writes it: names with backslashes or line ends are escaped.

    >>> _sum_line("a b.pb", "00"), _sum_line("a\\b", "00")
    ('00  a b.pb\n', '\\00  a\\\\b\n')
    """
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def verify_sums(index: Bundle, folder: Path) -> int:
    """Makes sure that SHA256SUMS, where there is one, says what the index says; returns how many such files there are.

    Raises:
        InputError: it says something else.
    """
    path = folder / SUMS
    if files.status(path) is None:
        return 0
    try:
        content = files.read_bounded(path, files.MOST_TEXT, within=folder)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    if content != sums(index, folder):
        raise InputError(f"{path} has changed since the bundle was packed", fix="pack or copy the bundle again")
    return 1
