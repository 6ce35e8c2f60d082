"""The float form of a quantised graph, in which each quantised tensor can be quantised, or given noise of one step, on its own.

For an activation x with the step s and the zero point z, of which the float form computes f = x:

    y = f + quantise * (DequantizeLinear(QuantizeLinear(x)) - f) + noise * s * U,   U uniform in (-1/2, 1/2)

`quantise` and `noise` are inputs of the graph with one entry for each site. All 0, the graph is the float model with the weights of the
file; `quantise` all 1, it is the file; `noise` all 1, it is the float model with the error that quantisation at this step explains: the
error of rounding to a multiple of s is uniform within a step (Widrow and Kollar, Quantization Noise, 2008, chapter 5). A weight w has the
step of its scale: y = w + noise * s * U.

The quantiser removes a Relu or Clip whose bounds the range of its output stands for. The float form keeps such bounds (`_bounds`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph.constants import Constants
from bnexport.onnx_graph.precision import stored_precision
from bnexport.onnx_graph.qoperators import expand
from bnexport.onnx_graph.quantised_sites import NOISE, QUANTISE, FloatForm, NotCoveredError, Site, spread_scale
from bnexport.results.runs import Precision
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

_INTEGERS = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}
"""onnx.TensorProto's numbers of the integers that NumPy has."""

_RELUS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "BatchNormalization", "Sub"}
"""Operators behind which a quantiser removes an activation."""


def float_form(model: onnx.ModelProto, reference: onnx.ModelProto | None = None) -> FloatForm | None:
    """The float form of a quantised graph.

    Args:
        model: QDQ, operators on quantised values, or dynamic quantisation (DynamicQuantizeLinear with MatMulInteger and ConvInteger).
        reference: the float graph, where activations that the quantiser removed can be looked up by name.

    Returns:
        None where an operator is not covered.
    """
    nodes = expand(model.graph.node)
    if nodes is None or stored_precision(model).precision == Precision.MIXED:
        return None
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    try:
        return _Builder(copy, reference).build()
    except NotCoveredError:
        return None


class _Builder:
    def __init__(self, model: onnx.ModelProto, reference: onnx.ModelProto | None) -> None:
        self._model, self._constants = model, Constants(model)
        self._makers = {output: node for node in model.graph.node for output in node.output if output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._theirs = {} if reference is None else {o: n for n in reference.graph.node for o in n.output if o}
        self._reference = Constants(reference) if reference is not None else None
        self._sites: list[Site] = []
        self._inputs: dict[int, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._zeros: set[str] = set()
        self._bounded: set[str] = set()

    def build(self) -> FloatForm:
        from onnx import helper

        graph = self._model.graph
        for node in graph.node:
            self._add(node)
        del graph.node[:]
        graph.node.extend(self._nodes)
        del graph.value_info[:]
        graph.input.extend(helper.make_tensor_value_info(name, 1, [len(self._sites)]) for name in (QUANTISE, NOISE))
        return FloatForm(self._model, tuple(self._sites), self._inputs)

    def _add(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if kind == "QuantizeLinear":
            self._activation(node)
        elif kind == "DequantizeLinear":
            if self._constants.value(node.input[0]) is not None:
                self._weight(node)
            else:
                self._emit("Identity", [node.input[0]], node.output[0])
        elif kind == "DynamicQuantizeLinear":
            self._dynamic(node)
        elif kind in ("MatMulInteger", "ConvInteger"):
            self._integer(node)
        else:
            self._nodes.append(node)

    def _emit(self, kind: str, inputs: list[str], output: str, **attributes: float) -> str:
        from onnx import helper

        node = helper.make_node(kind, inputs, [output], name=f"{output}/{kind}")
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self._nodes.append(node)
        return output

    def _constant(self, value: Array | float, name: str) -> str:
        from onnx import numpy_helper

        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def _gate(self, which: str, name: str) -> str:
        from onnx import numpy_helper

        self._model.graph.initializer.append(
            numpy_helper.from_array(np.array(len(self._sites), np.int64), f"{name}/at")
        )
        return self._emit("Gather", [which, f"{name}/at"], name)

    def _noise(self, like: str, step: str, prefix: str) -> str:
        """Uniform noise of one step, behind the gate of the site."""
        seed = float(len(self._sites) + 1)
        uniform = self._emit("RandomUniformLike", [like], f"{prefix}/u", low=-0.5, high=0.5, dtype=1, seed=seed)
        gate = self._emit("Mul", [self._gate(NOISE, f"{prefix}/n"), step], f"{prefix}/step")
        return self._emit("Mul", [uniform, gate], f"{prefix}/noise")

    def _mix(self, plain: str, quantised: str, step: str, prefix: str, output: str) -> None:
        """Adds plain + quantise * (quantised - plain) + noise."""
        off = self._emit("Sub", [quantised, plain], f"{prefix}/off")
        gated = self._emit("Mul", [off, self._gate(QUANTISE, f"{prefix}/q")], f"{prefix}/gated")
        total = self._emit("Add", [plain, gated], f"{prefix}/sum")
        self._emit("Add", [total, self._noise(plain, step, prefix)], output)

    def _activation(self, node: onnx.NodeProto) -> None:
        x, scale_name = node.input[0], node.input[1]
        scale = self._constants.value(scale_name)
        zero_name = node.input[2] if len(node.input) > 2 else ""
        zero = self._constants.value(zero_name) if zero_name else np.zeros((), _stated_type(node))
        if scale is None or zero is None or scale.size != 1 or zero.dtype.kind not in "iu":
            raise NotCoveredError
        step, at = float(scale.ravel()[0]), float(zero.ravel()[0])
        limits = np.iinfo(zero.dtype.name)
        low, high = (int(limits.min) - at) * step, (int(limits.max) - at) * step
        prefix = f"{node.output[0]}/form"
        self._bound(x, low, high, step)
        integers = self._emit("QuantizeLinear", list(node.input), f"{prefix}/integers")
        self._nodes[-1].attribute.extend(node.attribute)
        back = self._emit("DequantizeLinear", [integers, *node.input[1:]], f"{prefix}/back")
        self._mix(x, back, self._constant(step, f"{prefix}/s"), prefix, node.output[0])
        self._inputs[len(self._sites)] = x
        group = f"{scale_name} {zero_name}"
        self._sites.append(Site(x, False, group, step, low, high, self._around(x, node.output[0])))

    def _bound(self, x: str, low: float, high: float, step: float) -> None:
        """Puts the activation that the quantiser removed back behind the node that makes a tensor, which keeps its name."""
        least, most = self._bounds(x, low, high, step)
        bounds = [entry for entry in (("Max", least), ("Min", most)) if entry[1] is not None]
        if x in self._bounded or not bounds:
            return
        self._bounded.add(x)
        source = f"{x}/unbounded"
        for node in self._nodes:
            node.output[:] = [source if name == x else name for name in node.output]
            node.input[:] = [source if name == x else name for name in node.input]
        for nth, (kind, value) in enumerate(bounds):
            output = x if nth == len(bounds) - 1 else f"{x}/{kind}"
            source = self._emit(kind, [source, self._constant(float(value or 0.0), f"{x}/{kind}/bound")], output)

    def _bounds(self, x: str, low: float, high: float, step: float) -> tuple[float | None, float | None]:
        """The bounds of an activation that the quantiser removed before a tensor; None for none."""
        maker = self._makers.get(x)
        if maker is None or maker.op_type not in _RELUS:
            return None, None
        theirs = self._theirs.get(x)
        if theirs is not None and self._reference is not None:
            if theirs.op_type == "Relu":
                return 0.0, None
            if theirs.op_type == "Clip" and len(theirs.input) > 1:
                least, most = (self._reference.value(name) if name else None for name in [*theirs.input[1:3], ""][:2])
                return (None if least is None else float(least)), (None if most is None else float(most))
            if theirs.op_type == maker.op_type:
                return None, None
        if low != 0:
            return None, None
        return 0.0, 6.0 if abs(high - 6.0) <= step else None

    def _around(self, x: str, integers: str) -> tuple[str, ...]:
        """The nodes that make a tensor and read its quantised form."""
        maker = self._makers.get(x)
        waiting, readers = [integers, x], []
        while waiting:
            for reader in self._readers.get(waiting.pop(0), ()):
                if reader.op_type in ("DequantizeLinear", "Cast"):
                    waiting += reader.output
                elif reader.op_type != "QuantizeLinear":
                    readers.append(reader)
        names = [node.name for node in ([maker] if maker is not None else []) + readers if node.name]
        return tuple(dict.fromkeys(name for name in names if not name.endswith("/dequantise")))

    def _weight(self, node: onnx.NodeProto) -> None:
        from onnx import numpy_helper

        output, value = node.output[0], self._constants.value(node.output[0])
        integers, scale = self._constants.value(node.input[0]), self._constants.value(node.input[1])
        if value is None or integers is None or scale is None:
            raise NotCoveredError
        if (
            integers.dtype.itemsize > 1 or integers.dtype.kind not in "iu"
        ):  # a bias: its step is far below that of the others
            self._model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), output))
            return
        prefix = f"{output}/form"
        kept = self._constant(value, f"{prefix}/w")
        steps = spread_scale(_of_values(np.asarray(scale, np.float32), value, node), value.shape, node)
        step = self._constant(steps, f"{prefix}/s")
        self._emit("Add", [kept, self._noise(kept, step, prefix)], output)
        readers = tuple(reader.name for reader in self._readers.get(output, ()) if reader.name)
        self._sites.append(Site(node.input[0], True, node.input[1], float(np.max(scale)), nodes=readers))

    def _dynamic(self, node: onnx.NodeProto) -> None:
        x, prefix = node.input[0], f"{node.output[0]}/form"
        integers, zero = f"{prefix}/integers", f"{prefix}/zero"
        from onnx import helper

        made = [integers, node.output[1], zero]
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [x], made, name=f"{prefix}/dynamic"))
        self._zeros.add(node.output[2])
        plain = self._emit("Div", [x, node.output[1]], f"{prefix}/plain")
        whole = self._emit("Cast", [integers], f"{prefix}/whole", to=1)
        shift = self._emit("Cast", [zero], f"{prefix}/shift", to=1)
        back = self._emit("Sub", [whole, shift], f"{prefix}/back")
        self._mix(plain, back, self._constant(1.0, f"{prefix}/s"), prefix, node.output[0])
        self._sites.append(Site(x, False, node.output[1], nodes=self._around(x, node.output[0])))

    def _integer(self, node: onnx.NodeProto) -> None:
        zeros = [*node.input[2:], "", ""]
        if node.input[0] not in self._makers or zeros[0] not in self._zeros:
            raise NotCoveredError
        integers = self._constants.value(node.input[1])
        zero = self._constants.value(zeros[1]) if zeros[1] else np.zeros((), np.int8)
        if integers is None or zero is None:
            raise NotCoveredError
        if zero.size > 1 and node.op_type == "ConvInteger":
            zero = zero.reshape(-1, *[1] * (integers.ndim - 1))
        prefix = f"{node.output[0]}/form"
        kept = self._constant(integers.astype(np.float32) - zero.astype(np.float32), f"{prefix}/w")
        moved = self._emit(
            "Add", [kept, self._noise(kept, self._constant(1.0, f"{prefix}/s"), prefix)], f"{prefix}/moved"
        )
        kind = "MatMul" if node.op_type == "MatMulInteger" else "Conv"
        attributes = {a.name: a for a in node.attribute}
        self._emit(kind, [node.input[0], moved], node.output[0])
        self._nodes[-1].attribute.extend(attributes.values())
        self._sites.append(Site(node.input[1], True, node.input[1], nodes=(node.name,) if node.name else ()))


def _of_values(scale: Array, weight: Array, node: onnx.NodeProto) -> Array:
    """The scales of a weight, 0 for a tensor or channel of zeros: no quantiser rounds another range to it, and its scale is arbitrary (mostly 1)."""
    if scale.size == 1:
        return np.where(weight.any(), scale, np.zeros_like(scale))
    if scale.ndim != 1:
        return scale
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1) % weight.ndim
    others = tuple(nth for nth in range(weight.ndim) if nth != axis)
    return np.where(weight.any(axis=others), scale, np.zeros_like(scale))


def _stated_type(node: onnx.NodeProto) -> str:
    """The integers of a QuantizeLinear without a zero point: what `output_dtype` states, or uint8."""
    stated = next((a.i for a in node.attribute if a.name == "output_dtype"), 0) or 2
    if stated not in _INTEGERS:
        raise NotCoveredError
    return _INTEGERS[stated]
