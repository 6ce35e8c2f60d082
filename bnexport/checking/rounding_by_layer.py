"""The error that reduced precision explains, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bnexport.comparison.precision import OpenForm
from bnexport.numerics import depth
from bnexport.onnx_graph import tensors
from bnexport.results.verdict import LayerError
from bnexport.runtimes.inner import InnerTensors
from bnexport.types import Array

PASSES = 2
"""So many passes with other noise."""


def with_expected(
    errors: Sequence[LayerError], opened: OpenForm, given: Mapping[str, Array], noise: Array | float
) -> list[LayerError]:
    """The errors of layers with what the precision explains at each: the distance of the float form with noise from itself without.

    Args:
        errors: from the input to the output.
        opened: the run in float32, described (`describe_form`).
        given: a batch as its graph takes it.
        noise: which sites have noise (`FloatForm.gates`).

    Raises:
        InputError: the float form does not run on the batch.
    """
    graph = opened.form.graph
    base = InnerTensors(graph, "cpu", {**given, **opened.form.gates()})
    names = [error.tensor for error in errors if error.tensor and error.tensor in base]
    expected = dict.fromkeys(names, 0.0)
    for _ in range(PASSES):
        noisy = InnerTensors(graph, "cpu", {**given, **opened.form.gates(noise=noise)})
        for name in names:
            apart = depth.distance(noisy[name], base[name])
            expected[name] = max(expected[name], 0.0 if np.isnan(apart) else apart)
    return [replace(e, expected=expected.get(e.tensor)) if e.tensor else e for e in errors]


def describe_form(opened: OpenForm) -> None:
    """Describes the tensors of a float form as `InnerTensors` needs them, in place."""
    tensors.describe(opened.form.graph)


def weights_only(opened: OpenForm) -> Array:
    """Noise on the stored weights alone: what the file's structure and weights may differ by."""
    return np.array([site.weight for site in opened.form.sites], np.float32)
