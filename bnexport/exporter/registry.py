"""Which functions write which layers: one function per layer, in one file per family (`bnexport.exporter.layers`).

A function is called as the layer is in Keras, with the graph and the layer in front:

    @emits("Dense")
    def dense(g: Graph, layer: StoredLayer, inputs: Value) -> Value: ...

It gets the inputs in the layer's compute dtype, adds nodes to the graph, and gives the outputs in the structure that the layer returns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from bnexport.errors import MachineError, UsageError, reason
from bnexport.exporter import layers, operations
from bnexport.exporter.graph import NotCovered
from bnexport.exporter.refusals import IMPOSSIBLE
from bnexport.keras_files.layers import is_foreign
from bnexport.types import Nested

Emitter = Callable[..., Nested]

LAYERS: dict[str, Emitter] = {}
"""By the name of the layer's class."""

OPERATIONS: dict[str, Emitter] = {}
"""By the name of the class of a `keras.ops` node."""

OWN_MASK: set[str] = set()
"""The layers that give their outputs a mask, or take it away, themselves; all others hand on the mask of their first input."""

MASKLESS: set[str] = set()
"""The layers whose outputs have no mask, whatever their inputs have."""


def emits(*kinds: str, mask: str = "on") -> Callable[[Emitter], Emitter]:
    """Registers a function for layers of these classes.

    Args:
        kinds: names of classes.
        mask: "on" where the first input's mask is handed on, "own" where the function sets it, "off" where it ends.
    """

    def register(function: Emitter) -> Emitter:
        for kind in kinds:
            LAYERS[kind] = function
            if mask == "own":
                OWN_MASK.add(kind)
            elif mask == "off":
                MASKLESS.add(kind)
        return function

    return register


def emits_operation(*kinds: str) -> Callable[[Emitter], Emitter]:
    """Registers a function for `keras.ops` nodes of functional models; it gets the values as they are, without the layer's dtype."""

    def register(function: Emitter) -> Emitter:
        OPERATIONS.update(dict.fromkeys(kinds, function))
        return function

    return register


CUSTOM: dict[str, Emitter] = {}
"""The functions of users for layers of their own, by the name of the class."""


def register_emitter(kind: str, emitter: Emitter) -> None:
    """Registers the function that writes the layers of a class of your own as ONNX.

    A package may do the same with an entry point, whose name is that of the class:

        [project.entry-points."bnexport.export"]
        Sampling = "my_package.emitters:sampling"

    Args:
        kind: the name of the class, as it stands in the model file.
        emitter: called as `emitter(graph, layer, *args, **kwargs)` with the arguments of the layer's `call`: `graph` adds nodes
            (`bnexport.exporter.graph.Graph`), `layer` has the configuration and the weights (`bnexport.keras_files.layers.StoredLayer`),
            and tensors are `bnexport.exporter.graph.Value`. It returns what the layer returns.

    Raises:
        UsageError: it is a class of Keras itself, which bnexport writes.
    """
    import_families()
    if kind in LAYERS:
        raise UsageError(
            f"{kind} is a layer of Keras, which bnexport exports itself", fix="give your class another name"
        )
    CUSTOM[kind] = emitter


def _custom(kind: str) -> Emitter | None:
    """What users registered for a class, or what an installed package has for it."""
    if kind not in CUSTOM:
        for entry in entry_points(group="bnexport.export", name=kind):
            try:
                CUSTOM[kind] = entry.load()
            except Exception as error:  # whatever somebody's package raises
                raise MachineError(
                    f"the exporter of {kind} layers cannot be loaded ({entry.value}: {reason(error)})"
                ) from error
    return CUSTOM.get(kind)


def emitter_of(kind: str, module: str) -> Emitter:
    """The function for a class, whose module is "" where the file does not say.

    Raises:
        NotCovered: there is none.
    """
    import_families()
    operation = is_operation(module)
    emitter = None if is_foreign(module) else (OPERATIONS if operation else LAYERS).get(kind)
    if emitter is None and not operation:
        emitter = _custom(kind)
    if emitter is None and not operation and not is_foreign(module) and kind in IMPOSSIBLE:
        raise NotCovered(f"{kind} layers, {IMPOSSIBLE[kind]}")
    if emitter is None:
        raise NotCovered(f"{'the operation' if operation else 'layers of the class'} {kind}")
    return emitter


@cache
def import_families() -> None:
    """Registers the functions of all families."""
    for package in (layers, operations):
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")


def is_operation(module: str) -> bool:
    """Whether a class of this module is an operation of `keras.ops` rather than a layer."""
    return module.startswith("keras.src.ops.")
