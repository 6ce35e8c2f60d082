"""The documents that people read, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
WRITTEN = {"commands.md", "findings.md", "schema.md", "python.md"}
"""Pages that scripts/write_reference.py writes; the build of the documentation reads them."""
PAGES = [
    ROOT / "README.md",
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if "_build" not in path.parts and not (path.parent.name == "reference" and path.name in WRITTEN)
    ),
]
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S
)
DIRECTIVE = re.compile(r"\{[a-z-]+\}.*")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        page: where it is, below the repository.
        line: where it begins.
        language: what follows the fence.
        text: its lines.
        reason: why it is not run; "" where it is.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The blocks of code of a page; directives of Sphinx are none."""
    text, page = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    return [
        Block(page, text[: match.start()].count("\n") + 1, match["language"], match["text"], match["reason"] or "")
        for match in FENCE.finditer(text)
        if not DIRECTIVE.fullmatch(match["language"])
    ]


def indented(path: Path) -> list[str]:
    """Lines that Markdown reads as code without a fence."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return re.findall(r"(?:\A|\n)\n(    \S[^\n]*)", text)


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
