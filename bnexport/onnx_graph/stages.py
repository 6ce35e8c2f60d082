"""The inference graph cut at its BatchNormalization sites.

The level of a node is the number of sites on the longest path that ends with it. Stage k is the nodes of level k: it takes the tensors
that are still alive, and ends at the inputs of the sites of level k+1, whose moments it gives out. Once those moments are merged over all
images, the statistics of level k+1 are final, and stage k+1 can run. ResNet50 has 53 sites on 50 levels.

For each site a stage gives out, for every image and channel, the mean and the variance around that mean, and the shape of the input.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.errors import InputError
from bnexport.onnx_graph import subgraphs, tensors
from bnexport.onnx_graph.sites import Site
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Stage:
    """One level of the graph.

    Args:
        nodes: the positions of its nodes in the graph.
        needs: the tensors it takes, graph inputs among them.
        keeps: the tensors it makes that a later stage or the caller needs.
        sites: the sites that its end decides.
        drops: the tensors that nobody needs after it.
    """

    nodes: tuple[int, ...]
    needs: tuple[str, ...]
    keeps: tuple[str, ...]
    sites: tuple[Site, ...]
    drops: frozenset[str]


def stages(model: onnx.ModelProto, cuts: Collection[Site]) -> list[Stage]:
    """The graph cut at the sites `cuts`, in the order in which its stages can run.

    Raises:
        InputError: two sites share their statistics (a layer that is called twice), or a BatchNormalization node is inside
            a loop or a branch.
    """
    _refuse_shared(cuts)
    if inside := subgraphs.inner_normalisations(model):
        raise InputError(
            f"the BatchNormalization node {inside[0]} is inside a loop or a branch, so its input cannot be measured"
        )
    stored = {tensor.name for tensor in model.graph.initializer}
    at = {site.index: site for site in cuts}
    level = {info.name: 0 for info in tensors.inputs(model)}
    levels = []
    reads = [subgraphs.reads(node) for node in model.graph.node]  # a Loop reads what its inner graph captures too
    for index, node in enumerate(model.graph.node):
        own = max((level[name] for name in reads[index] if name in level), default=0) + (index in at)
        levels.append(own)
        level.update(dict.fromkeys(node.output, own))
    last = max(levels, default=0)
    used_until: dict[str, int] = {}
    for names, own in zip(reads, levels, strict=True):
        for name in names:
            used_until[name] = max(used_until.get(name, 0), own)
    for info in model.graph.output:
        used_until[info.name] = last + 1
    cut = []
    for k in range(last + 1):
        indices = [i for i, own in enumerate(levels) if own == k]
        nodes = [model.graph.node[i] for i in indices]
        made = dict.fromkeys(name for node in nodes for name in node.output if name)
        needs = dict.fromkeys(n for i in indices for n in reads[i] if n not in stored and n not in made)
        ended = tuple(site for site in cuts if levels[site.index] == k + 1)
        cut.append(
            Stage(
                nodes=tuple(indices),
                # A site may normalise a graph input or a tensor of an earlier level beside it: the stage passes it through.
                needs=tuple(dict.fromkeys([*needs, *(s.x for s in ended if s.x not in made)])),
                keeps=tuple(name for name in made if used_until.get(name, -1) > k),
                sites=ended,
                drops=frozenset(name for name, until in used_until.items() if until <= k and name not in stored),
            )
        )
    return cut


def bytes_per_image(model: onnx.ModelProto, plan: Collection[Stage]) -> int | None:
    """How much memory the tensors of one image take at the widest cut; None where a shape is not known beforehand."""
    from onnx import helper

    sizes = {}
    for info in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        shape = tensors.shape(info)
        if shape is not None and all(side is not None for side in shape[1:]):
            width = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type).itemsize
            sizes[info.name] = math.prod(side or 0 for side in shape[1:]) * width
    alive, widest = {info.name for info in tensors.inputs(model)}, 0
    for stage in plan:
        alive = (alive | set(stage.keeps)) - stage.drops
        if not alive <= set(sizes):
            return None
        widest = max(widest, sum(sizes[name] for name in alive))
    return widest


def _refuse_shared(cuts: Collection[Site]) -> None:
    owner: dict[str, str] = {}
    for site in cuts:
        first = owner.setdefault(site.mean, site.name)
        if first != site.name:
            raise InputError(
                f"the layer {first} is called more than once, so its statistics apply to several inputs",
                fix="use a separate BatchNormalization layer for each call",
            )


def stage_model(
    model: onnx.ModelProto, stage: Stage, statistics: Mapping[str, Array], rank: Mapping[str, int]
) -> onnx.ModelProto:
    """A model that runs one stage, and gives out the moments of the sites at its end.

    Args:
        model: the whole graph.
        stage: one of its stages.
        statistics: initializers to be replaced, by name: the statistics that earlier stages decided.
        rank: the rank of each tensor, from `bnexport.onnx_graph.tensors.ranks`.

    Returns:
        Its outputs are `stage.keeps`, then for each site those of `add_moments`.
    """
    import onnx

    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    part.graph.name = "stage"
    part.graph.node.extend(model.graph.node[index] for index in stage.nodes)
    infos = {info.name: info for info in [*model.graph.value_info, *model.graph.input, *model.graph.output]}
    part.graph.input.extend(infos.get(name) or onnx.ValueInfoProto(name=name) for name in stage.needs)
    part.graph.output.extend(infos.get(name) or onnx.ValueInfoProto(name=name) for name in stage.keeps)
    add_weights(part, model, statistics)
    add_moments(part, stage.sites, rank)
    return part


def add_weights(part: onnx.ModelProto, model: onnx.ModelProto, replaced: Mapping[str, Array]) -> None:
    """Gives `part` the initializers of `model` that its nodes read, in place; those in `replaced` with new values, in their own dtype."""
    from onnx import helper, numpy_helper

    read = {name for node in part.graph.node for name in subgraphs.reads(node)}
    for tensor in model.graph.initializer:
        if tensor.name not in read:
            continue
        if tensor.name in replaced:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor = numpy_helper.from_array(replaced[tensor.name].astype(dtype), tensor.name)
        part.graph.initializer.append(tensor)


def add_moments(part: onnx.ModelProto, measured: Collection[Site], rank: Mapping[str, int]) -> None:
    """Adds the moments of the inputs of sites to the outputs of a graph, in place.

    For each site: `SITE/mean` and `SITE/var`, the population variance around that mean, shape (N, C), and `SITE/shape`, the shape of its input.

    Raises:
        InputError: the rank of a site's input is unknown.
    """
    from onnx import helper

    for site in measured:
        if site.x not in rank:
            raise InputError(f"the rank of the input of {site.name} is unknown, so its moments cannot be measured")
        mean, var, inner = f"{site.name}/mean", f"{site.name}/var", f"{site.name}/moments"
        if rank[site.x] > 2:
            # GlobalAveragePool and Mul, because onnxruntime runs both on all cores and ReduceMean and ReduceSumSquare more slowly.
            part.graph.node.extend(
                [
                    helper.make_node("GlobalAveragePool", [site.x], [f"{inner}/mean"]),
                    helper.make_node("Sub", [site.x, f"{inner}/mean"], [f"{inner}/centred"]),
                    helper.make_node("Mul", [f"{inner}/centred", f"{inner}/centred"], [f"{inner}/squared"]),
                    helper.make_node("GlobalAveragePool", [f"{inner}/squared"], [f"{inner}/var"]),
                    helper.make_node("Flatten", [f"{inner}/mean"], [mean], axis=1),
                    helper.make_node("Flatten", [f"{inner}/var"], [var], axis=1),
                ]
            )
        else:  # one value for each image and channel: it is its own mean
            part.graph.node.extend(
                [helper.make_node("Identity", [site.x], [mean]), helper.make_node("Sub", [site.x, site.x], [var])]
            )
        part.graph.node.append(helper.make_node("Shape", [site.x], [f"{site.name}/shape"]))
        part.graph.output.append(helper.make_tensor_value_info(f"{site.name}/shape", 7, [rank[site.x]]))
        for name in (mean, var):
            part.graph.output.append(helper.make_tensor_value_info(name, 1, ["N", site.channels]))
