"""A bundle that is being opened, and what it is to be run on: what `verify` begins with."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.comparison.options import CheckOptions
from bnexport.errors import UsageError
from bnexport.results.actions import spell_options
from bnexport.results.target_names import required_plugins, split_targets
from bnexport.system.memory_file import APPENDED, MODEL, MemoryFile

if TYPE_CHECKING:
    from bnexport.bundles.releases import Matrix
    from bnexport.bundles.signatures import SignedFiles
    from bnexport.bundles.signing import RequiredSignature
    from bnexport.runtimes.ort_session import Session


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose model is being read and opened by onnxruntime.

    That takes most of the time of a verification, and nothing else is waited for: what is needed afterwards is imported and looked at meanwhile, the
    hashes among it. No result is given before they are right.

    Args:
        folder: the bundle.
        model: its model.
        session: on the CPU; None where that is not asked for.
        signed: what was signed; None where no signature is required.
    """

    folder: Path
    model: Future[MemoryFile]
    session: Future[Session] | None
    signed: SignedFiles | None = None


@contextmanager
def start_opening(folder: Path, how: CheckOptions, signature: RequiredSignature | None = None) -> Iterator[Opened]:
    """The bundle in a folder, being opened; where a signature is required, after that is right.

    Raises:
        InputError: the bundle is not signed, not with this key, or was changed since.
        MachineError: model-signing is not installed, or a service that it needs does not answer.
    """
    signed = None
    if signature is not None:
        from bnexport.bundles.signatures import verify_signature

        signed = verify_signature(folder, signature)
    with ThreadPoolExecutor(2) as beside:
        model = beside.submit(lambda: MemoryFile(folder / MODEL, folder / APPENDED))
        try:
            if not (how.providers or {"cpu", "cuda"} & {*how.require}):
                yield Opened(folder, model, None, signed)
                return
            from bnexport.runtimes import ort_library, ort_session

            ort_library.version()  # imports onnxruntime, before anything else is imported
            wanted = {"auto", "cpu"} & {*how.providers, *how.require}
            session = beside.submit(lambda: ort_session.Session(model.result().source, "cpu")) if wanted else None
            yield Opened(folder, model, session, signed)
        finally:
            if model.exception() is None:
                model.result().close()


def settle_targets(how: CheckOptions, releases: Matrix | None = None) -> CheckOptions:
    """Options with the providers of onnxruntime apart from the other targets; none where only others are asked for, or releases."""
    of_onnxruntime, others = split_targets(how.targets)
    others += required_plugins(how.require)
    if releases is not None and of_onnxruntime == ["auto"]:
        of_onnxruntime = []  # what the command line has without --target
    instead = tuple(how.providers) == ("auto",) and (others or releases is not None)
    return replace(how, providers=of_onnxruntime or (() if instead else how.providers), targets=others)


def read_releases(matrix: str, *, every: bool = False) -> Matrix | None:
    """The releases that a bundle is run on; None where none are asked for.

    Raises:
        UsageError: the text cannot be read, or all of none are asked for.
    """
    if not matrix:
        if every:
            option = spell_options(matrix_all=True)
            raise UsageError(f"{option} runs all releases of a range", fix="add the range with --matrix")
        return None
    from bnexport.bundles.releases import read_matrix

    return read_matrix(matrix, every=every)
