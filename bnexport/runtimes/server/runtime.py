"""A model on a server as a runtime: the file is compared with what the server says of its model, and is not sent."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from bnexport.errors import InputError, MachineError, MismatchError, UsageError
from bnexport.results.signature import Tensors
from bnexport.runtimes.checked_session import CheckedSession, read_onnx, signature_of
from bnexport.runtimes.libraries import library_version, refuse_unknown_options
from bnexport.runtimes.protocols import About, Artifact, Switch, Want
from bnexport.runtimes.server.address import TF_SERVING, Address, certificates, headers, parse_address
from bnexport.runtimes.server.connection import Connect, Connection
from bnexport.runtimes.server.matching import match
from bnexport.types import Array

PATIENCE = 60.0
"""How long a request may take, in seconds."""

_INSTALL = "pip install 'bnexport[server]'"


class Server:
    """The runtime `server`."""

    def about(self) -> About:
        """The version of tritonclient, which is imported when a model is opened."""
        version = library_version("tritonclient", ("tritonclient",))
        missing = (
            "" if version else "tritonclient is not installed; the REST protocol of TensorFlow Serving needs nothing"
        )
        return About(version, missing, _INSTALL if missing else "", devices=("ADDRESS",), opaque="server")

    def about_target(self, device: str, options: Mapping[str, str]) -> About:
        """The model that an address names; nothing is sent.

        Raises:
            UsageError: it is no address, or there is no such option.
        """
        refuse_unknown_options("server", options, ("timeout", "version"))
        address = parse_address(device)
        _seconds(options)
        headers(address)
        certificates()
        hidden = ("timeout",)
        if address.protocol == TF_SERVING:
            return About("", devices=(device,), opaque="server", hidden=hidden)
        version = library_version("tritonclient", ("tritonclient",))
        missing = "" if version else "tritonclient is not installed"
        return About("", missing, _INSTALL if missing else "", devices=(device,), opaque="server", hidden=hidden)

    def open(self, artifact: Artifact, want: Want) -> ServerSession:
        """The model on the server, compared with an ONNX file."""
        try:
            address = parse_address(want.device)
        except UsageError as error:
            raise MachineError(str(error)) from error
        if version := want.options.get("version"):
            address = address.at(version)
        return ServerSession(artifact, address, _connector(address), _seconds(want.options))


def _seconds(options: Mapping[str, str]) -> float:
    try:
        seconds = float(options.get("timeout", PATIENCE))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 10.0**6:
        raise UsageError("the time limit of a server is invalid", found=options["timeout"], expected="seconds, above 0")
    return seconds


def _connector(address: Address) -> Connect:
    if address.protocol == TF_SERVING:
        from bnexport.runtimes.server.tf_serving import TfServing

        return TfServing
    from bnexport.runtimes.server.open_inference import connect

    return connect


class ServerSession(CheckedSession):
    """A model on a server. Each thread has a connection of its own.

    Args:
        artifact: the file that the server is to compute.
        address: of the model.
        connect: makes connections.
        seconds: how long a request may take.

    Raises:
        InputError: the artifact is no ONNX model.
        MismatchError: the model on the server takes or gives something else.
        MachineError: the server is not reached, or does not have the model.
    """

    def __init__(self, artifact: Artifact, address: Address, connect: Connect, seconds: float) -> None:
        super().__init__(signature_of(read_onnx(artifact, "a server")))
        self.optional = frozenset(artifact.added)
        self._address, self._connect, self._seconds = address, connect, seconds
        self._own, self._opener = threading.local(), threading.get_ident()
        self._connections: list[Connection] = []
        try:
            described = self._connection().describe()
            matched = match(self.signature, described.signature, self.optional)
            if matched.problems:
                raise MismatchError(f"the server {address.host} has another model", differences=tuple(matched.problems))
        except BaseException:
            self.close()
            raise
        self._inputs, self._outputs = matched.inputs, matched.outputs
        self.notes = tuple(matched.notes)
        sides = [port.shape[0] for port in matched.inputs.values() if port.shape]
        fixed = next((side for side in sides if side is not None), None)
        self._most = described.most or fixed
        others = [version for version in described.versions if version != address.version]
        self.switches = tuple(
            Switch("version", version, f"version {version} of the model on the server") for version in others[:8]
        )

    def compute(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """What the server computes; in several requests where a batch is larger than it takes."""
        lengths = {len(x) if x.ndim else 0 for x in inputs.values()}
        count = max(lengths, default=0)
        size = self._most or count
        if count <= size or len(lengths) > 1:
            return self._ask(inputs)
        parts = [self._ask({name: x[at : at + size] for name, x in inputs.items()}) for at in range(0, count, size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _ask(self, inputs: Tensors) -> dict[str, Array]:
        if self._closed:
            raise InputError("the session is closed", fix="open it again")
        given = {self._inputs[n].name: np.asarray(x, self._inputs[n].dtype, order="C") for n, x in inputs.items()}
        values = self._connection().infer(given, list(self._outputs.values()))
        return {name: values[port.name] for name, port in self._outputs.items() if port.name in values}

    def _connection(self) -> Connection:
        if not hasattr(self._own, "connection"):
            self._own.connection = self._connect(self._address, self._seconds)
            if threading.get_ident() == self._opener:  # those of other threads end with their thread
                self._connections.append(self._own.connection)
        connection: Connection = self._own.connection
        return connection

    def close(self) -> None:
        """Ends the connections."""
        super().close()
        while self._connections:
            self._connections.pop().close()
