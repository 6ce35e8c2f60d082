"""The part of a SavedModel that one signature needs (no framework enters here).

Models for training on devices hold functions that save and restore variables beside the one that infers. Where a
signature is chosen by name, functions that may do more than compute and that
it does not call are left out, with all that calls them. What is left is inspected as any other SavedModel.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from bnexport.frameworks.saved_model.operations import COMPUTING
from bnexport.frameworks.saved_model.safety import find_saver, node_of, reached_from, references

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
    from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObjectGraph

_NOTHING = "_generic_user_object"
"""The kind of object that TensorFlow loads without any behaviour."""


def leave_out_other_functions(graph: MetaGraphDef, signature: str) -> None:
    """Removes what may do more than compute and is not called by the signature; nothing where the signature itself calls it."""
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    saver = find_saver(graph, nodes, functions)
    callers: dict[str, list[str]] = {}
    for name, function in functions.items():
        for _, called in references(function.node_def):
            callers.setdefault(called, []).append(name)
    accepted = COMPUTING | functions.keys()
    more = [name for name, f in functions.items() if any(node.op not in accepted for node in f.node_def)]
    dropped = reached_from([name for name in more if name not in (saver.saving, saver.restoring)], callers.get)
    uses: dict[str, list[str]] = {}
    for node in nodes.values():
        for source in node.input:
            uses.setdefault(node_of(source), []).append(node.name)
    calls = [caller for caller, called in references(nodes.values()) if called in dropped]
    gone = reached_from(calls, uses.get)
    lost = [
        name
        for name, each in graph.signature_def.items()
        if any(node_of(tensor.name) in gone for tensor in (*each.inputs.values(), *each.outputs.values()))
    ]
    if not dropped or signature in lost:
        return
    for name in lost:
        del graph.signature_def[name]
    _remove(graph.graph_def.node, [node.name in gone for node in graph.graph_def.node])
    library = graph.graph_def.library.function
    _remove(library, [function.signature.name in dropped for function in library])
    _empty_objects(graph.object_graph_def, dropped)


def _empty_objects(objects: SavedObjectGraph, dropped: set[str]) -> None:
    """Takes functions from the objects that hold them; an object without any function is none."""
    for name in dropped & set(objects.concrete_functions):
        del objects.concrete_functions[name]
    emptied = set()
    for position, node in enumerate(objects.nodes):
        kept = [name for name in node.function.concrete_functions if name not in dropped]
        if node.WhichOneof("kind") == "function":
            node.function.concrete_functions[:] = kept
        alone = node.WhichOneof("kind") == "function" and not kept
        if alone or node.bare_concrete_function.concrete_function_name in dropped:
            node.user_object.identifier = _NOTHING
            node.user_object.version.producer = node.user_object.version.min_consumer = 1
            emptied.add(position)
    for node in objects.nodes:
        for references_of in (node.children, node.dependencies):
            _remove(references_of, [reference.node_id in emptied for reference in references_of])


def _remove(entries: MutableSequence[Message], marked: list[bool]) -> None:
    for position in reversed([p for p, mark in enumerate(marked) if mark]):
        del entries[position]
