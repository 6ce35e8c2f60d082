"""What was fed to softmax or sigmoid, kept beside what comes out while a pass is computed (keras)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from bnexport.frameworks.keras.patch import method_replaced

if TYPE_CHECKING:
    import keras


class Logits(Protocol):
    """The logits behind the tensors of one pass."""

    def of(self, tensor: object) -> object | None:
        """The logits behind a tensor; None where there are none."""
        ...

    def keep(self, tensor: object, logits: object) -> None:
        """Notes the logits behind a tensor."""
        ...

    def begin(self, stack: ExitStack) -> None:
        """Begins to note them, until `stack` is closed."""
        ...


class KeptByKeras:
    """Keras itself keeps them, as an attribute of the tensor (keras.activations.softmax)."""

    def of(self, tensor: object) -> object | None:
        """The attribute."""
        return getattr(tensor, "_keras_logits", None)

    def keep(self, tensor: object, logits: object) -> None:
        """Sets the attribute."""
        tensor._keras_logits = logits  # type: ignore[attr-defined] # Keras' own name for it

    def begin(self, stack: ExitStack) -> None:
        """Keras notes them without help."""


class Noted:
    """For tensors that take no attributes: a table, filled where Keras calls the backend's softmax and sigmoid."""

    def __init__(self) -> None:
        self._table: dict[int, tuple[object, object]] = {}  # the tensor itself keeps its id from being used again

    def of(self, tensor: object) -> object | None:
        """The entry of the table."""
        entry = self._table.get(id(tensor))
        return None if entry is None else entry[1]

    def keep(self, tensor: object, logits: object) -> None:
        """Adds an entry."""
        self._table[id(tensor)] = tensor, logits

    def begin(self, stack: ExitStack) -> None:
        """Replaces the backend's functions by such that add an entry."""
        from keras.src import backend

        for name in ("softmax", "sigmoid"):
            self._note_calls(backend.nn, name, stack)

    def _note_calls(self, module: object, name: str, stack: ExitStack) -> None:
        def call(x: object, *args: object, **kwargs: object) -> object:
            output = original(x, *args, **kwargs)
            self.keep(output, x)
            return output

        original = stack.enter_context(method_replaced(module, name, call))


@contextmanager
def logits_kept(logits: Logits | None = None) -> Iterator[None]:
    """While open, logits are kept, also through layers that only lay values out otherwise.

    Args:
        logits: what keeps them; None for Keras itself.
    """
    from keras.layers import Flatten, Permute, Reshape

    kept = logits or KeptByKeras()
    with ExitStack() as stack:
        kept.begin(stack)
        for kind in (Flatten, Permute, Reshape):
            _lay_out(kind, kept, stack)
        yield


def _lay_out(kind: type, logits: Logits, stack: ExitStack) -> None:
    def call(layer: keras.Layer, inputs: object) -> object:
        output = original(layer, inputs)
        behind = logits.of(inputs)
        if behind is not None:
            logits.keep(output, original(layer, behind))
        return output

    original: Callable[..., Any] = stack.enter_context(method_replaced(kind, "call", call))
