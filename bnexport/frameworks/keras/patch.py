"""Another method for Keras' layers, for as long as a block lasts, what Keras leaves undone, and what it says when a layer fails (keras)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bnexport.errors import reason
from bnexport.system.exclusive import PROCESS

if TYPE_CHECKING:
    from keras import Model


@contextmanager
def method_replaced(owner: object, name: str, replacement: Callable[..., object]) -> Iterator[Callable[..., Any]]:
    """While open, layers that this thread calls use `replacement`; those of any other thread keep the class' own method.

    Blocks of several threads wait for each other, so that what each restores is what Keras brought. Blocks of one thread may nest.

    Args:
        owner: the class, or a module whose function it is.
        name: of its method.
        replacement: takes the place of the method.

    Yields:
        The method that was there before.
    """
    with PROCESS:
        original, thread = getattr(owner, name), threading.get_ident()

        def method(*args: object, **kwargs: object) -> object:
            called = replacement if threading.get_ident() == thread else original
            return called(*args, **kwargs)

        setattr(owner, name, method)
        try:
            yield original
        finally:
            setattr(owner, name, original)


def finish_statistics(model: Model) -> Model:
    """The same model, in which Normalization layers inside of others compute with the statistics that were read (`misread.inner_statistics`)."""
    from keras.layers import Normalization

    for layer in model._flatten_layers():
        if isinstance(layer, Normalization) and layer.built and layer.input_mean is None:
            layer.finalize_state()
    return model


@contextmanager
def float64_promoted() -> Iterator[None]:
    """While open, float64 and another type give float64, as they always do in TensorFlow; elsewhere Keras makes float32 of them, unasked."""
    from keras.src.backend.common import dtypes

    table = dtypes.BIT64_TO_BIT32_DTYPE
    with PROCESS:
        before = table["float64"]
        table["float64"] = "float64"
        try:
            yield
        finally:
            table["float64"] = before


@contextmanager
def name_scopes_restored() -> Iterator[None]:
    """Keras' stack of name scopes as it was, however a block ends.

    Keras enters a layer's scope before TensorFlow refuses the layer's name, and then never leaves it: every variable that is made
    afterwards, also in models of the caller's own, would be named below it.
    """
    from keras.src.backend.common import global_state

    stack = global_state.get_global_attribute("name_scope_stack", default=[], set_to_default=True)
    before = list(stack)
    try:
        yield
    finally:
        stack[:] = before


def layer_error(error: Exception) -> str:
    """What an error in a layer says: the line behind "Exception encountered when calling ...", which says where, without its colours."""
    where, _, what = re.sub(r"\x1b\[\d+m", "", str(error)).strip().partition("\n")
    line = next((line.strip() for line in what.splitlines() if line.strip()), "")
    return f"{where} {line}"[:300] if where.startswith("Exception encountered") and line else reason(error)[:300]


def load_error(error: Exception) -> str:
    """What an error says that Keras raised while it read a model: the line that says what happened, the innermost one, without the layer's whole config."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).rsplit("Exception encountered:", maxsplit=1)[-1]
    line, *more = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if line.endswith(":") or line.startswith(
        "Exception encountered when calling"
    ):  # it announces what the next one says
        line = " ".join([line, *more[:1]])
    return line if len(line) <= 200 else f"{line[:200]}…"
