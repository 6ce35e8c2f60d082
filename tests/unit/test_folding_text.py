"""A fold as text."""

from __future__ import annotations

from pathlib import Path

from bnexport.reporting.folding import lines
from bnexport.results.outcomes import Folding

OUT = Path("folded.onnx")


def folding(names: list[str], reason: str = "its output is an output of the graph") -> Folding:
    return Folding((("bn", "conv", "after"),), tuple((name, reason) for name in names), 1e-7, 1e-6, OUT)


def test_nodes_that_stay_are_listed_by_reason() -> None:
    """Eight for each reason; -v lists all."""
    names = [f"bn{nth}" for nth in range(11)]
    short, whole = ([*lines(folding(names), OUT, verbose=verbose)] for verbose in (False, True))
    assert short[0] == "folded.onnx: 1 nodes folded, 11 not folded"
    assert short[2].startswith("not folded: bn0, bn1,")
    assert short[2].endswith("bn7 and 3 more (-v lists them): its output is an output of the graph")
    assert ", bn10: its output" in whole[2]
    assert "more" not in whole[2]


def test_names_of_nodes_cannot_act_on_a_terminal() -> None:
    """A node may be called anything."""
    text = "\n".join(lines(folding(["\x1b]0;title\x07\n::error::name"]), OUT))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("\n") == 2


def test_a_refused_fold_says_why() -> None:
    """Nothing was written: how far the outputs move, and what to do."""
    text = [*lines(Folding((), (), 0.5, 1e-6, None), OUT)]
    assert text[0] == "REFUSED: folded.onnx was not written"
    assert "by 5.0e-01 relative to the largest output, more than rounding explains (1e-06)" in text[1]
