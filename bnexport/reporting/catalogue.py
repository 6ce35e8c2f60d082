"""The catalogue of findings: the explanation of one code as text, and all of them as a page of Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from bnexport.rules.rule import Rule


def explanation(rule: Rule) -> str:
    """What `bnexport explain CODE` prints: the title, and each paragraph under its heading."""
    parts = [f"{rule.code}: {rule.title}"]
    parts += [f"\n{heading}\n{textwrap.indent(textwrap.fill(text, 100), '  ')}" for heading, text in rule.paragraphs]
    return "\n".join(parts)


def listing(rules: Iterable[Rule]) -> str:
    """Every code and its title, a line each."""
    return "\n".join(f"{rule.code}  {rule.title}" for rule in rules)


def page(rules: Iterable[Rule]) -> str:
    """The catalogue as Markdown, a section for each code; a heading's anchor is the code in small letters."""
    sections = [section(rule) for rule in rules]
    return "\n\n".join(["# Findings", *sections])


def section(rule: Rule) -> str:
    """One code as a section of Markdown."""
    parts = [f'<a id="{rule.code.lower()}"></a>\n\n## {rule.code}: {rule.title}']
    parts += [f"**{heading.capitalize()}.** {_escape(text)}" for heading, text in rule.paragraphs if text != "-"]
    return "\n\n".join(parts)


def _escape(text: str) -> str:
    """Text without meaning for Markdown."""
    return "".join(f"\\{character}" if character in "\\`*_<>[]|" else character for character in text)
