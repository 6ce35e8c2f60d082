"""Whether a SavedModel only computes (tensorflow, for the names of its operations).

Every node of every graph and every function of its library is looked at. An operation is accepted where it is in the
static lists of `saved_model_operations`; saving and restoring variables
takes operations that are in none of them, and these are accepted only where the saver definition (`saver_def`) says so:

* The saver names the operation that saves and the one that restores. Each either calls a function, which then consists
  of what TensorFlow writes into such a function and is called from
  nowhere else, or is computed by nodes of the graph (TensorFlow 1), on which nothing but the saver depends.
* What restores reads its file name from the tensor into which TensorFlow feeds the path of the variables.
* What saves is left out of the copy that TensorFlow loads.

Names of functions mean nothing: whoever writes the file chooses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.frameworks.saved_model.files import TRUST, shown
from bnexport.frameworks.saved_model.operations import COMPUTING, RESTORING, SAVING, WRITES

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObjectGraph

CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@dataclass(frozen=True, slots=True)
class Saver:
    """What saves and restores the variables of one graph.

    Args:
        saving: the function that saves; "" where nodes of the graph do it.
        restoring: the function that restores; "" likewise.
        writes: the nodes that write a checkpoint or depend on one that does.
        reads: the nodes that read a checkpoint or depend on one that does.
    """

    saving: str
    restoring: str
    writes: frozenset[str]
    reads: frozenset[str]


def refuse_more_than_computing(message: SavedModel, path: Path) -> None:
    """Makes sure that a SavedModel only computes, and removes from the message what saves variables.

    Raises:
        InputError: it holds an operation that may do more, named with its function.
    """
    from tensorflow.python.framework import op_def_registry

    for graph in message.meta_graphs:
        library = graph.graph_def.library.function
        functions = {function.signature.name: function for function in library}
        nodes = {node.name: node for node in graph.graph_def.node}
        if len(functions) < len(library) or len(nodes) < len(graph.graph_def.node):
            raise InputError(f"{path} is a damaged SavedModel (names occur twice)", fix="copy or download it again")
        shadowing = [name for name in functions if op_def_registry.get(name) is not None]
        if shadowing:
            raise InputError(f"{path} has a function with the name of an operation", found=shown(shadowing[0]))
        saver = find_saver(graph, nodes, functions)
        accepted = COMPUTING | functions.keys()
        own = dict.fromkeys(saver.writes, WRITES) | {name: frozenset({"RestoreV2"}) for name in saver.reads}
        refused = [
            (node.op, "")
            for node in graph.graph_def.node
            if node.op not in accepted and node.op not in own.get(node.name, ())
        ]
        lists = {saver.saving: SAVING | functions.keys(), saver.restoring: RESTORING | functions.keys()}
        for function in library:
            name = function.signature.name
            refused += [(node.op, name) for node in function.node_def if node.op not in lists.get(name, accepted)]
        if refused:
            raise InputError(f"{path} may do more than compute: {_list(refused)}", fix=TRUST)
        _refuse_other_uses(graph, nodes, functions, saver, path)
        _refuse_changed_classes(graph.object_graph_def, path)
        _refuse_other_files(graph, nodes, functions, saver, path)
        _remove_saving(graph, saver)


def _list(refused: list[tuple[str, str]]) -> str:
    """Operations with their functions, at most five; every operation once before one is named again."""
    first = {op: (op, name) for op, name in reversed(refused)}
    unique = list(dict.fromkeys([*(first[op] for op in dict.fromkeys(op for op, _ in refused)), *refused]))
    written = [f"{shown(op)} in {f'the function {shown(name)}' if name else 'the graph'}" for op, name in unique[:5]]
    return ", ".join(written) + (f" and {len(unique) - 5} more" if len(unique) > 5 else "")


def find_saver(graph: MetaGraphDef, nodes: Mapping[str, NodeDef], functions: Mapping[str, FunctionDef]) -> Saver:
    """The saver of a graph, as its saver definition names it. Nodes of which more than the saver depends are none of its."""
    save, restore = node_of(graph.saver_def.save_tensor_name), node_of(graph.saver_def.restore_op_name)
    saving, restoring = _function_called(nodes.get(save)), _function_called(nodes.get(restore))
    inputs = {name: [node_of(each) for each in node.input] for name, node in nodes.items()}
    uses: dict[str, list[str]] = {}
    for name, sources in inputs.items():
        for source in sources:
            uses.setdefault(source, []).append(name)
    for_saving, for_restoring = reached_from([save], inputs.get), reached_from([restore], inputs.get)
    signatures = {
        node_of(tensor.name)
        for signature in graph.signature_def.values()
        for tensor in (*signature.inputs.values(), *signature.outputs.values())
    }
    writing = [name for name, node in nodes.items() if node.op in WRITES or (saving and name == save)]
    reading = [name for name, node in nodes.items() if node.op == "RestoreV2" or (restoring and name == restore)]

    def only(first: list[str], own: set[str], other: set[str]) -> frozenset[str]:
        kept: set[str] = set()
        for name in first:
            reached = reached_from([name], uses.get)
            if reached <= own and not reached & other and not reached & signatures:
                kept |= reached
        return frozenset(kept)

    return Saver(
        saving if saving in functions and save in writing else "",
        restoring if restoring in functions and restore in reading else "",
        only(writing, for_saving, for_restoring),
        only(reading, for_restoring, for_saving),
    )


def node_of(tensor: str) -> str:
    """The node of a tensor or a control input."""
    return tensor.removeprefix("^").partition(":")[0]


def _function_called(node: NodeDef | None) -> str:
    return str(node.attr["f"].func.name) if node is not None and node.op in CALLS else ""


def reached_from(first: Iterable[str], following: Callable[[str], list[str] | None]) -> set[str]:
    """What is reached from some names by following each to others, themselves included."""
    reached: set[str] = set()
    ahead = list(first)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += following(name) or []
    return reached


def references(nodes: Iterable[NodeDef]) -> Iterator[tuple[str, str]]:
    """The name of each node that refers to a function, and of the function."""
    for node in nodes:
        yield node.name, node.op
        for value in node.attr.values():
            for function in (value.func, *value.list.func):
                if function.name:
                    yield node.name, function.name


def _refuse_other_uses(
    graph: MetaGraphDef, nodes: Mapping[str, NodeDef], functions: Mapping[str, FunctionDef], saver: Saver, path: Path
) -> None:
    """The saver's functions are called by the saver alone; every function that is called is there, and none calls itself."""
    own = {saver.saving, saver.restoring} - {""}
    inside = [pair for function in functions.values() for pair in references(function.node_def)]
    outside = list(references(nodes.values()))
    objects = graph.object_graph_def
    named = {name for _, name in inside} | set(objects.concrete_functions)
    for entry in graph.graph_def.library.gradient:
        named |= {entry.function_name, entry.gradient_func}
    for node in objects.nodes:
        named |= {*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name}
    named |= {name for caller, name in outside if caller not in saver.writes | saver.reads}
    if own & named:
        raise InputError(
            f"{path} may do more than compute: the function {shown(min(own & named))}, which saves or restores variables, is not only called by its saver",
            fix=TRUST,
        )
    calls = {name: {called for _, called in references(f.node_def)} & functions.keys() for name, f in functions.items()}
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        raise InputError(f"{path} has a function that calls itself", found=shown(error.args[1][0])) from error
    missing = {name for _, name in (*inside, *outside)} - functions.keys() - COMPUTING - SAVING - RESTORING
    if missing:
        raise InputError(f"{path} is a damaged SavedModel (it has no function {shown(min(missing))})")


def _refuse_changed_classes(objects: SavedObjectGraph, path: Path) -> None:
    """No object changes a class that TensorFlow shares among objects.

    A child `__call__` is set on the class of an object that cannot be called. That class is the object's own where it
    is a plain user object; else it is TensorFlow's, and all tensors or variables of the process would change with it.
    """
    from tensorflow.python.saved_model import registration, revived_types

    shared = revived_types.registered_identifiers()
    for node in objects.nodes:
        own_class = (
            node.WhichOneof("kind") == "user_object"
            and node.user_object.identifier not in shared
            and registration.get_registered_class(node.registered_name) is None
        )
        if not own_class and any(child.local_name == "__call__" for child in node.children):
            raise InputError(f"{path} may do more than compute: it modifies a class of TensorFlow", fix=TRUST)


def _refuse_other_files(
    graph: MetaGraphDef, nodes: Mapping[str, NodeDef], functions: Mapping[str, FunctionDef], saver: Saver, path: Path
) -> None:
    """What restores variables takes the name of the file from the tensor that TensorFlow feeds."""
    given = node_of(graph.saver_def.filename_tensor_name)

    def origin(tensor: str, among: Mapping[str, NodeDef]) -> str:
        name, seen = node_of(tensor), set()
        while name in among and name not in seen and among[name].op == "Identity" and among[name].input:
            seen.add(name)
            name = node_of(among[name].input[0])
        return name

    names = {origin(nodes[name].input[0], nodes) for name in saver.reads if nodes[name].op == "RestoreV2"}
    if saver.restoring:
        function = functions[saver.restoring]
        body = {node.name: node for node in function.node_def}
        call = nodes[node_of(graph.saver_def.restore_op_name)]
        arguments = dict(zip([a.name for a in function.signature.input_arg], call.input, strict=False))
        for node in function.node_def:
            if node.op == "RestoreV2":
                names.add(origin(arguments.get(origin(node.input[0], body), ""), nodes))
    if names - {given}:
        raise InputError(
            f"{path} may do more than compute: it restores variables from a file of its own choice", fix=TRUST
        )


def _remove_saving(graph: MetaGraphDef, saver: Saver) -> None:
    nodes, functions = graph.graph_def.node, graph.graph_def.library.function
    for position in reversed([p for p, node in enumerate(nodes) if node.name in saver.writes]):
        del nodes[position]
    for position in reversed([p for p, f in enumerate(functions) if saver.saving and f.signature.name == saver.saving]):
        del functions[position]
