"""Where pictures are: a path, or a URL that fsspec knows (s3://, gs://, https://, ...)."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bnexport.errors import InputError, MachineError, reason
from bnexport.system import files

if TYPE_CHECKING:
    import fsspec

SCHEME = "://"

MOST = 512 << 20
"""The largest encoded picture that is read, in bytes."""


def is_url(location: str | Path) -> bool:
    """Whether this names something that is not in the file system.

    >>> is_url("s3://bucket/images"), is_url("images/cat.jpg")
    (True, False)
    """
    return isinstance(location, str) and SCHEME in location


def absolute(location: str) -> str:
    """The same place, whatever the current folder of who reads it."""
    return location if is_url(location) else os.path.abspath(location)  # noqa: PTH100 - links stay links


def join(folder: str, name: str) -> str:
    """A name as it is seen from a folder: absolute names and URLs stay what they are.

    >>> join("s3://bucket/set", "a/b.png"), join("/sets", "/b.png"), join("/sets", "https://host/b.png")
    ('s3://bucket/set/a/b.png', '/b.png', 'https://host/b.png')
    """
    if is_url(name) or (name.startswith("/") and not is_url(folder)):
        return name
    return f"{folder.rstrip('/')}/{name}" if folder != "/" else f"/{name}"


def parent(location: str) -> str:
    """The folder of a file or URL.

    >>> parent("s3://bucket/list.csv"), parent("/list.csv")
    ('s3://bucket', '/')
    """
    return location.rpartition("/")[0] if is_url(location) else os.path.dirname(absolute(location))  # noqa: PTH120 - as above


def is_below(location: str, folder: str) -> bool:
    """Whether a file lies below a folder, links followed; or a URL below a URL.

    >>> is_below("/sets/a/../../b.png", "/sets"), is_below("s3://set/a.png", "s3://set"), is_below("https://h/a", "/")
    (False, True, False)
    """
    if is_url(location) or is_url(folder):
        return location.startswith(f"{folder.rstrip('/')}/") and ".." not in location.split("/")
    return Path(os.path.realpath(location)).is_relative_to(os.path.realpath(folder))


def read(location: str, span: tuple[int, int] | None = None) -> bytes:
    """The content of a file or URL; with `span` the bytes from an offset, so many of them.

    Raises:
        InputError: it cannot be read.
    """
    if span is not None and span[1] > MOST:
        raise InputError(
            f"an image in {location} is too large", found=f"{span[1]:,} bytes", expected=f"at most {MOST:,} bytes"
        )
    if is_url(location):
        remote, path = filesystem(location)
        start, end = (span[0], span[0] + span[1]) if span else (None, None)
        try:
            content: bytes = remote.cat_file(path, start=start, end=end)
        except Exception as error:  # every protocol has exceptions of its own
            raise _unreadable(location, error) from error
        if span and len(content) > span[1]:  # a web server that does not know ranges
            content = content[start:end]
    else:
        try:
            if span is None:
                return files.read_bounded(Path(location), MOST)
            with files.open_regular(Path(location)) as stream:
                stream.seek(span[0])
                content = stream.read(span[1])
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise _unreadable(location, error) from error
    if span is not None and len(content) != span[1]:
        raise InputError(f"{location} is truncated: it ends in the middle of an image")
    return content


@contextmanager
def open_stream(location: str) -> Iterator[IO[bytes]]:
    """A file or URL as a stream that can seek.

    Raises:
        InputError: it cannot be opened or read.
    """
    try:
        with (
            filesystem(location)[0].open(location, "rb")
            if is_url(location)
            else files.open_regular(Path(location)) as stream
        ):
            yield stream
    except (InputError, MachineError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"the file {location} does not exist", fix="check the path") from error
    except (OSError, ValueError) as error:
        raise _unreadable(location, error) from error


def below(location: str) -> list[str]:
    """The names of every file below a URL, as seen from there; none where it is a file itself.

    Raises:
        InputError: there is nothing, or it cannot be listed.
    """
    remote, path = filesystem(location)
    try:
        paths = [] if remote.isfile(path) else remote.find(path)
        nothing = not paths and not remote.exists(path)
    except Exception as error:  # as in `read`
        raise _unreadable(location, error) from error
    if nothing:
        raise InputError(f"{location} does not exist or cannot be listed", fix="check the URL and the access rights")
    return [name.removeprefix(path.rstrip("/") + "/") for name in paths]


def matching(pattern: str) -> list[str]:
    """The files that a pattern with `*` names, sorted; URLs for a URL."""
    if not is_url(pattern):
        return sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob refuses absolute patterns
    remote, path = filesystem(pattern)
    try:
        paths = remote.glob(path)
    except Exception as error:  # as in `read`
        raise _unreadable(pattern, error) from error
    return sorted(pattern.removesuffix(path) + name for name in paths)


def version(url: str) -> str:
    """What tells whether the content behind a URL has changed, as far as its server says.

    Raises:
        InputError: it does not answer.
    """
    remote, path = filesystem(url)
    try:
        return str(remote.ukey(path))
    except Exception as error:  # as in `read`
        raise _unreadable(url, error) from error


def filesystem(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        InputError: the protocol is unknown.
        MachineError: the package for it is missing.
    """
    import fsspec

    try:
        remote, path = fsspec.core.url_to_fs(location)
    except ImportError as error:
        raise MachineError(
            f"{location.split(SCHEME)[0]}:// URLs require another package ({reason(error)})",
            fix="install it, or install all of them with: pip install 'bnexport[remote]'",
        ) from error
    except Exception as error:
        raise InputError(f"cannot open {location} ({reason(error)})") from error
    return remote, path


def _unreadable(location: str, error: Exception) -> InputError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
    return InputError(f"cannot read {location} ({why})")
