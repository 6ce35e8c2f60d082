"""The options that only bundles have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnexport.bundles.signing import RequiredSignature, Signing, SigningMethod
from bnexport.errors import UsageError
from bnexport.results.options import TARGETS, Flag, option

SIGNATURE = "Signature"
"""The panel that groups the options of signatures in the help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOptions:
    """Releases of a runtime that a bundle is run on."""

    releases: str = option(
        Flag(
            name="matrix",
            default="",
            metavar="PACKAGE==RELEASES",
            panel=TARGETS,
            help="Run the bundle on releases of a runtime, each in an environment that uv makes, and find the one in which the "
            "answer changes: onnxruntime==1.20.., ==1.20..1.31, ==1.20.1,1.31.0 or >=1.20,<1.31. The first and the last one "
            "are run, then what is between two that differ; releases that are named one by one are all run. The installed onnxruntime is "
            "run, too, with --target onnxruntime:cpu. Needs uv.",
        )
    )
    every: bool = option(
        Flag(
            name="matrix-all",
            kind=bool,
            default=False,
            panel=TARGETS,
            help="Run every release of --matrix.",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningOptions:
    """How a bundle is signed."""

    method: SigningMethod | None = option(
        Flag(
            name="sign",
            kind=SigningMethod,
            panel=SIGNATURE,
            help="Sign the bundle with a private key, a certificate, or an identity of sigstore, which needs a network. It protects "
            "against changes by anyone who does not have the key. Needs model-signing.",
        )
    )
    private_key: Path | None = option(
        Flag(
            name="private-key",
            kind=Path,
            metavar="FILE",
            panel=SIGNATURE,
            help="The private key, on an elliptic curve, as a PEM file. The password of an encrypted key is read from "
            "BNEXPORT_KEY_PASSWORD. Used with --sign key and --sign certificate.",
        )
    )
    signing_certificate: Path | None = option(
        Flag(
            name="signing-certificate",
            kind=Path,
            metavar="FILE",
            panel=SIGNATURE,
            help="The certificate of the private key, as a PEM file. Used with --sign certificate.",
        )
    )
    certificate_chain: list[Path] = option(
        Flag(
            name="certificate-chain",
            kind=list[Path],
            metavar="FILE",
            panel=SIGNATURE,
            help="The certificates between that and the root, as PEM files. Used with --sign certificate. Repeatable.",
        )
    )

    def read(self) -> Signing | None:
        """How the bundle is signed; None where it is not.

        Raises:
            UsageError: keys are named, and signing is not asked for.
        """
        if self.method is None:
            if self.private_key or self.signing_certificate or self.certificate_chain:
                raise UsageError("a key or certificate is named, and the bundle is not signed", fix="add --sign")
            return None
        return Signing(self.method, self.private_key, self.signing_certificate, tuple(self.certificate_chain))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureOptions:
    """The signature that a bundle must have."""

    method: SigningMethod | None = option(
        Flag(
            name="require-signature",
            kind=SigningMethod,
            panel=SIGNATURE,
            help="Refuse a bundle that is not signed with this key, certificate or identity, or whose files are not exactly those that "
            "were signed. Without it, the hashes in a bundle detect damage, but no changes by someone who can rewrite "
            "the bundle. Needs model-signing.",
        )
    )
    public_key: Path | None = option(
        Flag(
            name="public-key",
            kind=Path,
            metavar="FILE",
            panel=SIGNATURE,
            help="The public key, as a PEM file. Used with --require-signature key.",
        )
    )
    certificate_chain: list[Path] = option(
        Flag(
            name="certificate-chain",
            kind=list[Path],
            metavar="FILE",
            panel=SIGNATURE,
            help="The certificates that are trusted, the root among them, as PEM files. Used with --require-signature certificate. "
            "Repeatable.",
        )
    )
    identity: str = option(
        Flag(
            name="identity",
            default="",
            metavar="NAME",
            panel=SIGNATURE,
            help="Who signed, such as name@example.com or the URL of a workflow. Used with --require-signature sigstore.",
        )
    )
    identity_provider: str = option(
        Flag(
            name="identity-provider",
            default="",
            metavar="URL",
            panel=SIGNATURE,
            help="Who vouches for the identity, such as https://accounts.example.com. Used with --require-signature sigstore.",
        )
    )

    def read(self) -> RequiredSignature | None:
        """The signature; None where none is required.

        Raises:
            UsageError: keys or names are given, and no signature is required.
        """
        if self.method is None:
            if self.public_key or self.certificate_chain or self.identity or self.identity_provider:
                raise UsageError(
                    "a key or identity is named, and no signature is required", fix="add --require-signature"
                )
            return None
        chain = tuple(self.certificate_chain)
        return RequiredSignature(self.method, self.public_key, chain, self.identity, self.identity_provider)
