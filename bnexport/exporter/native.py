"""A Keras file as an ONNX graph, read and written without any framework: the converter `keras-file`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import ExportError
from bnexport.exporter.graph import OPSET, Graph, NotCovered, Value, tensor_type
from bnexport.exporter.keras_graph import find_uncovered, write_network
from bnexport.exporter.protocols import WAYS_OUT, NotConverted, Source, list_missing
from bnexport.exporter.refusals import NotExpressible
from bnexport.frameworks.keras.architecture import architecture_of
from bnexport.keras_files.graph import Network, distinct, network, output_names
from bnexport.keras_files.layers import UnclearFile
from bnexport.keras_files.read import KerasFile, read_file
from bnexport.onnx_graph import finish, subgraphs
from bnexport.onnx_graph.weights import add_initializer
from bnexport.results.actions import spell_options
from bnexport.version import __version__

if TYPE_CHECKING:
    import onnx


class KerasFiles:
    """The converter `keras-file`."""

    frameworks = frozenset({"keras"})

    def versions(self) -> dict[str, str]:
        """None but bnexport's own."""
        return {}

    def convert(self, source: Source, model_sidecar: Sidecar | None) -> onnx.ModelProto:
        """The inference graph, complete with weights and metadata.

        Raises:
            NotConverted: a layer is not covered.
            InvalidGraph: ONNX refuses the graph, perhaps because the shapes of layers do not fit each other.
        """
        try:
            return graph_of(read_file(source.path, architecture_of(source.path, source.want)), model_sidecar)
        except UnclearFile as error:
            raise NotConverted({"": str(error)}) from error


def graph_of(file: KerasFile, model_sidecar: Sidecar | None) -> onnx.ModelProto:
    """The inference graph of the model in a file, complete with weights and metadata.

    Raises:
        ExportError: the model cannot be written as ONNX by any converter (EX002).
        NotConverted: a layer is not covered.
    """
    missing = find_uncovered(file.model)
    if missing:
        raise NotConverted(missing)
    g, net = Graph(), network(file.model)
    inputs = _inputs(g, net)
    try:
        outputs = write_network(g, file.model, inputs)
    except NotExpressible as reason:
        missing = {reason.layer: str(reason)}
        raise ExportError(f"EX002: bnexport cannot export the model: {list_missing(missing)}", fix=WAYS_OUT) from reason
    except NotCovered as reason:
        raise NotConverted({reason.layer: str(reason)}) from reason
    return _complete(g, file, net, inputs, outputs, model_sidecar)


def _inputs(g: Graph, net: Network) -> list[Value]:
    """A value for each input of the model, with the dtype that its InputLayer names."""
    names = distinct([tensor.layer for tensor in net.inputs])
    values = []
    for name, tensor in zip(names, net.inputs, strict=True):
        shape, dtype = net.shapes[tensor], net.dtypes[tensor]
        if dtype == "string":
            raise ExportError(
                f"EX002: an exported file cannot read text (input {name})",
                fix=f"export the part after the layer that converts text to numbers, and pass the numbers with {spell_options(inputs='data.npz')}",
            )
        values.append(g.input(name, (None, *shape[1:]), dtype))
    return values


def _complete(
    g: Graph,
    file: KerasFile,
    net: Network,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    model_sidecar: Sidecar | None,
) -> onnx.ModelProto:
    from onnx import helper

    given_in = {value.name for value in inputs}
    names = output_names([tensor.layer for tensor in net.outputs], [tensor.layer for tensor in net.inputs])
    hidden: dict[str, str] = {}
    given: list[Value] = []
    renamed: dict[str, str] = {}
    for name, value in zip(names, outputs, strict=True):
        before = g.logits.get(value.name)
        if before is not None:  # laid out as what was made of it
            before = replace(before, shape=value.shape, channels_first=value.channels_first)
        value = g.in_keras_order(value)
        if value.name in renamed or value.name in given_in or value.name in g.initializers:
            value = g.node("Identity", [value], value.shape, value.dtype, name=f"{name}/Identity")
        renamed[value.name] = name
        given.append(Value(name, value.shape, value.dtype))
        if before is not None:
            before = g.in_keras_order(before)
            if before.name in given_in or before.name in renamed or before.name in g.initializers:
                before = g.node("Identity", [before], before.shape, before.dtype, name=f"{name}_logits/Identity")
            hidden[name] = renamed[before.name] = f"{name}/logits"
    for node in g.nodes:
        subgraphs.rename(node, renamed)
        node.output[:] = [renamed.get(output, output) for output in node.output]
    _drop_unread(g, {value.name for value in given} | set(hidden.values()))
    _restore_names(g)
    graph = helper.make_graph(g.nodes, "model", [_info(value) for value in inputs], [_info(value) for value in given])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    for name in list(g.initializers):  # each array goes when it is stored: there may be little memory
        add_initializer(model, name, g.initializers.pop(name))
    finish.finish(
        model,
        name=file.model.name,
        producer_version=__version__,
        hidden=hidden,
        nodes=g.metadata,
        properties={
            "source": {"file": file.path.name, "format": str(file.format), "sha256": file.sha256},
            "versions": {"bnexport": __version__},
            **sidecar.for_metadata(model_sidecar),
        },
    )
    return model


def _drop_unread(g: Graph, outputs: set[str]) -> None:
    """Leaves out nodes that nobody reads: layers make a value in several forms where they cannot know which one is wanted."""
    wanted, kept = set(outputs), []
    for node in reversed(g.nodes):
        if wanted.intersection(node.output):
            wanted.update(subgraphs.reads(node))
            kept.append(node)
    g.nodes = kept[::-1]


def _restore_names(g: Graph) -> None:
    """Leaves out constants that nobody reads, and gives what was made of a weight its name where the weight itself is not read."""
    read = {name for node in g.nodes for name in subgraphs.reads(node)}
    for name in g.initializers.keys() - read:
        del g.initializers[name]
    names: dict[str, str] = {}
    for name in g.initializers:
        plain = re.sub(r"(_\d+)+$", "", name)
        if plain != name and plain not in g.initializers and plain not in names.values():
            names[name] = plain
    for old, new in names.items():
        g.initializers[new] = g.initializers.pop(old)
    for node in g.nodes:
        subgraphs.rename(node, names)


def _info(value: Value) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(value.name, tensor_type(value.dtype), list(value.shape))
