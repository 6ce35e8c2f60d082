"""What a script gets without parsing text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bnexport
from tests.e2e.test_batch import small


def check(*arguments: Any, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bnexport", "check", *map(str, arguments), "--provider", "cpu", "-q"]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def test_ndjson_is_the_report_line_by_line(models: Path) -> None:
    """Each line is an object with its kind; together they hold what the JSON report holds, and each image's answers besides."""
    model, images = models / "tiny_residual.onnx", models / "three"
    lines = [json.loads(line) for line in check(model, images, "--format", "ndjson").stdout.splitlines()]
    whole = json.loads(check(model, images, "--format", "json").stdout)
    kinds = [line.pop("kind") for line in lines]
    assert kinds == sorted(kinds, key=["image", "side", "comparison", "layer", "finding", "check"].index)
    for values in [*whole["sides"], *lines]:
        values.pop("seconds", None)
    for key, kind in (("sides", "side"), ("comparisons", "comparison"), ("findings", "finding")):
        assert [line for line, its in zip(lines, kinds, strict=True) if its == kind] == whole.pop(key)
    assert not whole.pop("layers")
    assert not whole.pop("sweep")
    assert not whole.pop("speed")
    assert lines[-1] == whole
    pictures = lines[: kinds.count("image")]
    assert [(line["name"], line["label"]) for line in pictures] == [
        ("cross.png", 0),
        ("disc.png", 1),
        ("stripes.png", 2),
    ]
    right = sum(line["answers"]["onnx-inference@cpu"] == line["label"] for line in pictures)
    assert right == next(s for s in lines if s.get("id") == "onnx-inference@cpu")["top1"]["correct"]


def test_names_with_anything_in_them_come_through_null_bytes(models: Path, tmp_path: Path) -> None:
    """A name with a line break is two names as lines, and one with -0 (find -print0)."""
    odd = tmp_path / "two\nlines.png"
    shutil.copy(models / "three/disc.png", odd)
    listed = os.fsencode(odd) + b"\0" + os.fsencode(models / "three/cross.png") + b"\0"
    done = check(models / "tiny_residual.onnx", "-", "-0", "--format", "json", given=listed)
    assert json.loads(done.stdout)["images"]["count"] == 2, done.stderr
    lines = check(models / "tiny_residual.onnx", "-", "--format", "json", given=listed.replace(b"\0", b"\n"))
    assert json.loads(lines.stdout)["images"]["unreadable"]
    assert check(models / "tiny_residual.onnx", models / "three", "-0").returncode == 2


def test_parts_of_the_images_add_up(models: Path) -> None:
    """--shard 1/2 and 2/2 see each image once; a part that there is not is refused."""
    seen = []
    for part in ("1/2", "2/2"):
        lines = check(models / "tiny_residual.onnx", models / "three", "--shard", part, "--format", "ndjson").stdout
        seen += [line["name"] for line in map(json.loads, lines.splitlines()) if line["kind"] == "image"]
    assert sorted(seen) == ["cross.png", "disc.png", "stripes.png"]
    for part in ("0/2", "3/2", "x", "1/9", "1/0"):
        assert check(models / "tiny_residual.onnx", models / "three", "--shard", part).returncode == 2


def test_results_come_one_by_one(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a plan in Python; a script that stops early goes on where it was, and what is finished comes first."""
    monkeypatch.chdir(tmp_path)
    small(models, tmp_path / "models", 3)
    (tmp_path / "set.csv").write_text(
        "".join(f"{path},{path.stem}\n" for path in sorted((models / "three").glob("*.png")))
    )
    plan = {"check": [{"models": ["models/*.onnx"], "images": ["set.csv"], "options": {"provider": ["cpu"]}}]}
    first = next(bnexport.iter_checks(plan, jobs=1))
    assert (first.name, first.status) == ("models/m00.onnx | set.csv | --provider=cpu", "fail")
    assert first.report is not None
    assert first.report["sides"][0]["top1"]["of"] == 3
    again = list(bnexport.iter_checks(plan))
    assert again[0] == first
    assert len(again) == 3
    shutil.copy(models / "three/disc.png", tmp_path / "disc.png")
    (tmp_path / "set.csv").write_text("disc.png,disc\n")
    assert first not in list(bnexport.iter_checks(plan))
    with pytest.raises(bnexport.UsageError, match="found the key speed; expected check"):
        next(bnexport.iter_checks({"check": [], "speed": 9}))


def test_a_script_is_not_run_again_by_its_own_checks(models: Path, tmp_path: Path) -> None:
    """A plain script, without the guard that multiprocessing asks for."""
    small(models, tmp_path / "models", 2)
    shutil.copytree(models / "three", tmp_path / "set")
    (tmp_path / "script.py").write_text(
        "import bnexport\nprint('once')\n"
        "for result in bnexport.iter_checks({'check': [{'models': ['models/*'], 'images': ['set']}]}):\n"
        "    print(result.status)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["once", "fail", "fail"], done.stderr
