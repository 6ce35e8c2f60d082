"""A bundle is what another machine needs: complete, whole, read by others' loaders, and impossible to change unnoticed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import TestResult as Outcome

import jsonschema
import numpy as np
import onnx
import onnx.backend.test.runner as onnx_runner
import onnxruntime
import pytest
from onnx.backend.test.case.test_case import TestCase as ModelTest
from PIL import Image
from typer.testing import CliRunner, Result

from bnexport.bundles import bundle
from bnexport.bundles.checksums import SUMS
from bnexport.bundles.pack import Packing, pack
from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.comparison.opening import Request
from bnexport.errors import InputError
from bnexport.onnx_graph import protobuf
from bnexport.reporting.json import SCHEMA
from tests.e2e.test_deployed import small

pytestmark = pytest.mark.keras


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """The small stale model, packed."""
    folder = tmp_path_factory.mktemp("packed") / "bundle"
    done = run("pack", models / "tiny_residual.keras", models / "three", "-o", folder, "--layout", "triton", "-q")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def copied(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "bundle"))


def changed(folder: Path, name: str, content: bytes, **index: Any) -> None:
    """Changes a file, and the index with it as somebody would who wants it to look untouched."""
    (folder / name).write_bytes(content)
    old = bundle.read(folder)
    files = {**old.files, name: hashlib.sha256(content).hexdigest()}
    (folder / bundle.INDEX).write_bytes(bundle.index_text(replace(old, files=files, **index)))
    (folder / SUMS).unlink()


def test_a_model_that_is_packed_verifies(packed: Path) -> None:
    """Exit code 0, JSON by the schema, every file counted, and what was wrong when it was packed is said again."""
    done = run("verify", packed, "--format", "json", "-q")
    told = json.loads(done.stdout)
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert done.exit_code == 0
    assert told["verdict"] == "pass"
    assert told["files_checked"] == sum(path.is_file() for path in packed.rglob("*"))
    assert {(c["tensor"], c["passed"]) for c in told["comparisons"]} == {("logits", True), ("probabilities", True)}
    assert all(c["noise_floors"] < 8 for c in told["comparisons"])
    assert {finding["code"] for finding in told["bundle"]["known"]} >= {"BN001", "BN005"}


def test_verify_needs_no_tensorflow(packed: Path) -> None:
    """With TensorFlow, Keras and tf2onnx out of reach the verdict is the same."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tf2onnx', 'h5py'])); from bnexport.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, "verify", str(packed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS")


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "name",
    [
        "model.onnx",
        "bundle.json",
        "SHA256SUMS",
        "appended.pb",
        "images/000001.png",
        "test_data_set_0/input_0.pb",
        "test_data_set_0/output_0.pb",
        "test_data_set_0/logits_0.pb",
        "model_repository/tiny_residual/config.pbtxt",
    ],
)
def test_one_flipped_bit_is_named(copied: Path, name: str, place: float) -> None:
    """Whatever was changed, and wherever: exit code 2, and the file's name."""
    content = bytearray((copied / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    (copied / name).write_bytes(content)
    done = run("verify", copied, "-q")
    assert done.exit_code == 2
    assert name in done.stderr
    assert "has changed since the bundle was packed" in done.stderr


@pytest.mark.parametrize("name", ["model.onnx", "images/000000.png", "bundle.json", "appended.pb"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    """An incomplete bundle is not verified."""
    (copied / name).unlink()
    done = run("verify", copied, "-q")
    assert done.exit_code == 2
    assert name in done.stderr


def test_what_a_machine_computes_is_compared(copied: Path) -> None:
    """Outputs that this machine does not reproduce: RT007, and the comparison that failed."""
    path = "test_data_set_0/logits_0.pb"
    logits = protobuf.array_from((copied / path).read_bytes(), path)
    changed(copied, path, protobuf.tensor_bytes(logits * np.float32(1 + 1e-4), "predictions/logits"))
    report = verify(copied)
    assert not report
    assert [f.code for f in report.findings] == ["RT007"]
    assert [c.tensor for c in report.comparisons if not c] == ["logits"]


@pytest.mark.parametrize(("grey", "verdict"), [(1, None), (127, False)])
def test_what_a_machine_decodes_is_compared(copied: Path, grey: int, verdict: bool | None) -> None:
    """Pictures that become other inputs here: IN006, an error where the outputs move by more than the tolerance."""
    path = copied / "images/000001.png"
    with Image.open(path) as image:
        pixels = np.asarray(image).copy()
    pixels[:4, :4] ^= grey
    Image.fromarray(pixels).save(copied / "other.png")
    changed(copied, "images/000001.png", (copied / "other.png").read_bytes())
    report = verify(copied)
    [finding] = report.findings
    assert finding.code == "IN006"
    assert list(finding.evidence["differing"]) == ["disc.png"]
    if verdict is not None:
        assert bool(report) is verdict


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file outside": (
        lambda folder: reindexed(folder, files={**bundle.read(folder).files, "../evil": "0" * 64}),
        "outside the bundle",
    ),
    "an absolute file": (
        lambda folder: reindexed(folder, files={**bundle.read(folder).files, "/etc/passwd": "0" * 64}),
        "outside the bundle",
    ),
    "a link to the outside": (
        lambda folder: (
            (folder / "out").symlink_to("/etc"),
            reindexed(folder, files={**bundle.read(folder).files, "out/passwd": "0" * 64}),
        ),
        "outside the bundle",
    ),
    "nothing to compare": (lambda folder: reindexed(folder, tensors=()), "no inputs or no outputs to compare"),
    "no data sets": (lambda folder: reindexed(folder, sets=()), "no inputs or no outputs to compare"),
    "a file without a hash": (
        lambda folder: reindexed(
            folder, files={k: v for k, v in bundle.read(folder).files.items() if "output" not in k}
        ),
        "no hash for test_data_set_0/output_0.pb",
    ),
    "a newer schema": (lambda folder: reindexed(folder, schema_version="2.0"), "schema version 2.0"),
    "another type": (lambda folder: reindexed(folder, inputs=(1, 2)), "Expected `str`, got `int`"),
    "an input that the graph does not have": (
        lambda folder: reindexed(folder, inputs=("other",)),
        "are missing from input feed",
    ),
    "images for two inputs": (
        lambda folder: reindexed(
            folder,
            inputs=("x", "y"),
            files={
                **bundle.read(folder).files,
                **{f"{part.folder}/input_1.pb": "0" * 64 for part in bundle.read(folder).sets},
            },
        ),
        "images for 2 inputs",
    ),
    "a file name with a null byte": (
        lambda folder: reindexed(folder, files={**bundle.read(folder).files, "a\0b": "0" * 64}),
        "a file name with a null byte",
    ),
    "a label of 2^63": (
        lambda folder: reindexed(
            folder,
            sets=tuple(
                replace(part, items=tuple(replace(item, label=2**63) for item in part.items))
                for part in bundle.read(folder).sets
            ),
        ),
        "Expected `int` <= 2147483647",
    ),
}


def reindexed(folder: Path, **changes: Any) -> None:
    (folder / bundle.INDEX).write_bytes(bundle.index_text(replace(bundle.read(folder), **changes)))
    (folder / SUMS).unlink()


def test_choices_that_an_index_leaves_out_have_their_defaults(copied: Path) -> None:
    """A specification of images may be as short as MODEL.toml allows; the report holds all of it."""
    preprocessing = bundle.read(copied).preprocessing or {}
    assert preprocessing["scaling"] == "none"
    reindexed(copied, preprocessing={key: value for key, value in preprocessing.items() if key != "scaling"})
    done = run("verify", copied, "-q")
    assert done.exit_code == 0, done.stderr
    assert "scaling none" in done.stdout


@pytest.mark.parametrize("case", HOSTILE)
def test_an_index_that_asks_for_more_is_refused(copied: Path, case: str) -> None:
    """A bundle is not trusted: nothing outside of it is read, and an index that leaves something out is none."""
    change, reason = HOSTILE[case]
    change(copied)
    done = run("verify", copied, "-q")
    assert done.exit_code == 2
    assert reason in done.stderr


class Onnxruntime:
    """What onnx.backend.test asks of a runtime."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    @staticmethod
    def supports_device(device: str) -> bool:
        return device == "CPU"

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str) -> Onnxruntime:
        assert device == "CPU"
        return cls(onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]))

    def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        names = [info.name for info in self._session.get_inputs()]
        return self._session.run(None, dict(zip(names, inputs, strict=True)))


def test_onnx_own_runner_passes_the_data_sets(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx.backend.test loads the folder and finds onnxruntime's outputs close to the stored ones; a stored output that is wrong fails."""
    monkeypatch.setattr(onnx_runner, "load_model_tests", lambda **_: [])  # the standard's own tests are not ours to run

    def passed(folder: Path) -> bool:
        runner = onnx_runner.Runner(Onnxruntime)
        case = ModelTest("test_bundle", "bundle", None, str(folder), None, None, "simple", rtol=1e-3, atol=1e-7)
        runner._add_model_test(case, "Bundle")
        result = Outcome()
        runner.include("bundle.*_cpu").test_suite.run(result)
        assert result.testsRun - len(result.skipped) == 1
        return result.wasSuccessful()

    assert passed(packed)
    wrong = shutil.copytree(packed, packed.parent / "wrong")
    tensor = protobuf.array_from((wrong / "test_data_set_0/output_0.pb").read_bytes(), "")
    (wrong / "test_data_set_0/output_0.pb").write_bytes(protobuf.tensor_bytes(tensor + np.float32(0.01), "predictions"))
    assert not passed(wrong)


def test_the_triton_repository_has_the_graphs_own_interface(packed: Path) -> None:
    """The same file, its tensors with their types and shapes, and the class names."""
    folder = packed / "model_repository/tiny_residual"
    assert (folder / "1/model.onnx").read_bytes() == (packed / "model.onnx").read_bytes()
    config = (folder / "config.pbtxt").read_text()
    assert 'name: "tiny_residual"\nbackend: "onnxruntime"\nmax_batch_size: 32\n' in config
    graph = onnx.load(packed / "model.onnx").graph
    assert f'{{ name: "{graph.input[0].name}", data_type: TYPE_FP32, dims: [32, 32, 1] }}' in config
    assert (
        f'{{ name: "{graph.output[0].name}", data_type: TYPE_FP32, dims: [3], label_filename: "labels.txt" }}' in config
    )
    assert (folder / "labels.txt").read_text() == "cross\ndisc\nstripes\n"


def packing(folder: Path, **options: Any) -> Packing:
    request = Request(folder / "net.keras", inputs=folder / "data.npz", **options)
    return pack(request, folder / "bundle", samples=6)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A net with arrays in place of images, and bnexport's export of it."""
    small().save(tmp_path / "net.keras")
    done = run("export", tmp_path / "net.keras", "-o", tmp_path / "net.onnx", "-q")
    assert done.exit_code == 0, done.output
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", image=rng.uniform(-1, 1, (8, 24, 24, 3)).astype("float32"))
    return tmp_path


def test_another_exporters_file_is_packed_to_the_byte(net: Path) -> None:
    """Channels first and a fixed batch of 4: the data sets are what that file takes and gives, and it verifies."""
    model = onnx.load(net / "net.onnx")
    [info] = model.graph.input
    turned = onnx.helper.make_node("Transpose", ["first"], [info.name], perm=[0, 2, 3, 1])
    model.graph.node.insert(0, turned)
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("first", 1, [4, 3, 24, 24]))
    onnx.save(model, net / "theirs.onnx")
    done = packing(net, onnx=net / "theirs.onnx")
    assert done
    assert done.samples == 4
    assert (net / "bundle/model.onnx").read_bytes() == (net / "theirs.onnx").read_bytes()
    assert protobuf.array_from((net / "bundle/test_data_set_0/input_0.pb").read_bytes(), "").shape == (4, 3, 24, 24)
    report = verify(net / "bundle")
    assert report, report.findings


def test_a_file_that_is_wrong_is_not_packed(net: Path) -> None:
    """Where the deployed file does not compute what Keras computes nothing is written, and the exit code is 1."""
    model = onnx.load(net / "net.onnx")
    tensor = next(t for t in model.graph.initializer if t.name == "head/bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + np.float32(0.01), tensor.name))
    onnx.save(model, net / "wrong.onnx")
    done = packing(net, onnx=net / "wrong.onnx")
    assert not done
    assert "does not compute what keras-inference computes" in done.refused
    assert not (net / "bundle").exists()
    arguments = ("--inputs", net / "data.npz", "--onnx", net / "wrong.onnx", "-o", net / "bundle", "-q")
    assert run("pack", net / "net.keras", *arguments).exit_code == 1
    assert [path for path in net.iterdir() if path.name.startswith(".")] == []


def test_an_onnx_file_alone_is_packed(net: Path, models: Path) -> None:
    """Without Keras the graph without optimisations is what is stored; a file with its weights elsewhere becomes one file."""
    model = onnx.load(models / "tiny_residual.onnx")
    onnx.save(model, net / "big.onnx", save_as_external_data=True, location="big.weights", size_threshold=64)
    done = pack(Request(net / "big.onnx", models / "three"), net / "bundle")
    assert done
    report = verify(net / "bundle")
    assert report
    assert report.bundle is not None
    assert report.bundle.reference == "onnx-unoptimised@cpu"


def test_a_bundle_is_replaced_and_nothing_else_is(net: Path) -> None:
    """Packing again takes the old bundle's place; a folder that is no bundle stays as it is."""
    (net / "bundle").mkdir()
    assert packing(net)
    assert packing(net)
    assert verify(net / "bundle")
    (net / "mine").mkdir()
    (net / "mine/thesis.txt").write_text("years of work")
    done = run("pack", net / "net.keras", "--inputs", net / "data.npz", "-o", net / "mine", "-q")
    assert done.exit_code == 2
    assert "a file or folder that is not a bundle" in done.stderr
    assert [path.name for path in (net / "mine").iterdir()] == ["thesis.txt"]


def test_what_is_required_and_absent_is_exit_3(packed: Path) -> None:
    """A machine without CUDA does not pass for one."""
    from bnexport.runtimes.ort_library import cuda_missing

    if not cuda_missing():
        pytest.skip("CUDA runs here")
    done = run("verify", packed, "--require", "cuda", "-q")
    assert done.exit_code == 3
    assert "CUDA is required but does not run on this machine" in done.stderr


def test_what_is_asked_for_and_absent_is_rt001(packed: Path) -> None:
    """`--provider cuda` without CUDA: the CPU runs in its place, and the verdict is a failure that says why."""
    from bnexport.runtimes.ort_library import cuda_missing

    if not cuda_missing():
        pytest.skip("CUDA runs here")
    report = verify(packed, providers=["cuda"])
    assert not report
    assert [f.code for f in report.findings] == ["RT001"]
    assert all(report.comparisons)


def test_a_bundle_is_read_alike_without_files_in_memory(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no files in memory, the model goes to onnxruntime as bytes."""
    from bnexport.system import memory_file

    reports = []
    for there in (True, False):
        monkeypatch.setattr(memory_file, "_MEMORY_FILES", there)
        reports.append(verify(packed))
    first, second = ([(c.tensor, c.difference.max_abs) for c in report.comparisons] for report in reports)
    assert first == second


def test_tensors_are_read_as_onnx_reads_them() -> None:
    """What is read without onnx equals what onnx reads, and what only onnx can read is left to it."""
    rng = np.random.default_rng(0)
    for dtype in ("f4", "f8", "f2", "u1", "i1", "i4", "i8", "?"):
        for shape in ((), (0, 3), (2, 3, 4), (300,)):
            array = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
            found = protobuf.array_from(protobuf.tensor_bytes(array, "x"), "x")
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)
    listed = onnx.helper.make_tensor("x", onnx.TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])  # in float_data
    np.testing.assert_array_equal(protobuf.array_from(listed.SerializeToString(), "x"), [1, 2, 3])
    listed.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(InputError, match="another file"):
        protobuf.array_from(listed.SerializeToString(), "x")


def test_the_cuda_acceptance_can_be_rehearsed(packed: Path, tmp_path: Path) -> None:
    """scripts/cuda/check.py goes through with the CPU in CUDA's place: four graphs, equal to the bit, and a report; without CUDA it exits with 3."""
    from bnexport.runtimes.ort_library import cuda_missing

    script = Path(__file__).parents[2] / "scripts/cuda/check.py"
    results = tmp_path / "RESULTS.md"
    command = [sys.executable, str(script), str(packed), "--provider", "cpu", "--seconds", "0.01"]
    done = subprocess.run([*command, "--results", str(results)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = results.read_text()
    assert "All assertions hold." in told
    assert all(told.count(f"| {graph} |") == 2 for graph in ("inference", "training twin", "recalibrated", "folded"))
    assert "bit-identical" in told
    if cuda_missing():
        assert subprocess.run([*command[:3]], capture_output=True, check=False).returncode == 3
