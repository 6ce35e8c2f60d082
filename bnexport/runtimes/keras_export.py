"""A Keras model as an ONNX graph (tensorflow + tf2onnx). The converter sees the graph, never the weights.

`tf2onnx.convert.from_keras` freezes the weights into the graph first; constant folding then melts every
BatchNormalization into its neighbours, and each of the converter's passes copies every weight. Here instead

1. `model.stateless_call` is traced as a function of the input *and of every variable*: nothing is frozen or mutated;
2. while tracing, BatchNormalization layers leave one marker op (an `IdentityN` that holds x, gamma, beta, mean and
   variance), which a handler turns into one ONNX `BatchNormalization` node;
3. tf2onnx converts that small graph with its transpose and identity passes only.

The result still has its weights as graph inputs: `bnexport.graph.weights.attach` puts them in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import ExportError, MachineError
from bnexport.runtimes.quiet import native_output_held

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""The newest operator set that tf2onnx 1.17 writes."""

_MARKER = "bnexport_site_"


@dataclass(frozen=True, slots=True)
class TracedSite:
    """One call of a BatchNormalization layer, as it was traced.

    Args:
        name: the layer's path; from a layer's second call on with "#2", "#3" and so on behind it.
        axis: the channel axis of the layer's input in Keras (not negative).
        momentum: the layer's momentum.
        epsilon: the layer's epsilon.
        frozen: True where the layer's `trainable` is False, so that it runs on moving statistics in training too.
    """

    name: str
    axis: int
    momentum: float
    epsilon: float
    frozen: bool


@dataclass(frozen=True, slots=True)
class WeightlessGraph:
    """What the converter wrote, with what is needed to complete it.

    Args:
        model: an ONNX model whose weights are graph inputs.
        weights: the value of each of those inputs, by name.
        sites: the BatchNormalization calls, by the name of their ONNX node.
        logits: for each output that ends in softmax or sigmoid, the name of the tensor before it (a graph output here).
    """

    model: onnx.ModelProto
    weights: dict[str, NDArray[Any]]
    sites: dict[str, TracedSite]
    logits: dict[str, str]


def load_converter() -> None:
    """Imports tf2onnx, silently.

    Raises:
        MachineError: it is not installed.
    """
    try:
        with native_output_held():
            import tf2onnx
    except ImportError as error:
        raise MachineError(
            f"exporting needs tf2onnx ({error})", fix='install it with: pip install "bnexport[keras]"'
        ) from error
    tf2onnx.logging.set_level(tf2onnx.logging.ERROR)


def versions() -> dict[str, str]:
    """The version of tf2onnx."""
    import tf2onnx

    return {"tf2onnx": tf2onnx.__version__}


def weightless_graph(
    model: Any, weights: dict[str, Any], inputs: Sequence[str], outputs: Sequence[str]
) -> WeightlessGraph:
    """The ONNX graph of a Keras model's inference pass, its weights still outside.

    Args:
        model: a built keras.Model with known inputs.
        weights: the model's variables by the name they shall have in the graph.
        inputs: the name of each input, in the order of `model.inputs`.
        outputs: the name of each output, in the order the model returns them.

    Raises:
        ExportError: the model has an operation that ONNX or tf2onnx does not know.
    """
    trace = _trace(model, weights, inputs, outputs)
    converted = _convert(trace, [layer.name for layer in model._flatten_layers()])  # noqa: SLF001 - Keras' only walk into nested layers
    return WeightlessGraph(converted, trace.values, {site.name: site for site in trace.sites}, trace.logits)


@dataclass(slots=True)
class _Trace:
    graph_def: Any
    inputs: dict[str, str]  # TensorFlow's name of a graph input -> the name it shall have
    outputs: dict[str, str]
    sites: list[TracedSite]
    values: dict[str, NDArray[Any]]
    logits: dict[str, str] = field(default_factory=dict)


def _trace(model: Any, weights: dict[str, Any], inputs: Sequence[str], outputs: Sequence[str]) -> _Trace:
    import keras
    import tensorflow as tf

    by_id = {id(variable): name for name, variable in weights.items()}
    train, fixed = model.trainable_variables, model.non_trainable_variables
    names = [by_id[id(v)] for v in [*train, *fixed]]
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in model.inputs]
    specs += [tf.TensorSpec(v.shape, v.dtype) for v in [*train, *fixed]]
    logits: dict[str, str] = {}
    found: list[str] = []

    def forward(*tensors: Any) -> list[Any]:
        x, w = tensors[: len(inputs)], tensors[len(inputs) :]
        # Functional models say how their inputs are packed (a list, a dict); other models take one tensor.
        packed = (
            keras.tree.pack_sequence_as(structure, list(x))
            if (structure := getattr(model, "_inputs_struct", None)) is not None
            else x[0]
        )
        y, _ = model.stateless_call(list(w[: len(train)]), list(w[len(train) :]), packed, training=False)
        flat = keras.tree.flatten(y)
        found.extend(outputs)
        extra = []
        for name, tensor in zip(outputs, flat, strict=True):
            before = getattr(tensor, "_keras_logits", None)  # Keras keeps what it fed to softmax or sigmoid
            if before is not None:
                logits[name] = f"{name}/logits"
                found.append(logits[name])
                extra.append(before)
        return [tf.identity(t) for t in [*flat, *extra]]

    with _marked() as sites:
        traced = tf.function(forward, input_signature=specs, autograph=False).get_concrete_function()
    captured = [np.asarray(tensor) for tensor in traced.captured_inputs]  # constants of Normalization layers
    input_names = [*inputs, *names, *(f"captured/{i}" for i in range(len(captured)))]
    return _Trace(
        graph_def=_inlined(traced),
        inputs=dict(zip([t.name for t in traced.inputs], input_names, strict=True)),
        outputs=dict(zip([t.name for t in traced.outputs], found, strict=True)),
        sites=sites,
        values={n: np.asarray(v) for n, v in zip(input_names[len(inputs) :], [*train, *fixed, *captured], strict=True)},
        logits=logits,
    )


@contextmanager
def _marked() -> Iterator[list[TracedSite]]:
    """While open, a BatchNormalization layer leaves a marker op instead of its arithmetic."""
    import tensorflow as tf
    from keras.layers import BatchNormalization

    sites: list[TracedSite] = []
    calls: dict[int, int] = {}

    def call(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:  # noqa: ARG001 - Keras' signature
        dtype = (
            tf.float64 if inputs.dtype == tf.float64 else tf.float32
        )  # Keras too normalises half precision in float32
        mean, var = tf.cast(layer.moving_mean, dtype), tf.cast(layer.moving_variance, dtype)
        gamma = tf.cast(layer.gamma, dtype) if layer.scale else tf.ones(mean.shape, dtype)
        beta = tf.cast(layer.beta, dtype) if layer.center else tf.zeros(mean.shape, dtype)
        calls[id(layer)] = nth = calls.get(id(layer), 0) + 1
        name = layer.path if nth == 1 else f"{layer.path}#{nth}"
        rank = len(inputs.shape)
        sites.append(TracedSite(name, layer.axis % rank, layer.momentum, layer.epsilon, not layer.trainable))
        with tf.name_scope(f"{_MARKER}{len(sites) - 1}/"):
            y = tf.raw_ops.IdentityN(input=[tf.cast(inputs, dtype), gamma, beta, mean, var])[0]
        return tf.cast(y, layer.compute_dtype)

    original = BatchNormalization.call
    BatchNormalization.call = call
    try:
        yield sites
    finally:
        BatchNormalization.call = original


def _inlined(traced: Any) -> Any:
    """The traced function's GraphDef with every function call inlined, also those that Keras marks for XLA."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training.saver import export_meta_graph

    graph_def = traced.graph.as_graph_def(add_shapes=True)
    for owner in [graph_def, *graph_def.library.function]:
        for node in owner.node if owner is graph_def else owner.node_def:
            node.attr.pop("_XlaMustCompile", None)
    for function in graph_def.library.function:
        function.attr.pop("_XlaMustCompile", None)
        function.attr.pop("_noinline", None)
    if not graph_def.library.function:
        return graph_def
    meta_graph = export_meta_graph(graph_def=graph_def, graph=traced.graph)
    fetches = meta_graph.collection_def["train_op"].node_list.value
    fetches.extend(t.name for t in [*traced.inputs, *traced.outputs])
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.append("function")
    inlined = tf_optimizer.OptimizeGraph(config, meta_graph)
    with tf.Graph().as_default() as graph:  # shapes get lost while inlining: import once to infer them again
        tf.import_graph_def(inlined, name="")
    return graph.as_graph_def(add_shapes=True)


def _convert(trace: _Trace, layers: Sequence[str]) -> onnx.ModelProto:
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    class Transposes(TransposeOptimizer):  # type: ignore[misc] # tf2onnx is untyped
        def post_optimize_action(self) -> None:
            """Nothing: tf2onnx would turn Transposes into Reshapes by shapes that moving them has made wrong (1x1 images)."""

    others = {name: optimizer._optimizers[name] for name in ("remove_back_to_back", "remove_identity")}  # noqa: SLF001 - tf2onnx has no other way to choose
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
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ExportError(f"EX002: tf2onnx cannot convert the model ({reason})", fix=_REPLACE) from error
    optimized = optimizer.optimize_graph(converted, catch_errors=False, optimizers={"optimize_transpose": Transposes, **others})
    model: onnx.ModelProto = optimized.make_model("bnexport")
    _refuse_foreign_operators(model, layers)
    return model


_REPLACE = "replace the layer by one that ONNX can express"


def _refuse_foreign_operators(model: onnx.ModelProto, layers: Sequence[str]) -> None:
    """tf2onnx logs an operator it does not know and leaves it in the graph: that is EX002 here."""
    import onnx

    found = {}
    for node in model.graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            scope = node.name.split("/", maxsplit=1)[0]
            plain = re.sub(r"_\d+$", "", scope)
            found[node.op_type] = next((name for name in (scope, plain) if name in layers), scope)
    if found:
        where = ", ".join(f"{op} in the layer {layer}" for op, layer in sorted(found.items()))
        raise ExportError("EX002: the model has operators that cannot be exported", found=where, fix=_REPLACE)


def _identity_n(sites: Sequence[TracedSite]) -> Any:
    """The tf2onnx handler that turns a marker into a BatchNormalization node named after its layer."""
    marker = re.compile(rf"(?:^|/){_MARKER}(\d+)/")

    def handler(ctx: Any, node: Any, name: str, args: Any) -> None:  # noqa: ARG001 - tf2onnx's signature
        match = marker.search(node.name)
        if match is None:  # an ordinary IdentityN: each output is its input
            ctx.remove_node(node.name)
            for value, output in zip(node.input, node.output, strict=True):
                ctx.replace_all_inputs(output, value)
            return
        site = sites[int(match.group(1))]
        values, output = list(node.input), node.output[0]
        shape, dtype = ctx.get_shape(output), ctx.get_dtype(output)
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


def _erfc(ctx: Any, node: Any, name: str, args: Any) -> None:  # noqa: ARG001 - tf2onnx's signature
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
