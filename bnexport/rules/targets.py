"""RT009 and RT015 to RT017: a runtime other than onnxruntime that is wrong, ends, refuses a model, or computes in another precision than asked for."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.results.actions import Action, advise
from bnexport.results.runs import Switch
from bnexport.results.speed import Speed
from bnexport.results.verdict import Comparison, Finding, LayerError, Severity
from bnexport.rules.actions import option
from bnexport.rules.measured import describe, describe_layer, evidence_of
from bnexport.rules.rule import Rule

RT009 = Rule(
    "RT009",
    "another runtime computes different outputs",
    meaning=(
        "A requested target other than onnxruntime computes other outputs from the file than the reference, or so does a "
        "program whose outputs were recorded (verify --recorded)."
    ),
    measured=(
        "As for EX001, in noise floors. If onnxruntime is right with the same file, the runtime is the cause, "
        "otherwise the file. Then the batch that shows it is run again with each option of the runtime that is known to "
        "cure errors, and with the tensors inside of the graph as outputs, which are compared layer by layer. Where that "
        "alone makes the outputs right, the runtime fuses nodes wrongly."
    ),
    neighbours="EX001: onnxruntime deviates too. RT004: an optimisation of onnxruntime is the cause.",
    remedy="Report it to the authors of the runtime together with the file, or deploy with onnxruntime.",
)


def runtime_differs(
    failed: Sequence[Comparison],
    onnxruntime_agrees: bool | None,
    switch: Switch | None = None,
    first: LayerError | None = None,
    *,
    exposed: str = "",
    nodes: Sequence[str] = (),
    node: bool = False,
    opaque: str = "",
) -> Finding:
    """RT009: another runtime than onnxruntime computes something else.

    Args:
        failed: the comparisons that failed.
        onnxruntime_agrees: whether onnxruntime is right with the same file; None where it did not run it.
        switch: an option of the runtime under which it is right; None where none is known.
        first: the layer where the error begins; None where that is not known.
        exposed: the tensor that cures the runtime where it is an output of the graph; "" where there is none.
        nodes: the nodes around that tensor.
        node: whether layers are nodes of a file.
        opaque: what computes in place of the file, a program or a server, whose layers cannot be compared; "" for the file itself.
    """
    cause = {
        True: f"onnxruntime agrees with the reference on the same file, so the {opaque or 'runtime'} is the cause",
        False: "onnxruntime differs with the same file too, so the file has to be corrected first",
        None: "onnxruntime did not run the same file, so the cause may be the file or the runtime",
    }[onnxruntime_agrees]
    actions: tuple[Action, ...] = {
        True: (advise("do not deploy this file on this runtime, or use another version of it"),),
        False: (advise("do not deploy this file"),),
        None: (advise("run the file in onnxruntime too"),),
    }[onnxruntime_agrees]
    if opaque and onnxruntime_agrees:
        cause += f"; the layers of a {opaque} cannot be compared"
        actions = (
            advise(f"do not use this {opaque} as it is: compare what it does with its inputs, and which model it has"),
        )
    evidence = evidence_of(failed) | {"onnxruntime_agrees": onnxruntime_agrees}
    message, layers = f"{describe(failed)}; {cause}", tuple(nodes)
    if first is not None:
        far = first.problem or f"its output differs by {first.max_rel:.2g}, rounding explains {first.tolerance:.1g}"
        message += f"; the error begins in {describe_layer(first, node=node)}: its input agrees, {far}"
        evidence |= {"first_layer": first.name, "first_layer_max_rel": first.max_rel}
        layers = (first.name,)
    if exposed:
        message += (
            f"; it is right if the tensor {exposed} is an output of the graph, which prevents that the nodes around it "
            f"are fused: {', '.join(nodes)}"
        )
        evidence |= {"right_with_output": exposed, "nodes": list(nodes)}
    if switch is not None:
        message += f"; it is right with {switch.described}"
        evidence["right_with"] = f"{switch.option}={switch.value}"
        actions = (advise(f"deploy with {switch.described}, with which the outputs are right on this batch"), *actions)
    return RT009.finding(Severity.ERROR, message, evidence, actions, layers)


def right_with(failed: Sequence[Comparison], switch: Switch) -> Finding:
    """RT009: a runtime is right with a file that onnxruntime does not execute only with one of its options.

    Args:
        failed: the comparisons that failed.
        switch: the option.
    """
    message = f"{describe(failed)}; it is right with {switch.described}, so the runtime is the cause"
    evidence = evidence_of(failed) | {"right_with": f"{switch.option}={switch.value}"}
    actions = (
        advise(f"deploy with {switch.described}, with which the outputs are right on this batch"),
        advise("or use another version of this runtime"),
    )
    return RT009.finding(Severity.ERROR, message, evidence, actions)


RT015 = Rule(
    "RT015",
    "the process of a runtime ends",
    meaning="A requested target was started in a process of its own, which crashed, took too long, or was ended from outside.",
    measured=(
        "The signal or exit status of the process and the last line that it wrote, or the time limit that it reached "
        "(--target NAME:timeout=SECONDS)."
    ),
    neighbours="RT016: the runtime says itself that it does not run the model. RT001: CUDA does not run at all.",
    remedy="Do not deploy this file on this version of the runtime. Report it to its authors with the file.",
)


def runtime_ended(run: str, title: str, cause: str, last_line: str, *, opaque: str = "") -> Finding:
    """RT015: the process of a runtime came to an end.

    Args:
        run: the id of the run.
        title: the runtime and its version.
        cause: the signal, the exit status, or the limit.
        last_line: the last line that it wrote, or several; "" where it wrote none.
        opaque: what computes in place of the file, a program or a server; "" for the file itself.
    """
    message = f"{run}: the process of {title} ended ({cause})"
    if lines := last_line.splitlines():
        quoted = ", ".join(f'"{line}"' for line in lines)
        message += f"; the last line{'s' if len(lines) > 1 else ''} that it wrote: {quoted}"
    evidence = {"side": run, "runtime": title, "cause": cause, "last_line": last_line}
    actions: tuple[Action, ...] = (
        advise("do not deploy this file on this runtime, or use another version of it"),
        advise("report it to the authors of the runtime together with the file"),
    )
    if opaque:
        actions = (advise(f"correct the {opaque}, or allow it more time with timeout=SECONDS"),)
    return RT015.finding(Severity.ERROR, message, evidence, actions)


RT016 = Rule(
    "RT016",
    "a runtime refuses the model",
    meaning=(
        "A requested target cannot open the file, does not run the first batch, or does not run a later one; or the "
        "converter that makes its file refuses the model."
    ),
    measured=(
        "The runtime's own sentence. Operators and nodes of the file that it names are listed. Options of the runtime "
        "that are known to help are tried."
    ),
    neighbours="RT015: the runtime dies instead of refusing. RT009: it runs the model, and is wrong.",
    remedy=(
        "Use another runtime or version, or change the layers that are named. Some runtimes need a fixed batch size "
        "or another opset."
    ),
)


def runtime_refuses(
    run: str,
    title: str,
    reason: str,
    operators: Sequence[str],
    layers: Sequence[str],
    switch: Switch | None = None,
    *,
    later: bool = False,
    opaque: str = "",
) -> Finding:
    """RT016: a runtime cannot run the model.

    Args:
        run: the id of the run.
        title: the runtime and its version.
        reason: the sentence about it.
        operators: the operators of the model that it names.
        layers: the nodes or layers that it names.
        switch: an option of the runtime with which it runs; None where none is known.
        later: whether it ran the first batch.
        opaque: what computes in place of the file, a program or a server; "" for the file itself.
    """
    what = "runs the first batch of this model, but not a later one" if later else "does not run this model"
    message = f"{run}: {title} {what}: {reason}"
    if operators:
        message += f"; operators of the model that it names: {', '.join(operators)}"
    evidence: dict[str, object] = {"side": run, "runtime": title, "reason": reason, "operators": list(operators)}
    actions: tuple[Action, ...] = (
        advise("deploy on another runtime, or try another version of this one"),
        advise("change the layers that the runtime names"),
    )
    if opaque:
        actions = (advise(f"correct the {opaque}, or name another one"),)
    if switch is not None:
        message += f"; it runs with {switch.described}"
        evidence["runs_with"] = f"{switch.option}={switch.value}"
        actions = (advise(f"deploy with {switch.described}, with which it runs"), *actions)
    return RT016.finding(Severity.ERROR, message, evidence, actions, tuple(layers))


def converter_refuses(run: str, title: str, reason: str, operators: Sequence[str]) -> Finding:
    """RT016: a converter cannot make the file that a runtime executes.

    Args:
        run: the id of the run.
        title: the converter.
        reason: what it says.
        operators: those that the format does not have.
    """
    message = f"{run}: {reason}"
    if operators:
        message += f"; operators that the format does not have: {', '.join(operators)}"
    evidence = {"side": run, "runtime": title, "reason": reason, "operators": list(operators)}
    actions = (
        advise("replace these operations in the model, or deploy on another runtime"),
        advise(("or convert it yourself, and check the file that you deploy: ", option("onnx"))),
    )
    return RT016.finding(Severity.ERROR, message, evidence, actions)


RT020 = Rule(
    "RT020",
    "a runtime is slower than allowed",
    meaning="A run takes longer for a batch than --max-slowdown allows, in comparison with onnxruntime on the CPU.",
    measured=(
        "Batches of all runs are interleaved, several of each, and the shortest time of each counts, inside the runtime. "
        "Raised with --max-slowdown only."
    ),
    neighbours="RT009: a runtime computes something else, however fast.",
    remedy="Choose another runtime, batch size or number of threads, or allow more.",
)


def slower(speeds: Sequence[Speed], most: float | None) -> Finding | None:
    """RT020: runs that are slower than onnxruntime on the CPU by more than a factor.

    Args:
        speeds: what was measured.
        most: the factor; None for no limit.
    """
    slow = [s for s in speeds if most is not None and s.ratio is not None and s.ratio * most < 1]
    if not slow:
        return None
    listed = ", ".join(f"{s.side} takes {1 / (s.ratio or 1):.2g} times as long at batch size {s.batch}" for s in slow)
    evidence = {"limit": most, "runs": [{"side": s.side, "batch": s.batch, "ratio": s.ratio} for s in slow]}
    actions = (advise("choose another runtime or batch size"), advise(("or allow more with ", option("max_slowdown"))))
    return RT020.finding(Severity.ERROR, f"slower than allowed: {listed} as onnxruntime on the CPU", evidence, actions)


RT017 = Rule(
    "RT017",
    "a runtime computes in another precision than asked for",
    meaning=(
        "The runtime itself says that it computes in less than float32. As deployed: nothing was asked for, and its "
        "default is lower, such as bfloat16 in OpenVINO on processors that have it. Otherwise: float32 was asked for "
        "and not given."
    ),
    measured="What the open session says of itself is compared with what was asked for, whatever the error.",
    neighbours="RT003: how far that is from the reference, and what it costs in answers.",
    remedy="Ask the runtime for float32 where it is deployed, or accept what RT003 says it costs.",
)


def other_precision(run: str, title: str, computes: str, *, as_deployed: bool, setting: str = "") -> Finding:
    """RT017: a runtime computes in less than float32; a warning where nothing was asked for, otherwise an error.

    Args:
        run: the id of the run.
        title: the runtime and its version.
        computes: what it says it computes in.
        as_deployed: whether nothing was asked for.
        setting: what asks this runtime for float32; "" where that is not known.
    """
    what = "by default" if as_deployed else "although float32 was asked for"
    message = f"{run}: {title} computes in {computes} on this machine {what}"
    evidence = {"side": run, "runtime": title, "computes": computes, "as_deployed": as_deployed}
    actions = [advise(f"ask for float32 where it is deployed{f': {setting}' if setting else ''}")]
    if as_deployed:
        actions.append(advise("or accept it: RT003 says what it costs"))
    return RT017.finding(Severity.WARNING if as_deployed else Severity.ERROR, message, evidence, tuple(actions))
