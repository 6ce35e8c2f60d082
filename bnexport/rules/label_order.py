"""IN009: labels that count the classes in another order than the model does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bnexport.numerics.label_order import FEWEST, SHARE, find_label_order
from bnexport.results.actions import advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding, Severity, Side
from bnexport.rules.rule import Rule

SHOWN = 4
"""How many classes a message lists."""

IN009 = Rule(
    "IN009",
    "labels in another order than the outputs",
    meaning=(
        "Each of some classes is answered with another one of them, and none twice. Either the labels count the "
        "classes in another order than the outputs, so that what is right counts as wrong and advice that rests on "
        "labels does not hold, or the model confuses them."
    ),
    measured=(
        "From the answers of every run: at least {SHARE:share} of the items of each of these classes get the same other "
        "class, each has at least {FEWEST} items, and together they are exchanged with each other. No run answers most of these items as "
        "their labels say."
    ),
    neighbours="EX004: the columns of a deployed file are in another order than those of its model.",
    remedy="Name the classes in the order of the outputs: names in [classes] of MODEL.toml, or labels.txt beside the model.",
    thresholds={"SHARE": SHARE, "FEWEST": FEWEST},
)


def labels_in_another_order(
    sides: Iterable[Side], labels: Sequence[int], classes: Sequence[str], noun: Noun = IMAGES
) -> Finding | None:
    """IN009 for the run that would be right most often with the classes exchanged; None where no run shows it.

    Args:
        sides: what each run answered.
        labels: the class of each item by its label, -1 where it has none.
        classes: their names; empty where they have none.
        noun: what the model was run on.
    """
    best: tuple[int, Side, dict[int, int]] | None = None
    answered = [side for side in sides if len(side.answers) == len(labels)]
    for side in answered:
        order = find_label_order(labels, side.answers)
        then = sum(order.get(label, label) == answer for label, answer in zip(labels, side.answers, strict=False))
        if order and (best is None or then > best[0]):
            best = then, side, order
    if best is None or any(_mostly_right(side, labels, best[2]) for side in answered):
        return None
    then, side, order = best

    def name(number: int) -> str:
        return classes[number] if number < len(classes) else str(number)

    shown = ", ".join(f"{noun.many} of {name(own)} as {name(other)}" for own, other in list(order.items())[:SHOWN])
    more = f" and {len(order) - SHOWN} more" if len(order) > SHOWN else ""
    message = (
        f"{side.id} answers {shown}{more}: the labels count the classes in another order than the outputs, or the model confuses them; "
        f"with these exchanged {then} of {side.of} are correct instead of {side.correct}"
    )
    evidence = {"run": side.id, "order": {name(own): name(other) for own, other in order.items()}, "correct_then": then}
    advice = (
        "name the classes in the order of the outputs: names in [classes] of MODEL.toml, or labels.txt beside the model"
    )
    return IN009.finding(Severity.WARNING, message, evidence, (advise(advice),))


def _mostly_right(side: Side, labels: Sequence[int], classes: Collection[int]) -> bool:
    """Whether a run answers most items of some classes as their labels say."""
    pairs = [pair for pair in zip(labels, side.answers, strict=True) if pair[0] in classes]
    return 2 * sum(label == answer for label, answer in pairs) > len(pairs)
