"""Sources of models that are no files: `package.module:factory`, and models of a Python session that are used as they are."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_MODELS: dict[Path, object] = {}
_LOCK = threading.Lock()


def split_name(source: Path) -> tuple[str, str] | None:
    """The module and the attribute that a source names; None where it is a file, or no such name.

    >>> split_name(Path("package.nets:build"))
    ('package.nets', 'build')
    >>> split_name(Path("nets/model.pt")) is None
    True
    """
    text = str(source)
    if not _NAME.fullmatch(text) or source.exists():
        return None
    module, _, attribute = text.partition(":")
    return module, attribute


def model_named(source: Path) -> object | None:
    """The model that is used under this name (`use_model`); None where there is none."""
    return _MODELS.get(source)


def is_name(source: Path) -> bool:
    """Whether a source is no file, and no file is missing."""
    return source in _MODELS or split_name(source) is not None


@contextmanager
def use_model(model: object) -> Iterator[Path]:
    """A name for a model in memory, which holds while the block runs; the model is not copied.

    >>> with use_model(3) as source:
    ...     source.name, model_named(source)
    ('int (in memory)', 3)
    """
    with _LOCK:
        kind, nth = type(model).__name__, 1
        source = Path(f"{kind} (in memory)")
        while source in _MODELS:
            nth += 1
            source = Path(f"{kind} (in memory, {nth})")
        _MODELS[source] = model
    try:
        yield source
    finally:
        del _MODELS[source]
