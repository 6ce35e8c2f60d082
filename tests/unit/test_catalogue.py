"""The catalogue of findings: each code is defined once, raised through its rule, and explained by the numbers that decide."""

from __future__ import annotations

import ast
import re
import string
import sys
from functools import cache
from pathlib import Path

import pytest

import bnexport
from bnexport.rules.catalogue import CATALOGUE, FAMILIES
from bnexport.rules.rule import Rule

PACKAGE = Path(bnexport.__file__).parent
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
CODE = re.compile(r"\b(?:BN|IN|EX|RT|QT|ST)\d{3}\b")
RULES = [pytest.param(rule, id=code) for code, rule in CATALOGUE.items()]


@cache
def read_in_functions() -> set[str]:
    """Every name that the body of some function reads."""
    return {
        name.id
        for tree in TREES.values()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for name in ast.walk(function)
        if isinstance(name, ast.Name)
    }


def test_every_code_that_is_named_is_in_the_catalogue() -> None:
    """Messages, errors, help and docstrings name no code that cannot be looked up."""
    named = {
        code
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for code in CODE.findall(node.value)
    }
    assert named <= CATALOGUE.keys()


def test_findings_are_raised_through_their_rules() -> None:
    """Nothing but `Rule.finding` makes a finding, and a rule is made in a family of rules, once for each code."""
    made: list[str] = []
    for path, tree in TREES.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name == "Finding":
                assert path == PACKAGE / "rules/rule.py", path
            if name == "Rule":
                made.append(call.args[0].value)  # type: ignore[attr-defined]
                assert path.stem in {family.__name__.rsplit(".", 1)[-1] for family in FAMILIES}, path
    assert sorted(made) == sorted(CATALOGUE)


def test_every_rule_is_raised() -> None:
    """Each rule is used by a function, or is an error that the exporter raises with its code."""
    exporter = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "exporter").glob("*.py"))
    raised = read_in_functions() | set(re.findall(r'Error\(\s*f?"([A-Z]{2}\d{3}): ', exporter))
    assert CATALOGUE.keys() <= raised


@pytest.mark.parametrize("rule", RULES)
def test_thresholds_are_the_constants_of_the_code(rule: Rule) -> None:
    """A threshold is a constant of the rule's module that some function reads, and the explanation states all of them."""
    [module] = {family for family in FAMILIES if family.__dict__.get(rule.code) is rule and defined(family, rule.code)}
    assert rule.thresholds.keys() <= read_in_functions()
    for name, value in rule.thresholds.items():
        assert vars(sys.modules[module.__name__])[name] == value
    texts = (rule.meaning, rule.measured, rule.neighbours, rule.remedy)
    stated = {
        re.split(r"[.\[]", field)[0] for text in texts for _, field, _, _ in string.Formatter().parse(text) if field
    }
    assert stated == rule.thresholds.keys()
    assert all("{" not in text and text for _, text in rule.paragraphs)


def defined(family: object, name: str) -> bool:
    """Whether a name is assigned in a module, not imported into it."""
    tree = TREES[Path(family.__file__)]  # type: ignore[attr-defined]
    return any(isinstance(node, ast.Assign) and node.targets[0].id == name for node in tree.body)  # type: ignore[attr-defined]


def test_neighbours_exist() -> None:
    """A code is told apart from codes that there are."""
    for rule in CATALOGUE.values():
        assert set(CODE.findall(rule.neighbours)) <= CATALOGUE.keys() - {rule.code}
