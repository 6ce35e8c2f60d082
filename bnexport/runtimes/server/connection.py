"""What all protocols have in common: what a server says of a model, and the errors of connections as sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from bnexport.errors import InputError, MachineError
from bnexport.results.signature import Port, Signature, Tensors
from bnexport.runtimes.libraries import first_line
from bnexport.runtimes.server.address import Address, without_token
from bnexport.types import Array

UNKNOWN = -1
"""The code of an error that says nothing about its cause."""

_REFUSED = {
    401: "it requires a valid token",
    403: "it does not permit this",
    404: "it does not have this model, or this version of it",
}
_BUSY = (408, 429, 502, 503, 504)
_WORDS = 300


@dataclass(frozen=True, slots=True)
class Described:
    """What a server says of a model.

    Args:
        signature: what it takes and gives; the first axis is the batch.
        platform: what computes it, such as "onnxruntime_onnx"; "" where it does not say.
        versions: all that it has; empty where it does not say.
        most: the largest batch that it takes; None where it does not say.
    """

    signature: Signature
    platform: str = ""
    versions: tuple[str, ...] = ()
    most: int | None = None


class Connection(Protocol):
    """A model on a server. Connections are made by `connect` for one thread."""

    def describe(self) -> Described:
        """What the server says of the model."""
        ...

    def infer(self, inputs: Tensors, outputs: Sequence[Port]) -> dict[str, Array]:
        """The outputs of these names for one request."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class ServerError(Exception):
    """What a server answers in place of a result.

    Args:
        code: of HTTP, or `UNKNOWN`.
        words: its own.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


@contextmanager
def as_sentences(address: Address, lost: tuple[type[BaseException], ...], seconds: float) -> Iterator[None]:
    """Errors in the block as errors of bnexport, which never contain a token.

    Args:
        address: the model.
        lost: what is raised where the server is not reached, or the connection ends.
        seconds: the time limit.

    Raises:
        InputError: the server refuses the request.
        MachineError: it is not reached, does not answer in time, or does not have the model.
    """
    name = f"the server {address.host}"
    try:
        yield
    except ServerError as error:
        words = without_token(first_line(error.words))[:_WORDS]
        if error.code in _REFUSED:
            fix = "set BNEXPORT_SERVER_TOKEN" if error.code in (401, 403) else "check the address"
            raise MachineError(
                f"{name} refuses the model {address.model}: {_REFUSED[error.code]}", found=words, fix=fix
            ) from None
        if error.code in _BUSY:
            raise MachineError(f"{name} is not available", found=words, fix="try again when it is") from None
        raise InputError(f"{name} refuses the request ({words})") from None
    except TimeoutError:
        raise MachineError(
            f"{name} does not answer within {seconds:g} s", fix="allow it more with timeout=SECONDS behind the address"
        ) from None
    except lost as error:
        words = without_token(first_line(str(error) or type(error).__name__))[:_WORDS]
        raise MachineError(
            f"{name} cannot be reached, or the connection ended", found=words, fix="check that it runs, and the address"
        ) from None


Connect = Callable[[Address, float], Connection]
"""Connects to a model, with a time limit in seconds."""
