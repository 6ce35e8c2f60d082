"""What every layer of a module computes, and from which others, noted by forward hooks while a pass is computed (torch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnexport.frameworks.protocols import Layer
from bnexport.frameworks.torch.marks import BEHIND, LAYER, layers_behind, marks, tensors_in
from bnexport.types import Nested

if TYPE_CHECKING:
    import torch


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
            stack.enter_context(marks())
            yield

    def _hook(self, name: str) -> Callable[[torch.nn.Module, Nested, Nested], None]:
        def note(module: torch.nn.Module, given: Nested, output: Nested) -> None:
            self._note(name, module, given, output)

        return note

    def _note(self, name: str, module: torch.nn.Module, given: Nested, output: Nested) -> None:
        tensor = next(tensors_in(output), None)
        if tensor is None or hasattr(tensor, LAYER):
            return
        nth = self._calls[name] = self._calls.get(name, 0) + 1
        path = name if nth == 1 else f"{name}#{nth}"
        behind = getattr(tensor, BEHIND, None) or layers_behind(given)
        setattr(tensor, LAYER, path)
        setattr(tensor, BEHIND, {path: None})
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
