"""What commands write to streams that are not UTF-8: the answer arrives whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.e2e.test_processes import BNEXPORT

NAME = "Netz \N{GREEK SMALL LETTER LAMDA} ä \N{GRINNING FACE}.onnx"
STREAMS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252:strict"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
"""The environments in which stdout cannot take every character."""


@pytest.fixture(scope="module")
def odd_model(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose name has Greek, Latin and other characters."""
    return Path(shutil.copy(models / "tiny_residual.onnx", tmp_path_factory.mktemp("odd") / NAME))


def check(model: Path, models: Path, form: str, stream: str) -> bytes:
    """What a check of the model writes to stdout."""
    done = subprocess.run(
        [BNEXPORT, "check", str(model), str(models / "three"), "-q", "--format", form],
        capture_output=True,
        env={**os.environ, **STREAMS[stream]},
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("stream", STREAMS)
def test_text_has_escapes_for_what_stdout_lacks(stream: str, odd_model: Path, models: Path) -> None:
    """The report is printed, and the verdict is the exit code."""
    first = check(odd_model, models, "text", stream).splitlines()[0]
    assert first.startswith(b"FAIL ")
    if stream != "C":  # there, file names are bytes
        encoding = stream
        assert first.endswith(NAME.encode(encoding, "backslashreplace"))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_json_is_json_in_every_encoding(form: str, stream: str, odd_model: Path, models: Path) -> None:
    """It is ASCII with the escapes of JSON, which every parser reads as these characters."""
    text = check(odd_model, models, form, stream).decode("ascii")
    report = json.loads(text if form == "json" else text.splitlines()[-1])
    if stream != "C":
        assert report["model"]["path"].endswith(NAME)


@pytest.mark.parametrize("stream", ["ascii", "latin-1"])
def test_xml_is_xml_in_every_encoding(stream: str, odd_model: Path, models: Path) -> None:
    """It declares UTF-8, and character references are read as these characters."""
    document = ElementTree.fromstring(check(odd_model, models, "junit", stream))  # noqa: S314 - our own
    assert any(NAME in value for element in document.iter() for value in element.attrib.values())
