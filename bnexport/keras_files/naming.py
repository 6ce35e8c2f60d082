"""The names of Keras: of the groups of a .keras file, and of what it has. Keras is not imported: its public names are read from its files."""

from __future__ import annotations

import dis
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PUBLIC = (
    "layers",
    "initializers",
    "regularizers",
    "constraints",
    "activations",
    "dtype_policies",
    "quantizers",
)
"""The modules of Keras that a model may be made of."""


def snake_case(name: str) -> str:
    """A class name as Keras writes it in paths.

    >>> snake_case("BatchNormalization"), snake_case("Conv2DTranspose"), snake_case("LSTMCell")
    ('batch_normalization', 'conv2d_transpose', 'lstm_cell')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


RENAMED = {"GroupQueryAttention": "GroupedQueryAttention"}
"""The classes whose name in `keras.layers`, which configurations have, is not that of the Python class, which groups have."""


def group_name(kind: str) -> str:
    """What Keras calls the group of a layer of this class.

    >>> group_name("Dense"), group_name("GroupQueryAttention")
    ('dense', 'grouped_query_attention')
    """
    return snake_case(RENAMED.get(kind, kind))


def unique(name: str, used: dict[str, int]) -> str:
    """The name, or from its second use on the name with a number behind it."""
    used[name] = nth = used.get(name, -1) + 1
    return name if nth == 0 else f"{name}_{nth}"


@cache
def public_names() -> frozenset[str]:
    """The names that Keras gives out in the modules a model may be made of."""
    spec = find_spec("keras")
    if spec is None or not spec.origin:
        return frozenset()
    names: set[str] = set()
    for module in PUBLIC:
        file = Path(spec.origin).parent / module / "__init__.py"
        # Not by `ast`, which raises SystemError in CPython 3.11 where another thread uses it, too: TensorFlow's import may.
        code = compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True)
        names |= {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_NAME"}
    return frozenset(names - {"__doc__", "get", "serialize", "deserialize"})
