"""How Keras names the groups of a .keras file."""

from __future__ import annotations

import re


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
