"""The layers of a model file with their weights, found as Keras' own loaders find them: by their order (no framework).

A .keras file has a group for each layer, named after its class and numbered within its model, with its own weights by number and
the layers inside it by attribute. A HDF5 file has a group for each layer of the outermost model, with the weights of
everything inside it in one list, the trainable ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import Store, StoredLayer, StoredWeight, Structure, UnclearFile, is_foreign
from bnexport.keras_files.naming import group_name, unique
from bnexport.keras_files.policies import quantisation_mode
from bnexport.keras_files.repairs import LEGACY
from bnexport.keras_files.variables import structure_of

if TYPE_CHECKING:
    pass


Weights = Mapping[str, StoredWeight]
Find = Callable[[str, Sequence[tuple[str, bool]] | None], Weights]
"""The weights of a layer in a .keras file: by its group, and by their names with whether they are trainable (None where nobody knows them)."""

Vocabularies = Mapping[str, Sequence[str]]
"""What layers in a .keras file have learned to look up, by group: StringLookup and IntegerLookup keep it beside the weights."""


def _is_operation(entry: Config) -> bool:
    return module_of(entry).startswith("keras.src.ops.")


def _config(entry: Config) -> Config:
    config = entry.get("config")
    if not isinstance(config, dict):
        raise InputError("the model configuration has a layer without a configuration", found=str(entry)[:80])
    return config


def module_of(entry: Config) -> str:
    """The module of a class, or the package that it is registered under; "" where the entry has neither.

    HDF5 files have neither. There an operation is what has calls in Keras 3's form and no `trainable`.
    """
    names = (str(entry.get(key) or "") for key in ("registered_name", "class_name"))
    package = next((name.partition(">")[0] for name in names if ">" in name), "")
    module, nodes = entry.get("module") or package, entry.get("inbound_nodes")
    if module or not (isinstance(nodes, list) and nodes and isinstance(nodes[0], dict) and "args" in nodes[0]):
        return str(module)
    layer = "trainable" in _config(entry) or entry.get("class_name") in _WITHOUT_TRAINABLE
    return "" if layer else UNNAMED


UNNAMED = "keras.src.ops.unnamed"
"""The module of operations in HDF5 files, which do not name it."""


_WITHOUT_TRAINABLE = {"Discretization", "HashedCrossing", "Pipeline", *(f"SpatialDropout{axes}D" for axes in (1, 2, 3))}
"""The layers of Keras 3 whose configurations lack what those of all others have."""


def structure_of_layer(layer: StoredLayer) -> Structure | None:
    """The weights and parts that the class of a layer has; None for a class that nobody here knows."""
    return None if is_foreign(layer.module) else structure_of(layer.kind, layer.config)


def is_operation(layer: StoredLayer) -> bool:
    """Whether a part of a model is a call of a function of `keras.ops`, not a layer."""
    return layer.module.startswith("keras.src.ops.")


def layer_tree(
    entry: Config,
    path: str,
    group: str,
    find: Find,
    *,
    trainable: bool = True,
    words: Vocabularies = MappingProxyType({}),
) -> StoredLayer:
    """A layer, and everything inside it.

    Args:
        entry: its entry in the configuration, with "class_name" and "config".
        path: its path.
        group: where a .keras file has it.
        find: what finds its weights.
        trainable: whether everything around it is.
        words: the vocabularies in the file, by group.
    """
    config, kind = _config(entry), str(entry.get("class_name")).rpartition(">")[2]
    trainable = trainable and bool(config.get("trainable", True))
    name = str(config.get("name") or entry.get("name") or "")
    if group in words and config.get("vocabulary") is None:
        config = config | {"vocabulary": words[group]}
    layer = StoredLayer(kind, name, path, module_of(entry), config, trainable, {}, {})
    if _is_operation(entry):
        return layer
    if isinstance(config.get("layers"), list) and (kind in LEGACY or structure_of_layer(layer) is None):
        return replace(layer, parts=_members(config["layers"], path, group, find, trainable=trainable, words=words))
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
        parts[attribute] = layer_tree(inner, inner_path, f"{group}/{key}", find, trainable=trainable, words=words)
    spectral = (
        kind == "SpectralNormalization"
    )  # an archive has the kernel of the layer inside as the wrapper's own, too
    weights = dict(find(group, [("kernel", True), *own] if spectral else own)) if own else {}
    if spectral:
        weights.pop("kernel", None)
    return replace(layer, weights=weights, parts=parts)


def _members(
    entries: Sequence[Config], path: str, group: str, find: Find, *, trainable: bool, words: Vocabularies
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
        members[name] = layer_tree(entry, inner, f"{prefix}/{key}", find, trainable=trainable, words=words)
    return members


def in_archive(store: Store) -> Find:
    """What finds weights in the HDF5 part of a .keras file."""

    def find(group: str, names: Sequence[tuple[str, bool]] | None) -> Weights:
        contents = store.contents
        stored = contents.inside(f"{group}/vars" if group else "vars") or contents.inside(f"{_private(group)}/vars")
        order = sorted(stored, key=lambda key: int(key) if key.isdigit() else -1)
        if names is None:
            names = [(key, True) for key in order]
        elif order != [str(nth) for nth in range(len(order))]:
            raise UnclearFile(
                f"the layer in {group} has weights that are not numbered from 0 on", found=", ".join(order[:4])
            )
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
