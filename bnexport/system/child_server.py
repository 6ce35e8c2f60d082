"""The other end of `bnexport.system.child`: a process that serves one model.

It opens the model, writes one line of JSON about it to stdout, and then answers each line of stdin, an object with two paths and what
else is asked, with a line: the arrays in the file `given` were run, and the outputs are in the file `out`. It ends with its stdin.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bnexport.types import Array

Compute: TypeAlias = "Callable[[Sequence[Array], Mapping[str, Any]], Mapping[str, Array]]"
"""The outputs by name, of one array for each input and of what else was asked."""


def serve(open_model: Callable[[], tuple[Mapping[str, object], Compute]]) -> None:
    """Serves a model.

    Args:
        open_model: returns the description of the model, and what computes its outputs.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    _limit()
    warnings.simplefilter("ignore")

    def answer(values: Mapping[str, object]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        description, compute = open_model()
        answer(description)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file is the answer
        answer({"error": _reason(error)})
        return
    for line in sys.stdin:
        question = json.loads(line)
        try:
            with np.load(question["given"], allow_pickle=False) as file:
                arrays = [file[str(number)] for number in range(len(file.files))]
            outputs: dict[str, Any] = dict(compute(arrays, question))
            np.savez(question["out"], **outputs)
            answer({})
        except Exception as error:  # noqa: BLE001 - as above
            answer({"error": _reason(error)})


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows has none
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    least = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, least))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reason(error: Exception) -> str:
    text = str(error).rsplit("Exception encountered:", maxsplit=1)[-1]
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line[:200]
