"""Servers as targets: a right model passes, and what is wrong with the others is named; nothing secret is said."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

from bnexport import check
from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.errors import InputError, MachineError, UsageError
from bnexport.results.verdict import CheckReport
from tests import inference_server
from tests.inference_server import SIDE, Server, W

PROGRAMS = Path(__file__).parent.parent
X = np.random.default_rng(0).uniform(0, 1, size=(9, SIDE, SIDE, 3)).astype(np.float32)

needs_client = pytest.mark.skipif(find_spec("tritonclient") is None, reason="tritonclient is not installed")


def model() -> onnx.ModelProto:
    """The net of the server."""
    net = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, {SIDE}, {SIDE}, 3] x) => (float[N, 3] y)
        {{ r = Relu(x)  f = Flatten(r)  z = MatMul(f, w)  y = Softmax(z) }}""")
    net.graph.initializer.append(numpy_helper.from_array(W, "w"))
    return net


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "-q"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net, packed in batches of five."""
    folder = tmp_path_factory.mktemp("servers")
    onnx.save(model(), folder / "net.onnx")
    np.savez(folder / "data.npz", x=X)
    packed = run(
        "pack", folder / "net.onnx", "--arrays", folder / "data.npz", "-o", folder / "bundle", "--batch-size", "5"
    )
    assert packed.exit_code == 0, packed.output
    return folder / "bundle"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def codes(report: CheckReport) -> list[str]:
    return sorted(finding.code for finding in report.findings)


@needs_client
@pytest.mark.parametrize("name", ["net", "one", "two", "net/versions/2"])
def test_a_server_with_the_right_model_passes(name: str, server: Server, bundle: Path) -> None:
    """Also where it takes fewer items at once than a batch has; the id of the run is the address."""
    report = verify(bundle, targets=[server.url(name)])
    assert report, report.findings
    assert codes(report) == []
    assert [side.id for side in report.sides][1:] == [f"onnx-inference@{server.url(name)}"]
    assert {c.tensor: c.passed for c in report.comparisons} == {"probabilities": True}


@needs_client
def test_a_check_takes_servers_too(server: Server) -> None:
    """Beside onnxruntime; a wrong model is the server's fault, and its layers cannot be compared."""
    assert check(model(), X, targets=[server.url("net")])
    report = check(model(), X, targets=[server.url("wrong")])
    assert codes(report) == ["RT009"]
    message = report.findings[0].message
    assert "so the server is the cause; the layers of a server cannot be compared" in message


def test_tensorflow_serving(server: Server, bundle: Path) -> None:
    """Its REST protocol, with names of its own (RT018 says so), and a version that is wrong."""
    report = verify(bundle, targets=[server.url("net", "v1")])
    assert report, report.findings
    assert codes(report) == ["RT018"]
    assert "the input x of the file is called image" in report.findings[0].message
    wrong = verify(bundle, targets=[server.url("versions/versions/1", "v1")])
    assert codes(wrong) == ["RT009", "RT018"]
    assert "the server has the right model as version 2" in next(f for f in wrong.findings if f.code == "RT009").message


@needs_client
@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (
            "scaled",
            "RT009",
            "right if its input is prepared otherwise: it takes images with scaling none, the model unit",
        ),
        ("swapped", "RT009", "it takes images with order bgr, the model rgb"),
        ("versions", "RT009", "the server has the right model as version 2"),
        ("half", "RT009", "computing in float16 explains it"),
        ("company", "RT019", "sent alone"),
        ("kernels", "RT019", "rounding to float16 explains it"),
        ("batching", "RT019", "sent as concurrent requests"),
        ("shape", "RT018", f"the input x has the shape (N, 3, {SIDE}, {SIDE}), the file has (N, {SIDE}, {SIDE}, 3)"),
    ],
)
def test_what_is_wrong_is_named(name: str, code: str, words: str, server: Server, bundle: Path) -> None:
    """The scaling inside of the server, the version, the precision, dynamic batching, the interface."""
    report = verify(bundle, targets=[server.url(name)])
    assert bool(report) == (name == "kernels")
    finding = next(finding for finding in report.findings if finding.code == code)
    assert words in finding.message, finding.message
    assert codes(report) == (["RT009", "RT019"] if name == "company" else [code])


@needs_client
@pytest.mark.parametrize("name", ["renamed", "half-io"])
def test_another_name_or_width_is_a_warning(name: str, server: Server, bundle: Path) -> None:
    """Bnexport calls the server as it is; RT018 says so, and float16 outputs are explained."""
    report = verify(bundle, targets=[server.url(name)])
    words = {
        "renamed": "the input x of the file is called image",
        "half-io": "the input x is float16, the file has float32",
    }
    assert words[name] in next(finding for finding in report.findings if finding.code == "RT018").message
    assert codes(report) == (["RT018"] if name == "renamed" else ["RT009", "RT018"])


@needs_client
def test_a_server_that_has_json_only(bundle: Path) -> None:
    """Binary tensors are an extension of the protocol."""
    with Server(json_only=True) as server:
        report = verify(bundle, targets=[server.url("net")])
    assert report, report.findings


@needs_client
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_what_cannot_be_reached(protocol: str, bundle: Path) -> None:
    """Exit code 3 and one sentence: nobody listens, there is no such model, no answer in time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://localhost:{free.getsockname()[1]}/{protocol}/models/net"
    with Server(hangs=True) as slow:
        cases = {
            nobody: "cannot be reached",
            slow.url("nothing", protocol): "it does not have this model",
            f"{slow.url('net', protocol)}:timeout=0.3": "does not answer within 0.3 s",
        }
        for target, words in cases.items():
            done = run("verify", bundle, "--target", target)
            assert (done.exit_code, done.stderr.count("\n")) == (3, 1), done.output
            assert words in done.stderr


@needs_client
def test_killed_in_the_middle(bundle: Path) -> None:
    """Exit code 3 and one sentence where the server ends after some answers."""
    command = [sys.executable, str(Path(inference_server.__file__)), "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    done = run("verify", bundle, "--target", f"http://localhost:{port}/v2/models/net")
    assert process.wait(10) == 9
    process.stdout.close()
    assert (done.exit_code, done.stderr.count("\n")) == (3, 1), done.output
    assert "cannot be reached, or the connection ended" in done.stderr


@needs_client
def test_credentials_are_in_no_report(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The token of the environment is sent, and is in no output, also where the server repeats it."""
    token, html = "s3cret-t0ken", tmp_path / "report.html"
    with Server(token=token) as server:
        target = server.url("net")
        without = run("verify", bundle, "--target", target)
        assert (without.exit_code, "BNEXPORT_SERVER_TOKEN" in without.stderr) == (3, True), without.output
        monkeypatch.setenv("BNEXPORT_SERVER_TOKEN", "another-" + token)
        refused = run("verify", bundle, "--target", target)
        assert (refused.exit_code, "bad credentials" in refused.stderr) == (3, True), refused.output
        monkeypatch.setenv("BNEXPORT_SERVER_TOKEN", token)
        done = run("verify", bundle, "--target", target, "--format", "json", "--report", html)
    assert done.exit_code == 0, done.output
    assert token not in refused.output + done.output + html.read_text()


@needs_client
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_certificates_are_verified(
    protocol: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server whose certificate nobody vouches for is refused; BNEXPORT_SERVER_CA names who may."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    key, pem = tmp_path / "key.pem", tmp_path / "ca.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*new, "-keyout", key, "-out", pem, *subject], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + pem.read_text())
    with Server(certificate=both) as server:
        target = server.url("net", protocol)
        with pytest.raises(MachineError, match="certificate verify failed"):
            verify(bundle, targets=[target])
        monkeypatch.setenv("BNEXPORT_SERVER_CA", str(pem))
        assert verify(bundle, targets=[target])
    monkeypatch.setenv("BNEXPORT_SERVER_CA", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match="does not name a file"):
        verify(bundle, targets=[target])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://me:s3cret@localhost:8000/v2/models/net", "must not contain a user or a password"),
        ("https://me@localhost/v2/models/net", "must not contain a user or a password"),
        ("http://localhost:8000/v3/models/net", "cannot read the address"),
        ("http://localhost:8000/v2/models/net?key=s3cret", "cannot read the address"),
        ("grpc://localhost/net", "cannot read the address"),
        ("http://localhost:99999/v2/models/net", "cannot read the address"),
        ("http://localhost:8000/v2/models/net:timeout=soon", "time limit"),
        ("http://localhost:8000/v2/models/net:memory=4GiB", "has no option memory"),
        ("http://example.org/v2/models/net", "the connection to example.org is not encrypted"),
    ],
)
def test_what_an_address_cannot_be(target: str, words: str, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is sent, in one sentence without what may be secret."""
    monkeypatch.setenv("BNEXPORT_SERVER_TOKEN", "t0ken")
    with pytest.raises((UsageError, InputError)) as refused:
        verify(bundle, targets=[target])
    assert words in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert "t0ken" not in str(refused.value)


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """KServe's own server, in a process: its ports for HTTP and gRPC."""
    if find_spec("kserve") is None or find_spec("tritonclient") is None:
        pytest.skip("kserve is not installed")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    log = tmp_path_factory.mktemp("kserve") / "log"
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "kserve_server.py"), *map(str, ports)],
            stdout=printed,
            stderr=printed,
            env={**os.environ, "PYTHONPATH": str(PROGRAMS.parent)},
        )
    try:
        patience = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://localhost:{ports[0]}/v2/health/ready", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < patience, log.read_text()
                time.sleep(0.3)
        yield ports[0], ports[1]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_kserve(protocol: str, kserve: tuple[int, int], bundle: Path) -> None:
    """A server that others wrote: the right model passes, and float16, scaling and a batch-dependent answer are named."""
    http, grpc = kserve

    def at(name: str) -> str:
        return f"http://localhost:{http}/v2/models/{name}" if protocol == "http" else f"grpc://localhost:{grpc}/{name}"

    report = verify(bundle, targets=[at("net")])
    assert report, report.findings
    assert [side.id for side in report.sides][1:] == [f"onnx-inference@{at('net')}"]
    for name, code, words in (
        ("half", "RT009", "computing in float16 explains it"),
        ("scaled", "RT009", "it takes images with scaling none, the model unit"),
        ("company", "RT019", "sent alone"),
    ):
        wrong = verify(bundle, targets=[at(name)])
        assert any(finding.code == code and words in finding.message for finding in wrong.findings), wrong.findings
    with pytest.raises(MachineError, match="does not have this model"):
        verify(bundle, targets=[at("nothing")])
