"""What a dataset shows: counted in parts and merged it is what is counted at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from bnexport.numerics.variety import Variety

PICTURES = [np.full((2, 2, 1), level, np.float32) for level in (0, 1)] + [
    np.random.default_rng(seed).random((2, 2, 1), np.float32) for seed in range(3)
]
"""Two of one grey level, three that vary."""


def counted(chosen: list[int], first: int = 0) -> Variety:
    variety = Variety()
    for nth, picture in enumerate(chosen, first):
        variety.add([f"{nth:03}"], {"x": PICTURES[picture][None]})
    return variety


@given(st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_parts_add_up(parts: list[list[int]]) -> None:
    """The numbers of images, of those of one colour, of copies and of different ones, whichever parts have them."""
    merged, total = Variety(), 0
    for part in parts:
        merged.merge(counted(part, total))
        total += len(part)
    chosen = [picture for part in parts for picture in part]
    whole = counted(chosen)
    assert merged.images == whole.images == total
    assert sorted(merged.constant) == sorted(whole.constant) == [f"{n:03}" for n, p in enumerate(chosen) if p < 2]
    assert (
        sorted(merged.repeated)
        == sorted(whole.repeated)
        == [f"{n:03}" for n, p in enumerate(chosen) if p in chosen[:n]]
    )
    assert merged.usable == whole.usable == len({p for p in chosen if p >= 2})
    merged.add(["again"], {"x": PICTURES[4][None]})
    assert merged.usable == len({p for p in [*chosen, 4] if p >= 2})
    assert Variety.from_dict(whole.as_dict()).as_dict() == whole.as_dict()
