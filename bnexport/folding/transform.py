"""BatchNormalization, and affine Mul and Add pairs, folded into the linear operators beside them.

A BatchNormalization node is y = s * x + t with s = gamma / sqrt(var + epsilon) and t = beta - mean * s. It is folded into the operator that
makes x (`bnexport.numerics.linear`, after), else into the one that reads y (before), else into a BatchNormalization beside it. Mul, Div,
Add and Sub with one constant for each channel are folded in the same way, but not into a BatchNormalization. A MatMul has no
bias: what is left of a shift behind it is one Add.

Operators between the two that only move values, such as a Transpose, stay where they are (`bnexport.folding.paths`). Nothing is folded
across a tensor that somebody else reads. What stays says why (`bnexport.folding.refusals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexport.folding.paths import Bias, has_bias, to_maker, to_reader
from bnexport.folding.refusals import Refusal, refusals
from bnexport.numerics.linear import F64
from bnexport.onnx_graph import subgraphs, weights
from bnexport.onnx_graph.patterns import Affine, View, attributes_of, name_of

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Fold:
    """One node that is gone: its name, the node that took it in, and how ("after", "before", "merged")."""

    name: str
    into: str
    how: str


@dataclass(frozen=True, slots=True)
class Folded:
    """A graph after folding; truthy when something was folded."""

    model: onnx.ModelProto
    folds: tuple[Fold, ...]
    refusals: tuple[Refusal, ...]

    def __bool__(self) -> bool:
        return bool(self.folds)


def fold(model: onnx.ModelProto) -> Folded:
    """A copy of the model with everything folded that can be; the model itself is not changed."""
    work = _Work(model)
    folds: list[Fold] = []
    while (change := next((f for node in work.nodes if (f := work.fold_node(node))), None)) is not None:
        folds.append(change)
    return Folded(work.model(), tuple(folds), tuple(refusals(work)))


class _Work(View):
    """A graph in the middle of being folded."""

    def model(self) -> onnx.ModelProto:
        """The graph as it stands now."""
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(self.original)
        used = {name for node in copy.graph.node for name in subgraphs.reads(node)}
        read = {name for node in self.nodes for name in subgraphs.reads(node)} | self.outputs
        unread = used - read
        self.nodes = [n for n in self.nodes if n.op_type != "Constant" or n.output[0] not in unread]
        del copy.graph.node[:]
        copy.graph.node.extend(self.nodes)
        weights.set_initializers(copy, {name: value for name, value in self.values.items() if name in read})
        made = {output for node in self.nodes for output in node.output}
        shapes = [info for info in copy.graph.value_info if info.name in made]
        del copy.graph.value_info[:]
        copy.graph.value_info.extend(shapes)
        return copy

    def fold_node(self, node: onnx.NodeProto) -> Fold | None:
        """Folds one node, where it can be; says what was done."""
        affine = self.affine(node)
        if affine is None or not affine.finite:
            return None
        return self._into_maker(node, affine) or self._into_reader(node, affine)

    def _into_maker(self, node: onnx.NodeProto, affine: Affine) -> Fold | None:
        way = to_maker(self, affine)
        if isinstance(way, str):
            return self._into_normalisation(node, affine)
        target, linear = way.node, way.linear
        product = target.op_type == "MatMul"
        if product and way.bias is None and node.op_type != "BatchNormalization" and (affine.s == 1).all():
            return None  # already its bias
        weight, bias = linear.after(*(np.broadcast_to(v, linear.outputs) for v in (affine.s, affine.t)))
        dtype = self.constant(target.input[1]).dtype
        self._reweight(target, weight, None if product else bias)
        if way.bias is not None:
            self._move_bias(way.bias, affine, dtype)
        if product and way.bias is None and affine.t.any():
            self._exchange(node, [self._add(target, affine, node.output[0], dtype)])
        else:
            self._exchange(node, [], {affine.x: node.output[0]})
        return Fold(name_of(node), name_of(target), "after")

    def _into_normalisation(self, node: onnx.NodeProto, affine: Affine) -> Fold | None:
        maker = self.maker.get(affine.x)
        if maker is None or {node.op_type, maker.op_type} != {"BatchNormalization"} or not self.alone(affine.x):
            return None
        before = self.affine(maker)
        if before is None:
            return None
        return self._merge(node, maker, Affine(before.x, 1, affine.s * before.s, affine.s * before.t + affine.t))

    def _into_reader(self, node: onnx.NodeProto, affine: Affine) -> Fold | None:
        way = to_reader(self, node, affine)
        if isinstance(way, str):
            return None
        target, linear = way.node, way.linear
        product = target.op_type == "MatMul"
        if product and node.op_type != "BatchNormalization" and (affine.s == 1).all() and not has_bias(self, target):
            return None  # an Add before it would become an Add behind it
        weight, bias = linear.before(*(np.broadcast_to(v, linear.inputs) for v in (affine.s, affine.t)))
        y, dtype = target.output[0], self.constant(target.input[1]).dtype
        made = self._reweight(target, weight, None if product else bias)
        if product and bias.any():
            inner = f"{y}/product"
            self.rank[inner] = self.rank.get(y, 2)
            made.output[0] = inner
            shift = Affine(inner, self.rank[inner] - 1, np.ones_like(bias), bias)
            self._exchange(made, [made, self._add(target, shift, y, dtype)])
        self._exchange(node, [], {node.output[0]: affine.x})
        return Fold(name_of(node), name_of(target), "before")

    def _reweight(self, node: onnx.NodeProto, weight: F64, bias: F64 | None) -> onnx.NodeProto:
        """Gives a linear operator a new weight and bias."""
        from onnx import helper

        dtype = self.constant(node.input[1]).dtype
        inputs = [node.input[0], self._store(node.input[1], weight, dtype)]
        attributes = attributes_of(node)
        if bias is not None:
            given = node.input[2] if len(node.input) > 2 and node.input[2] else ""
            inputs.append(self._store(given or f"{name_of(node)}/bias", bias, dtype, fresh=not given))
            attributes |= {"beta": 1.0} if node.op_type == "Gemm" else {}
        made = helper.make_node(node.op_type, inputs, list(node.output), name=node.name, **attributes)
        self._exchange(node, [made])
        return made

    def _move_bias(self, bias: Bias, affine: Affine, dtype: np.dtype[np.generic]) -> None:
        """The Add behind a MatMul with the bias that the affine map makes of it."""
        moved = bias.affine.t * affine.s + affine.t
        node = bias.node
        self._exchange(node, [self._add(node, Affine(bias.affine.x, bias.axis, moved, moved), node.output[0], dtype)])

    def _add(self, owner: onnx.NodeProto, shift: Affine, y: str, dtype: np.dtype[np.generic]) -> onnx.NodeProto:
        """An Add of `shift.t`, named after the MatMul that it belongs to, or as the Add that it replaces."""
        from onnx import helper

        behind = 0 if shift.axis == -1 else self.rank[shift.x] - 1 - shift.axis
        stored = self._store(f"{name_of(owner)}/bias", shift.t.reshape(-1, *[1] * behind), dtype, fresh=True)
        name = owner.name if owner.op_type != "MatMul" else f"{name_of(owner)}/add_bias"
        return helper.make_node("Add", [shift.x, stored], [y], name=name)

    def _merge(self, node: onnx.NodeProto, first: onnx.NodeProto, affine: Affine) -> Fold:
        """Two affine nodes as one BatchNormalization node with mean 0, variance 1 and no epsilon."""
        from onnx import helper

        dtype, channels = self.constant(node.input[1]).dtype, affine.s.size
        parts = {
            "gamma": affine.s,
            "beta": np.broadcast_to(affine.t, channels),
            "mean": np.zeros(channels),
            "var": np.ones(channels),
        }
        inputs = [
            self._store(f"{name_of(node)}/merged/{part}", value, dtype, fresh=True) for part, value in parts.items()
        ]
        merged = helper.make_node(
            "BatchNormalization", [affine.x, *inputs], list(node.output), name=node.name, epsilon=0.0
        )
        self._exchange(node, [merged])
        self._exchange(first, [], {first.output[0]: node.output[0]})
        return Fold(name_of(first), name_of(node), "merged")

    def _exchange(self, old: onnx.NodeProto, new: list[onnx.NodeProto], names: Mapping[str, str] | None = None) -> None:
        """Puts new nodes where an old one stood; `names` are the new names of tensors in all nodes that stay."""
        position = next(index for index, node in enumerate(self.nodes) if node is old)
        self.nodes[position : position + 1] = new
        if names:
            self.nodes = [_with_names(node, names) for node in self.nodes]
        self.index()

    def _store(self, name: str, value: F64, dtype: np.dtype[np.generic], *, fresh: bool = False) -> str:
        """Stores a value, under `name` where nobody else uses it."""
        free = name not in self.values if fresh else self.alone(name) and name in self.values
        nth = 2
        final = name
        while not free:
            final = f"{name}#{nth}"
            free, nth = final not in self.values, nth + 1
        self.values[final] = np.asarray(value).astype(dtype)
        return final


def _with_names(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """The node itself, or a copy where it reads or makes a tensor that has a new name."""
    if names.keys().isdisjoint((*node.input, *node.output)):
        return node
    copy = type(node)()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    return copy
