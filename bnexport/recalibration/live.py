"""The tensors that are alive between two stages: in memory up to a budget, beyond it in scratch files."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bnexport.errors import MachineError
from bnexport.results.actions import spell_options
from bnexport.types import Array


class LiveTensors:
    """Tensors by batch and name. What does not fit into `budget` bytes of memory is kept in files in `folder`.

    Files are written and read, not mapped, so that they take no memory of the process.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder, self._budget = folder, budget
        self._tensors: list[dict[str, Array | Path]] = []
        self._in_memory = self._on_disk = self._files = 0
        self.most_on_disk = 0

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._tensors)

    def add(self, tensors: Mapping[str, Array]) -> None:
        """One more batch."""
        self._tensors.append({})
        self.put(len(self._tensors) - 1, tensors)

    def put(self, batch: int, tensors: Mapping[str, Array]) -> None:
        """More tensors of a batch.

        Raises:
            MachineError: the scratch disk is full.
        """
        for name, tensor in tensors.items():
            self._tensors[batch][name] = self._store(tensor)

    def get(self, batch: int, names: Collection[str]) -> dict[str, Array]:
        """The tensors of a batch."""
        stored = self._tensors[batch]
        return {name: np.load(stored[name]) if isinstance(stored[name], Path) else stored[name] for name in names}  # type: ignore[misc, arg-type]

    def drop(self, batch: int, names: Collection[str]) -> None:
        """Forgets tensors of a batch; names it does not have are ignored."""
        for name in names:
            stored = self._tensors[batch].pop(name, None)
            if isinstance(stored, Path):
                self._on_disk -= stored.stat().st_size
                stored.unlink()
            elif stored is not None:
                self._in_memory -= stored.nbytes

    def _store(self, tensor: Array) -> Array | Path:
        if self._in_memory + tensor.nbytes <= self._budget:
            self._in_memory += tensor.nbytes
            return tensor
        self._files += 1
        path = self._folder / f"{self._files}.npy"
        try:
            np.save(path, tensor)
            self._on_disk += path.stat().st_size
        except OSError as error:
            raise MachineError(
                f"cannot write intermediate tensors to {self._folder.parent} ({error.strerror or error})",
                fix=f"choose a larger disk with {spell_options(scratch=None)}, or fewer images with {spell_options(samples=None)}",
            ) from error
        self.most_on_disk = max(self.most_on_disk, self._on_disk)
        return path


@contextmanager
def live_tensors(scratch: Path | None, budget: int) -> Iterator[LiveTensors]:
    """An empty store; its files are gone at the end, however it comes.

    Raises:
        MachineError: the scratch folder cannot be written to.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="bnexport-scratch-", dir=scratch)
    except OSError as error:
        raise MachineError(
            f"cannot create a temporary folder in {scratch} ({error.strerror})",
            fix=f"choose another folder with {spell_options(scratch=None)}",
        ) from error
    with folder as name:
        yield LiveTensors(Path(name), budget)
