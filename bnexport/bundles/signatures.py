"""Signatures of bundles (model-signing): a list of all files with their SHA-256, signed with a key, a certificate, or an identity (sigstore).

The signature is the file model.sig in the bundle, which `model_signing verify` reads, too. It protects against anybody who can rewrite the
bundle and has not the key; the hashes in bundle.json and SHA256SUMS protect against accidents alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.bundles.signing import RequiredSignature, Signing, SigningMethod
from bnexport.errors import BnexportError, InputError, MachineError, UsageError, reason
from bnexport.results.actions import spell_options
from bnexport.system import files

if TYPE_CHECKING:
    from types import ModuleType

    from model_signing import signing, verifying

SIGNATURE = "model.sig"
"""The signature in a bundle."""

PASSWORD = "BNEXPORT_KEY_PASSWORD"  # noqa: S105 - the name of an environment variable
"""The environment variable with the password of an encrypted private key."""

_OTHER_FILES = "Signature mismatch"
"""What model-signing says where the signature is right, and the files are others."""

_NETWORK = ("requests", "urllib3", "tuf", "socket")
"""The libraries whose errors mean that a service of sigstore does not answer."""


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """What a signature that is right was made for.

    Args:
        hashes: the SHA-256 of each file, by its path in the bundle.
        signer: the key, the certificates or the identity.
    """

    hashes: Mapping[str, str]
    signer: str

    def verify(self, path: Path, content: bytes) -> None:
        """Makes sure that a file in the bundle's folder is the one that was signed.

        Raises:
            InputError: it is another.
        """
        if self.hashes.get(path.name) != hashlib.sha256(content).hexdigest():
            raise InputError(f"{path} has changed since the bundle was signed", fix="get the bundle again")


def open_signer(how: Signing) -> Callable[[Path, str], None]:
    """What signs a folder under a name; keys are read now, so that they are right before a long check begins.

    Raises:
        UsageError: an option is missing, or belongs to another method.
        InputError: a key or certificate cannot be read.
        MachineError: model-signing is not installed.
    """
    given = {
        "private_key": how.private_key,
        "signing_certificate": how.signing_certificate,
        "certificate_chain": how.certificate_chain,
    }
    needed = {
        SigningMethod.KEY: ("private_key",),
        SigningMethod.CERTIFICATE: ("private_key", "signing_certificate", "certificate_chain"),
        SigningMethod.SIGSTORE: (),
    }
    _refuse_options(how.method, given, needed[how.method])
    for path in filter(None, (how.private_key, how.signing_certificate, *how.certificate_chain)):
        _read_pem(path)
    model_signing = _library()
    config: signing.Config = model_signing.signing.Config()
    try:
        if how.method == SigningMethod.KEY:
            password = os.environ.get(PASSWORD)
            secret: object = password.encode() if password else None  # what cryptography wants; the annotation says str
            config.use_elliptic_key_signer(private_key=str(how.private_key), password=secret)  # type: ignore[arg-type] # see above
        elif how.method == SigningMethod.CERTIFICATE:
            config.use_certificate_signer(
                private_key=str(how.private_key),
                signing_certificate=str(how.signing_certificate),
                certificate_chain=[str(path) for path in how.certificate_chain],
            )
        else:
            config.use_sigstore_signer(use_ambient_credentials=True)
    except Exception as error:  # of several libraries
        if how.method == SigningMethod.SIGSTORE:
            raise _service_error(error) from error
        raise InputError(f"cannot sign with {how.private_key} ({reason(error)})", fix=_key_fix(error)) from error

    def sign(folder: Path, name: str) -> None:
        hashing = model_signing.hashing.Config().set_ignored_paths(paths=[SIGNATURE])
        try:
            above = Path(tempfile.mkdtemp(prefix=".bnexport-", dir=folder.parent))
            named = folder.rename(above / (name or "bundle"))  # the signature names the folder
            try:
                config.set_hashing_config(hashing).sign(named, named / SIGNATURE)
            finally:
                named.rename(folder)
                above.rmdir()
        except OSError as error:
            raise MachineError(f"cannot write {folder / SIGNATURE} ({error.strerror or error})") from error
        except Exception as error:
            raise _service_error(error) from error

    return sign


def verify_signature(folder: Path, required: RequiredSignature) -> SignedFiles:
    """What was signed, where the signature of a bundle is right and its files are those that were signed, no more and no fewer.

    Raises:
        UsageError: an option is missing, or belongs to another method.
        InputError: the bundle is not signed, not with this key, or was changed since; or a key cannot be read.
        MachineError: model-signing is not installed, or a service of sigstore does not answer.
    """
    given = {
        "public_key": required.public_key,
        "certificate_chain": required.certificate_chain,
        "identity": required.identity,
        "identity_provider": required.identity_provider,
    }
    needed = {
        SigningMethod.KEY: ("public_key",),
        SigningMethod.CERTIFICATE: ("certificate_chain",),
        SigningMethod.SIGSTORE: ("identity", "identity_provider"),
    }
    _refuse_options(required.method, given, needed[required.method])
    signer = _signer(required)
    path = folder / SIGNATURE
    if files.status(folder) is None:
        raise InputError(f"the bundle {folder} does not exist", expected="a folder written by bnexport pack")
    if files.status(path) is None:
        raise InputError(
            f"the bundle {folder} is not signed", found=f"no {SIGNATURE}", fix="sign it with: bnexport pack --sign"
        )
    for file in filter(None, (required.public_key, *required.certificate_chain)):
        _read_pem(file)
    content = files.read_bounded(path, files.MOST_TEXT, within=folder)
    signed = SignedFiles(_hashes_in(path, content), signer)
    config = _open_verifier(required)
    with tempfile.TemporaryDirectory(prefix="bnexport-") as beside:
        copy = Path(beside) / SIGNATURE  # what is verified is what was read
        copy.write_bytes(content)
        try:
            config.verify(folder, copy)
        except Exception as error:
            raise _refusal(error, folder, required, signed) from error
    return signed


def _open_verifier(required: RequiredSignature) -> verifying.Config:
    config: verifying.Config = _library().verifying.Config()
    try:
        if required.method == SigningMethod.KEY:
            config.use_elliptic_key_verifier(public_key=str(required.public_key))
        elif required.method == SigningMethod.CERTIFICATE:
            config.use_certificate_verifier(certificate_chain=[str(path) for path in required.certificate_chain])
        else:
            config.use_sigstore_verifier(identity=required.identity, oidc_issuer=required.identity_provider)
    except Exception as error:  # of several libraries
        if required.method == SigningMethod.SIGSTORE:
            raise _service_error(error) from error
        raise InputError(f"cannot verify with {_signer(required)} ({reason(error)})", fix=_key_fix(error)) from error
    return config


def _refusal(error: Exception, folder: Path, required: RequiredSignature, signed: SignedFiles) -> BnexportError:
    """One sentence for what model-signing does not accept."""
    if str(error).startswith(_OTHER_FILES):
        return InputError(
            f"the bundle {folder} is not the one that was signed",
            found=_difference(folder, signed),
            fix="get the bundle again",
        )
    if required.method == SigningMethod.SIGSTORE and type(error).__module__.partition(".")[0] in _NETWORK:
        return _service_error(error)
    if isinstance(error, OSError):
        return InputError(f"cannot read {error.filename or folder} ({error.strerror or error})")
    words = reason(error) if str(error) else "the signature does not belong to it"
    return InputError(
        f"the signature of the bundle {folder} is not one of {_signer(required)}",
        found=words,
        fix="do not use the bundle",
    )


def _difference(folder: Path, signed: SignedFiles) -> str:
    """How the files of a folder differ from those that were signed."""
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    more = sorted(present - signed.hashes.keys() - {SIGNATURE})
    fewer = sorted(signed.hashes.keys() - present)
    common = sorted(present & signed.hashes.keys())
    changed = [name for name in common if files.sha256(folder / name) != signed.hashes[name]]
    parts = [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} {how}"
        for names, how in ((changed, "changed"), (fewer, "missing"), (more, "added"))
        if names
    ]
    return "; ".join(parts) or "other files"


def _hashes_in(path: Path, content: bytes) -> dict[str, str]:
    """The hashes that a signature was made for; whether it is right is another question.

    Raises:
        InputError: it is no signature of files by SHA-256.
    """
    try:
        statement = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
        resources = statement["predicate"]["resources"]
        hashes = {str(one["name"]): str(one["digest"]) for one in resources if one["algorithm"] == "sha256"}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not a signature", expected="what model-signing writes") from error
    if not hashes or len(hashes) != len(resources):
        raise InputError(
            f"{path} does not sign files by their SHA-256", fix="sign the bundle with: bnexport pack --sign"
        )
    return hashes


def _signer(required: RequiredSignature) -> str:
    """What a signature belongs to, in reports."""
    if required.method == SigningMethod.KEY:
        return f"the key {required.public_key}"
    if required.method == SigningMethod.CERTIFICATE:
        return f"a certificate of {', '.join(map(str, required.certificate_chain))}"
    return f"{required.identity} ({required.identity_provider})"


def _refuse_options(method: SigningMethod, given: Mapping[str, object], needed: tuple[str, ...]) -> None:
    """Makes sure that a method has the options it needs and no others."""
    for name, value in given.items():
        if bool(value) != (name in needed):
            what = "has no option" if value else "needs"
            raise UsageError(f"a signature with the method {method} {what} {spell_options(**{name: None})}")


def _read_pem(path: Path) -> bytes:
    try:
        content = files.read_bounded(path, files.MOST_TEXT)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    if b"-----BEGIN" not in content:
        raise InputError(f"{path} is not a key or certificate", expected="a PEM file")
    return content


def _key_fix(error: Exception) -> str:
    """What to do where a key cannot be used."""
    return f"set {PASSWORD} to its password" if "assword" in str(error) else ""


def _service_error(error: Exception) -> MachineError:
    return MachineError(
        f"sigstore cannot be used here ({reason(error)})", fix="run the command where its services can be reached"
    )


def _library() -> ModuleType:
    try:
        import model_signing.hashing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise MachineError(
            f"model-signing is not installed ({error})", fix="install it with: pip install 'bnexport[sign]'"
        ) from error
    return model_signing
