"""A Keras model's inference pass as a TensorFlow graph, with every weight outside (tensorflow and keras).

1. `model.stateless_call` is traced as a function of the input *and of every variable*: nothing is frozen or mutated. Tensors
   that the function captured (Normalization layers do this) become further inputs.
2. While tracing, BatchNormalization layers leave one marker op, an `IdentityN` that holds x, gamma, beta, mean and variance,
   in place of their arithmetic; the patch is scoped and covers nothing else.
3. Weights of LSTM cells become constants of the graph (`_in_lstm_cells`).
4. Function calls are inlined, also those that Keras marks for XLA (grouped convolutions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import BnexportError, ExportError, InputError
from bnexport.frameworks.keras.logits import logits_kept
from bnexport.frameworks.keras.patch import layer_error, method_replaced, name_scopes_restored
from bnexport.frameworks.keras.paths import layer_paths
from bnexport.frameworks.keras.traced import MARKER, Trace, TracedSite
from bnexport.results.actions import spell_options
from bnexport.system.exclusive import exclusive

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from tensorflow.types.experimental import ConcreteFunction

    from bnexport.types import Array


@exclusive
@name_scopes_restored()
def trace(
    model: keras.Model, weights: dict[str, keras.Variable], inputs: Sequence[str], outputs: Sequence[str]
) -> Trace:
    """The inference pass of a Keras model as a graph; the model is not changed.

    Args:
        model: a built keras.Model with known inputs.
        weights: the model's variables by the name they shall have in the graph.
        inputs: the name of each input, in the order of `model.inputs`.
        outputs: the name of each output, in the order the model returns them.

    Raises:
        ExportError: a layer keeps a table or a state, or the model reads text (EX002).
        InputError: a layer cannot be run.
    """
    import keras
    import tensorflow as tf

    _refuse_what_changes(model)
    by_id = {id(variable): name for name, variable in weights.items()}
    train, fixed = model.trainable_variables, model.non_trainable_variables
    names = [by_id[id(v)] for v in [*train, *fixed]]
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in model.inputs]
    specs += [tf.TensorSpec(v.shape, v.dtype) for v in [*train, *fixed]]
    logits: dict[str, str] = {}
    names_out: list[str] = []

    def forward(*tensors: tf.Tensor) -> list[tf.Tensor]:
        x, w = tensors[: len(inputs)], tensors[len(inputs) :]
        # Functional models say how their inputs are packed (a list, a dict); other models take one tensor.
        packed = (
            keras.tree.pack_sequence_as(structure, list(x))
            if (structure := getattr(model, "_inputs_struct", None)) is not None
            else x[0]
        )
        y, _ = model.stateless_call(list(w[: len(train)]), list(w[len(train) :]), packed, training=False)
        flat = keras.tree.flatten(y)
        names_out.extend(outputs)
        extra = []
        for name, tensor in zip(outputs, flat, strict=True):
            before = getattr(tensor, "_keras_logits", None)  # Keras keeps what it fed to softmax or sigmoid
            if before is not None:
                logits[name] = f"{name}/logits"
                names_out.append(logits[name])
                extra.append(before)
        return [tf.identity(t) for t in [*flat, *extra]]

    try:
        with _mark_layers(layer_paths(model)) as sites, logits_kept():
            traced = tf.function(forward, input_signature=specs, autograph=False).get_concrete_function()
    except (BnexportError, MemoryError):
        raise
    except Exception as error:  # whatever a layer raises on the values in its configuration
        raise InputError(f"Keras cannot run the model ({layer_error(error)})", fix="check how it was saved") from error
    layers = frozenset(layer.name for layer in model._flatten_layers(include_self=False))
    _refuse_tables(traced, layers)
    captured = [np.asarray(tensor) for tensor in traced.captured_inputs]  # constants of Normalization layers
    input_names = [*inputs, *names, *(f"captured/{i}" for i in range(len(captured)))]
    graph_def = _inline(traced)
    values = dict(zip(input_names[len(inputs) :], [*(v.numpy() for v in (*train, *fixed)), *captured], strict=True))
    named = dict(zip([t.name for t in traced.inputs], input_names, strict=True))
    constant = _in_lstm_cells(model, weights)
    for tensor, name in named.items():
        if name in constant:
            _make_constant(graph_def, tensor, values[name])
    return Trace(
        graph_def=graph_def,
        inputs={tensor: name for tensor, name in named.items() if name not in constant},
        outputs=dict(zip([t.name for t in traced.outputs], names_out, strict=True)),
        sites=tuple(sites),
        weights={name: value for name, value in values.items() if name not in constant},
        constants={name: values[name] for name in values if name in constant},
        logits=logits,
        layers=layers,
    )


def _refuse_what_changes(model: keras.Model) -> None:
    """Refuses inputs that are text, and layers whose output depends on the batches before."""
    text = [tensor.name for tensor in model.inputs if tensor.dtype == "string"]
    if text:
        raise ExportError(
            f"EX002: an exported file cannot read text (input {', '.join(text)})",
            fix=f"export the part after the layer that converts text to numbers, and pass the numbers with {spell_options(inputs='data.npz')}",
        )
    kept = [layer.name for layer in model._flatten_layers(include_self=False) if getattr(layer, "stateful", False)]
    if kept:
        raise ExportError(
            f"EX002: the layer {kept[0]} is stateful: its output depends on earlier batches, and an ONNX file has no state",
            fix="build the model with stateful=False, copy the weights with set_weights(get_weights()), and save it",
        )


def _refuse_tables(traced: ConcreteFunction, layers: frozenset[str]) -> None:
    """Refuses tables and variables that a layer reads from outside the graph: an ONNX file cannot hold them."""
    for outer, inner in zip(traced.captured_inputs, traced.graph.internal_captures, strict=True):
        if outer.dtype.name not in ("resource", "variant", "string"):
            continue
        scopes = [part for op in inner.consumers() for part in op.name.split("/")]
        plain = [re.sub(r"_\d+$", "", part) for part in scopes]
        layer = next((part for pair in zip(scopes, plain, strict=True) for part in pair if part in layers), None)
        where = f"the layer {layer}" if layer else "a layer of the model"
        raise ExportError(
            f"EX002: {where} uses a lookup table, which ONNX files cannot contain",
            fix="export the part of the model after it, and use its output as the input",
        )


def _in_lstm_cells(model: keras.Model, weights: dict[str, keras.Variable]) -> set[str]:
    """The weights of LSTM cells by name: tf2onnx writes an LSTM node only where it sees their values."""
    from keras.layers import LSTMCell

    cells = [layer for layer in model._flatten_layers() if isinstance(layer, LSTMCell)]
    inside = {id(variable) for cell in cells for variable in cell.variables}
    return {name for name, variable in weights.items() if id(variable) in inside}


def _make_constant(graph_def: tf.compat.v1.GraphDef, tensor: str, value: Array) -> None:
    """Turns a graph input into a constant, in place."""
    import tensorflow as tf

    name = tensor.split(":")[0]
    node = next(node for node in graph_def.node if node.name == name)
    kind, shapes = node.attr["dtype"].type, node.attr["_output_shapes"].list
    constant = type(node)(name=name, op="Const")
    constant.attr["dtype"].type = kind
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    constant.attr["_output_shapes"].list.CopyFrom(shapes)
    node.CopyFrom(constant)


@contextmanager
def _mark_layers(paths: Mapping[int, str]) -> Iterator[list[TracedSite]]:
    """While open, a BatchNormalization layer leaves a marker op instead of its arithmetic."""
    import tensorflow as tf
    from keras.layers import BatchNormalization

    sites: list[TracedSite] = []
    calls: dict[int, int] = {}

    def call(layer: keras.Layer, inputs: tf.Tensor, training: object = None, mask: object = None) -> tf.Tensor:  # noqa: ARG001 - Keras' signature
        dtype = (
            tf.float64 if inputs.dtype == tf.float64 else tf.float32
        )  # Keras too normalises half precision in float32
        mean, var = tf.cast(layer.moving_mean, dtype), tf.cast(layer.moving_variance, dtype)
        gamma = tf.cast(layer.gamma, dtype) if layer.scale else tf.ones(mean.shape, dtype)
        beta = tf.cast(layer.beta, dtype) if layer.center else tf.zeros(mean.shape, dtype)
        calls[id(layer)] = nth = calls.get(id(layer), 0) + 1
        path = paths.get(id(layer), layer.path)
        name = path if nth == 1 else f"{path}#{nth}"
        rank = len(inputs.shape)
        sites.append(TracedSite(name, layer.axis % rank, layer.momentum, layer.epsilon, not layer.trainable))
        with tf.name_scope(f"{MARKER}{len(sites) - 1}/"):
            y = tf.raw_ops.IdentityN(input=[tf.cast(inputs, dtype), gamma, beta, mean, var])[0]
        return tf.cast(y, layer.compute_dtype)

    with method_replaced(BatchNormalization, "call", call):
        yield sites


def _inline(traced: ConcreteFunction) -> tf.compat.v1.GraphDef:
    """The traced function's GraphDef with every function call inlined, also those that Keras marks for XLA."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.framework.convert_to_constants import disable_lower_using_switch_merge
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training.saver import export_meta_graph

    graph_def = traced.graph.as_graph_def(add_shapes=True)
    # tf2onnx reads loops as the functional While, and inlining would turn them into Enter, Exit and NextIteration.
    graph_def = disable_lower_using_switch_merge(graph_def)
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
