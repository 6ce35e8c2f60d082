"""The table that scripts/wild.py prints: what became of each model, the totals, and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

CLOSE = 1e-5
"""How far an export may be from what tf_keras computes, relative to the size of the outputs."""

BASELINES = ("keras", "from_keras", "model_export")
COLUMNS = (
    "model",
    "format",
    "Keras",
    "plain",
    "from_keras",
    "export",
    "loads",
    "verdict",
    "agrees",
    "Keras 2",
    "exit",
    "codes",
)

Record = dict[str, Any]


def row(name: str, record: Record) -> tuple[str, ...]:
    """One line of the table."""
    baselines, about, beside = record["baselines"], record["about"], record.get("keras2")
    tried = [_tried(baselines.get(kind), bool(baselines)) for kind in BASELINES]
    return (
        name,
        about.get("format", "?"),
        about.get("keras_version") or "-",
        *tried,
        "yes" if record["loads"] else "no",
        record["verdict"] or "-",
        "-" if record["agrees"] is None else "yes" if agrees(record) else "no",
        "-" if beside is None else f"{beside['difference']:.0e}" if beside["ok"] else "no",
        str(record["exit"]),
        " ".join(record["codes"]),
    )


def _tried(answer: Record | None, asked: bool) -> str:
    if answer is None or not answer["ok"]:
        return "no" if asked else "-"
    value = answer.get("difference")
    return "yes" if value is None or value <= CLOSE else f"off {value:.0e}"


def agrees(record: Record) -> bool:
    """Whether the export equals Keras 3 and, where that was tried, Keras 2."""
    beside = record.get("keras2")
    return bool(record["agrees"]) and (beside is None or not beside["ok"] or beside["difference"] <= CLOSE)


def table(records: dict[str, Record]) -> str:
    """The table, the totals, and what bnexport said of each model without a verdict or without agreement."""
    rows = [COLUMNS, *(row(name, record) for name, record in sorted(records.items()))]
    widths = [max(len(line[place]) for line in rows) for place in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in rows]
    every = list(records.values())

    def count(kind: str) -> int:
        return sum(bool(r["baselines"].get(kind, {}).get("ok")) for r in every)

    exits = ", ".join(f"{code}: {n}" for code, n in sorted(Counter(r["exit"] for r in every).items()))
    totals = (
        f"{len(every)} models: plain Keras 3 loads {count('keras')}, from_keras exports {count('from_keras')}, "
        f"model.export exports {count('model_export')}; bnexport loads {sum(r['loads'] for r in every)}, reaches a verdict "
        f"on {sum(r['verdict'] is not None for r in every)}, agrees on {sum(agrees(r) for r in every)}; exit codes {exits}"
    )
    reasons = [f"{name}: {why}" for name, record in sorted(records.items()) if (why := reason(record))]
    return "\n".join([*lines, "", totals, *(["", *reasons] if reasons else [])])


def reason(record: Record) -> str:
    """Why a model has no verdict, or does not agree; empty where it has and does."""
    beside = record.get("keras2") or {"ok": True}
    parts = [record["message"]] if record["verdict"] is None else []
    if record["agrees"] is False:
        parts += [f"{f['code']} {f['message']}" for f in record["findings"] if f["severity"] == "error"]
    parts += [f"tf_keras: {beside['error']}"] if not beside["ok"] else []
    return "; ".join(parts)
