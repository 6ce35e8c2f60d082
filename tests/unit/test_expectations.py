"""What is compared with what: the table of expectations, by the ids that reports show."""

from __future__ import annotations

import pytest

from bnexport.comparison.expectations import expectations
from bnexport.results.runs import Mode, Precision, Role, RunSpec


def control(runtime: str, mode: Mode, **fields: object) -> RunSpec:
    return RunSpec(runtime, mode, "tensorflow", Role.CONTROL, **fields)  # type: ignore[arg-type]


def onnx(mode: Mode = "inference", device: str = "cpu", **fields: object) -> RunSpec:
    return RunSpec("onnxruntime", mode, device, artifact="onnx", **fields)  # type: ignore[arg-type]


KERAS = [control("keras", "inference"), control("keras", "training")]
UNOPTIMISED = onnx(role=Role.CONTROL, variant="unoptimised")
PREVIEW = onnx(role=Role.PREVIEW, variant="recalibrated")
MODES = "keras-training / keras-inference: modes"

# The runs of a check, and what follows from them.
TABLE: dict[str, tuple[list[RunSpec], list[str]]] = {
    "a Keras model and its export": (
        [*KERAS, onnx(), onnx("training"), PREVIEW],
        ["onnx-inference@cpu / keras-inference: equal", "onnx-training@cpu / keras-training: equal", MODES],
    ),
    "on two devices": (
        [*KERAS, onnx(), onnx(device="cuda"), onnx(device="cuda", as_deployed=True)],
        [
            "onnx-inference@cpu / keras-inference: equal",
            "onnx-inference@cuda / keras-inference: equal",
            "onnx-inference@cuda-as-deployed / keras-inference: as deployed",
            MODES,
        ],
    ),
    "an ONNX file alone": (
        [UNOPTIMISED, onnx(), onnx("training"), onnx("training", "cuda"), PREVIEW],
        [
            "onnx-inference@cpu / onnx-unoptimised@cpu: equal",
            "onnx-training@cuda / onnx-training@cpu: equal",
            "onnx-training@cpu / onnx-unoptimised@cpu: modes",
        ],
    ),
    "a deployed file": (
        [*KERAS, onnx(external=True)],
        [
            "onnx-inference@cpu / keras-inference: equal",
            "onnx-inference@cpu / keras-training: alternative",
            MODES,
        ],
    ),
    "a quantised file": (
        [*KERAS, onnx(precision=Precision.QUANTIZED)],
        ["onnx-inference@cpu / keras-inference: quantized", MODES],
    ),
    "a SavedModel, which has one mode": (
        [control("tensorflow", "inference"), onnx(), onnx("training")],
        ["onnx-inference@cpu / tensorflow-inference: equal"],
    ),
    "a bundle": (
        [RunSpec("golden", "inference", "keras", Role.CONTROL), onnx(), onnx(device="cuda", as_deployed=True)],
        [
            "onnx-inference@cpu / golden-inference: equal",
            "onnx-inference@cuda-as-deployed / golden-inference: as deployed",
        ],
    ),
    "one run": ([onnx()], []),
    "a preview": ([PREVIEW], []),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_is_compared_follows_from_the_runs(case: str) -> None:
    """Each candidate is held to the control of its mode; previews to nothing; the modes of one runtime to each other."""
    specs, wanted = TABLE[case]
    assert [f"{e.actual.id} / {e.reference.id}: {e.expected}" for e in expectations(specs)] == wanted


def test_a_batch_is_compared_with_its_images_one_by_one() -> None:
    """A run beside itself, image by image: the two have different ids, and one comparison."""
    together = onnx()
    alone = onnx(role=Role.CONTROL, detail="one by one")
    [only] = expectations([alone, together])
    assert (only.actual.id, only.reference.id) == ("onnx-inference@cpu", "onnx-inference@cpu one by one")
