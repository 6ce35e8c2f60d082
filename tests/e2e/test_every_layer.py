"""Every layer class of Keras: exported from the file alone and tested against Keras, or refused with a reason."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import keras
import pytest

from bnexport.exporter.graph import NotCovered
from bnexport.exporter.refusals import IMPOSSIBLE
from bnexport.exporter.registry import LAYERS, emitter_of, import_families

TABLES = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_layers_*.py")))
NAMES: dict[str, list[str]] = {}
for public, each in vars(keras.layers).items():
    if inspect.isclass(each) and issubclass(each, keras.Layer):
        NAMES.setdefault(each.__name__, [each.__name__]).append(public)
CLASSES = sorted(NAMES)
MOST = 15
"""How many classes may be impossible."""


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_exported_or_refused_with_a_reason(kind: str) -> None:
    """No class of keras.layers is unknown: each has a function and a model in a test, or a sentence that names it."""
    import_families()
    assert (kind in LAYERS) != (kind in IMPOSSIBLE)
    if kind in LAYERS:
        assert callable(emitter_of(kind, "keras.layers"))
        written = [*NAMES[kind], re.sub(r"\d", "{rank}", kind)]
        assert any(re.search(rf"\b{re.escape(name)}\b", TABLES) for name in written), f"no test builds {kind}"
    else:
        with pytest.raises(NotCovered, match=f"^{kind} layers, wh"):
            emitter_of(kind, "keras.layers")


def test_few_classes_are_impossible() -> None:
    """Most of Keras has a form in ONNX."""
    assert len(IMPOSSIBLE) <= MOST
    assert set(IMPOSSIBLE) <= set(CLASSES)


def test_the_page_has_every_class() -> None:
    """docs/layers.md is what `python scripts/write_layers.py` writes: each class once, exported and tested, or refused with its reason."""
    lines = (Path(__file__).parents[2] / "docs" / "layers.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines if line.startswith("| ")][1:]
    page = {row[0].removeprefix("| "): row[1:] for row in rows}
    assert len(page) == len(rows)
    assert sorted(page) == CLASSES
    for kind, (state, operators, *models) in page.items():
        if kind in IMPOSSIBLE:
            assert state == f"no: {kind} layers, {IMPOSSIBLE[kind]}"
            continue
        assert state == "yes"
        around = operators.startswith(("those of the layer around", "none: it is an input"))
        assert around or int(models[0].removesuffix(" |")) > 0
