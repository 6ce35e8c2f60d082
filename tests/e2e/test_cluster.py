"""On a Ray cluster of three nodes, one of which is lost half way, a batch and a recalibration give what one machine gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from bnexport.onnx_graph.statistics import current
from tests.e2e.test_batch import PLAN, results, small

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three nodes with a CPU each."""
    pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.others = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    made.shutdown()


def started(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bnexport", *arguments],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(child: subprocess.Popen[str], code: int) -> str:
    out, err = child.communicate(timeout=300)
    assert child.returncode == code, err
    return out


def until(what: Any, child: subprocess.Popen[str]) -> None:
    while not what():
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)


def test_a_batch_is_the_same_on_a_cluster(cluster: Any, models: Path, tmp_path: Path) -> None:
    """Eight models x two sets; a node is killed after three results: every check has its result, each bit as on one machine."""
    small(models, tmp_path / "models", 8)
    for name in ("a", "b"):
        shutil.copytree(models / "three", tmp_path / "sets" / name)
    (tmp_path / "plan.toml").write_text(PLAN.replace("jobs = 2", f"jobs = {len(os.sched_getaffinity(0))}"))
    child = started(tmp_path, "batch", "plan.toml", "-q", "--engine", "ray", "--address", cluster.address)
    done = tmp_path / "out/checks"
    until(lambda: len(list(done.glob("[!.]*.json"))) >= 3, child)
    assert len(list(done.glob("[!.]*.json"))) < 16
    cluster.remove_node(cluster.others[0], allow_graceful=False)
    assert "16 fail of 16 checks; 16 run now" in finished(child, 1)
    theirs = results(tmp_path)
    shutil.rmtree(tmp_path / "out")
    finished(started(tmp_path, "batch", "plan.toml", "-q"), 1)
    assert json.dumps(results(tmp_path), sort_keys=True) == json.dumps(theirs, sort_keys=True)


def test_recalibration_is_the_same_on_a_cluster(cluster: Any, models: Path, tmp_path: Path) -> None:
    """The statistics of 400 images on three nodes, one killed on the way, equal those of one machine to the last bit; the answers too."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for nth in range(400):
        grey = Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).resize((400, 400))
        grey.save(tmp_path / f"images/{nth:03}.png")
    shutil.copy(models / "tiny_residual.onnx", tmp_path / "model.onnx")
    command = ("recalibrate", "model.onnx", "images", "--force", "--format", "json")
    here = json.loads(finished(started(tmp_path, *command, "-q", "-o", "here.onnx"), 0))
    child = started(tmp_path, *command, "-o", "there.onnx", "--engine", "ray", "--address", cluster.address)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("recalibrating"):
            break
    time.sleep(1)
    cluster.remove_node(cluster.others[0], allow_graceful=False)
    there = json.loads(finished(child, 0))
    ours, theirs = (current(onnx.load(tmp_path / f"{name}.onnx")) for name in ("here", "there"))
    for site, (_, mean, var) in ours.items():
        np.testing.assert_array_equal(theirs[site][1], mean)
        np.testing.assert_array_equal(theirs[site][2], var)
    del here["written"], there["written"]
    assert {**there, "residual": 0, "residual_mean": 0, "residual_log_std": 0} == {
        **here,
        "residual": 0,
        "residual_mean": 0,
        "residual_log_std": 0,
    }
    assert there["residual"] < 1e-5


def test_no_cluster_is_one_sentence(models: Path, tmp_path: Path) -> None:
    """An address at which nobody answers: exit code 3, before anything is written."""
    pytest.importorskip("ray")
    child = started(
        tmp_path, "recalibrate", str(models / "tiny_residual.onnx"), str(models / "three"), "-o", "x.onnx",
        "--engine", "ray", "--address", "127.0.0.1:9", "-q",
    )  # fmt: skip
    _, err = child.communicate(timeout=300)
    assert child.returncode == 3, err
    assert "cannot reach the Ray cluster 127.0.0.1:9" in err
    assert not list(tmp_path.glob("*.onnx"))
