"""Writes docs/layers.md: every layer class of Keras, whether it is exported, by which ONNX operators, and in how many models that is tested.

    python scripts/write_layers.py

It runs the tests of the layers, which compare each model's export with Keras, and looks at what they write. That takes minutes.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "layers.md"
WIDTH = 118
"""Characters in a line of text."""
HEAD = """# Layers of Keras in ONNX

Written by `python scripts/write_layers.py`, which runs the tests of the layers (`tests/e2e/test_layers_*.py`) and looks at what they
write. Each model in them is saved, exported from its file alone and compared with Keras at batch 1 and 3, with other weights than
its initial ones. *Models* counts the test cases in which a layer is exported so; the operators are those of all of them together, without
those of layers inside.

| layer | exported | ONNX operators | models |
|---|---|---|---|
"""


class Record:
    """What the emitters write while the tests run (a plug-in of pytest)."""

    def __init__(self) -> None:
        self.operators: dict[str, set[str]] = defaultdict(set)
        self.models: dict[str, set[str]] = defaultdict(set)
        self.failed = 0
        self._test = ""
        self._inner: list[Counter[str]] = []

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Which test the next layers belong to."""
        self._test = item.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A table of failing tests is none."""
        self.failed += report.failed

    def watch(self, kind: str, emitter: Callable[..., object]) -> Callable[..., object]:
        """The function of a layer, with what it writes recorded."""

        def watched(g: Any, *args: object, **kwargs: object) -> object:
            before = Counter(node.op_type for node in g.nodes)
            self._inner.append(Counter())
            outputs = emitter(g, *args, **kwargs)
            written = Counter(node.op_type for node in g.nodes) - before
            inside = self._inner.pop()
            if self._inner:
                self._inner[-1] += written
            self.operators[kind] |= set(written - inside)
            self.models[kind].add(self._test)
            return outputs

        return watched


def classes() -> list[str]:
    """Every class of keras.layers by its own name."""
    import keras

    layers = [each for each in vars(keras.layers).values() if inspect.isclass(each) and issubclass(each, keras.Layer)]
    return sorted({each.__name__ for each in layers})


def row(kind: str, record: Record) -> str:
    """A line of the table."""
    from bnexport.exporter.refusals import IMPOSSIBLE
    from bnexport.keras_files.naming import RENAMED

    if kind == "InputLayer":
        return f"| {kind} | yes | none: it is an input of the graph | |"
    if kind in IMPOSSIBLE:
        return f"| {kind} | no: {kind} layers, {IMPOSSIBLE[kind]} | | |"
    name = next((public for public, own in RENAMED.items() if own == kind), kind)  # as files have it
    models = record.models[name]
    if not models:
        return f"| {kind} | yes | those of the layer around it | |"
    operators = ", ".join(sorted(record.operators[name])) or "none: it changes nothing"
    return f"| {kind} | yes | {operators} | {len(models)} |"


def main() -> None:
    """Runs the tests and writes the page."""
    from bnexport.exporter import keras_graph
    from bnexport.exporter.registry import OPERATIONS, emitter_of, import_families, is_operation

    record = Record()

    def watched(kind: str, module: str) -> Callable[..., object]:
        emitter = emitter_of(kind, module)
        return emitter if is_operation(module) else record.watch(kind, emitter)

    keras_graph.emitter_of = watched  # type: ignore[assignment] # what it calls for each layer
    files = sorted(map(str, (ROOT / "tests" / "e2e").glob("test_layers_*.py")))
    if pytest.main(["-q", "-n0", "-m", "", "-p", "no:cacheprovider", *files], plugins=[record]) or record.failed:
        sys.exit("the tests of the layers fail, so there is no table of what they show")
    import_families()
    names = ", ".join(sorted(OPERATIONS))
    text = HEAD + "\n".join(row(kind, record) for kind in classes())
    operations = f"Nodes of `keras.ops` in functional models, by the name of their class: {names}."
    text += f"\n\n## Operations\n\n{textwrap.fill(operations, WIDTH)}\n"
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
