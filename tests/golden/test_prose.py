"""README and docs/ use one word for one thing, and plain words."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.golden.documents import FENCE, PAGES, ROOT

INSTEAD = {
    r"told|said|heard|aloud": "a plain verb: states, reports, lists",
    r"houses?|rooms?|doors?": "no metaphor",
    r"complaints?": "finding",
    r"witness|keras sides?": "reference",
    r"graph on disk|held (?:file|graph)": "artifact",
    r"(?<!shorter )(?<!longer )sides?|runners?": "run",
    r"golden": "baseline",
    r"feeds?": "batch",
    r"twins?": "inference mode, training mode, training-mode graph",
    r"localis(?:e|es|ed|ing)": "layerwise comparison",
    r"preparations?": "preprocessing",
    r"fix sentences?": "action",
    r"manners": "a plain word",
    r"(?:is|are|be) held against|holds? (?:it|them) against": "is compared with",
    r"without a word": "without a message",
}
"""What the glossary replaces, and by what."""
ALLOWED = {"docs/layers.md"}
"""Pages that a script writes."""


def prose(path: Path) -> str:
    """The text of a page: without code, addresses and comments, each of which leaves its lines behind."""
    text = path.read_text(encoding="utf-8")
    for pattern in (FENCE, re.compile(r"`[^`\n]+`"), re.compile(r"\]\([^)\n]*\)"), re.compile(r"<!--.*?-->", re.S)):
        text = pattern.sub(lambda match: " " + "\n" * match[0].count("\n"), text)
    return text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_are_those_of_the_glossary(path: Path) -> None:
    """No word that has another one in the glossary."""
    if path.relative_to(ROOT).as_posix() in ALLOWED:
        pytest.skip("a script writes it")
    text = prose(path)
    wrong = [
        f"line {text[: match.start()].count(chr(10)) + 1}: {match[0]}; write: {instead}"
        for words, instead in INSTEAD.items()
        for match in re.finditer(rf"\b(?:{words})\b", text, re.IGNORECASE)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_headings_say_what_follows(path: Path) -> None:
    """One heading of the first level, first; no level is left out; no heading twice in a page."""
    headings = re.findall(r"^(#+) (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    if not headings:
        assert "{include}" in path.read_text(encoding="utf-8")
        return
    levels = [len(marks) for marks, _ in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len({text for _, text in headings}) == len(headings)
