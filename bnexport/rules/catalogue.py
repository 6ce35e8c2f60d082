"""Every code with its rule, collected from the families: `bnexport explain`, the page of findings and the tests read it."""

from __future__ import annotations

from bnexport.rules import (
    backends,
    batch_norm,
    calibration,
    export,
    half_precision,
    inputs,
    interface,
    kernels,
    label_order,
    model_files,
    modes,
    preprocessing,
    quantization,
    randomness,
    recorded,
    releases,
    runtime,
    selected_rows,
    servers,
    sweep,
    targets,
)
from bnexport.rules.rule import Rule

FAMILIES = (
    batch_norm,
    modes,
    preprocessing,
    inputs,
    recorded,
    label_order,
    export,
    interface,
    model_files,
    runtime,
    selected_rows,
    half_precision,
    backends,
    quantization,
    calibration,
    kernels,
    randomness,
    sweep,
    targets,
    servers,
    releases,
)

_PREFIXES = ("BN", "IN", "EX", "RT", "QT", "ST")
_RULES = {rule.code: rule for family in FAMILIES for rule in vars(family).values() if isinstance(rule, Rule)}

CATALOGUE = {code: _RULES[code] for code in sorted(_RULES, key=lambda code: (_PREFIXES.index(code[:2]), code))}
"""Every code and its rule, in the order of the families."""
