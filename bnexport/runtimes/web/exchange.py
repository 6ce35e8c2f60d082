"""The server on 127.0.0.1 at which a session in JavaScript asks what to do, and answers."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bnexport.errors import EndedError, InputError
from bnexport.runtimes.web.wire import pack, unpack
from bnexport.types import Array, Nested

IDLE = 20.0
"""So many seconds a question is waited for: node gives up waiting for an answer after 300."""

_LOOK = 0.1
"""So often it is looked whether the other end still runs, in seconds."""

_KINDS = {".mjs": "text/javascript", ".html": "text/html", ".wasm": "application/wasm"}


class Exchange:
    """A server for one session.

    Nobody without the token of its address gets anything from it.

    Args:
        folders: the folders whose files it serves, by what stands for them in addresses.
        check: raises an error where the other end does not run any more.
    """

    def __init__(self, folders: Mapping[str, Path], check: Callable[[], None]) -> None:
        self._check = check
        self._server = _Server(folders)
        threading.Thread(target=self._server.serve_forever, args=(_LOOK,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/{self._server.token}"

    def ask(
        self, header: Mapping[str, object], tensors: Mapping[str, Array] | None = None, rest: bytes = b""
    ) -> tuple[dict[str, Nested], dict[str, Array]]:
        """What is answered to a question.

        Raises:
            InputError: the other end refuses, or a type of tensor does not exist there.
            EndedError: it does not run any more.
        """
        self._server.questions.put(pack(header, tensors or {}, rest))
        while True:
            try:
                answer, outputs = unpack(self._server.answers.get(timeout=_LOOK))
            except queue.Empty:
                self._check()
                if self._server.hung_up.is_set():
                    raise EndedError("the page of onnxruntime-web ended", cause="the page crashed") from None
                continue
            if "error" in answer:
                operator = f" (in {answer['operator']})" if answer["operator"] else ""
                raise InputError(f"{answer['error']}{operator}")
            return answer, outputs

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, folders: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders, self.token = folders, secrets.token_urlsafe(16)
        self.questions: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.hung_up = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: the other end hangs up in the middle when it is ended, and that is looked at elsewhere."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """A question, a file, or nothing until the other end hangs up."""
        folder, _, file = self._address().rpartition("/")
        if folder:
            path = self.server.folders.get(folder, Path()) / file
            content = path.read_bytes() if folder in self.server.folders and path.is_file() else None
            self._send(content, _KINDS.get(path.suffix, "application/octet-stream"))
        elif file == "question":
            try:
                self._send(self.server.questions.get(timeout=IDLE))
            except queue.Empty:
                self._send(b"", status=HTTPStatus.NO_CONTENT)
        elif file == "presence":
            self._send(b" ")
            self.wfile.flush()
            self.connection.recv(1)
            self.server.hung_up.set()
        else:
            self._send(None)

    def do_POST(self) -> None:
        """An answer."""
        if self._address() != "answer":
            self._send(None)
            return
        self.server.answers.put(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(b"")

    def _address(self) -> str:
        """What stands behind the token in the address; "" where it is another one."""
        token, _, name = self.path.removeprefix("/").partition("/")
        return name if secrets.compare_digest(token.encode(), self.server.token.encode()) else ""

    def _send(self, content: bytes | None, kind: str = "", status: HTTPStatus = HTTPStatus.OK) -> None:
        """Content, or that there is none.

        Pages are isolated from others, without which browsers have no shared memory, and onnxruntime-web no threads (HTML, "Cross-origin isolation").
        """
        self.send_response(HTTPStatus.NOT_FOUND if content is None else status)
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        if kind:
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        """Nothing: standard error has the last words of the other end."""
