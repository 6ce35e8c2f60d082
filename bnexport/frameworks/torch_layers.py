"""What every layer of a module computes, and from which others, noted by forward hooks while a pass is computed (torch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnexport.frameworks.protocols import Layer
from bnexport.types import Nested

if TYPE_CHECKING:
    import torch

_LAYER, _BEHIND = "_bnexport_layer", "_bnexport_behind"
"""Attributes of tensors: the layer whose output it is, and the layers whose outputs it was computed from."""


@dataclass(slots=True)
class LayerRecorder:
    """Notes the output of every layer during one pass: each module whose output is not that of a module within it.

    Args:
        start: the first call whose output is kept, by its position in the pass.
        most_bytes: so many bytes are kept, and one output at least.
        count: how many calls there were.
        kept: calls with their outputs, in order.
    """

    start: int
    most_bytes: int
    count: int = 0
    kept: list[tuple[Layer, torch.Tensor]] = field(default_factory=list)
    _calls: dict[str, int] = field(default_factory=dict)
    _full: bool = False

    @contextmanager
    def on(self, module: torch.nn.Module) -> Iterator[None]:
        """While open, calls of the modules in `module` are noted; each pass needs a recorder of its own."""
        with ExitStack() as stack:
            for name, inner in module.named_modules():
                if inner is not module:
                    stack.callback(inner.register_forward_hook(self._hook(name)).remove)
            stack.enter_context(_marks())
            yield

    def _hook(self, name: str) -> Callable[[torch.nn.Module, Nested, Nested], None]:
        def note(module: torch.nn.Module, given: Nested, output: Nested) -> None:
            self._note(name, module, given, output)

        return note

    def _note(self, name: str, module: torch.nn.Module, given: Nested, output: Nested) -> None:
        tensor = next(_tensors(output), None)
        if tensor is None or hasattr(tensor, _LAYER):
            return
        nth = self._calls[name] = self._calls.get(name, 0) + 1
        path = name if nth == 1 else f"{name}#{nth}"
        behind = getattr(tensor, _BEHIND, None) or _behind(given)
        setattr(tensor, _LAYER, path)
        setattr(tensor, _BEHIND, {path: None})
        if not tensor.is_floating_point():
            return
        index, self.count = self.count, self.count + 1
        size = tensor.numel() * tensor.element_size()
        if index < self.start or self._full:
            return
        if self.kept and size > self.most_bytes:
            self._full = True
            return
        self.most_bytes -= size
        layer = Layer(path, type(module).__name__, (None, *tensor.shape[1:]), tuple(behind))
        self.kept.append((layer, tensor.detach().clone()))  # later layers may work in place


@contextmanager
def _marks() -> Iterator[None]:
    """While open, every function of PyTorch hands the marks of what it takes on to what it gives."""
    from torch.overrides import TorchFunctionMode

    class Marks(TorchFunctionMode):  # type: ignore[misc] # PyTorch is not always there
        """Hands marks on."""

        def __torch_function__(
            self,
            func: Callable[..., object],
            types: object,
            args: Sequence[object] = (),
            kwargs: Mapping[str, object] | None = None,
        ) -> object:
            taken = list(_tensors([args, kwargs]))
            behind = _behind(taken)
            versions = [tensor._version for tensor in taken]
            output = func(*args, **(kwargs or {}))
            for tensor, version in zip(taken, versions, strict=True):
                if tensor._version != version:  # it was changed in place, and is no layer's output any more
                    vars(tensor).pop(_LAYER, None)
                    setattr(tensor, _BEHIND, behind)
            for tensor in _tensors(output) if behind else ():
                if not hasattr(tensor, _LAYER):
                    setattr(tensor, _BEHIND, behind)
            return output

    with Marks():
        yield


def _behind(value: Nested) -> dict[str, None]:
    """The layers behind all tensors in a value."""
    behind: dict[str, None] = {}
    for tensor in _tensors(value):
        behind |= getattr(tensor, _BEHIND, {})
    return behind


def _tensors(value: Nested) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
