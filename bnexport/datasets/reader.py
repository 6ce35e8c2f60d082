"""Pictures as batches, decoded in threads ahead of whoever reads them."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bnexport.datasets import places
from bnexport.datasets.decode import decode_image
from bnexport.datasets.listing import Picture
from bnexport.errors import InputError, reason
from bnexport.results.preprocessing import Preprocessing

WAITING = 16
"""So many pictures behind URLs are fetched at a time: they are waited for, not computed."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is not a picture bnexport can read, and why (IN004)."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures that were read: float32, shape (N, H, W, C) or (N, C, H, W), with their names, class names and positions in the list."""

    x: NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    positions: tuple[int, ...]


class Prepared:
    """Pictures that were prepared before: a check goes through its images several times.

    Args:
        most: so many bytes of them are kept.
    """

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._results: dict[tuple[Picture, Preprocessing, bool], NDArray[np.float32] | Unreadable] = {}
        self._size = 0

    def __reduce__(self) -> tuple[type[Prepared], tuple[()]]:
        """Another process prepares its own."""
        return Prepared, ()

    def of(self, picture: Picture, spec: Preprocessing, *, whole: bool = False) -> NDArray[np.float32] | Unreadable:
        """A picture prepared, or why it cannot be read. What is returned must not be changed."""
        result = self._results.get((picture, spec, whole))
        if result is None:
            result = _prepare(picture, spec, whole=whole)
            size = 0 if isinstance(result, Unreadable) else result.nbytes
            if self._size + size <= self._most:
                self._size += size
                self._results[picture, spec, whole] = result
        return result


@dataclass(slots=True)
class Reader:
    """Reads pictures batch by batch; what could not be read is listed in `unreadable`, in the order of `pictures`.

    Args:
        pictures: what to read.
        spec: how to prepare it.
        batch_size: the largest batch; the pictures are spread evenly, so that no batch is left with one or two.
        threads: how many pictures are decoded at a time; of URLs at least `WAITING`.
        order: in which order, as positions in `pictures`; None for their own.
        kept: what was prepared before.
        whole_pixels: pixels are rounded after a kernel that does not round.
    """

    pictures: Sequence[Picture]
    spec: Preprocessing
    batch_size: int = 32
    threads: int = 2
    order: NDArray[np.intp] | None = None
    kept: Prepared = field(default_factory=Prepared)
    whole_pixels: bool = False
    unreadable: list[Unreadable] = field(default_factory=list)

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in order.

        Raises:
            InputError: not one picture can be read.
        """
        self.unreadable.clear()
        total = len(self.pictures)
        order = range(total) if self.order is None else self.order
        lost: list[int] = []
        parts = max(1, -(-total // self.batch_size))
        ends = [round(total * (i + 1) / parts) for i in range(parts)]
        read = 0
        far = bool(total) and places.is_url(self.pictures[0].location)
        with ThreadPoolExecutor(max(self.threads, WAITING) if far else self.threads) as pool:
            queue: deque[Future[NDArray[np.float32] | Unreadable]] = deque()
            ahead = iter(order)
            begin = 0
            for end in ends:
                good: list[tuple[int, Picture, NDArray[np.float32]]] = []
                for position in map(int, order[begin:end]):
                    while len(queue) < 2 * self.batch_size and (following := next(ahead, None)) is not None:
                        queue.append(
                            pool.submit(self.kept.of, self.pictures[int(following)], self.spec, whole=self.whole_pixels)
                        )
                    result = queue.popleft().result()
                    if isinstance(result, Unreadable):
                        rank = bisect(lost, position)
                        lost.insert(rank, position)
                        self.unreadable.insert(rank, result)
                    else:
                        good.append((position, self.pictures[position], result))
                begin = end
                if good:
                    read += len(good)
                    yield Batch(
                        np.stack([x for _, _, x in good]),
                        tuple(p.name for _, p, _ in good),
                        tuple(p.label for _, p, _ in good),
                        tuple(position for position, _, _ in good),
                    )
        if not read:
            first = self.unreadable[0]
            raise InputError(
                f"none of the {total} images can be read",
                found=f"{first.name}: {first.reason}",
                expected="JPEG, PNG, BMP, GIF, WebP or TIFF",
            )


def _prepare(picture: Picture, spec: Preprocessing, *, whole: bool = False) -> NDArray[np.float32] | Unreadable:
    try:
        return decode_image(picture.read(), spec, whole=whole)
    except InputError as error:
        return Unreadable(picture.name, reason(error).replace(picture.location, picture.name))
