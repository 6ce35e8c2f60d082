"""The weights of a HDF5 file of Keras 1, 2 or 3, whose groups have those of everything inside a layer in one list (h5py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.keras_files.layers import Store, StoredLayer, StoredWeight, UnclearFile
from bnexport.keras_files.policies import quantisation_mode
from bnexport.keras_files.tree import Weights, structure_of_layer

if TYPE_CHECKING:
    import h5py


def with_weights_of_hdf5(model: StoredLayer, store: Store, root: str) -> StoredLayer:
    """A model whose layers have the weights in a HDF5 file of Keras 1, 2 or 3.

    Args:
        model: the model, without weights.
        store: the file.
        root: the group with the layers in it.

    Raises:
        UnclearFile: the file has other weights than the layers.
    """
    group = store.file[root] if root else store.file
    listed = _names(group, "layer_names")
    absent = [name for name in listed if name not in group or not hasattr(group[name], "keys")]
    if absent:
        raise UnclearFile(f"the file lists the layer {absent[0]}, and has no weights of it")
    stored = {name: names for name in listed if (names := _names(group[name], "weight_names"))}
    wanting = [part for part in model.parts.values() if _slots(part) or part.name in stored]
    if len(wanting) != len(stored):
        missing = [part.name for part in wanting if part.name not in stored]
        more = [name for name in stored if name not in model.parts]
        raise UnclearFile(
            "the file has weights of other layers than its model has",
            found=f"{len(stored)} layers with weights{f', among them {more[0]}' if more else ''}",
            expected=f"{len(wanting)}{f', among them {missing[0]}' if missing else ''}",
        )
    parts = dict(model.parts)
    for part, (name, names) in zip(wanting, stored.items(), strict=True):
        prefix = f"{root}/{name}" if root else name
        absent = [weight for weight in names if f"{prefix}/{weight}" not in store.contents.datasets]
        if absent:
            raise UnclearFile(f"the file lists the weight {absent[0]} of the layer {name}, and does not have it")
        datasets = [store.weight(f"{prefix}/{weight}", trainable=True) for weight in names]
        parts[part.name] = _fill(part, names, datasets)
    return replace(model, parts=parts)


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """The names in an attribute, which Keras cuts into numbered pieces where it is long."""
    pieces = [group.attrs[attribute]] if attribute in group.attrs else []
    if not pieces:
        while f"{attribute}{len(pieces)}" in group.attrs:
            pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
    return [name.decode() if isinstance(name, bytes) else str(name) for piece in pieces for name in piece]


Slot = tuple[str, str, bool]
"""The path of a layer, the name of one of its weights, and whether it is trained."""


def _slots(layer: StoredLayer) -> list[Slot]:
    """The weights of a layer and of what is inside it, in Keras' order."""
    structure = structure_of_layer(layer)
    if layer.kind == "SpectralNormalization" and structure is not None:  # its kernel is that of the layer inside
        first, *others = [slot for part in layer.parts.values() for slot in _slots(part)]
        return [first, (layer.path, "vector_u", False), *others]
    own: list[Slot] = []
    if structure is not None:
        own = [(layer.path, name, layer.trainable) for name in structure.trainable]
        own += [(layer.path, name, False) for name in structure.fixed]
    return own + [slot for part in layer.parts.values() for slot in _slots(part)]


def slots_in_order(layer: StoredLayer) -> list[Slot]:
    """The weights of a layer of the outermost model in the order in which Keras 3 writes them: the trainable ones first."""
    slots = _slots(layer)
    return [slot for slot in slots if slot[2]] + [slot for slot in slots if not slot[2]]


def write_names(group: h5py.Group, attribute: str, names: Sequence[str]) -> None:
    """Writes names into an attribute, cut into numbered pieces where they are more than an attribute can hold."""
    whole = np.asarray([name.encode() for name in names]) if names else np.zeros(0)
    count = 1 + whole.nbytes // _MOST_ATTRIBUTE
    while count > 1 and any(piece.nbytes > _MOST_ATTRIBUTE for piece in np.array_split(whole, count)):
        count += 1
    if count == 1:
        group.attrs[attribute] = whole
        return
    for nth, piece in enumerate(np.array_split(whole, count)):
        group.attrs[f"{attribute}{nth}"] = piece


_MOST_ATTRIBUTE = 64512
"""So many bytes Keras puts into one attribute."""


def _fill(layer: StoredLayer, names: Sequence[str], datasets: Sequence[StoredWeight]) -> StoredLayer:
    """A layer of the outermost model with its weights."""
    slots = _slots(layer)
    if not slots:  # a class of somebody else's
        return replace(layer, weights=dict(zip([_tail(name) for name in names], datasets, strict=True)))
    if len(slots) != len(names):
        raise UnclearFile(
            f"the layer {layer.path} has other weights in the file than its class has",
            found=f"{len(names)} ({', '.join(_tail(name) for name in names[:4])})",
            expected=f"{len(slots)} ({', '.join(name for _, name, _ in slots[:4])})",
        )
    by_name = {slot[1]: slot for slot in slots}
    tails = [_tail(name) for name in names]
    if quantisation_mode(layer.config) is not None and by_name.keys() == set(tails):  # in the order of quantising
        weights = {tail: replace(d, trainable=by_name[tail][2]) for tail, d in zip(tails, datasets, strict=True)}
        return replace(layer, weights=weights)
    orders = [slots] if not layer.trainable else [[s for s in slots if s[2]] + [s for s in slots if not s[2]], slots]
    fixed = [s for s in slots if s[1] in _FIXED]
    orders.append([s for s in slots if s[1] not in _FIXED] + fixed)
    fitting = next((order for order in orders if _fits(order, names)), None)
    if fitting is None:
        raise UnclearFile(
            f"the weights of the layer {layer.path} are in an order that its class does not have",
            found=", ".join(_tail(name) for name in names[:6]),
        )
    by_layer: dict[str, dict[str, StoredWeight]] = {}
    for (path, name, trainable), dataset in zip(fitting, datasets, strict=True):
        by_layer.setdefault(path, {})[name] = replace(dataset, trainable=trainable)
    return _place(layer, by_layer)


def _place(layer: StoredLayer, by_layer: Mapping[str, Weights]) -> StoredLayer:
    parts = {name: _place(part, by_layer) for name, part in layer.parts.items()}
    return replace(layer, weights=by_layer.get(layer.path, {}), parts=parts)


_FIXED = {"moving_mean", "moving_variance", "mean", "variance", "count", "vector_u"}

_ALIASES = {
    "depthwise_kernel": "kernel",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "W": "kernel",
    "b": "bias",
    "U": "recurrent_kernel",
    "u": "vector_u",
    "sn_u": "vector_u",
}


def _tail(name: str) -> str:
    """The last part of a weight's name in a HDF5 file, without TensorFlow's output number."""
    return name.rsplit("/", 1)[-1].split(":")[0]


_KNOWN = {
    "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "recurrent_kernel", "pointwise_kernel",
    "embeddings", "alpha", "scale", "mean", "variance", "count",
}  # fmt: skip


def _fits(order: Sequence[Slot], names: Sequence[str]) -> bool:
    """Whether the names in a file, as far as they are known, are those of an order."""
    return all(same_name(name, _tail(stored)) for (_, name, _), stored in zip(order, names, strict=True))


def same_name(name: str, stored: str) -> bool:
    """Whether a weight's name in a file may be Keras 3's `name`; one that nobody knows may be anything."""
    plain = _ALIASES.get(stored, stored)
    return plain == _ALIASES.get(name, name) or plain not in _KNOWN
