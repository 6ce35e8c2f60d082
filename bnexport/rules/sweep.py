"""RT013, RT014 and EX010: what a file does with the same input twice, with values that are not finite, and with other sizes than those of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexport.results.actions import advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.actions import EXPORT
from bnexport.rules.export import EX001
from bnexport.rules.rule import Rule

SHOWN = 4
"""So many nodes a message lists."""

RT013 = Rule(
    "RT013",
    "not deterministic",
    meaning=(
        "The same input gives other outputs in a second pass of the same session. A node may draw random numbers in inference "
        "mode, or a layer was called with training=True. If it is the reference, no comparison with it means anything."
    ),
    measured=(
        "Every run in inference mode computes up to four items twice. Equal to the last bit passes, and so does a difference "
        "within the tolerance of the tensor, such as that of atomic additions on a GPU. Beyond it is an error. The finding names the "
        "nodes of the graph that draw random numbers. A reference whose outputs come from the cache is only run with --sweep."
    ),
    neighbours=(
        "EX001, RT004 and BN006 are not raised for a difference that this explains. ST001: random layers that are active in "
        "training mode only."
    ),
    remedy="Export the model in inference mode, and remove nodes that draw random numbers.",
)


def not_deterministic(
    sides: Sequence[str], how: str, max_rel: float, random: Sequence[str], *, is_reference: bool
) -> Finding:
    """RT013: two passes over the same input differ.

    Args:
        sides: the runs.
        how: how far those of the first one are apart, in words.
        max_rel: the same, relative to the scale.
        random: the nodes of its graph that draw random numbers.
        is_reference: whether others are compared with one of them.
    """
    message = f"{' and '.join(sides)} {_verb(sides, 'is', 'are')} not deterministic: two passes over the same input differ ({how})"
    if random:
        more = ", …" if len(random) > SHOWN else ""
        message += (
            f"; {'nodes draw' if len(random) > 1 else 'a node draws'} random numbers: {', '.join(random[:SHOWN])}{more}"
        )
    else:
        message += "; no node that draws random numbers is known"
    if is_reference:
        message += "; the reference varies, so no comparison with it is valid"
    actions = (advise("export the model in inference mode, without random operators", EXPORT),)
    evidence = {"sides": list(sides), "max_rel": max_rel, "random_nodes": list(random), "is_reference": is_reference}
    return RT013.finding(Severity.ERROR, message, evidence, actions, random)


RT014 = Rule(
    "RT014",
    "NaN is handled differently",
    meaning=(
        "An item of NaN gets finite outputs from the file where the reference computes NaN or infinity, so that a broken input "
        "looks like an answer. Or it changes the outputs of the other items of its batch, so that one broken request spoils others."
    ),
    measured=(
        "With --sweep one item of a batch is replaced by NaN in all inputs of floating point numbers. The outputs of this item are "
        "finite or not as those of the reference are; the outputs of the others stay what they are without it, within the "
        "tolerance. The node is named where the values inside the graph, with optimisations off, show it. It is a warning."
    ),
    neighbours="RT006: outputs are not finite for the data themselves. BN006: items change each other without NaN, too.",
    remedy=(
        "Refuse inputs that are not finite before the model is called. Kernels of Max, Relu and Clip differ between runtimes in what "
        "they make of NaN."
    ),
)


def nan_is_swallowed(sides: Sequence[str], tensor: str, values: int, node: str, noun: Noun = IMAGES) -> Finding:
    """RT014: finite outputs for an item of NaN.

    Args:
        sides: the runs.
        tensor: an output of theirs.
        values: how many values are finite there and not in the reference.
        node: which node gives finite values for NaN; "" where that is not known.
        noun: what the model is run on.
    """
    message = (
        f"{', '.join(sides)} {_verb(sides, 'gives', 'give')} finite outputs for {noun.a} of NaN: {values} values of {tensor} are finite, and NaN or "
        "infinite in the reference"
    )
    message += f"; {node} makes finite values of NaN" if node else ""
    evidence = {"sides": list(sides), "tensor": tensor, "values": values, "node": node}
    actions = (advise("refuse inputs that are not finite before the model is called"),)
    return RT014.finding(Severity.WARNING, message, evidence, actions, (node,) if node else ())


def nan_reaches_others(
    sides: Sequence[str], node: str, how: str, *, in_reference: bool, noun: Noun = IMAGES
) -> Finding:
    """RT014: one item of NaN changes the outputs of the others.

    Args:
        sides: the runs.
        node: where the items are mixed; "" where that is not known.
        how: what changes, in words.
        in_reference: whether the reference does the same.
        noun: what the model is run on.
    """
    where = f" ({node} mixes the {noun.many} of a batch)" if node else ""
    same = "; the reference does the same" if in_reference else "; in the reference they stay the same"
    message = f"{noun.a} of NaN changes what {', '.join(sides)} {_verb(sides, 'computes', 'compute')} for the others in its batch{where}: {how}{same}"
    evidence = {"sides": list(sides), "node": node, "in_reference": in_reference}
    actions = (advise("refuse inputs that are not finite before the model is called, or run such items alone"),)
    return RT014.finding(Severity.WARNING, message, evidence, actions, (node,) if node else ())


def _verb(sides: Sequence[str], one: str, many: str) -> str:
    return one if len(sides) == 1 else many


EX010 = Rule(
    "EX010",
    "a size is baked in",
    meaning=(
        "The axis is open in the reference and in the file, but the file is right with the size of the data only. Often an "
        "exporter wrote a size as a constant: a Reshape to [8, -1], an Expand to 16."
    ),
    measured=(
        "With --sweep the model runs on batches of 1, 2 and 7 items and a partial last batch, and on smaller and larger sizes of each "
        "other open axis, up to 1.5 times. The reference decides which sizes are legitimate. The finding names a node where replacing the "
        "old size among its constants by the new one makes the file agree, or else the node in which onnxruntime stops or the first "
        "layer that differs."
    ),
    neighbours=(
        "EX004: the input of the file states a fixed size. EX001: the file differs on the data themselves. RT009, RT005: another "
        "runtime or provider fails where onnxruntime on the CPU agrees. RT004: optimisations are the cause."
    ),
    remedy="Export again with the axis dynamic (in PyTorch dynamic_shapes or dynamic_axes), and without sizes taken as Python numbers.",
)


def size_baked_in(
    sides: Sequence[str],
    what: str,
    size: str,
    tried: Sequence[str],
    how: str,
    cause: str,
    nodes: Sequence[str],
    rule: Rule = EX010,
) -> Finding:
    """EX010, or the rule of a runtime or of its optimisations: the file is right for the size of the data only.

    Args:
        sides: the runs that fail.
        what: the axis, in words.
        size: its size in the data.
        tried: the cases that fail.
        how: the error or the difference in one of them.
        cause: what was proved to be the cause, in words; "" where nothing was.
        nodes: the nodes that are named.
        rule: which finding it is.
    """
    message = (
        f"{', '.join(sides)} {_verb(sides, 'agrees', 'agree')} with the reference only where {what} is {size}: "
        f"{cause or 'which node depends on the size is not known'}; failed: {', '.join(tried)} ({how})"
    )
    evidence = {
        "sides": list(sides),
        "axis": what,
        "size": size,
        "tried": list(tried),
        "nodes": list(nodes),
        "cause": cause,
    }
    actions = (advise("export the model again with this axis dynamic"),)
    return rule.finding(Severity.ERROR, message, evidence, actions, nodes)


def differs_on_zeros(
    sides: Sequence[str], how: str, numbers: Mapping[str, float], noun: Noun = IMAGES, rule: Rule = EX001
) -> Finding:
    """EX001, or the rule of a runtime: the file agrees on the data, and not on an item of zeros.

    Args:
        sides: the runs that fail.
        how: the error or the difference, in words.
        numbers: the same as numbers.
        noun: what the model is run on.
        rule: which finding it is.
    """
    message = f"{', '.join(sides)} {_verb(sides, 'agrees', 'agree')} with the reference on the data, but not on {noun.a} of zeros: {how}"
    actions = (
        advise("look for divisions by a norm or a deviation without an epsilon"),
        advise("do not deploy this file"),
    )
    return rule.finding(Severity.ERROR, message, {"sides": list(sides), **numbers}, actions)
