"""The releases that --matrix means are those that its text says, and no pre-release is among them."""

from __future__ import annotations

import pytest
from packaging.version import Version

from bnexport.bundles.release_range import parse_range, sort_releases
from bnexport.errors import UsageError

RELEASES = ["1.19.2", "1.20.0", "1.20.1", "1.21.0rc1", "1.21.0", "1.30.0", "1.31.0", "1.31.1", "1.32.0"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("onnxruntime==1.20..", RELEASES[1:3] + RELEASES[4:]),
        ("onnxruntime == 1.20 .. 1.31", ["1.20.0", "1.20.1", "1.21.0", "1.30.0", "1.31.0", "1.31.1"]),
        ("onnxruntime==..1.20", ["1.19.2", "1.20.0", "1.20.1"]),
        ("onnxruntime==1.20.1,1.31.0", ["1.20.1", "1.31.0"]),
        ("onnxruntime==..1.20.0, 1.31..", ["1.19.2", "1.20.0", "1.31.0", "1.31.1", "1.32.0"]),
        ("onnxruntime==1.20.1..1.20.1", ["1.20.1"]),
        ("onnxruntime>=1.20,<1.31", ["1.20.0", "1.20.1", "1.21.0", "1.30.0"]),
        ("onnxruntime==1.31.*", ["1.31.0", "1.31.1"]),
        ("onnxruntime~=1.31.0", ["1.31.0", "1.31.1"]),
        ("onnxruntime!=1.30.0,>=1.21", ["1.21.0", "1.31.0", "1.31.1", "1.32.0"]),
        ("onnxruntime", RELEASES[:3] + RELEASES[4:]),
    ],
)
def test_a_text_means_these_releases(text: str, meant: list[str]) -> None:
    """Ranges hold both ends, a short upper end holds what begins with it, lists and specifiers mean what pip means."""
    assert [str(release) for release in sort_releases(RELEASES, parse_range(text))] == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "==1.20..",
        "onnxruntime==",
        "onnxruntime==..",
        "onnxruntime==1.20...1.31",
        "onnxruntime==1.31..1.20",
        "onnxruntime==1.20,,1.21",
        "onnxruntime==1.21.0rc1",
        "onnxruntime==1.20..x",
        "onnxruntime=1.20",
        "onnxruntime[gpu]>=1.20",
        "onnxruntime>=1.20; python_version > '3'",
        "onnxruntime @ https://example.com/onnxruntime.whl",
        "../wheels==1.0",
        "--index-url==1.0",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """One sentence, exit code 2: nothing that is no name and no release reaches an installer."""
    with pytest.raises(UsageError, match=r"--matrix"):
        parse_range(text)


def test_releases_that_were_named_are_known() -> None:
    """They are run in any case; the ends of ranges need not exist."""
    assert parse_range("some==1.0,1.2..1.5,2.0").exact == (Version("1.0"), Version("2.0"))
    assert parse_range("some==1.0.post1").exact == (Version("1.0.post1"),)
    assert parse_range("some>=1.0").exact == ()
