"""A traced Keras model as an ONNX graph (tf2onnx). The converter sees the graph, never the weights.

`tf2onnx.convert.from_keras` freezes the weights into the graph first; constant folding then melts every BatchNormalization
into its neighbours, and each of the converter's passes copies every weight. Here the weights are graph inputs, the marker that
stands for each BatchNormalization call becomes one ONNX node, and only the passes that remove Transposes and Identities run.
`bnexport.onnx_graph.weights.attach` puts the weights in.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import ExportError, MachineError
from bnexport.exporter.protocols import WAYS_OUT
from bnexport.frameworks.keras.traced import MARKER, Trace, TracedSite
from bnexport.system.exclusive import exclusive
from bnexport.system.quiet import hold_native_output

if TYPE_CHECKING:
    import onnx
    from tf2onnx.graph import Graph, Node

    from bnexport.types import Array

OPSET = 18
"""The newest operator set that tf2onnx 1.17 writes."""


def load_framework() -> None:
    """Imports tf2onnx, silently.

    Raises:
        MachineError: it is not installed.
    """
    try:
        with hold_native_output():
            import tf2onnx
    except ImportError as error:
        raise MachineError(
            f"exporting requires tf2onnx ({error})", fix="install it with: pip install 'bnexport[keras]'"
        ) from error
    # It logs names out of the model, tracebacks among them; what matters comes as an exception, or is found in the graph.
    debug = os.environ.get("BNEXPORT_DEBUG")
    tf2onnx.logging.set_level(logging.ERROR if debug else logging.CRITICAL)


def versions() -> dict[str, str]:
    """The version of tf2onnx."""
    import tf2onnx

    return {"tf2onnx": tf2onnx.__version__}


@exclusive
def convert(trace: Trace) -> onnx.ModelProto:
    """The traced pass as ONNX; its weights, and the logits, are graph inputs and outputs still.

    Raises:
        ExportError: the model has an operation that ONNX or tf2onnx does not know (EX002).
    """
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    class Transposes(TransposeOptimizer):  # type: ignore[misc] # tf2onnx is untyped
        """Its rules are tf2onnx's own; only the order in which they are tried, and what comes before and after, are not.

        tf2onnx starts again at the first node after each change, in quadratic time; here each sweep goes on to the end. It begins by
        folding constant Reshapes, sorting the graph after each, which `graph.weights` does at once; and it ends by turning
        Transposes into Reshapes by shapes that moving them has made wrong (images of 1x1 pixels).
        """

        def _optimize_at_current_graph_level(self, graph: Graph) -> Graph:
            self._g = graph
            self._output_names = [graph.get_node_by_output(name).name for name in graph.outputs]
            moving = True
            while moving:
                moving = False
                for node in list(self.nodes):
                    if node.type == "Transpose" and graph.get_node_by_name(node.name) is node:
                        moving |= bool(node.get_attr("perm") and self._handle_nhwc_tranpose(node))
                self.graph_been_opt |= moving
            self.merge_duplicated_transposes()
            return graph

    others = {name: optimizer._optimizers[name] for name in ("remove_back_to_back", "remove_identity")}
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(trace.graph_def, name="")
        try:
            converted = tfonnx.process_tf_graph(
                graph,
                continue_on_error=False,
                opset=OPSET,
                custom_op_handlers={"IdentityN": (_identity_n(trace.sites), []), "Erfc": (_erfc, [])},
                input_names=list(trace.inputs),
                output_names=list(trace.outputs),
                tensors_to_rename={**trace.inputs, **trace.outputs},
            )
        except ExportError:
            raise
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ExportError(f"EX002: tf2onnx cannot convert the model ({reason})", fix=WAYS_OUT) from error
    optimized = optimizer.optimize_graph(
        converted, catch_errors=False, optimizers={"optimize_transpose": Transposes, **others}
    )
    model: onnx.ModelProto = optimized.make_model("bnexport")
    _refuse_foreign_operators(model, trace.layers)
    _name_lstm_weights(model, trace.constants)
    return model


def _refuse_foreign_operators(model: onnx.ModelProto, layers: frozenset[str]) -> None:
    """tf2onnx logs an operator it does not know and leaves it in the graph: that is EX002 here."""
    import onnx

    foreign = {}
    for node in _nodes(model.graph):
        if not onnx.defs.has(node.op_type, node.domain):
            foreign[node.op_type] = layer_of(node.name, layers) or node.name.split("/", maxsplit=1)[0]
    if foreign:
        where = ", ".join(f"{op} in the layer {layer}" for op, layer in sorted(foreign.items()))
        raise ExportError("EX002: the model contains operators that cannot be exported", found=where, fix=WAYS_OUT)


def layer_of(node: str, layers: Collection[str]) -> str:
    """The layer that a node of a traced model is part of, by the name of the node; "" where no layer is called so."""
    scope = node.split("/", maxsplit=1)[0]
    return next((name for name in (scope, re.sub(r"_\d+$", "", scope)) if name in layers), "")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph, and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


_KINDS = {1: "kernel", 2: "recurrent_kernel", 3: "bias"}
"""The inputs of an ONNX LSTM node, and what Keras calls the weights in them."""


def _name_lstm_weights(model: onnx.ModelProto, constants: Mapping[str, Array]) -> None:
    """Gives the weights of LSTM nodes the names of the Keras weights whose values they hold, in place.

    ONNX orders the gates i o f c where Keras has i f c o, and has the forward and the backward direction in one tensor, which gets
    the name of the forward one.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    gates = {n: np.split(value, 4, -1)[0] for n, value in constants.items() if value.ndim and value.shape[-1] % 4 == 0}
    taken = set(stored)
    for node in model.graph.node:
        if node.op_type != "LSTM":
            continue
        for position, kind in _KINDS.items():
            tensor = stored.get(node.input[position]) if len(node.input) > position else None
            if tensor is None:
                continue
            units = tensor.dims[1] // (8 if kind == "bias" else 4)
            first_gate = numpy_helper.to_array(tensor)[0, :units].T
            same = (n for n, gate in gates.items() if n.endswith(f"/{kind}") and np.array_equal(gate, first_gate))
            name = next((n for n in same if n not in taken), None)
            if name is not None:
                old, tensor.name = tensor.name, name
                stored[name] = tensor
                taken.add(name)
                for other in model.graph.node:
                    other.input[:] = [name if read == old else read for read in other.input]


def _identity_n(sites: Sequence[TracedSite]) -> Callable[..., None]:
    """The tf2onnx handler that turns a marker into a BatchNormalization node named after its layer."""
    marker = re.compile(rf"(?:^|/){MARKER}(\d+)/")

    def handler(ctx: Graph, node: Node, name: str, args: object) -> None:  # noqa: ARG001 - tf2onnx's signature
        match = marker.search(node.name)
        if match is None:  # an ordinary IdentityN: each output is its input
            ctx.remove_node(node.name)
            for value, output in zip(node.input, node.output, strict=True):
                ctx.replace_all_inputs(output, value)
            return
        site = sites[int(match.group(1))]
        values, output = list(node.input), node.output[0]
        shape, dtype = ctx.get_shape(output), ctx.get_dtype(output)
        if shape is None:
            raise ExportError(
                f"EX002: the layer {site.name} is inside a loop, where the rank of its input is unknown",
                fix="fix the size of the time axis of the input, and save the model again",
            )
        rank = len(shape)
        to_channels_first = [0, site.axis, *(a for a in range(1, rank) if a != site.axis)]
        moved = to_channels_first != list(range(rank))
        ctx.remove_node(node.name)
        x = values[0]
        if moved:
            x = ctx.make_node(
                "Transpose",
                [x],
                attr={"perm": to_channels_first},
                dtypes=[dtype],
                shapes=[[shape[a] for a in to_channels_first]],
                skip_conversion=True,
            ).output[0]
        ctx.make_node(
            "BatchNormalization",
            [x, *values[1:]],
            attr={"epsilon": site.epsilon},
            name=site.name,
            outputs=None if moved else [output],
            dtypes=[dtype],
            shapes=[ctx.get_shape(x) if moved else shape],
            skip_conversion=True,
        )
        if moved:
            back = [to_channels_first.index(a) for a in range(rank)]
            y = ctx.get_node_by_name(site.name).output[0]
            ctx.make_node(
                "Transpose",
                [y],
                attr={"perm": back},
                outputs=[output],
                dtypes=[dtype],
                shapes=[shape],
                skip_conversion=True,
            )

    return handler


def _erfc(ctx: Graph, node: Node, name: str, args: object) -> None:  # noqa: ARG001 - tf2onnx's signature
    """erfc(x) = 1 - erf(x)."""
    dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
    one = ctx.make_const(
        f"{node.name}/one", np.ones((), np.float64 if dtype == 11 else np.float16 if dtype == 10 else np.float32)
    )
    x, output = node.input[0], node.output[0]
    ctx.remove_node(node.name)
    erf = ctx.make_node("Erf", [x], dtypes=[dtype], shapes=[shape], skip_conversion=True)
    ctx.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=[output], dtypes=[dtype], shapes=[shape], skip_conversion=True
    )
