"""A signed bundle is the one that was signed, to the last file, or it is refused in one sentence before anything of it is run."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from onnx import parser
from typer.testing import CliRunner, Result

from bnexport.bundles import bundle as bundles
from bnexport.bundles.checksums import SUMS
from bnexport.bundles.signatures import PASSWORD, SIGNATURE
from bnexport.bundles.signing import RequiredSignature, SigningMethod
from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.errors import InputError

GRAPH = """
<ir_version: 9, opset_import: ["": 18]>
g (float[n, 2] x) => (float[n, 2] y) <float one = {1}> { y = Add(x, one) }
"""


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write_key(folder: Path, name: str, password: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """A pair of keys, NAME.pem and NAME.pub."""
    key = ec.generate_private_key(ec.SECP256R1())
    secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(key.private_bytes(pem, kind, secret))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    return key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net, its inputs and two pairs of keys."""
    folder = tmp_path_factory.mktemp("signed")
    onnx.save(parser.parse_model(GRAPH), folder / "net.onnx")
    np.savez(folder / "x.npz", x=np.random.default_rng(0).random((3, 2), np.float32))
    write_key(folder, "own")
    write_key(folder, "other")
    return folder


def pack(folder: Path, output: Path, *options: Any) -> Result:
    return run("pack", folder / "net.onnx", "--arrays", folder / "x.npz", "-o", output, "-q", *options)


@pytest.fixture(scope="module")
def packed(folder: Path) -> Path:
    """A bundle with a Triton repository, signed with the key of its own."""
    made = pack(folder, folder / "bundle", "--layout", "triton", "--sign", "key", "--private-key", folder / "own.pem")
    assert made.exit_code == 0, made.output
    return folder / "bundle"


@pytest.fixture
def copied(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "bundle"))


def checked(bundle: Path, key: Path) -> Result:
    return run("verify", bundle, "--require-signature", "key", "--public-key", key, "-q")


def test_a_bundle_that_is_signed_verifies(packed: Path, folder: Path) -> None:
    """With the key that belongs to it, and without asking for it; the report says which key that was, and the tool agrees."""
    done = run(
        "verify", packed, "--require-signature", "key", "--public-key", folder / "own.pub", "--format", "json", "-q"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["bundle"]["signer"] == f"the key {folder / 'own.pub'}"
    assert f"signed with the key {folder / 'own.pub'}" in " ".join(checked(packed, folder / "own.pub").stdout.split())
    done = run("verify", packed, "--format", "json", "-q")
    assert json.loads(done.stdout)["bundle"]["signer"] is None
    tool = [sys.executable, "-m", "model_signing", "verify", "key", str(packed), "--signature", str(packed / SIGNATURE)]
    subprocess.run([*tool, "--public_key", str(folder / "own.pub")], check=True, capture_output=True)


def test_sha256sum_checks_every_file(packed: Path) -> None:
    """All but the list itself and the signature; a list that says something else is refused."""
    listed = (packed / SUMS).read_text().splitlines()
    assert {line[66:] for line in listed} == {
        path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()
    } - {SUMS, SIGNATURE}
    assert all(hashlib.sha256((packed / line[66:]).read_bytes()).hexdigest() == line[:64] for line in listed)
    if (program := shutil.which("sha256sum")) is not None:
        subprocess.run([program, "-c", SUMS], cwd=packed, check=True, capture_output=True)


def flip(bundle: Path) -> None:
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(content)


def rewrite(bundle: Path) -> None:
    """Another model, and all hashes with it: what no hash shows."""
    model = onnx.load(bundle / "model.onnx")
    model.producer_name = "somebody else"
    (bundle / "model.onnx").write_bytes(content := model.SerializeToString())
    old = bundles.read(bundle)
    files = {**old.files, "model.onnx": hashlib.sha256(content).hexdigest()}
    (bundle / bundles.INDEX).write_bytes(bundles.index_text(replace(old, files=files)))
    (bundle / SUMS).unlink()


def rewrite_statement(bundle: Path) -> None:
    """The same, and the hashes in the signature with it."""
    import base64

    rewrite(bundle)
    values = json.loads((bundle / SIGNATURE).read_text())
    statement = json.loads(base64.b64decode(values["dsseEnvelope"]["payload"]))
    for resource in statement["predicate"]["resources"]:
        if (bundle / resource["name"]).exists():
            resource["digest"] = hashlib.sha256((bundle / resource["name"]).read_bytes()).hexdigest()
    values["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (bundle / SIGNATURE).write_text(json.dumps(values))


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "unsigned": (lambda bundle: (bundle / SIGNATURE).unlink(), "is not signed: found no model.sig"),
    "one bit": (flip, "is not the one that was signed: found model.onnx changed"),
    "rewritten": (rewrite, "is not the one that was signed: found bundle.json, model.onnx changed; SHA256SUMS missing"),
    "rewritten with its signature": (rewrite_statement, "is not one of the key"),
    "more": (
        lambda bundle: (bundle / "images").mkdir() or (bundle / "images/x.py").write_text(""),
        "images/x.py added",
    ),
    "fewer": (lambda bundle: (bundle / "model_repository/net/config.pbtxt").unlink(), "config.pbtxt missing"),
    "no signature": (lambda bundle: (bundle / SIGNATURE).write_text("{}"), "is not a signature"),
    "half a signature": (
        lambda bundle: (bundle / SIGNATURE).write_bytes((bundle / SIGNATURE).read_bytes()[:-40]),
        "is not a signature",
    ),
    "a link": (lambda bundle: (bundle / "more").symlink_to("/etc"), "more"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_anything_else_is_refused_in_one_sentence(
    copied: Path, folder: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and nothing of the bundle was opened by then."""
    make, sentence = CHANGES[change]
    make(copied)
    monkeypatch.setattr("bnexport.bundles.opening.MemoryFile", None)
    done = checked(copied, folder / "own.pub")
    assert (done.exit_code, done.output.count("\n"), done.stdout) == (2, 1, ""), done.output
    assert sentence in done.output


def test_another_key_is_refused(packed: Path, folder: Path) -> None:
    """The sentence names the key that was asked for."""
    done = checked(packed, folder / "other.pub")
    assert done.exit_code == 2
    assert f"the signature of the bundle {packed} is not one of the key {folder / 'other.pub'}" in done.output
    with pytest.raises(InputError, match="is not one of the key"):
        verify(packed, signature=RequiredSignature(SigningMethod.KEY, public_key=folder / "other.pub"))


def test_what_changes_after_the_signature_was_verified_is_refused(
    copied: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is run is held against what was signed, not against what was there when the signature was looked at."""
    read = bundles.read

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(bundles, "read", read)
        rewrite(copied)
        return read(*arguments)

    monkeypatch.setattr(bundles, "read", late)
    done = checked(copied, folder / "own.pub")
    assert done.exit_code == 2
    assert f"{copied / bundles.INDEX} has changed since the bundle was signed" in done.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--require-signature", "key"], "the method key needs --public-key"),
        (["--require-signature", "certificate"], "needs --certificate-chain"),
        (["--require-signature", "sigstore"], "needs --identity"),
        (["--require-signature", "key", "--public-key", "net.onnx"], "is not a key or certificate"),
        (["--require-signature", "key", "--public-key", "nowhere"], "cannot read nowhere"),
        (["--require-signature", "key", "--public-key", "own.pub", "--identity", "me"], "has no option --identity"),
        (["--public-key", "own.pub"], "add --require-signature"),
    ],
)
def test_keys_that_are_missing_are_a_usage_error(
    packed: Path, folder: Path, options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, one sentence that names the option or the file."""
    monkeypatch.chdir(folder)
    done = run("verify", packed, "-q", *options)
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert sentence in done.output


def test_a_key_that_cannot_sign_is_refused_before_the_check(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public key, an encrypted key without its password, no key, or a key without --sign; with its password it signs."""
    write_key(tmp_path, "secret", b"of mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bnexport.bundles.pack.open_request", None)
        for key, sentence in (("own.pub", "cannot sign with"), (tmp_path / "secret.pem", PASSWORD)):
            done = pack(folder, tmp_path / "bundle", "--sign", "key", "--private-key", folder / key)
            assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
            assert sentence in done.output
        assert "needs --private-key" in pack(folder, tmp_path / "bundle", "--sign", "key").output
        assert "add --sign" in pack(folder, tmp_path / "bundle", "--private-key", folder / "own.pem").output
    monkeypatch.setenv(PASSWORD, "of mine")
    done = pack(folder, tmp_path / "bundle", "--sign", "key", "--private-key", tmp_path / "secret.pem")
    assert done.exit_code == 0, done.output
    assert checked(tmp_path / "bundle", tmp_path / "secret.pub").exit_code == 0


def test_certificates_sign_too(folder: Path, tmp_path: Path) -> None:
    """A bundle signed with a certificate of one root verifies with that root, and not with another one."""
    roots = [certificate_of(tmp_path, name) for name in ("root", "stranger")]
    write_certificate(tmp_path, "leaf", "root", *roots[0])
    how = (
        "--private-key",
        tmp_path / "leaf.pem",
        "--signing-certificate",
        tmp_path / "leaf.crt",
        "--certificate-chain",
        tmp_path / "root.crt",
    )
    done = pack(folder, tmp_path / "bundle", "--sign", "certificate", *how)
    assert done.exit_code == 0, done.output
    good, bad = (
        run(
            "verify",
            tmp_path / "bundle",
            "-q",
            "--require-signature",
            "certificate",
            "--certificate-chain",
            tmp_path / f"{name}.crt",
        )
        for name in ("root", "stranger")
    )
    assert good.exit_code == 0, good.output
    assert (bad.exit_code, bad.output.count("\n")) == (2, 1)
    assert "is not one of a certificate of" in bad.output


def certificate_of(folder: Path, name: str) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    """A root of its own."""
    key = write_key(folder, name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    build(folder / f"{name}.crt", subject, subject, key, key, authority=True)
    return subject, key


def write_certificate(folder: Path, name: str, issuer: str, above: x509.Name, key: ec.EllipticCurvePrivateKey) -> None:
    own = write_key(folder, name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} of {issuer}")])
    build(folder / f"{name}.crt", subject, above, own, key, authority=False)


def build(
    path: Path,
    subject: x509.Name,
    issuer: x509.Name,
    own: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> None:
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def test_without_model_signing_there_is_one_sentence(
    packed: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3."""
    monkeypatch.setitem(sys.modules, "model_signing", None)
    done = checked(packed, folder / "own.pub")
    assert (done.exit_code, done.output.count("\n")) == (3, 1)
    assert "pip install 'bnexport[sign]'" in done.output
