"""What a bundle is signed with, and which signature it must have: records of options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class SigningMethod(StrEnum):
    """What a bundle is signed with."""

    KEY = "key"
    """a private key on an elliptic curve, PEM"""
    CERTIFICATE = "certificate"
    """such a key and its certificate"""
    SIGSTORE = "sigstore"
    """an identity (OpenID Connect), without a key to keep; needs a network"""


@dataclass(frozen=True, slots=True)
class Signing:
    """How a bundle is signed.

    Args:
        method: with what.
        private_key: the key, PEM; for keys and certificates. The password of an encrypted one is in BNEXPORT_KEY_PASSWORD.
        signing_certificate: the certificate of the key, PEM.
        certificate_chain: the certificates between it and the root, PEM.
    """

    method: SigningMethod
    private_key: Path | None = None
    signing_certificate: Path | None = None
    certificate_chain: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class RequiredSignature:
    """The signature that a bundle must have.

    Args:
        method: with what it was signed.
        public_key: the key that belongs to the private one, PEM.
        certificate_chain: the certificates that are trusted, PEM, the root among them.
        identity: who signed, such as an address or the URL of a workflow.
        identity_provider: who says so, such as https://token.actions.githubusercontent.com.
    """

    method: SigningMethod
    public_key: Path | None = None
    certificate_chain: tuple[Path, ...] = ()
    identity: str = ""
    identity_provider: str = ""
