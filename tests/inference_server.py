"""A server of the Open Inference Protocol (JSON and binary tensors) and of TensorFlow Serving's REST, with models that are wrong in many ways."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

W = np.random.default_rng(7).normal(size=(48, 3)).astype(np.float32) / 8
SIDE = 4
"""The models take images of 4x4 pixels."""


def net(x: np.ndarray, kind: type = np.float32, w: np.ndarray = W) -> np.ndarray:
    z = np.maximum(x, 0).reshape(len(x), -1).astype(kind) @ w.astype(kind)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)


class Batcher:
    """Dynamic batching, as servers do it: what arrives within some milliseconds is computed together, and here taken apart in the wrong order."""

    def __init__(self) -> None:
        self.lock, self.waiting = threading.Lock(), []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        entry: list[Any] = [x, threading.Event(), None]
        with self.lock:
            self.waiting.append(entry)
            first = len(self.waiting) == 1
        if first:
            time.sleep(0.1)
            with self.lock:
                together, self.waiting = self.waiting, []
            rows = (
                np.split(net(np.concatenate([each[0] for each in together])), len(together))
                if len({len(e[0]) for e in together}) == 1
                else None
            )
            for nth, each in enumerate(together):
                each[2] = net(each[0]) if rows is None else rows[nth - 1]
                each[1].set()
        entry[1].wait(5)
        return entry[2]


MODELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "net": net,
    "half": lambda x: net(x, np.float16),
    "kernels": lambda x: net(x, np.float16 if len(x) == 1 else np.float32),
    "scaled": lambda x: net(x / np.float32(255)),
    "swapped": lambda x: net(x[..., ::-1]),
    "company": lambda x: net(x - x.mean(axis=0)),
    "batching": Batcher(),
    "wrong": lambda x: net(x, w=np.roll(W, 1, axis=0)),
    "one": net,
    "two": net,
}


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.allowed():
            return
        parts = self.path.strip("/").split("/")
        name = parts[2]
        version = parts[4] if len(parts) > 4 and parts[3] == "versions" else ""
        if name not in {*MODELS, "versions", "shape", "renamed", "half-io"} or (version and version not in ("1", "2")):
            self.answer({"error": f"Request for unknown model: '{name}'"}, 404)
        elif parts[0] == "v1":
            port = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": str(s)} for s in (-1, SIDE, SIDE, 3)]}}
            out = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "3"}]}}
            signature = {"serving_default": {"inputs": {"image": port}, "outputs": {"output_0": out}}}
            states = [{"version": v, "state": "AVAILABLE"} for v in ("1", "2")]
            metadata = {"metadata": {"signature_def": {"signature_def": signature}}}
            self.answer(metadata if parts[-1] == "metadata" else {"model_version_status": states})
        elif parts[-1] == "config":
            self.answer({"max_batch_size": 2} if name == "two" else {}, 200 if name == "two" else 404)
        else:
            kind = "FP16" if name == "half-io" else "FP32"
            batch = 1 if name == "one" else -1
            shape = [batch, 3, SIDE, SIDE] if name == "shape" else [batch, SIDE, SIDE, 3]
            x = {"name": "image" if name == "renamed" else "x", "datatype": kind, "shape": shape}
            y = {"name": "y", "datatype": kind, "shape": [batch, 3]}
            self.answer({"name": name, "versions": ["1", "2"], "platform": "test", "inputs": [x], "outputs": [y]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed():
            return
        self.server.requests += 1
        if self.server.last and self.server.requests > self.server.last:
            os._exit(9)
        if self.server.hangs:
            time.sleep(30)
        parts = self.path.strip("/").split("/")
        name = parts[2].partition(":")[0]
        version = parts[4].partition(":")[0] if len(parts) > 4 else "1"
        model = MODELS.get(name, net)
        if name == "versions":
            model = net if version == "2" else MODELS["wrong"]
        if parts[0] == "v1":
            x = np.array(json.loads(body)["inputs"]["image"], np.float32)
            self.answer({"outputs": model(x).tolist()})
            return
        size = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        request = json.loads(body[:size])
        [given] = request["inputs"]
        binary = "binary_data_size" in given.get("parameters", {})
        if binary and self.server.json_only:
            self.answer({"error": "binary tensors are not supported"}, 400)
            return
        kind = np.float16 if given["datatype"] == "FP16" else np.float32
        x = np.frombuffer(body[size:], kind) if binary else np.array(given["data"], kind)
        x = x.reshape(given["shape"])
        if name in ("one", "two") and len(x) > ("one", "two").index(name) + 1:
            self.answer({"error": f"batch-size must be <= {name}"}, 400)
            return
        y = model(x.astype(np.float32)).astype(kind)
        output: dict[str, Any] = {"name": "y", "datatype": given["datatype"], "shape": list(y.shape)}
        if not binary:
            self.answer({"model_name": name, "outputs": [{**output, "data": y.ravel().tolist()}]})
            return
        output["parameters"] = {"binary_data_size": y.nbytes}
        self.answer({"model_name": name, "outputs": [output]}, rest=y.tobytes())

    def allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.server.token and given != f"Bearer {self.server.token}":
            self.answer({"error": f"bad credentials {given}"}, 401)
            return False
        return True

    def answer(self, values: dict[str, Any], status: int = 200, rest: bytes = b"") -> None:
        header = json.dumps(values).encode()
        self.send_response(status)
        if rest:
            self.send_header("Inference-Header-Content-Length", str(len(header)))
        self.send_header("Content-Length", str(len(header) + len(rest)))
        self.end_headers()
        self.wfile.write(header + rest)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        *,
        token: str = "",
        last: int = 0,
        hangs: bool = False,
        json_only: bool = False,
        certificate: Path | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.last, self.hangs, self.json_only, self.requests = token, last, hangs, json_only, 0
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if certificate else "http"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def url(self, model: str, protocol: str = "v2") -> str:
        return f"{self.scheme}://localhost:{self.server_port}/{protocol}/models/{model}"


if __name__ == "__main__":  # a server that ends in the middle: python inference_server.py LAST
    import sys

    server = Server(last=int(sys.argv[1]))
    print(server.server_port, flush=True)
    threading.Event().wait()
