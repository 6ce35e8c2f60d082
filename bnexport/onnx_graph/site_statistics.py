"""What the tensors of a float form hold on a batch: their range, and how much of it the quantised form cannot represent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph.quantised_sites import FloatForm
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

HALF_LARGEST = 65504.0
"""The largest finite number in float16."""


@dataclass(frozen=True, slots=True)
class SiteRange:
    """What one tensor holds.

    Args:
        least: its smallest value.
        most: its largest value.
        clipped: the share of its values beyond the range that can be represented, by more than half a step.
    """

    least: float
    most: float
    clipped: float

    @property
    def size(self) -> float:
        """The largest magnitude."""
        return max(abs(self.least), abs(self.most))


def statistics_graph(form: FloatForm) -> onnx.ModelProto:
    """The float form with `statistics_names` among its outputs."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(form.graph)
    graph = model.graph
    for nth, tensor in form.inputs.items():
        site = form.sites[nth]
        p = f"bnexport/site{nth}"
        low, high = (
            (site.low - site.scale / 2, site.high + site.scale / 2) if site.scale else (-HALF_LARGEST, HALF_LARGEST)
        )
        for name, value in (("low", low), ("high", high)):
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{p}/{name}"))
        graph.node.extend(
            [
                helper.make_node("ReduceMin", [tensor], [f"{p}/least"], keepdims=0),
                helper.make_node("ReduceMax", [tensor], [f"{p}/most"], keepdims=0),
                helper.make_node("Less", [tensor, f"{p}/low"], [f"{p}/below"]),
                helper.make_node("Greater", [tensor, f"{p}/high"], [f"{p}/above"]),
                helper.make_node("Or", [f"{p}/below", f"{p}/above"], [f"{p}/beyond"]),
                helper.make_node("Cast", [f"{p}/beyond"], [f"{p}/beyond/float"], to=1),
                helper.make_node("ReduceMean", [f"{p}/beyond/float"], [f"{p}/clipped"], keepdims=0),
            ]
        )
        graph.output.extend(helper.make_tensor_value_info(f"{p}/{what}", 1, []) for what in _WHAT)
    return model


_WHAT = ("least", "most", "clipped")


def statistics_names(form: FloatForm) -> list[str]:
    """The outputs that hold the statistics."""
    return [f"bnexport/site{nth}/{what}" for nth in form.inputs for what in _WHAT]


def read_statistics(form: FloatForm, values: Mapping[str, Array]) -> dict[int, SiteRange]:
    """The statistics by site, of the outputs `statistics_names`."""
    return {nth: SiteRange(*(float(values[f"bnexport/site{nth}/{what}"]) for what in _WHAT)) for nth in form.inputs}
