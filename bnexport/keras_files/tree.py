"""The layers of a model file with their weights, found as Keras' own loaders find them: by their order (no framework).

A .keras file has a group for each layer, named after its class and numbered within its model, with its own weights by number and
the layers inside it by attribute. A HDF5 file has a group for each layer of the outermost model, with the weights of
everything inside it in one list, the trainable ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import Store, StoredLayer, StoredWeight, Structure, UnclearFile, is_foreign
from bnexport.keras_files.naming import group_name, unique
from bnexport.keras_files.policies import quantisation_mode
from bnexport.keras_files.repairs import LEGACY
from bnexport.keras_files.variables import structure_of

if TYPE_CHECKING:
    import h5py


Weights = Mapping[str, StoredWeight]
Find = Callable[[str, Sequence[tuple[str, bool]] | None], Weights]
"""The weights of a layer in a .keras file: by its group, and by their names with whether they are trainable (None where nobody knows them)."""


def _is_operation(entry: Config) -> bool:
    return _module(entry).startswith("keras.src.ops.")


def _config(entry: Config) -> Config:
    config = entry.get("config")
    if not isinstance(config, dict):
        raise InputError("the model configuration has a layer without a configuration", found=str(entry)[:80])
    return config


def _module(entry: Config) -> str:
    """The module of a class, or the package that it is registered under; "" where the entry has neither.

    HDF5 files have neither. There an operation is what has calls in Keras 3's form and no `trainable`.
    """
    names = (str(entry.get(key) or "") for key in ("registered_name", "class_name"))
    package = next((name.partition(">")[0] for name in names if ">" in name), "")
    module, nodes = entry.get("module") or package, entry.get("inbound_nodes")
    if module or not (isinstance(nodes, list) and nodes and isinstance(nodes[0], dict) and "args" in nodes[0]):
        return str(module)
    layer = "trainable" in _config(entry) or entry.get("class_name") in _WITHOUT_TRAINABLE
    return "" if layer else "keras.src.ops.unnamed"


_WITHOUT_TRAINABLE = {"Discretization", "HashedCrossing", "Pipeline", *(f"SpatialDropout{axes}D" for axes in (1, 2, 3))}
"""The layers of Keras 3 whose configurations lack what those of all others have."""


def structure_of_layer(layer: StoredLayer) -> Structure | None:
    """The weights and parts that the class of a layer has; None for a class that nobody here knows."""
    return None if is_foreign(layer.module) else structure_of(layer.kind, layer.config)


def layer_tree(entry: Config, path: str, group: str, find: Find, *, trainable: bool = True) -> StoredLayer:
    """A layer, and everything inside it.

    Args:
        entry: its entry in the configuration, with "class_name" and "config".
        path: its path.
        group: where a .keras file has it.
        find: what finds its weights.
        trainable: whether everything around it is.
    """
    config, kind = _config(entry), str(entry.get("class_name")).rpartition(">")[2]
    trainable = trainable and bool(config.get("trainable", True))
    name = str(config.get("name") or entry.get("name") or "")
    layer = StoredLayer(kind, name, path, _module(entry), config, trainable, {}, {})
    if _is_operation(entry):
        return layer
    if isinstance(config.get("layers"), list) and (kind in LEGACY or structure_of_layer(layer) is None):
        return replace(layer, parts=_members(config["layers"], path, group, find, trainable=trainable))
    structure = structure_of_layer(layer)
    if structure is None:
        return replace(layer, weights=find(group, None))
    mode = quantisation_mode(config)
    if mode not in (None, "int8"):
        raise UnclearFile(f"the layer {path} has weights quantised by {mode}", expected="int8, or none")
    own = [*((name, True) for name in structure.trainable), *((name, False) for name in structure.fixed)]
    parts: dict[str, StoredLayer] = {}
    used: dict[str, dict[str, int]] = {}
    for attribute, inner in structure.parts.items():
        if not isinstance(inner, dict):
            raise InputError(f"the layer {path} has a part without a configuration", found=attribute)
        container, _, numbered = attribute.partition("/")
        key = attribute
        if numbered:
            key = f"{container}/{unique(group_name(str(inner.get('class_name'))), used.setdefault(container, {}))}"
        inner_path = f"{path}/{_config(inner).get('name') or attribute}"
        parts[attribute] = layer_tree(inner, inner_path, f"{group}/{key}", find, trainable=trainable)
    spectral = (
        kind == "SpectralNormalization"
    )  # an archive has the kernel of the layer inside as the wrapper's own, too
    weights = dict(find(group, [("kernel", True), *own] if spectral else own)) if own else {}
    if spectral:
        weights.pop("kernel", None)
    return replace(layer, weights=weights, parts=parts)


def _members(
    entries: Sequence[Config], path: str, group: str, find: Find, *, trainable: bool
) -> dict[str, StoredLayer]:
    """The layers of a model by name."""
    used: dict[str, int] = {}
    members: dict[str, StoredLayer] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise InputError("the model configuration has an entry that is no layer", found=repr(entry)[:80])
        name = str(_config(entry).get("name") or entry.get("name") or "")
        key = "" if _is_operation(entry) else unique(group_name(str(entry.get("class_name"))), used)
        inner = f"{path}/{name}" if path else name
        prefix = f"{group}/layers" if group else "layers"
        members[name] = layer_tree(entry, inner, f"{prefix}/{key}", find, trainable=trainable)
    return members


def in_archive(store: Store) -> Find:
    """What finds weights in the HDF5 part of a .keras file."""

    def find(group: str, names: Sequence[tuple[str, bool]] | None) -> Weights:
        contents = store.contents
        stored = contents.inside(f"{group}/vars" if group else "vars") or contents.inside(f"{_private(group)}/vars")
        order = sorted(stored, key=lambda key: int(key) if key.isdigit() else -1)
        if names is None:
            names = [(key, True) for key in order]
        if len(names) != len(order):
            raise UnclearFile(
                f"the layer in {group} has other weights in the file than its class has",
                found=f"{len(order)}",
                expected=f"{len(names)} ({', '.join(name for name, _ in names[:4])})",
            )
        return {
            name: store.weight(stored[key].name, trainable=trainable)
            for (name, trainable), key in zip(names, order, strict=True)
        }

    return find


def _private(group: str) -> str:
    """The same with the attribute at its end written as a private one ("_query_dense")."""
    before, _, last = group.rpartition("/")
    return f"{before}/_{last}"


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
    stored = {name: names for name in _names(group, "layer_names") if (names := _names(group[name], "weight_names"))}
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
    if not layer.parts and len(by_name) == len(names) and by_name.keys() == set(tails):
        return replace(
            layer, weights={t: replace(d, trainable=by_name[t][2]) for t, d in zip(tails, datasets, strict=True)}
        )
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


def every_layer(model: StoredLayer) -> Iterator[StoredLayer]:
    """The layers of a model, those inside of others included, without the model itself."""
    for part in model.parts.values():
        yield from part.walk()
