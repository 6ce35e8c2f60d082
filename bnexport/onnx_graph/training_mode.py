"""The training-mode graph of an inference graph, from ordinary operators.

For every BatchNormalization node that is not frozen, over all axes but the channels,

    mean = ReduceMean(x);  centred = x - mean;  var = ReduceMean(centred^2)      (the population variance)
    y = centred * (gamma / sqrt(var + epsilon)) + beta

which is what Keras computes in training mode (keras.layers.BatchNormalization.call). ONNX' own training_mode=1 would be
shorter, but onnxruntime's CUDA provider refuses it from operator set 14 on. Nothing else of training mode is
modelled: dropout stays off, moving statistics are not updated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError
from bnexport.onnx_graph import subgraphs, tensors
from bnexport.onnx_graph.sites import Site, sites

if TYPE_CHECKING:
    import onnx


def training_mode_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose unfrozen BatchNormalization nodes use the batch's own statistics.

    The copy gives out, beside the model's outputs, `SITE/batch_mean` and `SITE/batch_var` of each such node, shape (C,).

    Raises:
        InputError: the rank of a normalised tensor is unknown, or a BatchNormalization node is inside a loop or a branch.
    """
    import onnx
    from onnx import numpy_helper

    if inside := subgraphs.inner_normalisations(model):
        raise InputError(
            f"the BatchNormalization node {inside[0]} is inside a loop or a branch, so the training-mode graph cannot be built"
        )

    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    thawed = {site.index: site for site in sites(model) if not site.frozen}
    rank = tensors.ranks(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(model.graph.node):
        site = thawed.get(index)
        if site is None:
            nodes.append(node)
            continue
        if site.x not in rank:
            raise InputError(
                f"the rank of the input of {site.name} is unknown, so the training-mode graph cannot be built"
            )
        if rank[site.x] < 2:
            raise InputError(
                f"the BatchNormalization node {site.name} has no channel axis",
                found=f"an input of rank {rank[site.x]}",
                expected="2 or more",
            )
        gamma, beta = (numpy_helper.to_array(stored[name]) for name in (site.gamma, site.beta))
        broadcast = (1, -1, *[1] * (rank[site.x] - 2))
        constants = {
            "gamma": gamma.reshape(broadcast),
            "beta": beta.reshape(broadcast),
            "epsilon": np.array(site.epsilon, gamma.dtype),
            "axes": np.array([axis for axis in range(rank[site.x]) if axis != 1], np.int64),
        }
        twin.graph.initializer.extend(
            numpy_helper.from_array(v, f"{site.name}/training/{k}") for k, v in constants.items()
        )
        nodes += _batch_normalization(site, constants["axes"].tolist(), opset)
        for statistic in ("mean", "var"):
            twin.graph.output.append(
                onnx.helper.make_tensor_value_info(
                    f"{site.name}/batch_{statistic}", stored[site.mean].data_type, [site.channels]
                )
            )
    del twin.graph.node[:]
    twin.graph.node.extend(nodes)
    read = {name for node in nodes for name in subgraphs.reads(node)}
    given = {info.name for info in twin.graph.output}
    kept = [tensor for tensor in twin.graph.initializer if tensor.name in read | given]
    gone = {tensor.name for tensor in twin.graph.initializer} - {tensor.name for tensor in kept}
    fed = [info for info in twin.graph.input if info.name not in gone]  # older files list their weights as inputs too
    del twin.graph.initializer[:], twin.graph.input[:]
    twin.graph.initializer.extend(kept)
    twin.graph.input.extend(fed)
    return twin


def _batch_normalization(site: Site, axes: list[int], opset: int) -> list[onnx.NodeProto]:
    from onnx import helper

    def t(name: str) -> str:
        return f"{site.name}/training/{name}"

    def node(op: str, *inputs: str, to: str) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [to], name=f"{to}/{op}")

    def mean(
        x: str, to: str, *, keepdims: int
    ) -> onnx.NodeProto:  # ReduceMean takes its axes as an input from opset 18 on
        if opset >= 18:
            return helper.make_node("ReduceMean", [x, t("axes")], [to], name=f"{to}/ReduceMean", keepdims=keepdims)
        return helper.make_node("ReduceMean", [x], [to], name=f"{to}/ReduceMean", axes=axes, keepdims=keepdims)

    return [
        mean(site.x, t("mean"), keepdims=1),
        node("Sub", site.x, t("mean"), to=t("centred")),
        node("Mul", t("centred"), t("centred"), to=t("squared")),
        mean(t("squared"), t("var"), keepdims=1),
        node("Add", t("var"), t("epsilon"), to=t("shifted")),
        node("Sqrt", t("shifted"), to=t("std")),
        node("Div", t("gamma"), t("std"), to=t("scale")),
        node("Mul", t("centred"), t("scale"), to=t("scaled")),
        node("Add", t("scaled"), t("beta"), to=site.y),
        mean(site.x, f"{site.name}/batch_mean", keepdims=0),
        mean(t("squared"), f"{site.name}/batch_var", keepdims=0),
    ]
