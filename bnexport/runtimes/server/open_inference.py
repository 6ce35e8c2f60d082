"""The Open Inference Protocol (Triton, KServe, OpenVINO Model Server, MLServer) over HTTP and over gRPC, through tritonclient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import MachineError
from bnexport.results.signature import Port, Signature, Tensors
from bnexport.runtimes.outputs import as_array
from bnexport.runtimes.server.address import GRPC, Address, certificates, headers
from bnexport.runtimes.server.connection import UNKNOWN, Connection, Described, ServerError, as_sentences
from bnexport.types import Array, Nested

if TYPE_CHECKING:
    from tritonclient import grpc as triton_grpc, http as triton_http

_STATUS = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
}
"""Codes of HTTP for those of gRPC."""


def connect(address: Address, seconds: float) -> Connection:
    """A model on a server that speaks the protocol; nothing is sent yet."""
    return _Grpc(address, seconds) if address.protocol == GRPC else _Http(address, seconds)


class _Client:
    """What both ways have in common."""

    address: Address
    seconds: float
    lost: tuple[type[BaseException], ...] = (OSError,)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        from tritonclient.utils import InferenceServerException

        with as_sentences(self.address, self.lost, self.seconds):
            try:
                yield
            except InferenceServerException as error:
                status = (error.status() or "").removeprefix("StatusCode.")
                if status == "DEADLINE_EXCEEDED":
                    raise TimeoutError from error
                words = error.message() or str(error)
                if status == "UNAVAILABLE":
                    raise ConnectionError(words) from error
                raise ServerError(int(status) if status.isdecimal() else _STATUS.get(status, UNKNOWN), words) from error


class _Http(_Client):
    def __init__(self, address: Address, seconds: float) -> None:
        from gevent import get_hub
        from geventhttpclient.response import HTTPParseError
        from tritonclient import http

        self.address, self.seconds = address, seconds
        self._headers = headers(address)  # copied for each request: tritonclient adds to what it is given
        self.lost = (OSError, HTTPParseError)
        hub, file = get_hub(), certificates()
        hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)  # which it would print with its traceback
        self._client: triton_http.InferenceServerClient = http.InferenceServerClient(
            f"{address.host}{address.prefix}",
            connection_timeout=seconds,
            network_timeout=seconds,
            ssl=address.secure,
            ssl_options={"ca_certs": str(file)} if file and address.secure else None,
        )
        self._binary = True

    def describe(self) -> Described:
        """What the server says of the model."""
        with self._asking():
            model, version = self.address.model, self.address.version
            values = self._client.get_model_metadata(model, version, headers=dict(self._headers))
            config = self._config()
        return _described(values, config)

    def _config(self) -> Mapping[str, Nested]:
        """The configuration that Triton has; nothing elsewhere."""
        from tritonclient.utils import InferenceServerException

        try:
            answer = self._client.get_model_config(
                self.address.model, self.address.version, headers=dict(self._headers)
            )
        except (InferenceServerException, OSError):
            return {}
        return answer if isinstance(answer, dict) else {}

    def infer(self, inputs: Tensors, outputs: Sequence[Port]) -> dict[str, Array]:
        """The outputs of these names for one request: in binary, or as JSON where a server has nothing else."""
        with self._asking():
            try:
                return self._infer(inputs, outputs, binary=self._binary)
            except Exception:
                if not self._binary:
                    raise
                try:
                    values = self._infer(inputs, outputs, binary=False)
                except Exception:  # noqa: BLE001 - what it says of the first request counts
                    values = {}
                if not values:
                    raise
                self._binary = False
                return values

    def _infer(self, inputs: Tensors, outputs: Sequence[Port], *, binary: bool) -> dict[str, Array]:
        from tritonclient import http
        from tritonclient.utils import np_to_triton_dtype

        given = []
        for name, x in inputs.items():
            tensor = http.InferInput(name, list(x.shape), np_to_triton_dtype(x.dtype))
            tensor.set_data_from_numpy(x, binary_data=binary)
            given.append(tensor)
        wanted = [http.InferRequestedOutput(port.name, binary_data=binary) for port in outputs]
        answer = self._client.infer(
            self.address.model, given, self.address.version, outputs=wanted, headers=dict(self._headers)
        )
        return _outputs(answer, outputs)

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


class _Grpc(_Client):
    def __init__(self, address: Address, seconds: float) -> None:
        from tritonclient import grpc

        self.address, self.seconds, self._headers = address, seconds, headers(address)
        file = certificates()
        self._client: triton_grpc.InferenceServerClient = grpc.InferenceServerClient(
            address.host,
            ssl=address.secure,
            root_certificates=str(file) if file and address.secure else None,
        )

    def describe(self) -> Described:
        """What the server says of the model."""
        model, version = self.address.model, self.address.version
        with self._asking():
            values = self._client.get_model_metadata(
                model, version, headers=dict(self._headers), as_json=True, client_timeout=self.seconds
            )
            config = self._config()
        return _described(values, config)

    def _config(self) -> Mapping[str, Nested]:
        from tritonclient.utils import InferenceServerException

        try:
            answer = self._client.get_model_config(
                self.address.model,
                self.address.version,
                headers=dict(self._headers),
                as_json=True,
                client_timeout=self.seconds,
            )
        except InferenceServerException:
            return {}
        return answer.get("config", {}) if isinstance(answer, dict) else {}

    def infer(self, inputs: Tensors, outputs: Sequence[Port]) -> dict[str, Array]:
        """The outputs of these names for one request."""
        from tritonclient import grpc
        from tritonclient.utils import np_to_triton_dtype

        given = []
        for name, x in inputs.items():
            tensor = grpc.InferInput(name, list(x.shape), np_to_triton_dtype(x.dtype))
            tensor.set_data_from_numpy(x)
            given.append(tensor)
        wanted = [grpc.InferRequestedOutput(port.name) for port in outputs]
        with self._asking():
            answer = self._client.infer(
                self.address.model,
                given,
                self.address.version,
                outputs=wanted,
                headers=dict(self._headers),
                client_timeout=self.seconds,
            )
            return _outputs(answer, outputs)

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


def _outputs(answer: triton_http.InferResult | triton_grpc.InferResult, wanted: Sequence[Port]) -> dict[str, Array]:
    values = {port.name: answer.as_numpy(port.name) for port in wanted}
    return {name: as_array(name, x) for name, x in values.items() if x is not None}


def _described(values: Mapping[str, Nested], config: Mapping[str, Nested]) -> Described:
    try:
        signature = Signature(_ports(values["inputs"]), _ports(values["outputs"]))
        versions = tuple(str(version) for version in values.get("versions") or ())
        most = int(config.get("max_batch_size") or 0) or None
        return Described(signature, str(values.get("platform", "")), versions, most)
    except (KeyError, TypeError, ValueError) as error:
        raise MachineError(f"the server describes its model in a way that cannot be read ({error!r})") from error


def _ports(values: Sequence[Mapping[str, Nested]]) -> tuple[Port, ...]:
    from tritonclient.utils import triton_to_np_dtype

    ports = []
    for each in values:
        shape = tuple(None if int(side) < 0 else int(side) for side in each.get("shape") or ())
        dtype = triton_to_np_dtype(each["datatype"])
        ports.append(Port(str(each["name"]), shape, np.dtype(dtype if dtype is not None else np.object_)))
    return tuple(ports)
