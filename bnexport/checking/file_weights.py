"""Whether a file that is not ONNX holds the weights of its model: .tflite files, whose kernels can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bnexport.comparison.sides import Runner
from bnexport.comparison.subject import Subject
from bnexport.onnx_graph import kernels
from bnexport.results.nouns import Noun
from bnexport.results.runs import Precision
from bnexport.results.verdict import Comparison, Finding
from bnexport.rules import export, hidden_errors


def find_other_weights(
    runner: Runner, subject: Subject | None, failed: Sequence[Comparison], title: str, noun: Noun
) -> Finding | None:
    """EX005 where most kernels of a file cannot come from the model, EX001 where some of a file of reduced precision cannot; None elsewhere.

    Args:
        runner: the run of the file.
        subject: what is checked.
        failed: the comparisons that failed; empty where the outputs are as near as the precision allows.
        title: what sentences call the reference.
        noun: what the model was run on.
    """
    if subject is None or runner.file is None or not (there := runner.file.kernels()):
        return None
    matched = kernels.compare_kernels(there, subject.weights)
    if runner.spec.precision == Precision.FLOAT32:
        return (
            export.other_checkpoint(failed, matched.compared, tuple(matched.other), "file") if matched.foreign else None
        )
    unlike = matched.unlike
    if 2 * len(unlike) > matched.compared:
        return export.other_checkpoint(failed, matched.compared, tuple(unlike), "file")
    return hidden_errors.unlike_kernels(unlike, title, noun, failed, "file")


def find_reduced(runners: Iterable[Runner], subject: Subject | None, title: str, noun: Noun) -> Finding | None:
    """The first such finding for files of reduced precision, where nothing else is wrong with them: other weights may cost no more than it does.

    Args:
        runners: every run.
        subject: what is checked.
        title: what sentences call the reference.
        noun: what the model was run on.
    """
    reduced = (runner for runner in runners if runner.file and runner.spec.precision != Precision.FLOAT32)
    return next(filter(None, (find_other_weights(runner, subject, (), title, noun) for runner in reduced)), None)
