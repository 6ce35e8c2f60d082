"""A fold as text: what was written or refused, and which nodes stay, by reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bnexport.results.outcomes import Folding
from bnexport.results.text import plain

MOST = 8
"""So many nodes are named for a reason, unless everything is wanted."""


def lines(folding: Folding, output: Path, *, verbose: bool = False) -> Iterator[str]:
    """The lines of the text.

    Args:
        folding: what came of it.
        output: the file that was to be written.
        verbose: everything, which is all nodes that stay.
    """
    return (plain(line) for line in _lines(folding, output, verbose=verbose))


def _lines(folding: Folding, output: Path, *, verbose: bool) -> Iterator[str]:
    if folding:
        yield f"{folding.written}: {len(folding.folded)} nodes folded, {len(folding.refused)} not folded"
        yield f"largest difference between both graphs: {folding.max_rel:.1e} relative to the largest output"
    else:
        yield f"REFUSED: {output} was not written"
        yield (
            f"folding changes the outputs by {folding.max_rel:.1e} relative to the largest output, more than rounding "
            f"explains ({folding.tolerance:.0e})"
        )
        yield "  -> run bnexport check: a channel may have a variance near zero, or values may overflow"
    staying: dict[str, list[str]] = {}
    for name, reason in folding.refused:
        staying.setdefault(reason, []).append(name)
    for reason, names in staying.items():
        shown = names if verbose else names[:MOST]
        more = f" and {len(names) - len(shown)} more (-v lists them)" if len(shown) < len(names) else ""
        yield f"not folded: {', '.join(shown)}{more}: {reason}"
