"""Every way bnexport can fail on purpose, each with its exit code.

    BnexportError            70  something is wrong in bnexport itself
    ├── UsageError            2  the command does not make sense as given
    ├── InputError            2  a file or folder cannot be read as what it should be
    │   ├── ExportError       2  the model was read, but it cannot be written as ONNX
    │   ├── RefusedError      2  a runtime that was asked for does not run a batch
    │   ├── UnexpectedError   2  what computes in another process raised what nobody there expected
    │   └── MismatchError     2  what computes in place of a file takes or gives something else
    └── MachineError          3  this machine cannot do what was required
        └── EndedError        3  a process that computes for this one ended, or took too long

An error says in one sentence what happened, and where it knows them what was found, what was expected and what to
do next. A check that fails is not an error: it is a verdict (`bnexport.results.verdict`), exit code 1.
"""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager


class BnexportError(Exception):
    """The root: `str(error)` is one sentence a person can act on.

    Args:
        what: what happened, with the name of the file or option it happened to.
        found: what was there.
        expected: what should have been there.
        fix: what to do next.

    >>> print(InputError("cannot read model.h5", found="an HDF5 file with weights only", fix="save the whole model"))
    cannot read model.h5: found an HDF5 file with weights only; save the whole model
    """

    exit_code = 70

    def __init__(self, what: str, *, found: str = "", expected: str = "", fix: str = "") -> None:
        parts = [f"found {found}" if found else "", f"expected {expected}" if expected else "", fix]
        rest = "; ".join(part for part in parts if part)
        super().__init__(f"{what}: {rest}" if rest else what)


class UsageError(BnexportError):
    """The command does not make sense as given."""

    exit_code = 2


class InputError(BnexportError):
    """A file or folder cannot be read as what it should be."""

    exit_code = 2


class ExportError(InputError):
    """The model was read, but it cannot be written as ONNX."""


class RefusedError(InputError):
    """A runtime that was asked for does not run a batch.

    Args:
        what: in its own words.
        target: what the user calls it.
    """

    def __init__(self, what: str, *, target: str) -> None:
        super().__init__(what)
        self.target = target


class UnexpectedError(InputError):
    """What computes in another process raised what nobody there expected: the file may be the reason, or the library."""


class MismatchError(InputError):
    """What computes in place of a file takes or gives something else.

    Args:
        what: what computes.
        differences: each in words.
    """

    def __init__(self, what: str, *, differences: tuple[str, ...]) -> None:
        super().__init__(what, found="; ".join(differences))
        self.differences = differences


class MachineError(BnexportError):
    """This machine cannot do what was required."""

    exit_code = 3


class EndedError(MachineError):
    """A process that computes for this one ended, or took too long.

    Args:
        what: what happened.
        cause: how it ended, such as "SIGSEGV", "exit status 3" or "a time limit of 60 s".
        last_line: the last line that it wrote, or several; "" where it wrote none.
    """

    def __init__(self, what: str, *, cause: str, last_line: str = "") -> None:
        lines = last_line.splitlines()
        said = f", its last line{'s' if len(lines) > 1 else ''}: {' / '.join(lines)}" if lines else ""
        super().__init__(what, found=f"{cause}{said}")
        self.cause, self.last_line = cause, last_line
        self.target = ""
        """What the user calls it, where it is a target."""


def reason(error: BaseException) -> str:
    r"""What an error of another library says in its first line; the name of its class where it says nothing.

    TensorFlow begins with "Graph execution error:" and a traceback; what happened stands above the node it names.

    >>> reason(ValueError(chr(10) + "  first" + chr(10) + "second")), reason(EOFError())
    ('first', 'EOFError')
    >>> reason(RuntimeError("Graph execution error:\n\nDetected at node x\nOut of memory\n\t [[{{node x}}]]"))
    'x: Out of memory'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0] == "Graph execution error:":
        for above, line in itertools.pairwise(lines):
            if match := re.match(r"\[\[\{\{node (\S+)\}\}", line):
                return f"{match[1]}: {above}"
    return lines[0]


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Makes of what a framework raises while it loads or runs a file one sentence.

    Raises:
        InputError: the block failed; errors of bnexport and a lack of memory pass through.
    """
    try:
        yield
    except (BnexportError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{what} ({reason(error)[:200]})") from error
