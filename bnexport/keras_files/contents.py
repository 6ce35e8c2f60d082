"""What is in a HDF5 file, seen once, and made sure of: nothing outside of it, nothing that unpacks to more than it should (h5py).

h5py's low-level interface is used: a model may have thousands of groups, and its objects for them cost most of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexport.errors import InputError

if TYPE_CHECKING:
    import h5py
    import numpy as np

RATIO, SPARE = 20, 64 << 20
"""What a file may become when it is unpacked: so many times its own size, and so much besides. Weights hardly compress."""

BFLOAT_BYTES = 2
"""The size of a bfloat16, which HDF5 files have as raw bytes."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset.

    Args:
        name: its path, without a slash in front.
        shape: of its values.
        dtype: NumPy's name of their type; "bfloat16" where Keras stored that.
        offset: where its values begin in the HDF5 file, in one piece; None where they are in pieces or compressed.
        type: of its numbers as they are stored, byte order included; None where Keras reads them as something else.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int | None
    type: np.dtype[np.generic] | None = None


@dataclass(slots=True)
class Contents:
    """The datasets and groups in a HDF5 file by path, in the file's order, and the bytes of all values as they are declared."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    bytes: int = 0

    def inside(self, group: str) -> dict[str, Dataset]:
        """The datasets directly in a group, by name."""
        if self._by_group is None:
            self._by_group = {}
            for path, dataset in self.datasets.items():
                parent, _, name = path.rpartition("/")
                self._by_group.setdefault(parent, {})[name] = dataset
        return self._by_group.get(group, {})

    _by_group: dict[str, dict[str, Dataset]] | None = None


def read_contents(file: h5py.File, path: Path, size: int) -> Contents:
    """What is in a HDF5 file.

    Args:
        file: the file.
        path: what messages call it.
        size: its size in bytes, or that of the archive it is in.

    Raises:
        InputError: it refers to other files, holds what is no number, or would become far larger than it is.
    """
    import h5py
    from h5py import h5g, h5o

    contents = Contents()
    waiting: list[tuple[str, Any]] = [("", h5g.open(file.id, b"/"))]
    seen: set[int] = set()
    while waiting:
        prefix, group = waiting.pop()
        address = h5o.get_info(group).addr
        if address in seen:
            continue
        seen.add(address)
        contents.groups.add(prefix)
        contents.bytes += _attribute_bytes(group)
        inner = []
        for raw in _names(group):
            name = f"{prefix}/{raw.decode(errors='replace')}" if prefix else raw.decode(errors="replace")
            kind = group.links.get_info(raw).type
            if kind == h5py.h5l.TYPE_SOFT:
                continue
            if kind != h5py.h5l.TYPE_HARD:
                target = group.links.get_val(raw)
                raise InputError(f"{path} refers to another file", found=f"the link {name} to {_text(target)}")
            node = h5o.open(group, raw)
            if isinstance(node, h5g.GroupID):
                inner.append((name, node))
            elif isinstance(node, h5py.h5d.DatasetID):
                contents.datasets[name] = _dataset(node, name, path)
                contents.bytes += node.get_space().get_simple_extent_npoints() * node.get_type().get_size()
                contents.bytes += _attribute_bytes(node)
            refuse_bomb(contents.bytes, size, path)
        waiting += reversed(inner)
    refuse_bomb(contents.bytes, size, path)
    return contents


def _names(group: h5py.h5g.GroupID) -> Iterator[bytes]:
    """The names of the links in a group."""
    names: list[bytes] = []
    group.links.iterate(names.append)  # gives None, so that it goes on to the end
    return iter(names)


def _text(target: object) -> str:
    """What an external link points to: the file's name."""
    first = target[0] if isinstance(target, tuple) else target
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _dataset(node: h5py.h5d.DatasetID, name: str, path: Path) -> Dataset:
    import h5py
    from h5py import h5d

    dtype = node.dtype
    if node.shape is None:
        raise InputError(f"{path} contains weights without values", found=name)
    if dtype.kind == "O" and not name.startswith("optimizer_weights/"):  # nobody reads those
        raise InputError(f"{path} contains weights that are not numbers", found=f"objects in {name}")
    properties = node.get_create_plist()
    if properties.get_external_count() or properties.get_layout() == h5d.VIRTUAL:
        raise InputError(f"{path} refers to another file", found=f"{name} with values in another file")
    kind = str(dtype)
    if h5py.h5a.get_num_attrs(node) and h5py.h5a.exists(node, b"dtype"):
        stated = h5py.Dataset(node).attrs.get("dtype")
        raw = dtype.kind == "V" and dtype.itemsize == BFLOAT_BYTES
        kind = "bfloat16" if raw and stated in ("bfloat16", b"bfloat16") else kind
    if kind.startswith("|V") and not name.startswith("optimizer_weights/"):
        raise InputError(
            f"{path} contains weights as raw bytes ({name}), and Keras cannot load it either",
            found="bfloat16, which HDF5 does not have"
            if dtype.itemsize == BFLOAT_BYTES
            else f"{dtype.itemsize} bytes a value",
            fix="save the model as .keras",
        )
    offset = node.get_offset() if properties.get_layout() == h5d.CONTIGUOUS else None
    return Dataset(name, tuple(node.shape), kind, offset, dtype if kind == str(dtype) else None)


def _attribute_bytes(node: h5py.h5o.ObjectID) -> int:
    """The bytes of the attributes of an object, as they are declared."""
    from h5py import h5a

    total = 0
    for position in range(h5a.get_num_attrs(node)):
        attribute = h5a.open(node, index=position)
        total += math.prod(attribute.shape) * attribute.dtype.itemsize
    return total


def refuse_bomb(total: int, size: int, path: Path) -> None:
    """Refuses what unpacks to far more than it is.

    Raises:
        InputError: it does.
    """
    if total > RATIO * size + SPARE:
        raise InputError(
            f"{path} is compressed far more than a model is",
            found=f"{size} bytes that unpack to {total}",
            expected="at most the size of a model",
        )
