"""Seeded changes of a SavedModel: its graph, functions, objects, signatures and saver say something else than TensorFlow wrote."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import mutated


def write_seed(path: Path) -> Path:
    """A small SavedModel: a convolution, statistics, a nested function and a loop; two signatures."""
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones([3, 3, 1, 4]))
            self.scale, self.mean = tf.Variable(tf.ones([4])), tf.Variable(tf.zeros([4]))
            self.dense = tf.Variable(tf.ones([4, 3]))
            self.serving, self.doubled = tf.function(self.call, spec), tf.function(self.twice, spec)

        @tf.function
        def head(self, x: Any) -> Any:
            return tf.nn.softmax(tf.matmul(x, self.dense))

        def call(self, x: Any) -> Any:
            y = tf.nn.relu(tf.nn.conv2d(x, self.kernel, 1, "SAME"))
            y, _, _ = tf.compat.v1.nn.fused_batch_norm(
                y, self.scale, self.mean, mean=self.mean, variance=self.scale, is_training=False
            )
            y = tf.reduce_mean(y, [1, 2])
            (_, y) = tf.while_loop(lambda n, _: n < 2, lambda n, z: (n + 1, z * 0.5), (0, y))
            return {"y": self.head(y)}

        def twice(self, x: Any) -> Any:
            return {"y": 2.0 * self.call(x)["y"]}

    spec = [tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")]
    net = Net()
    signatures = {"serving_default": net.serving.get_concrete_function(), "twice": net.doubled.get_concrete_function()}
    tf.saved_model.save(net, str(path), signatures=signatures)
    return path


def bodies(graph: Any) -> list[Any]:
    """The nodes of the graph, and of each function."""
    every = [graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)]
    return [nodes for nodes in every if nodes]


OPERATIONS = ("Identity", "Relu", "Softmax", "Const", "Reshape", "While", "StatefulPartitionedCall", "ReadVariableOp")
FOREIGN = ("WriteFile", "ReadFile", "SaveV2", "RestoreV2", "PrintV2", "Nothing", "")
NAMES = ("", "\0", "x", "nowhere", "^nowhere", "nowhere:output:0", "__inference__traced_save_1")


def change_node(graph: Any, rng: random.Random) -> None:
    nodes = rng.choice(bodies(graph))
    node = rng.choice(nodes)
    match rng.randrange(6):
        case 0:
            node.op = rng.choice(OPERATIONS if rng.random() < 0.7 else FOREIGN)
        case 1 if node.input:
            other = rng.choice(nodes).name
            node.input[rng.randrange(len(node.input))] = rng.choice((other, f"{other}:output:0", f"{other}:7", *NAMES))
        case 2 if node.input:
            del node.input[-1]
        case 3:
            nodes.remove(copy.deepcopy(node))
        case 4:
            node.name = rng.choice((*NAMES, rng.choice(nodes).name))
        case _:
            node.input.append(rng.choice(nodes).name)


def change_attribute(graph: Any, rng: random.Random) -> None:
    node = rng.choice([node for nodes in bodies(graph) for node in nodes if node.attr] or [None])
    if node is None:
        return
    name = rng.choice(sorted(node.attr))
    value = node.attr[name]
    match rng.randrange(6):
        case 0:
            del node.attr[name]
        case 1:
            value.type = rng.choice((0, 1, 2, 3, 7, 9, 20, 99))
        case 2:
            value.i = rng.choice((0, -1, 7, 1 << 40))
        case 3:
            value.s = rng.choice((b"", b"SAME", b"NHWC", b"NCHW", b"\xff"))
        case 4:
            del value.shape.dim[:]
            value.shape.dim.add(size=rng.choice((-1, 0, 3, 1 << 40)))
        case _:
            value.func.name = rng.choice([f.signature.name for f in graph.graph_def.library.function] or ["x"])


def change_function(graph: Any, rng: random.Random) -> None:
    functions = graph.graph_def.library.function
    if not functions:
        return
    function = rng.choice(functions)
    match rng.randrange(5):
        case 0:
            function.signature.name = rng.choice((*NAMES, "WriteFile", rng.choice(functions).signature.name))
        case 1:
            functions.remove(copy.deepcopy(function))
        case 2 if function.ret:
            function.ret[rng.choice(sorted(function.ret))] = rng.choice((*NAMES, rng.choice(function.node_def).name))
        case 3:
            arguments = rng.choice((function.signature.input_arg, function.signature.output_arg))
            if arguments:
                del arguments[rng.randrange(len(arguments))]
        case _:
            function.signature.input_arg.add(name=rng.choice(NAMES), type=rng.choice((0, 1, 20)))


def change_saver(graph: Any, rng: random.Random) -> None:
    name = rng.choice([node.name for node in graph.graph_def.node] + list(NAMES))
    setattr(graph.saver_def, rng.choice(("save_tensor_name", "restore_op_name", "filename_tensor_name")), name)


def change_signature(graph: Any, rng: random.Random) -> None:
    signatures = graph.signature_def
    name = rng.choice(sorted(signatures) or ["serving_default"])
    match rng.randrange(4):
        case 0:
            del signatures[name]
        case 1:
            signatures[rng.choice(NAMES)].CopyFrom(signatures[name])
        case _:
            tensors = rng.choice((signatures[name].inputs, signatures[name].outputs))
            tensor = tensors[rng.choice(sorted(tensors) or ["x"])]
            tensor.name = rng.choice((tensor.name, *NAMES, rng.choice(graph.graph_def.node).name + ":0"))
            tensor.dtype = rng.choice((tensor.dtype, 0, 3, 7, 99))


def change_object(graph: Any, rng: random.Random) -> None:
    nodes = graph.object_graph_def.nodes
    if not nodes:
        return
    node = rng.choice(nodes)
    names = [f.signature.name for f in graph.graph_def.library.function] or ["x"]
    match rng.randrange(7):
        case 0 if node.children:
            rng.choice(node.children).node_id = rng.choice((0, -1, 1 << 30, rng.randrange(len(nodes))))
        case 1 if node.children:
            rng.choice(node.children).local_name = rng.choice((*NAMES, "__class__", "__del__"))
        case 2:
            node.bare_concrete_function.concrete_function_name = rng.choice((*names, *NAMES))
        case 3:
            node.variable.dtype = rng.choice((0, 1, 7, 20, 99))
        case 4:
            node.user_object.identifier = rng.choice(("", "signature_map", "optimizer", "trackable_list_wrapper", "x"))
        case 5:
            functions = graph.object_graph_def.concrete_functions
            function = functions[rng.choice(sorted(functions) or ["x"])]
            if function.bound_inputs:
                function.bound_inputs[0] = rng.choice((0, -1, 1 << 30))
        case _:
            graph.ClearField("object_graph_def")


CHANGES: tuple[Callable[[Any, random.Random], None], ...] = (
    change_node,
    change_node,
    change_node,
    change_attribute,
    change_attribute,
    change_function,
    change_saver,
    change_signature,
    change_object,
    change_object,
)


def write_changed(seed: Path, path: Path, nth: int) -> Path:
    """The changed SavedModel of that number, the same each time."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    rng = random.Random(nth)  # noqa: S311 - to be repeated, not to be secret
    shutil.copytree(seed, path)
    if rng.random() < 0.1:
        file = path / "variables" / rng.choice(("variables.index", "variables.data-00000-of-00001"))
        file.write_bytes(mutated(file.read_bytes(), rng))
        return path
    message = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(CHANGES)(rng.choice(message.meta_graphs), rng)
    if rng.random() < 0.03:
        message.meta_graphs.add().CopyFrom(message.meta_graphs[0])
    (path / "saved_model.pb").write_bytes(message.SerializeToString())
    return path
