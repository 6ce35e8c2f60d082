"""In what precision a .tflite file computes, as the types of its tensors say."""

from __future__ import annotations

from collections import Counter

from bnexport.onnx_graph.quantised import Quantised
from bnexport.results.runs import Precision
from bnexport.runtimes.tflite_file import DEQUANTIZE, TfliteFile


def tflite_precision(file: TfliteFile) -> tuple[Precision, Quantised | None]:
    """The precision of a file, and how it is quantised; None where it is not.

    Integer activations make it a full-integer model. Weights in integers are used as they are by operators that measure the range of
    activations (dynamic range), unless DEQUANTIZE makes floats of them first. Weights in float16 always become float32 first.
    """
    floats = {at for operator in file.operators if operator.code == DEQUANTIZE for at in operator.inputs}
    used = {at for operator in file.operators for at in operator.inputs if at != -1}
    read = {at: file.tensors[at] for at in sorted(used)}
    weights = Counter(
        tensor.type or "fewer bits" for tensor in read.values() if tensor.constant and _is_reduced(tensor.type)
    )
    kept = [at for at, t in read.items() if t.constant and t.quantised and at not in floats and len(t.shape) > 1]
    activations = Counter(tensor.type for tensor in read.values() if tensor.quantised and not tensor.constant)
    quantised = {name: count for name, count in weights.items() if name != "float16"}
    kinds = [Precision.QOPERATOR] if activations else []
    kinds += [Precision.DYNAMIC if kept else Precision.WEIGHT_ONLY] if quantised and not activations else []
    kinds += [Precision.FLOAT16] if weights["float16"] else []
    if not kinds:
        return Precision.FLOAT32, None
    precision = kinds[0] if len(kinds) == 1 else Precision.MIXED
    if kinds == [Precision.FLOAT16]:
        return precision, None
    counts = {f"weights in {name}": count for name, count in weights.items()}
    return precision, Quantised(counts | {f"activations in {n}": c for n, c in activations.items()}, dynamic=False)


def _is_reduced(kind: str) -> bool:
    """Whether a constant of this type is a weight of fewer than 32 bits: others are sizes and positions."""
    return kind in ("float16", "int8", "uint8", "int16", "")
