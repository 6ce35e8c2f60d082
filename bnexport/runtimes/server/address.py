"""Where a server is, and how it is talked to; credentials are in the environment, never in an address."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bnexport.errors import UsageError

TOKEN, CERTIFICATES = "BNEXPORT_SERVER_TOKEN", "BNEXPORT_SERVER_CA"
"""The environment variables with a bearer token, and with the file of the certificates that are trusted."""

V2, GRPC, TF_SERVING = "v2", "grpc", "tf-serving"
"""The protocols: the Open Inference Protocol over HTTP and over gRPC, and the REST protocol of TensorFlow Serving."""

_EXPECTED = "http(s)://HOST:PORT/v2/models/NAME[/versions/V], grpc(s)://HOST:PORT/NAME[/V] or http(s)://HOST:PORT/v1/models/NAME[/versions/V]"


@dataclass(frozen=True, slots=True)
class Address:
    """A model on a server.

    Args:
        protocol: one of the protocols above.
        secure: whether the connection is encrypted.
        host: with its port.
        prefix: what precedes the protocol's own path, such as "/models/one" behind a gateway; "" where nothing does.
        model: its name.
        version: of the model; "" where the server chooses.
    """

    protocol: str
    secure: bool
    host: str
    prefix: str
    model: str
    version: str = ""

    def at(self, version: str) -> Address:
        """Another version of the same model."""
        return replace(self, version=version)


def parse_address(text: str) -> Address:
    """The model that an address names.

    >>> parse_address("http://localhost:8000/v2/models/net/versions/3")
    Address(protocol='v2', secure=False, host='localhost:8000', prefix='', model='net', version='3')
    >>> parse_address("grpc://10.0.0.7:8001/net").protocol
    'grpc'

    Raises:
        UsageError: it is none, or contains a user or a password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"cannot read the address of a server ({error})", expected=_EXPECTED) from error
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the address of a server must not contain a user or a password, because reports name it",
            fix=f"set the environment variable {TOKEN}",
        )
    if parts.query or parts.fragment:
        raise UsageError("cannot read the address of a server", found="a query or fragment", expected=_EXPECTED)
    if not parts.hostname:
        raise UsageError("cannot read the address of a server", found=text, expected=_EXPECTED)
    secure = parts.scheme in ("https", "grpcs")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    names = [unquote(part) for part in parts.path.split("/") if part]
    if parts.scheme in ("grpc", "grpcs"):
        if port is None or not 1 <= len(names) <= 2:
            raise UsageError("cannot read the address of a server", found=text, expected=_EXPECTED)
        return Address(GRPC, secure, f"{host}:{port}", "", *names)
    protocols = {"v2": V2, "v1": TF_SERVING}
    at = next(
        (n for n, pair in enumerate(pairwise(names)) if pair[0] in protocols and pair[1] == "models"),
        -1,
    )
    rest = names[at + 2 :]
    if at < 0 or len(rest) not in (1, 3) or (len(rest) == 3 and rest[1] != "versions"):
        raise UsageError("cannot read the address of a server", found=text, expected=_EXPECTED)
    prefix = "".join(f"/{name}" for name in names[:at])
    return Address(
        protocols[names[at]], secure, host if port is None else f"{host}:{port}", prefix, rest[0], "".join(rest[2:])
    )


def headers(address: Address) -> dict[str, str]:
    """What authorises a request.

    Raises:
        UsageError: a token would travel over the network as plain text.
    """
    token = os.environ.get(TOKEN, "")
    if not token:
        return {}
    if not token.isprintable() or not token.isascii():
        raise UsageError(f"{TOKEN} contains characters that no header may have")
    if not address.secure and not _is_local(address.host):
        raise UsageError(
            f"{TOKEN} is set, and the connection to {address.host} is not encrypted",
            fix="use https:// or grpcs://, or unset the variable",
        )
    return {"authorization" if address.protocol == GRPC else "Authorization": f"Bearer {token}"}


def certificates() -> Path | None:
    """The file of the certificates that are trusted; None for those of the system.

    Raises:
        UsageError: there is no such file.
    """
    path = os.environ.get(CERTIFICATES, "")
    if path and not Path(path).is_file():
        raise UsageError(f"{CERTIFICATES} does not name a file", found=path)
    return Path(path) if path else None


def without_token(text: str) -> str:
    """Words of a server, without a token that it repeats."""
    token = os.environ.get(TOKEN, "")
    return text.replace(token, "***") if token else text


def _is_local(host: str) -> bool:
    name = host.rsplit(":", 1)[0].strip("[]") if host.count(":") == 1 or "]" in host else host
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
