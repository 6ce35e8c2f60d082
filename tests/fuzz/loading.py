"""The functions that read what somebody else wrote, by kind of file, and the damage each is given."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as arrow
from pyarrow import parquet

from bnexport import datasets
from bnexport.batch import plan
from bnexport.batch.results import Folder
from bnexport.bundles import bundle
from bnexport.bundles.checksums import SUMS
from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.cli.settings import list_options, read_settings
from bnexport.comparison.subject import open_subject
from bnexport.datasets import sidecar
from bnexport.datasets.feeds import Arrays
from bnexport.frameworks.keras import model as keras_model
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import sites
from bnexport.onnx_graph.training_mode import training_mode_graph
from bnexport.progress import Progress
from bnexport.reporting import batch as telling
from bnexport.results.batched import Batch, Result
from bnexport.results.preprocessing import Preprocessing
from bnexport.runtimes.ort_session import Session
from bnexport.system.cache import NOTHING_KEPT
from tests.fuzz.mutations import mutated, mutated_archive

SPEC = Preprocessing((32, 32), 3)


def load_keras(path: Path) -> None:
    keras_model.load(path)


def load_onnx(path: Path) -> None:
    subject = open_subject(path, Progress())
    Session(serialise(subject.graph))
    if sites(subject.graph):
        Session(serialise(training_mode_graph(subject.graph)))


def load_sidecar(path: Path) -> None:
    sidecar.read(path.with_suffix(""))


def load_image(path: Path) -> None:
    datasets.decode_image(path.read_bytes(), SPEC)


def load_arrays(path: Path) -> None:
    Arrays.read(path, {"image": (None, 32, 32, 1)}, (), 8)


def load_labels(path: Path) -> None:
    datasets.find([Path(f"{name}.png") for name in ("cross", "disc", "stripes")], labels=path)


def load_listing(path: Path) -> None:
    listing = datasets.find(path)
    for _ in datasets.Reader(listing[:20], SPEC):
        pass


def load_plan(path: Path) -> None:
    plan.checks(plan.read(path), path.parent)


def load_result(path: Path) -> None:
    place = path.parent / path.stem
    folder = Folder(place, NOTHING_KEPT)
    shutil.copy(path, place / "checks/key.json")
    shutil.copy(path, place / "last.json")
    result = folder.get("key")
    done = Batch(place, (result,) if result else (), frozenset(), folder.last())
    for tell in (telling.ndjson, telling.junit, telling.markdown, telling.html):
        tell(done)
    shutil.rmtree(place)


def load_settings(path: Path) -> None:
    import typer.main

    group = typer.main.get_command(app)
    place = path.parent / path.stem
    place.mkdir()
    path.rename(place / "bnexport.toml")
    try:
        read_settings(list_options(group.make_context("bnexport", ["config"])), place, {})
    finally:
        (place / "bnexport.toml").rename(path)
        place.rmdir()


def load_bundle(path: Path) -> None:
    verify(path)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of input.

    Args:
        seeds: the sound files.
        suffix: of a damaged one.
        load: the function that reads it.
        command: the command line that reads it, PATH for the file.
        damage: what is done to a sound one's content.
    """

    seeds: tuple[Path, ...]
    suffix: str
    load: Callable[[Path], None]
    command: tuple[str, ...]
    damage: Callable[[bytes, random.Random], bytes] = mutated

    def write(self, folder: Path, nth: int) -> Path:
        """The damaged input of that number, the same each time."""
        rng = random.Random(nth)  # noqa: S311 - to be repeated, not to be secret
        seed = self.seeds[nth % len(self.seeds)]
        path = folder / f"{nth}{self.suffix}"
        if seed.is_dir():
            return damaged_bundle(seed, path, rng)
        path.write_bytes(self.damage(seed.read_bytes(), rng))
        return path


def damaged_bundle(seed: Path, path: Path, rng: random.Random) -> Path:
    """A bundle with one file mutated, and an index that says it is right: a damaged one alone would never get past its hashes."""
    shutil.copytree(seed, path)
    (path / SUMS).unlink()
    index = bundle.read(path)
    name = rng.choice([bundle.INDEX, *index.files])
    content = mutated((path / name).read_bytes(), rng)
    (path / name).write_bytes(content)
    if name != bundle.INDEX:
        files = {**index.files, name: hashlib.sha256(content).hexdigest()}
        (path / bundle.INDEX).write_bytes(bundle.index_text(replace(index, files=files)))
    else:
        (path / name).write_bytes(bundle.with_own_hash(content))
    return path


def written(folder: Path, odd: Path) -> dict[str, Path]:
    """Sound files of the kinds that are not in the repository."""
    np.savez(folder / "seed.npz", image=np.zeros((3, 32, 32, 1), np.float32), labels=np.arange(3))
    (folder / "seed.csv").write_text("file,label\ncross.png,cross\ndisc.png,disc\nstripes.png,stripes\n")
    (folder / "seed.toml").write_text(
        'batch-size = 4\nquiet = true\n[check]\nrtol = ["logits=1e-3"]\nlabels = "labels.csv"\n'
    )
    (folder / "plan.toml").write_text(
        'jobs = 2\n[[check]]\nmodels = ["*.csv"]\nimages = ["seed.*"]\noptions = [{name = "a", layers = true}, {labels = "x.csv"}]\n'
    )
    parquet.write_table(arrow.table({"path": ["a.png", "b.png"], "label": [1, 2]}), folder / "seed.parquet")
    with tarfile.open(folder / "seed.tar", "w") as archive:
        for path in sorted(odd.glob("*.png")):
            archive.add(path, path.name)
            archive.add(path, f"{path.stem}.cls")
    report = {"verdict": "fail", "findings": [{"code": "BN001", "severity": "error", "message": "stale"}]}
    result = Result("key", "a | b", ("check", "a"), "fail", 1, 0.5, 1e9, "", report)
    (folder / "result.json").write_text(json.dumps(asdict(result)))
    names = {"plan": "plan.toml", "result": "result.json"}
    return {kind: folder / names.get(kind, f"seed.{kind}") for kind in ("npz", "csv", "toml", "parquet", "tar", *names)}


def kinds(models: Path, odd: Path, packed: Path) -> dict[str, Kind]:
    """Every kind, by its suffix."""
    made = written(packed.parent, odd)
    onnx, three = str(models / "tiny_residual.onnx"), str(models / "three")
    check = ("check", "PATH", str(models / "three"), "-q", "--no-cache")
    return {
        "h5": Kind((models / "tiny_residual.h5",), ".h5", load_keras, check),
        "keras": Kind((models / "tiny_residual.keras",), ".keras", load_keras, check, mutated_archive),
        "onnx": Kind((models / "tiny_residual.onnx", models / "torch_residual.onnx"), ".onnx", load_onnx, check),
        "toml": Kind((models / "tiny_residual.h5.toml",), ".onnx.toml", load_sidecar, check),
        "image": Kind(
            tuple(sorted(odd.glob("*.*"))),
            ".jpg",
            load_image,
            ("check", str(models / "tiny_residual.onnx"), "PATH", "-q", "--no-cache"),
        ),
        "npz": Kind(
            (made["npz"],),
            ".npz",
            load_arrays,
            ("check", onnx, "--inputs", "PATH", "-q", "--no-cache"),
            mutated_archive,
        ),
        "csv": Kind(
            (made["csv"],), ".csv", load_labels, ("check", onnx, three, "--labels", "PATH", "-q", "--no-cache")
        ),
        "settings": Kind((made["toml"],), ".toml", load_settings, ("config",)),
        "manifest": Kind((made["csv"],), ".csv", load_listing, ("check", onnx, "PATH", "-q", "--no-cache")),
        "parquet": Kind((made["parquet"],), ".parquet", load_listing, ("check", onnx, "PATH", "-q", "--no-cache")),
        "tar": Kind((made["tar"],), ".tar", load_listing, ("check", onnx, "PATH", "-q", "--no-cache")),
        "plan": Kind((made["plan"],), ".toml", load_plan, ("batch", "PATH", "--dry-run", "-q")),
        "result": Kind((made["result"],), ".json", load_result, ("batch", "PATH", "-q")),
        "bundle": Kind((packed,), "", load_bundle, ("verify", "PATH", "-q")),
    }
