"""KServe's own server with some models of the tests: python kserve_server.py HTTP_PORT GRPC_PORT."""

from __future__ import annotations

import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

from tests.inference_server import MODELS, SIDE


class Net(Model):
    """One of the models of `tests.inference_server`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    async def get_input_types(self) -> list[dict]:
        return [{"name": "x", "datatype": "FP32", "shape": [-1, SIDE, SIDE, 3]}]

    async def get_output_types(self) -> list[dict]:
        return [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]

    def predict(self, payload: InferRequest, headers: object = None, response_headers: object = None) -> InferResponse:  # noqa: ARG002
        y = MODELS[self.name](payload.inputs[0].as_numpy())
        output = InferOutput("y", list(y.shape), "FP32")
        output.set_data_from_numpy(y, binary_data=True)
        return InferResponse(payload.id or "1", self.name, [output])


if __name__ == "__main__":
    http, grpc = map(int, sys.argv[1:])
    server = ModelServer(http_port=http, grpc_port=grpc, enable_docs_url=False, workers=1, access_log_format=None)
    server.start([Net(name) for name in ("net", "half", "scaled", "company")])
