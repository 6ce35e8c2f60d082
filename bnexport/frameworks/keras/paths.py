"""The paths of layers in a Keras model, as `bnexport.keras_files` has them: names joined by "/", nested models included (keras).

Keras' own `layer.path` leaves out the model that a layer of a nested model is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def layer_paths(model: keras.Model) -> dict[int, str]:
    """The path of every layer inside a model, by the layer's id; a layer that is in several places has its first one."""
    paths: dict[int, str] = {}
    waiting = [(layer, "") for layer in reversed(model.layers)]
    while waiting:
        layer, before = waiting.pop()
        if id(layer) in paths:
            continue
        paths[id(layer)] = path = f"{before}/{layer.name}" if before else layer.name
        waiting += [(inner, path) for inner in reversed(layer._layers)]
    return paths


def weight_names(model: keras.Model) -> list[str]:
    """The names of the model's variables, in their order: the path of the layer and the variable's own name."""
    paths = layer_paths(model)
    names = {
        id(variable): f"{paths[id(layer)]}/{variable.name}"
        for layer in model._flatten_layers(include_self=False)
        if id(layer) in paths
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables)
    }
    return [names.get(id(variable), variable.path) for variable in model.variables]
