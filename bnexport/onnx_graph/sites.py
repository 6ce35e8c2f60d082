"""The BatchNormalization nodes of a graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.onnx_graph import metadata
from bnexport.onnx_graph.constants import Constants
from bnexport.onnx_graph.layers import module_of

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Site:
    """One BatchNormalization node in inference mode: y = (x - mean) / sqrt(var + epsilon) * gamma + beta.

    Args:
        name: the node's name, in a file written by bnexport the Keras layer's path; where torch.onnx states it, the path of the module.
        index: the node's place among all nodes of the graph.
        x: the tensor it normalises, shape (N, C, ...).
        y: the tensor it makes.
        gamma: the initializer of its scale, shape (C,).
        beta: the initializer of its offset, shape (C,).
        mean: the initializer of its moving mean, shape (C,).
        var: the initializer of its moving variance, shape (C,).
        epsilon: added to the variance.
        channels: C.
        momentum: the layer's momentum in Keras' sense (the weight of the old value), which is ONNX' too; None where the file does not say.
        frozen: True where the layer runs on its moving statistics in training mode too.
    """

    name: str
    index: int
    x: str
    y: str
    gamma: str
    beta: str
    mean: str
    var: str
    epsilon: float
    channels: int
    momentum: float | None
    frozen: bool


def sites(model: onnx.ModelProto) -> list[Site]:
    """The BatchNormalization nodes of the graph that run in inference mode, in the graph's order.

    Returns:
        [] where there are none, or where the graph computes the parameters of one (`sites_with_computed_parameters`): nobody can read or replace
        those, and the statistics of the others depend on them.
    """
    if sites_with_computed_parameters(model):
        return []
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    result = []
    nodes = [(index, node) for index, node in enumerate(model.graph.node) if _in_inference_mode(node)]
    modules = [".".join(module_of(node)) for _, node in nodes]
    times = Counter(modules)
    for (index, node), module in zip(nodes, modules, strict=True):
        attributes = {a.name: a for a in node.attribute}
        x, gamma, beta, mean, var = node.input
        name = module if module and times[module] == 1 else node.name or node.output[0]
        epsilon = float(attributes["epsilon"].f) if "epsilon" in attributes else 1e-5
        result.append(
            Site(
                name=name,
                index=index,
                x=x,
                y=node.output[0],
                gamma=gamma,
                beta=beta,
                mean=mean,
                var=var,
                epsilon=epsilon,
                channels=sizes[mean][0],
                momentum=metadata.momentum(node, attributes["momentum"].f if "momentum" in attributes else None),
                frozen=metadata.frozen(node),
            )
        )
    return result


def sites_with_computed_parameters(model: onnx.ModelProto) -> list[str]:
    """The names of the BatchNormalization nodes in inference mode whose parameters the graph computes, in the graph's order."""
    shapes = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return [
        node.name or node.output[0]
        for node in model.graph.node
        if _in_inference_mode(node) and any(shapes.get(name) != 1 for name in node.input[1:])
    ]


def _in_inference_mode(node: onnx.NodeProto) -> bool:
    if node.op_type != "BatchNormalization" or node.domain or len(node.input) != len(_ROLES):
        return False
    return not any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)


def own_parameters(model: onnx.ModelProto) -> None:
    """Gives every BatchNormalization node initializers of its own, in place.

    Exporters store equal arrays once: PyTorch puts an Identity node in front of the second reader (`_C._jit_pass_onnx_deduplicate_initializers`), others
    let both read the same initializer or a Constant node, or compute the array from constants. New statistics of one node must not become another's.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = Constants(model)
    taken: set[str] = set()
    used = {*stored, *(info.name for info in model.graph.input)}
    used |= {name for node in model.graph.node for name in (*node.input, *node.output)}
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or node.domain:
            continue
        for position, name in enumerate(node.input):
            if position == 0:
                continue
            if name in stored and name not in taken:
                taken.add(name)
                continue
            if name in stored:
                content = stored[name]
            elif (value := constants.value(name)) is not None and value.ndim == 1:
                content = numpy_helper.from_array(value)
            else:
                continue
            own = f"{node.name or node.output[0]}/{_ROLES[position]}"
            while own in used:
                own += "_"
            used.add(own)
            copy = model.graph.initializer.add()
            copy.CopyFrom(content)
            copy.name = node.input[position] = own
            taken.add(own)


_ROLES = ("x", "gamma", "beta", "moving_mean", "moving_variance")
