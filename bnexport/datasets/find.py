"""What a user names as images: a folder, a picture, a list, a manifest or tar shards, as paths or URLs."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from bnexport.datasets import manifest, places, shards
from bnexport.datasets.decode import SUFFIXES, looks_like_a_picture
from bnexport.datasets.listing import Lister, Listing
from bnexport.errors import InputError
from bnexport.system import files

TABLE = "labels.csv"
"""The labels of the pictures in a folder."""


def find(source: str | Path | Sequence[str | Path], *, labels: Path | None = None, local: bool = False) -> Listing:
    """The pictures that `source` names.

    * A folder, here or at a URL: sorted by name. It may be flat, have one subfolder for each class, hold a `labels.csv` with the columns file and label, or hold tar shards.
    * A manifest (.csv, .tsv, .parquet): a path or URL for each picture, and a label; paths are seen from its folder.
    * Tar shards in the WebDataset layout: one .tar, or several as `train-{0000..0099}.tar` or with `*`.
    * One picture, or a list of paths and URLs, which keep their order.

    Args:
        source: any of these.
        labels: a CSV file that goes before `labels.csv` and before subfolders.
        local: for a folder or manifest of others: links and entries that lead out of its folder, and URLs, are refused.

    Raises:
        InputError: there is nothing at `source`, or nothing that looks like a picture.
        MachineError: a package that it needs is missing.
    """
    table = labels
    if not isinstance(source, str | Path):
        listing, name = _list(source), "the list of images"
    else:
        name = str(source)
        location = name if places.is_url(name) else Path(name)
        if shards.is_shard(name):
            listing = shards.read(name)
        elif isinstance(location, str):
            listing = manifest.read(location) if manifest.is_manifest(location) else _remote(location)
        elif (facts := files.status(location)) is None:
            raise InputError(f"{location} does not exist", expected="a folder of images", fix="check the path")
        elif not stat.S_ISDIR(facts.st_mode):
            listing = manifest.read(name) if manifest.is_manifest(name) else _one(location)
        else:
            try:
                listing = _walk(location)
            except OSError as error:
                raise InputError(f"cannot read the folder {location} ({error.strerror})") from error
            if table is None and (location / TABLE).is_file():
                table = location / TABLE
    if not listing:
        raise InputError(f"{name} contains no images", expected="files such as " + ", ".join(sorted(SUFFIXES)[:4]))
    if local and isinstance(source, str | Path) and not shards.is_shard(name):
        _refuse_elsewhere(listing, places.parent(name) if manifest.is_manifest(name) else name)
    return _add_labels(listing, table) if table else listing


def _refuse_elsewhere(listing: Listing, folder: str) -> None:
    if len(listing) == 1 and listing[0].location == places.absolute(folder):
        return  # the picture itself was named
    for picture in listing:
        if not places.is_below(picture.location, folder):
            raise InputError(
                f"an image of {folder} lies outside of it",
                found=picture.location,
                fix="if you trust the list, add --allow-remote (in Python: local=False)",
            )


def _list(source: Sequence[str | Path]) -> Listing:
    lister = Lister()
    for entry in source:
        lister.add(str(entry))
    return lister.listing()


def _one(location: Path) -> Listing:
    lister = Lister(str(location.parent))
    lister.add(location.name)
    return lister.listing()


def _walk(folder: Path) -> Listing:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    names = [entry.name for entry in entries if entry.is_file()]
    for part in entries:
        if part.is_dir():
            paths = [f"{root}/{name}" for root, _, names_there in os.walk(part) for name in names_there]
            below = [path.removeprefix(f"{folder}/") for path in paths]
            names += sorted(below, key=lambda name: name.split("/"))
    return _below(str(folder), names)


def _remote(url: str) -> Listing:
    names = places.below(url)
    if not names:
        return _list([url])
    listing = _below(url, sorted(names, key=lambda name: ("/" in name, name.split("/"))))
    return _add_labels(listing, places.join(url, TABLE)) if TABLE in names else listing


def _below(folder: str, names: Sequence[str]) -> Listing:
    """The pictures among the names of the files of a folder, or else its tar shards."""
    pictures = [name for name in names if looks_like_a_picture(name)]
    tars = [places.join(folder, name) for name in names if name.endswith(shards.SUFFIX)]
    if tars and not pictures:
        return shards.read(tars)
    lister = Lister(folder)
    for name in pictures:
        lister.add(name, name.split("/")[0] if "/" in name else "")
    return lister.listing()


def _add_labels(pictures: Listing, table: str | Path) -> Listing:
    label = manifest.read_labels(str(table))
    if not any(picture.name in label for picture in pictures):
        raise InputError(
            f"{table} names none of the images", found=next(iter(label), "nothing"), expected=pictures[0].name
        )
    return pictures.with_labels(label)
