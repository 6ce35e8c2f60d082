"""BatchNormalization, and affine Mul and Add pairs, folded into the linear operators beside them.

A BatchNormalization node is y = s * x + t with s = gamma / sqrt(var + epsilon) and t = beta - mean * s. It is folded into the operator that
makes x (`bnexport.numerics.linear`, after), else into the one that reads y (before), else into a BatchNormalization beside it. Mul, Div,
Add and Sub with one constant for each channel are folded into the operator that makes their input. A MatMul has no
bias: what is left of a shift behind it is one Add.

Nothing is folded across a tensor that somebody else reads. What stays says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexport.numerics.linear import F64, LINEAR
from bnexport.onnx_graph import weights
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
class Refusal:
    """One BatchNormalization node that stays, and why."""

    name: str
    reason: str


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
    refusals = [
        Refusal(name_of(node), work.why_not(node)) for node in work.nodes if node.op_type == "BatchNormalization"
    ]
    return Folded(work.model(), tuple(folds), tuple(refusals))


class _Work(View):
    """A graph in the middle of being folded."""

    def model(self) -> onnx.ModelProto:
        """The graph as it stands now."""
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(self.original)
        del copy.graph.node[:]
        copy.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input} | self.outputs
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
        maker = self.maker.get(affine.x)
        if maker is None or not self.alone(affine.x):
            return None
        linear = self.linear(maker)
        if linear is not None:
            if affine.axis not in (-1, self.channel_axis(maker, affine.x)) or affine.s.size not in (1, linear.outputs):
                return None
            if linear.op == "MatMul" and (affine.s == 1).all():
                return None  # already its bias
            s, t = (np.broadcast_to(v, linear.outputs) for v in (affine.s, affine.t))
            weight, bias = linear.after(s, t)
            return self._replace(node, maker, weight, bias, at_end=node, how="after")
        before = self.affine(maker)
        if before is None or node.op_type != "BatchNormalization" or before.axis not in (-1, 1):
            return None
        root = self.maker.get(before.x)
        if maker.op_type != "BatchNormalization" and not (
            root is not None and root.op_type == "MatMul" and self.alone(before.x)
        ):
            return None
        return self._merge(node, maker, Affine(before.x, 1, affine.s * before.s, affine.s * before.t + affine.t))

    def _into_reader(self, node: onnx.NodeProto, affine: Affine) -> Fold | None:
        if node.op_type != "BatchNormalization" or not self.alone(node.output[0]):
            return None
        [reader] = self.readers[node.output[0]]
        linear = self.linear(reader)
        if (
            linear is None
            or reader.input[0] != node.output[0]
            or linear.inputs != affine.s.size
            or linear.attributes.get("transA")
        ):
            return None
        if self.channel_axis(reader, node.output[0]) != affine.axis or (
            linear.pads and (linear.op != "Conv" or affine.t.any())
        ):
            return None
        weight, bias = linear.before(affine.s, affine.t)
        return self._replace(node, reader, weight, bias, at_end=reader, how="before")

    def _replace(
        self, gone: onnx.NodeProto, target: onnx.NodeProto, weight: F64, bias: F64, *, at_end: onnx.NodeProto, how: str
    ) -> Fold:
        """Gives `target` a new weight and bias, and lets `gone` go: what it read or made is `target`'s now."""
        from onnx import helper

        stored = self.constant(target.input[1])
        end = at_end.output[0]
        x = gone.input[0] if how == "before" and gone.op_type == "BatchNormalization" else target.input[0]
        inputs = [x, self._store(target.input[1], weight, stored.dtype)]
        made: list[onnx.NodeProto]
        if target.op_type == "MatMul":
            if bias.any():
                inner = f"{end}/product"
                self.rank[inner] = self.rank.get(end, 2)
                name = self._store(f"{name_of(target)}/bias", bias, stored.dtype, fresh=True)
                made = [
                    helper.make_node("MatMul", inputs, [inner], name=target.name),
                    helper.make_node("Add", [inner, name], [end], name=f"{name_of(target)}/add_bias"),
                ]
            else:
                made = [helper.make_node("MatMul", inputs, [end], name=target.name)]
        else:
            given = target.input[2] if len(target.input) > 2 and target.input[2] else ""
            inputs.append(self._store(given or f"{name_of(target)}/bias", bias, stored.dtype, fresh=not given))
            attributes = {**attributes_of(target), **({"beta": 1.0} if target.op_type == "Gemm" else {})}
            made = [helper.make_node(target.op_type, inputs, [end], name=target.name, **attributes)]
        self._swap(target, made, gone)
        return Fold(name_of(gone), name_of(target), how)

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
        self._swap(
            node,
            [
                helper.make_node(
                    "BatchNormalization", [affine.x, *inputs], list(node.output), name=node.name, epsilon=0.0
                )
            ],
            first,
        )
        return Fold(name_of(first), name_of(node), "merged")

    def _swap(self, old: onnx.NodeProto, new: list[onnx.NodeProto], gone: onnx.NodeProto) -> None:
        """Puts new nodes where the later of `old` and `gone` stood, and removes both."""
        position = max(next(i for i, n in enumerate(self.nodes) if n is node) for node in (old, gone))
        self.nodes[position : position + 1] = (
            new if self.nodes[position] is old or self.nodes[position] is gone else [self.nodes[position], *new]
        )
        self.nodes = [n for n in self.nodes if n is not old and n is not gone]
        self.index()

    def _store(self, name: str, value: F64, dtype: np.dtype[np.generic], *, fresh: bool = False) -> str:
        """Stores a value, under `name` where nobody else uses it."""
        free = name not in self.values if fresh else len(self.readers.get(name, ())) == 1 and name in self.values
        nth = 2
        final = name
        while not free:
            final = f"{name}#{nth}"
            free, nth = final not in self.values, nth + 1
        self.values[final] = np.asarray(value).astype(dtype)
        return final

    # --- why not

    def why_not(self, node: onnx.NodeProto) -> str:
        """The reason why a BatchNormalization node stays."""
        affine = self.affine(node)
        if attributes_of(node).get("training_mode"):
            return "it runs in training mode, with the statistics of the batch"
        if affine is None:
            return "its parameters are not stored in the file"
        if not affine.finite:
            return "its scale is not finite: gamma / sqrt(var + epsilon)"
        return "; ".join(self._obstacles(node, affine))

    def _obstacles(self, node: onnx.NodeProto, affine: Affine) -> Iterator[str]:
        maker, y = self.maker.get(affine.x), node.output[0]
        if maker is None:
            yield "its input is an input of the graph"
        elif maker.op_type not in LINEAR:
            yield f"its input comes from {maker.op_type}"
        elif not self.alone(affine.x):
            yield f"the output of {name_of(maker)} has several readers"
        else:
            yield f"the weight of {name_of(maker)} is not a constant in the file"
        readers = self.readers.get(y, [])
        if y in self.outputs:
            yield "its output is an output of the graph"
        elif len(readers) != 1:
            yield f"its output has {len(readers)} readers"
        elif readers[0].op_type not in LINEAR:
            yield f"its output is the input of {readers[0].op_type}"
        else:
            yield f"{name_of(readers[0])} pads its input, or its weight is not a constant in the file"
