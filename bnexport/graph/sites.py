"""The BatchNormalization nodes of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.graph import metadata

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Site:
    """One BatchNormalization node in inference mode: y = (x - mean) / sqrt(var + epsilon) * gamma + beta.

    Args:
        name: the node's name; in a file written by bnexport the Keras layer's path.
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
    """The BatchNormalization nodes of the graph that run in inference mode, in the graph's order; [] where there are none.

    Raises:
        InputError: a node's statistics are not initializers, so that nobody can read or replace them.
    """
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for index, node in enumerate(model.graph.node):
        attributes = {a.name: a for a in node.attribute}
        if (
            node.op_type != "BatchNormalization"
            or node.domain
            or ("training_mode" in attributes and attributes["training_mode"].i)
        ):
            continue
        x, gamma, beta, mean, var = node.input
        name = node.name or node.output[0]
        if missing := [tensor for tensor in (gamma, beta, mean, var) if tensor not in sizes]:
            raise InputError(
                f"the BatchNormalization node {name} computes its parameters",
                found=", ".join(missing),
                expected="initializers",
            )
        epsilon = float(attributes["epsilon"].f) if "epsilon" in attributes else 1e-5
        found.append(
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
                momentum=metadata.read(
                    node, "momentum", attributes["momentum"].f if "momentum" in attributes else None
                ),
                frozen=bool(metadata.read(node, "frozen", False)),
            )
        )
    return found


def own_parameters(model: onnx.ModelProto) -> None:
    """Gives every BatchNormalization node initializers of its own, in place.

    Exporters store equal arrays once: PyTorch puts an Identity node in front of the second reader (`_C._jit_pass_onnx_deduplicate_initializers`), others
    let both read the same initializer or a Constant node. New statistics of one node must not become another's.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    maker = {output: node for node in model.graph.node for output in node.output}
    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or node.domain:
            continue
        for place, name in enumerate(node.input):
            if place == 0:
                continue
            source = name
            while source not in stored and source in maker and maker[source].op_type == "Identity":
                source = maker[source].input[0]
            if source in stored:
                content = stored[source]
            elif source in maker and maker[source].op_type == "Constant" and maker[source].attribute[0].name == "value":
                content = maker[source].attribute[0].t
            else:
                continue
            if name in stored and name not in taken:
                taken.add(name)
                continue
            own = f"{node.name or node.output[0]}/{_ROLES[place]}"
            copy = model.graph.initializer.add()
            copy.CopyFrom(content)
            copy.name = node.input[place] = own
            taken.add(own)


_ROLES = ("x", "gamma", "beta", "moving_mean", "moving_variance")
