"""What the outputs of a graph are: the logits behind a softmax or sigmoid, values of a bounded size, rows whose number depends on the data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from bnexport.onnx_graph import metadata, subgraphs

if TYPE_CHECKING:
    import onnx

SQUASHING = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
BOUNDED = {*SQUASHING, "HardSigmoid", "Tanh"}
SELECTING = {"NonMaxSuppression", "NonZero", "Unique", "Compress"}
"""Operators whose outputs have a number of rows that depends on the data."""

_PASSING = {"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
_FLOATS = {1, 10, 11, 16}  # onnx.TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16
_DECIDING = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "Cast", "Where", "Identity"}


def squashing_functions(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """For each graph output that ends in softmax or sigmoid: the tensor before it, and which of the two.

    The tensor is the one that the file's metadata names, or the input of the last Softmax or Sigmoid node, which is found through
    operators that only lay values out otherwise. Where there are such operators, or where the graph does not make the tensor, its name is
    new: `logits_nodes` has the nodes that lay it out as the output is.
    """
    named = metadata.logits(model)
    made = {output for node in model.graph.node for output in node.output if output}
    entries = {}
    for output, (node, path) in _ends(model, set(SQUASHING)).items():
        tensor = named.get(output)
        if tensor is None:
            plain = node.input[0] in made and all(step.op_type == "Identity" for step in path)
            tensor = node.input[0] if plain else _layout_name(output)
        entries[output] = (tensor, SQUASHING[node.op_type])
    return entries


def fetches(model: onnx.ModelProto) -> dict[str, str]:
    """The tensors to compare: the name a check gives them, and the name they have in the graph."""
    return (
        {o.name: o.name for o in model.graph.output}
        | {f"{output}/logits": tensor for output, (tensor, _) in squashing_functions(model).items()}
        | {name: name for name in [*selection_sources(model), *selection_indices(model)]}
    )


def logits_nodes(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that have to be added to a graph for the logits that `squashing_functions` gives new names to, by that name."""
    from onnx import helper

    nodes: dict[str, list[onnx.NodeProto]] = {}
    for output, (node, path) in _ends(model, set(SQUASHING)).items():
        tensor, chain = node.input[0], []
        for nth, step in enumerate(reversed(path)):
            copy = type(step).FromString(step.SerializeToString())
            copy.name = f"{_layout_name(output)}/{nth}"
            copy.input[0] = tensor
            tensor = copy.output[0] = copy.name
            chain.append(copy)
        chain.append(helper.make_node("Identity", [tensor], [_layout_name(output)], name=_layout_name(output)))
        nodes[_layout_name(output)] = chain
    return nodes


def _layout_name(output: str) -> str:
    return f"{output}/logits as the output is laid out"


def bounded_outputs(model: onnx.ModelProto) -> frozenset[str]:
    """The graph outputs that end in softmax, sigmoid, hard sigmoid or tanh: their natural size is 1, however small they are."""
    return frozenset(_ends(model, BOUNDED))


def _ends(model: onnx.ModelProto, kinds: set[str]) -> dict[str, tuple[onnx.NodeProto, list[onnx.NodeProto]]]:
    """The outputs that end in an operator of `kinds`: its node, and the nodes between it and the output, the last one first."""
    maker = {output: node for node in model.graph.node for output in node.output if output}
    ends = {}
    for output in model.graph.output:
        node, path = maker.get(output.name), []
        while node is not None and _passes(node):
            path.append(node)
            node = maker.get(node.input[0])
        if node is not None and not node.domain and node.op_type in kinds:
            ends[output.name] = (node, path)
    return ends


def _passes(node: onnx.NodeProto) -> bool:
    """Whether a node only lays values out otherwise, or gives them another float type."""
    if node.domain or node.op_type not in _PASSING:
        return False
    return node.op_type != "Cast" or all(a.i in _FLOATS for a in node.attribute if a.name == "to")


def selections(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """The graph outputs whose number of rows depends on the data, with the operators that make it so."""
    maker = {output: node for node in model.graph.node for output in node.output if output}
    selected = {}
    for output in model.graph.output:
        operators = {node.op_type for node in ancestors(maker, output.name) if node.op_type in SELECTING}
        if operators:
            selected[output.name] = tuple(sorted(operators))
    return selected


def selection_sources(model: onnx.ModelProto) -> list[str]:
    """The tensors inside by which selecting operators choose: they have a fixed shape, so that they can be compared."""
    given = {info.name for info in model.graph.output}
    return [name for name in sources(model) if name not in given]


def selection_indices(model: onnx.ModelProto) -> list[str]:
    """The indices, inside the graph, that NonMaxSuppression or NonZero chose the rows of an output by, where there is one such node next to it."""
    maker = {output: node for node in model.graph.node for output in node.output if output}
    given = {info.name for info in model.graph.output}
    names: dict[str, None] = {}
    for output in model.graph.output:
        nearest = {
            node.output[0]: node.op_type
            for node in ancestors(maker, output.name, SELECTING)
            if node.op_type in SELECTING
        }
        if len(nearest) == 1 and not {*nearest.values()} - {"NonMaxSuppression", "NonZero"}:
            names.update(dict.fromkeys(nearest))
    return [name for name in names if name not in given]


def sources(model: onnx.ModelProto) -> list[str]:
    """The tensors of numbers by which selecting operators choose, but for those that are selected themselves."""
    maker = {output: node for node in model.graph.node for output in node.output if output}
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type not in SELECTING or node.domain:
            continue
        read = list(node.input[:2] if node.op_type == "NonMaxSuppression" else node.input[:1])
        while read:
            name = read.pop(0)
            if name not in maker:
                continue
            if maker[name].op_type in _DECIDING:
                read += list(maker[name].input)
            elif maker[name].op_type not in {*SELECTING, "Constant"}:
                names[name] = None
    return [name for name in names if not any(node.op_type in SELECTING for node in ancestors(maker, name))]


def index_ranges(model: onnx.ModelProto) -> dict[str, tuple[int, str]]:
    """Graph inputs that are positions in a table of the graph: how many rows the smallest such table has, and the Gather node that reads it."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    maker = {output: node for node in model.graph.node for output in node.output if output}
    inputs = {info.name for info in model.graph.input} - set(sizes)
    ranges: dict[str, tuple[int, str]] = {}
    for node in model.graph.node:
        if node.op_type != "Gather" or len(sizes.get(node.input[0], ())) == 0:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        rows = sizes[node.input[0]][axis]
        name = node.input[1]
        while name in maker and maker[name].op_type in _PASSING:
            name = maker[name].input[0]
        if name in inputs and (name not in ranges or rows < ranges[name][0]):
            ranges[name] = (rows, node.name or node.output[0])
    return ranges


def ancestors(maker: dict[str, onnx.NodeProto], name: str, up_to: Collection[str] = ()) -> Iterator[onnx.NodeProto]:
    """The nodes that a tensor depends on; with `up_to` those before an operator of these are left out."""
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        if current in seen or current not in maker:
            continue
        seen.add(current)
        yield maker[current]
        if maker[current].op_type not in up_to:
            waiting += subgraphs.reads(maker[current])
