"""The REST protocol of TensorFlow Serving, with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import ssl
import weakref
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import numpy as np

from bnexport.errors import MachineError
from bnexport.results.signature import Port, Signature, Tensors, dtype_named
from bnexport.runtimes.server.address import Address, certificates, headers
from bnexport.runtimes.server.connection import Described, ServerError, as_sentences
from bnexport.types import Array, Nested

_TYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16", "DT_BOOL": "bool"}
_SIGNATURE = "serving_default"


class TfServing:
    """A model on TensorFlow Serving.

    Args:
        address: of the model.
        seconds: how long a request may take.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        self._address, self._seconds = address, seconds
        self._headers = {**headers(address), "Content-Type": "application/json"}
        path = f"{address.prefix}/v1/models/{quote(address.model, safe='')}"
        self._every, self._path = path, path + (f"/versions/{address.version}" if address.version else "")
        if address.secure:
            file = certificates()
            context = ssl.create_default_context(cafile=str(file) if file else None)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                address.host, timeout=seconds, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(address.host, timeout=seconds)
        self._finalizer = weakref.finalize(self, self._connection.close)

    def describe(self) -> Described:
        """What the server says of the model."""
        metadata = self._ask("GET", f"{self._path}/metadata")
        states = self._ask("GET", self._every).get("model_version_status", [])
        try:
            signatures = metadata["metadata"]["signature_def"]["signature_def"]
            chosen = signatures.get(_SIGNATURE) or next(iter(signatures.values()))
            signature = Signature(_ports(chosen["inputs"]), _ports(chosen["outputs"]))
            versions = tuple(str(each["version"]) for each in states if each.get("state") == "AVAILABLE")
            return Described(signature, "tensorflow", versions)
        except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
            raise MachineError(f"the server describes its model in a way that cannot be read ({error!r})") from error

    def infer(self, inputs: Tensors, outputs: Sequence[Port]) -> dict[str, Array]:
        """The outputs of these names for one request."""
        body = json.dumps({"inputs": {name: x.tolist() for name, x in inputs.items()}})
        answer = self._ask("POST", f"{self._path}:predict", body).get("outputs")
        values = answer if isinstance(answer, dict) else {outputs[0].name: answer}
        return {port.name: np.array(values[port.name], port.dtype) for port in outputs if port.name in values}

    def close(self) -> None:
        """Ends the connection."""
        self._finalizer()

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Nested]:
        with as_sentences(self._address, (OSError, http.client.HTTPException), self._seconds):
            try:
                self._connection.request(method, path, body, self._headers)
                response = self._connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()  # the next request begins anew
                raise
            try:
                answer = json.loads(content)
            except ValueError:
                answer = {"error": content.decode(errors="replace") or response.reason}
            if response.status != http.client.OK or not isinstance(answer, dict):
                raise ServerError(
                    response.status, str(answer.get("error", answer) if isinstance(answer, dict) else answer)
                )
            return answer


def _ports(values: Mapping[str, Nested]) -> tuple[Port, ...]:
    ports = []
    for name, each in values.items():
        shape = each.get("tensor_shape", {})
        sides = () if shape.get("unknown_rank") else tuple(int(side["size"]) for side in shape.get("dim", ()))
        kind = str(each["dtype"])
        dtype = dtype_named(_TYPES.get(kind, kind.removeprefix("DT_").lower()))
        ports.append(Port(name, tuple(None if side < 0 else side for side in sides), dtype))
    return tuple(ports)
