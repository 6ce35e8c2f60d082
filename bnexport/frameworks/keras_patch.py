"""Another method for Keras' layers, for one thread and for as long as a block lasts; and what Keras says when a layer fails (keras)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from bnexport.errors import reason
from bnexport.system.exclusive import PROCESS

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@contextmanager
def method_replaced(owner: type, name: str, replacement: Callable[..., object]) -> Iterator[Callable[..., Any]]:
    """While open, layers that this thread calls use `replacement`; those of any other thread keep the class' own method.

    Blocks of several threads wait for each other, so that what each restores is what Keras brought. Blocks of one thread may nest.

    Args:
        owner: the class.
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


@contextmanager
def logits_kept() -> Iterator[None]:
    """While open, logits go along through layers that only lay values out otherwise.

    Keras keeps them beside what softmax or sigmoid makes of them (keras.activations.softmax).
    """
    from keras.layers import Flatten, Permute, Reshape

    with ExitStack() as stack:
        for kind in (Flatten, Permute, Reshape):
            _keep_logits(kind, stack)
        yield


def _keep_logits(kind: type, stack: ExitStack) -> None:
    def call(layer: keras.Layer, inputs: tf.Tensor) -> tf.Tensor:
        laid_out = original(layer, inputs)
        if hasattr(inputs, "_keras_logits"):
            laid_out._keras_logits = original(layer, inputs._keras_logits)
        return laid_out

    original = stack.enter_context(method_replaced(kind, "call", call))


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
    text = str(error).rsplit("Exception encountered:", maxsplit=1)[-1]
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= 200 else f"{line[:200]}…"
