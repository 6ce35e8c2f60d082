"""RT018, RT019 and RT009 of servers: another model, answers that depend on other requests, and what would make a wrong one right."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.results.actions import Action, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.rounding import Cost
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.actions import option
from bnexport.rules.measured import describe, evidence_of
from bnexport.rules.rule import Rule
from bnexport.rules.targets import RT009

RT018 = Rule(
    "RT018",
    "a server has another interface",
    meaning="The model on a server has other names, shapes or types of inputs and outputs than the file.",
    measured=(
        "What the server says of its model is compared with the file. It is an error where the model cannot be called as the file is, "
        "and a warning where tensors have other names or another width of the same type; bnexport then calls it so."
    ),
    neighbours="RT009: it is called in the same way, and is wrong. RT016: it refuses a request.",
    remedy="Correct the address or the version, deploy the file on the server, or change what calls it.",
)


def other_interface(run: str, differences: Sequence[str]) -> Finding:
    """RT018: the model on a server cannot be called as the file is.

    Args:
        run: the id of the run.
        differences: each in words.
    """
    message = f"{run}: the server has another model: {'; '.join(differences)}"
    evidence = {"side": run, "differences": list(differences)}
    actions = (
        advise("check the name of the model and its version in the address"),
        advise("or deploy this file there"),
    )
    return RT018.finding(Severity.ERROR, message, evidence, actions)


def called_otherwise(run: str, differences: Sequence[str]) -> Finding:
    """RT018: the model on a server is called otherwise than the file.

    Args:
        run: the id of the run.
        differences: each in words.
    """
    message = f"{run}: the server is called otherwise than the file: {'; '.join(differences)}"
    evidence = {"side": run, "differences": list(differences)}
    return RT018.finding(Severity.WARNING, message, evidence, (advise("make sure that what calls it does so too"),))


RT019 = Rule(
    "RT019",
    "answers of a server depend on other requests",
    meaning="A server gives the same item different answers, depending on which items it computes together.",
    measured=(
        "The items of a batch are sent once more, alone, in batches of other compositions, and as concurrent requests, which a server with "
        "dynamic batching puts together. The answers are compared with those to the whole batch, by the tolerance of the model. It is a warning "
        "where rounding to float16 or bfloat16 would explain the difference, and not raised where the file itself depends on the batch in "
        "onnxruntime."
    ),
    neighbours="BN006: the model itself depends on the batch. RT013: the same batch gives different answers.",
    remedy="Turn off dynamic batching, or correct how the server puts requests together and takes the answers apart.",
)


def depends_on_company(run: str, how: str, comparison: Comparison, precision: str = "", noun: Noun = IMAGES) -> Finding:
    """RT019: a server's answers depend on what it computes together.

    Args:
        run: the id of the run.
        how: in which way the items were sent where the answers differ.
        comparison: of these answers with those to the whole batch.
        precision: whose rounding explains the difference; "" where none does.
        noun: what the items are.
    """
    far = comparison.difference.max_rel
    message = (
        f"{run}: the answers of the server depend on other requests: for the same {noun.many} sent {how}, {comparison.tensor} "
        f"differs by {far:.2g} of its scale from the answers to the whole batch"
    )
    if comparison.reason:
        message += f" ({comparison.reason})"
    evidence = {"side": run, "how": how, "tensor": comparison.tensor, "max_rel": far, "explained_by": precision}
    if precision:
        message += (
            f"; rounding to {precision} explains it, if the server computes so and other batches take other kernels"
        )
        actions: tuple[Action, ...] = (
            advise("let the server compute in float32 where answers have to be reproducible"),
        )
        return RT019.finding(Severity.WARNING, message, evidence, actions)
    actions = (
        advise("turn off dynamic batching on the server, or correct how it puts requests together"),
        advise("send each item alone if that is right"),
    )
    return RT019.finding(Severity.ERROR, message, evidence, actions)


def right_with_inputs(failed: Sequence[Comparison], ways: Sequence[str]) -> Finding:
    """RT009: a server computes what the model computes if it is given other inputs.

    Args:
        failed: the comparisons that failed.
        ways: what the server then is, each in words.
    """
    message = f"{describe(failed)}; the server is right if its input is prepared otherwise: {' or '.join(ways)}"
    actions = (
        advise("correct the preprocessing on the server, or what calls it: one of them prepares the input differently"),
    )
    return RT009.finding(Severity.ERROR, message, evidence_of(failed) | {"right_with_input": list(ways)}, actions)


def right_with_version(failed: Sequence[Comparison], versions: Sequence[str]) -> Finding:
    """RT009: another version of the model on the server is right.

    Args:
        failed: the comparisons that failed.
        versions: those that are right.
    """
    listed = " and ".join(f"version {version}" for version in versions)
    message = f"{describe(failed)}; the server has the right model as {listed}"
    actions = (advise(f"call {listed} (/versions/{versions[0]} in the address), or make it the default"),)
    return RT009.finding(Severity.ERROR, message, evidence_of(failed) | {"right_versions": list(versions)}, actions)


def computes_in_half(failed: Sequence[Comparison], precision: str, cost: Cost, agrees: bool | None) -> Finding:
    """RT009: computing in 16 bits would explain how far a server is off.

    Args:
        failed: the comparisons that failed.
        precision: "float16" or "bfloat16".
        cost: what it explains.
        agrees: whether onnxruntime is right with the file; None where that is not known.
    """
    message = f"{describe(failed)}; computing in {precision} explains it: {cost.described}"
    if agrees:
        message += "; onnxruntime agrees with the reference on the file"
    evidence = evidence_of(failed) | {"explained_by": precision, "onnxruntime_agrees": agrees}
    actions = (
        advise(f"let the server compute in float32, or accept what {precision} costs: judge it on labelled data"),
        advise(("or state a tolerance for it with ", option("rtol"))),
    )
    return RT009.finding(Severity.ERROR, message, evidence, actions)
