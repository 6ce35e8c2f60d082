"""What a model is run on, in words: images, or arrays of which nobody knows what they hold."""

from __future__ import annotations

from dataclasses import dataclass

from bnexport.results.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class Noun:
    """The words for one item and for several, and for what an item without any variation consists of.

    >>> IMAGES.a, SAMPLES.a
    ('an image', 'a sample')
    """

    one: str
    many: str
    uniform: str

    @property
    def a(self) -> str:
        """One item, with its article."""
        return f"{'an' if self.one[0] in 'aeiou' else 'a'} {self.one}"

    def with_count(self, count: int) -> str:
        """So many of them.

        >>> IMAGES.with_count(1), SAMPLES.with_count(8)
        ('1 image', '8 samples')
        """
        return f"{count} {self.one if count == 1 else self.many}"


IMAGES = Noun("image", "images", "one colour")
SAMPLES = Noun("sample", "samples", "one value")
"""For `--arrays`: arrays."""


def noun_of(preprocessing: Preprocessing | None) -> Noun:
    """What inputs that were prepared so are called; None for arrays."""
    return SAMPLES if preprocessing is None else IMAGES
