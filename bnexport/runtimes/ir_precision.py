"""In what precision an OpenVINO IR is stored, as its constants say; it is read as text, not as XML."""

from __future__ import annotations

import re
from collections import Counter

from bnexport.onnx_graph.quantised import Quantised
from bnexport.results.runs import Precision

_CONSTANT = re.compile(rb'<layer\b[^>]*\btype="Const"[^>]*>\s*<data\b([^>]*)>')
_TYPE = re.compile(rb'\belement_type="(\w+)"')
_SHAPE = re.compile(rb'\bshape="([\d, ]*)"')
_HALVES = {"f16": Precision.FLOAT16, "bf16": Precision.BFLOAT16}
_INTEGERS = ("i8", "u8", "i4", "u4", "nf4", "u2", "u1")
_ROUNDS_ACTIVATIONS = re.compile(rb'<layer\b[^>]*\btype="FakeQuantize"')


def ir_precision(content: bytes) -> tuple[Precision, Quantised | None]:
    """The precision of a file, and how it is quantised; None where it is not.

    Constants of one value and without axes are steps, and do not count.
    """
    kinds: Counter[str] = Counter()
    for data in _CONSTANT.findall(content):
        kind, shape = _TYPE.search(data), _SHAPE.search(data)
        if kind is not None and shape is not None and shape[1].strip():
            kinds[kind[1].decode()] += 1
    steps = len(_ROUNDS_ACTIVATIONS.findall(content))
    integers = {f"weights in {name}": kinds[name] for name in _INTEGERS if kinds[name]}
    if integers or steps:
        counts = integers | ({"FakeQuantize": steps} if steps else {})
        return Precision.QDQ if steps else Precision.WEIGHT_ONLY, Quantised(counts, dynamic=False)
    half = next((precision for name, precision in _HALVES.items() if kinds[name]), None)
    return half or Precision.FLOAT32, None
