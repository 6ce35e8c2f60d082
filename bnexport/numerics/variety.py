"""Whether images can say anything about statistics: how many of them are different from each other, and not of one colour."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnexport.types import Array

FEW = 32
"""Fewer different images than this say little about a data set."""


class Variety:
    """Counts images, batch by batch. Of each, eight bytes and its name are kept."""

    def __init__(self) -> None:
        self.images = 0
        self.constant: list[str] = []
        self.repeated: list[str] = []
        self._seen: dict[bytes, str] = {}
        self._varied = 0

    def as_dict(self) -> dict[str, int | list[str]]:
        """The counts as plain values."""
        return {
            "images": self.images,
            "constant": self.constant,
            "repeated": self.repeated,
            "varied": self._varied,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Variety:
        """The counts that `as_dict` gave; it cannot count further."""
        variety = cls()
        variety.images, variety._varied = values["images"], values["varied"]
        variety.constant, variety.repeated = values["constant"], values["repeated"]
        return variety

    def merge(self, other: Variety) -> None:
        """Adds what another one counted on other images."""
        twice = other._seen.keys() & self._seen.keys()
        self.images += other.images
        self.constant += other.constant
        self.repeated += other.repeated + sorted(other._seen[digest] for digest in twice)
        constant = set(other.constant)
        self._varied += other._varied - sum(other._seen[digest] not in constant for digest in twice)
        self._seen |= other._seen

    @property
    def usable(self) -> int:
        """How many different images there are that are not of one colour."""
        return self._varied

    def add(self, names: Sequence[str], inputs: Mapping[str, Array]) -> None:
        """One more batch: the images' names, and every input of the model, shape (N, ...)."""
        self.images += len(names)
        for i, name in enumerate(names):
            values = [array[i] for array in inputs.values()]
            digest = hashlib.blake2b(digest_size=8)
            for value in values:
                digest.update(np.ascontiguousarray(value).tobytes())
            constant = all(_constant(value) for value in values)
            if constant:
                self.constant.append(name)
            if digest.digest() in self._seen:
                self.repeated.append(name)
            elif not constant:
                self._varied += 1
            self._seen.setdefault(digest.digest(), name)


def _constant(x: Array) -> bool:
    """Whether an image, channels first or last, has one colour. A vector never counts as an image."""
    if x.ndim < 2:
        return False
    if x.ndim == 3 and x.shape[-1] in (1, 3, 4):
        return bool((x == x[:1, :1]).all())
    if x.ndim == 3 and x.shape[0] in (1, 3, 4):
        return bool((x == x[:, :1, :1]).all())
    return bool((x == x.flat[0]).all())
