"""RT012: integer kernels of the runtime saturate."""

from __future__ import annotations

import math

from bnexport.results.actions import advise
from bnexport.results.rounding import Cost, Rounding
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.quantization import LOST_DB
from bnexport.rules.rule import Rule

RT012 = Rule(
    "RT012",
    "integer kernels saturate on this processor",
    meaning=(
        "On x86 processors without VNNI, onnxruntime multiplies unsigned by signed 8-bit integers with an "
        "instruction (vpmaddubsw) that adds two products in 16 bits and saturates. The quantised file is right, and "
        "computes wrong values on this processor. On a processor with VNNI, or on ARM, it does not."
    ),
    measured=(
        "The same quantised arithmetic is run with float operators, and is within what quantisation explains, "
        "while the integer kernels are not. The file is then run with session.x64quantprecision, which makes "
        "onnxruntime use kernels that do not saturate; the evidence has the error of each. The severity is that of "
        "QT001: where the answers are lost it is an error. It is one below {LOST_DB:g} dB, too."
    ),
    neighbours="QT002: the file itself clips values. RT004: an optimisation is wrong in another way.",
    remedy=(
        "Quantise with reduce_range=True (7 bits for weights) or with unsigned weights, or set the session option "
        "session.x64quantprecision to 1, or deploy on processors with VNNI."
    ),
    thresholds={"LOST_DB": LOST_DB},
)


def kernels_saturate(
    run: str, cost: Cost, as_written: Rounding, precise: Rounding | None, severity: Severity, *, vnni: bool | None
) -> Finding:
    """RT012: the integer kernels are wrong where the same arithmetic in float is right.

    Args:
        run: the run.
        cost: what quantisation explains, and what the run is off.
        as_written: the same where the arithmetic is done with float operators.
        precise: the same with kernels that do not saturate; None where that could not be run.
        severity: what it costs.
        vnni: whether the processor has VNNI; None where that is not known.
    """
    message = (
        f"the integer kernels of onnxruntime saturate on this processor: {run} has {cost.deciding.ratio:,.3g} times the error "
        f"that quantisation explains, and {as_written.ratio:.2g} times where the same arithmetic is done with float operators"
    )
    if precise is not None:
        message += f", {precise.ratio:.2g} times with session.x64quantprecision=1"
    if vnni is False:
        message += "; the processor is x86 without VNNI, on which products of uint8 and int8 are added in 16 bits"
    return RT012.finding(
        severity,
        message,
        {
            "side": run,
            "error_ratio": cost.deciding.ratio,
            "error_ratio_in_float": as_written.ratio,
            "error_ratio_without_saturation": precise.ratio if precise is not None else math.nan,
            "vnni": vnni,
        },
        (
            advise("quantise with reduce_range=True, or with unsigned weights (weight_type=QuantType.QUInt8)"),
            advise('or set the session option: add_session_config_entry("session.x64quantprecision", "1")'),
            advise("or deploy on processors with VNNI, and check there"),
        ),
    )
