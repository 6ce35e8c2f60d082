"""Each cause produced for real, by training a small net on scikit-learn's digits, and found from the file alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnexport import Overrides, Preprocessing, Resize, Scaling, check
from bnexport.comparison.subject import open_subject
from bnexport.datasets.feeds import Arrays
from bnexport.datasets.sidecar import Sidecar, write
from bnexport.numerics.drift import warm_up
from bnexport.progress import Progress
from bnexport.recalibration.recalibrate import recalibrate
from bnexport.recalibration.trial import Trial, try_recalibration
from bnexport.results.verdict import CheckReport, Finding, Severity
from tests.e2e import nets

pytestmark = pytest.mark.keras

Digits = tuple[np.ndarray, np.ndarray]
SPEC = Preprocessing((8, 8), scaling=Scaling.UNIT)


@pytest.fixture(scope="module")
def digits() -> Digits:
    """1,797 digits of 8x8 pixels, 0 to 1, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.round(x * 15.9375).reshape(-1, 8, 8, 1).astype(np.float32) / np.float32(255), y


def small(keras: Any, *, frozen: bool = False) -> Any:
    """A net of three BatchNormalization layers."""
    k = keras.layers
    x = h = keras.Input((8, 8, 1))
    for stage, filters in enumerate((16, 32, 32)):
        h = k.Conv2D(filters, 3, padding="same", name=f"conv{stage}")(h)
        h = k.ReLU()(k.BatchNormalization(name=f"bn{stage}", trainable=not frozen)(h))
        h = k.MaxPooling2D()(h) if stage == 1 else h
    return keras.Model(x, k.Dense(10, "softmax", name="head")(k.GlobalAveragePooling2D()(h)))


def compiled(net: Any) -> Any:
    net.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    return net


def update(net: Any, x: np.ndarray, y: np.ndarray, updates: int, seed: int = 0) -> None:
    """Trains a compiled net for so many updates of 32 digits each."""
    rows = np.random.default_rng(seed).choice(len(x), 32 * updates)
    net.fit(x[rows], y[rows], batch_size=32, shuffle=False, verbose=0)


def fitted(net: Any, x: np.ndarray, y: np.ndarray, updates: int) -> Any:
    """The net after so many updates."""
    update(compiled(net), x, y, updates)
    return net


UPDATES = (5, 20, 60, 69, 200, 600, 1000)
"""One net is trained, and what it is after so many updates is what a training of so many updates gives."""


@pytest.fixture(scope="module")
def trained(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Any]:
    """The net after so many updates, loaded anew for each test that wants to break it."""
    keras = nets._keras()
    keras.utils.set_random_seed(0)
    folder, net = tmp_path_factory.mktemp("trained"), compiled(small(keras))
    for before, updates in pairwise((0, *UPDATES)):
        update(net, *digits, updates - before, seed=updates)
        net.save(folder / f"{updates}.keras")
    return lambda updates: keras.models.load_model(folder / f"{updates}.keras")


@pytest.fixture
def healthy(trained: Callable[[int], Any]) -> Callable[[], Any]:
    """A net whose statistics have caught up."""
    return lambda: trained(UPDATES[-1])


def checked(net: Any, digits: Digits, folder: Path, count: int = 512) -> CheckReport:
    """The check of a saved net on some digits, as arrays."""
    net.save(folder / "net.keras")
    np.savez(folder / "data.npz", x=digits[0][:count], labels=digits[1][:count])
    return check(folder / "net.keras", inputs=folder / "data.npz", batch_size=512)


def drawn(digits: Digits, folder: Path, count: int = 256) -> Path:
    """Some digits as PNG files in a subfolder for each class."""
    for i, (x, y) in enumerate(zip(digits[0][:count], digits[1][:count], strict=True)):
        (folder / str(y)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(x[..., 0] * 255).astype(np.uint8)).save(folder / str(y) / f"{i:04}.png")
    return folder


def codes(report: CheckReport) -> dict[str, Finding]:
    return {finding.code: finding for finding in report.findings}


@pytest.mark.parametrize("updates", [5, 20, 69, 200])
def test_the_number_of_updates_is_read_off_the_statistics(
    updates: int, trained: Callable[[int], Any], digits: Digits, tmp_path: Path
) -> None:
    """BN001 estimates it within 20 %, and the counter in the file confirms it."""
    finding = codes(checked(trained(updates), digits, tmp_path))["BN001"]
    assert finding.evidence["estimated_updates"] == pytest.approx(updates, rel=0.2)
    assert finding.evidence["stored_iterations"] == updates
    assert finding.evidence["r_squared"] > 0.8
    assert finding.evidence["updates_needed"] == 459


def test_even_where_little_is_left_to_count_by(trained: Callable[[int], Any], digits: Digits, tmp_path: Path) -> None:
    """After 600 updates .24 % of the initial values is left: no finding, but the estimate is still within 20 %."""
    report = checked(trained(600), digits, tmp_path)
    assert "BN001" not in codes(report)
    subject = open_subject(tmp_path / "net.keras", Progress())
    feeds = Arrays.read(tmp_path / "data.npz", subject.shapes, (), 512)
    trial = try_recalibration(subject, feeds, Progress())
    assert isinstance(trial, Trial)
    assert warm_up(trial.evidence.statistics).updates == pytest.approx(600, rel=0.2)


def test_a_healthy_net_is_left_alone(healthy: Callable[[], Any], digits: Digits, tmp_path: Path) -> None:
    """After 1,000 updates the check passes, nothing is found in the statistics or the images, and nothing is there to repair."""
    net = healthy()
    report = checked(net, digits, tmp_path)
    assert report, report.findings
    assert not {f.code for f in report.findings if f.severity != Severity.INFO}
    assert not {"BN001", "BN002", "BN003", "BN004", "BN006", "BN007", "IN001", "IN002", "IN003"} & codes(report).keys()
    side = {s.id: s for s in report.sides}
    inference, recalibrated = side["onnx-inference@cpu"].correct, side["onnx-recalibrated@cpu"].correct
    assert inference is not None
    assert recalibrated is not None
    assert inference > 0.95 * 512
    assert abs(inference - recalibrated) < 0.02 * 512
    np.savez(tmp_path / "unlabelled.npz", x=digits[0][:512])
    done = recalibrate(tmp_path / "net.keras", None, tmp_path / "o.onnx", inputs=tmp_path / "unlabelled.npz")
    assert "nothing shows that the old statistics are wrong" in done.refused
    assert not (tmp_path / "o.onnx").exists()


def test_statistics_that_were_reset(trained: Callable[[int], Any], digits: Digits, tmp_path: Path) -> None:
    """BN002: a checkpoint whose non-trainable weights were not loaded."""
    net = trained(60)
    layer = net.get_layer("bn1")
    layer.moving_mean.assign(np.zeros(32))
    layer.moving_variance.assign(np.ones(32))
    finding = codes(checked(net, digits, tmp_path))["BN002"]
    assert finding.layers == ("bn1",)
    assert finding.severity == Severity.ERROR


def test_statistics_with_nan(trained: Callable[[int], Any], digits: Digits, tmp_path: Path) -> None:
    """BN003 names the layer and the channel; the check fails and does not crash."""
    net = trained(5)
    broken = net.get_layer("bn2").moving_variance.numpy()
    broken[3] = np.nan
    net.get_layer("bn2").moving_variance.assign(broken)
    report = checked(net, digits, tmp_path)
    assert not report
    assert codes(report)["BN003"].evidence["channels"] == {"bn2": [3]}
    assert codes(report)["RT006"].evidence["sides"]["onnx-inference@cpu"] == 512
    assert "BN006" not in codes(report)


@pytest.mark.slow
def test_a_dead_channel(digits: Digits, tmp_path: Path) -> None:
    """BN004: a channel that was dead while training is told from one that is alive on these images, and ruins the answers."""
    keras = nets._keras()
    keras.utils.set_random_seed(0)
    net = small(keras)
    conv = net.get_layer("conv1")
    alive = conv.kernel.numpy()
    kernel = alive.copy()
    kernel[..., 7] = 0
    conv.kernel.assign(kernel)
    conv.trainable = False
    fitted(net, *digits, 1000)
    dead = codes(checked(net, digits, tmp_path))["BN004"]
    assert dead.severity == Severity.INFO
    assert dead.evidence["channels"] == {"bn1": [7]}
    assert dead.evidence["gain"] == pytest.approx(1 / np.sqrt(1e-3), rel=0.1)
    conv.kernel.assign(alive)  # as when a pruned or repaired weight comes back
    report = checked(net, digits, tmp_path)
    assert codes(report)["BN004"].severity == Severity.WARNING
    assert codes(report)["BN004"].evidence["largest_output"] > 10


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)  # of tf2onnx, which model.export runs
def test_training_mode_baked_in(digits: Digits, tmp_path: Path) -> None:
    """BN006: a layer called with training=True; predict overrules that, Keras' own exporter does not."""
    keras = nets._keras()
    keras.utils.set_random_seed(0)
    k = keras.layers
    x = keras.Input((8, 8, 1))
    h = k.ReLU()(k.BatchNormalization(name="bn")(k.Conv2D(8, 3)(x), training=True))
    net = fitted(keras.Model(x, k.Dense(10, "softmax")(k.GlobalAveragePooling2D()(h))), *digits, 30)
    assert "BN006" not in codes(checked(net, digits, tmp_path, 64))
    net.export(tmp_path / "baked.onnx", format="onnx", verbose=False)
    lone = check(tmp_path / "baked.onnx", inputs=tmp_path / "data.npz")
    assert not lone
    assert codes(lone)["BN006"].evidence["side"] == "onnx-inference@cpu"


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)  # of tf2onnx, which model.export runs
def test_a_lone_file_without_batch_normalization(healthy: Callable[[], Any], digits: Digits, tmp_path: Path) -> None:
    """What another exporter made of a healthy net does not depend on the batch or on onnxruntime's optimisations, and passes on that."""
    net = healthy()
    net(digits[0][:2])  # model.export wants a model that was called
    net.export(tmp_path / "lone.onnx", format="onnx", verbose=False)
    np.savez(tmp_path / "data.npz", x=digits[0][:64])
    report = check(tmp_path / "lone.onnx", inputs=tmp_path / "data.npz")
    assert report
    assert {c.reference for c in report.comparisons} == {"onnx-unoptimised@cpu", "onnx-inference@cpu one by one"}


def test_frozen_layers_are_judged_by_a_thawed_twin(
    trained: Callable[[int], Any], digits: Digits, tmp_path: Path
) -> None:
    """BN007: the training pass equals the inference pass; that the frozen statistics are stale shows all the same."""
    keras = nets._keras()
    net = trained(20)
    frozen = small(keras, frozen=True)
    frozen.set_weights(net.get_weights())
    report = checked(frozen, digits, tmp_path)
    modes = [c for c in report.comparisons if (c.actual, c.reference) == ("keras-training", "keras-inference")]
    assert {c.difference.max_abs for c in modes} == {0.0}
    finding = codes(report)["BN007"]
    assert finding.layers == ("bn0", "bn1", "bn2")
    assert finding.evidence["thawed_correct"] > finding.evidence["inference_correct"] + 100
    assert codes(report)["BN001"].evidence["initial_weight"] == pytest.approx(0.99**20, rel=0.1)


@pytest.mark.parametrize("form", ["images", "arrays"])
def test_wrong_scaling_is_named(form: str, healthy: Callable[[], Any], digits: Digits, tmp_path: Path) -> None:
    """IN001: trained on x/255 and shown 0-255; recalibration would hide it and refuses; with the right scaling it is gone."""
    net = healthy()
    net.save(tmp_path / "net.keras")
    arguments: dict[str, Any]
    if form == "images":
        folder = drawn(digits, tmp_path / "images")
        arguments = {"data": folder, "overrides": Overrides(scaling=Scaling.NONE, resize=Resize.PIL_NEAREST)}
    else:
        np.savez(tmp_path / "raw.npz", x=digits[0][:256] * np.float32(255), labels=digits[1][:256])
        arguments = {"inputs": tmp_path / "raw.npz"}
    report = check(tmp_path / "net.keras", **arguments)
    assert not report
    finding = report.findings[0]
    assert (finding.code, finding.severity, finding.layers) == ("IN001", Severity.ERROR, ("bn0",))
    assert finding.evidence["scaling_that_fits"] == "unit"
    assert finding.evidence["scaling"] == "none"
    assert finding.evidence["std_ratio"] == pytest.approx(255, rel=0.1)
    assert finding.evidence["misfit_that_fits"] < 0.1 < 4 < finding.evidence["misfit"]
    source = arguments.pop("data", None)
    done = recalibrate(tmp_path / "net.keras", source, tmp_path / "o.keras", **arguments)
    assert "was trained with unit" in done.refused
    assert "hide this mistake" in done.refused
    assert not (tmp_path / "o.keras").exists()
    if form == "images":
        write(tmp_path / "net.keras", Sidecar(SPEC))
        right = check(tmp_path / "net.keras", source)
        assert right, right.findings
        assert not {"IN001", "IN002"} & codes(right).keys()


@pytest.mark.slow
@pytest.mark.parametrize("trained_with", [Scaling.MINUS_ONE_ONE])
def test_other_scalings_are_named_too(trained_with: Scaling, digits: Digits, tmp_path: Path) -> None:
    """IN001 the other way round: images of 0 to 1 shown to a net that learnt -1 to 1."""
    from bnexport.datasets.preprocess import rescale

    keras = nets._keras()
    keras.utils.set_random_seed(0)
    net = fitted(small(keras), rescale(digits[0], SPEC, SPEC.changed(scaling=trained_with)), digits[1], 700)
    finding = codes(checked(net, digits, tmp_path))["IN001"]
    assert finding.evidence["scaling_that_fits"] == str(trained_with)


@pytest.mark.parametrize("updates", [5, 200])
def test_wrong_scaling_is_named_where_statistics_are_stale(
    updates: int, trained: Callable[[int], Any], digits: Digits, tmp_path: Path
) -> None:
    """IN001: trained on x/255 for a few updates and shown 0-255; neither mistake hides the other."""
    report = checked(trained(updates), (digits[0] * np.float32(255), digits[1]), tmp_path)
    assert not report
    finding = codes(report)["IN001"]
    assert (finding.severity, finding.layers) == (Severity.ERROR, ("bn0",))
    assert (finding.evidence["scaling"], finding.evidence["scaling_that_fits"]) == ("none", "unit")
    assert finding.evidence["initial_weight"] == pytest.approx(0.99**updates, rel=0.1)
    assert "BN001" in codes(report) or updates == 200
    right = codes(checked(trained(updates), digits, tmp_path))
    assert "BN001" in right
    assert not {"IN001", "IN002"} & right.keys()


@pytest.mark.parametrize("updates", [5, 200, 1000])
def test_dimmer_images_are_no_wrong_scaling(
    updates: int, trained: Callable[[int], Any], digits: Digits, tmp_path: Path
) -> None:
    """IN002 at most: half as bright as in training, of values that no scaling explains."""
    assert "IN001" not in codes(checked(trained(updates), (digits[0] / 2, digits[1]), tmp_path))


def test_other_data_than_in_training(healthy: Callable[[], Any], digits: Digits, tmp_path: Path) -> None:
    """IN002: the same digits, light and dark exchanged, which no scaling mends."""
    found = codes(checked(healthy(), (1 - digits[0], digits[1]), tmp_path))
    assert found["IN002"].layers == ("bn0",)
    assert "IN001" not in found


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("one", "only one sample"),
        ("same", "is the same"),
        ("constant", "has one value"),
        ("both", "is the same or has one value"),
    ],
)
def test_images_that_say_nothing(
    kind: str, words: str, healthy: Callable[[], Any], digits: Digits, tmp_path: Path
) -> None:
    """IN003: one sample, copies of one, samples of one value; recalibrate refuses, and --force writes."""
    flat = np.full_like(digits[0][:8], 0.5) * np.linspace(0.1, 1, 8, dtype=np.float32)[:, None, None, None]
    same = np.repeat(digits[0][:1], 8, axis=0)
    x = {"one": digits[0][:1], "same": same, "constant": flat, "both": np.concatenate([same, flat])}[kind]
    healthy().save(tmp_path / "net.keras")
    np.savez(tmp_path / "x.npz", x=x)
    arguments = (tmp_path / "net.keras", None, tmp_path / "o.keras")
    done = recalibrate(*arguments, inputs=tmp_path / "x.npz")
    assert not done
    assert words in done.refused
    assert not (tmp_path / "o.keras").exists()
    assert words in codes(check(tmp_path / "net.keras", inputs=tmp_path / "x.npz"))["IN003"].message
    assert recalibrate(*arguments, inputs=tmp_path / "x.npz", force=True)
    assert (tmp_path / "o.keras").exists()


def test_copies_are_counted(healthy: Callable[[], Any], digits: Digits, tmp_path: Path) -> None:
    """IN003 lists what was seen before."""
    x = digits[0][:60].copy()
    x[50:] = x[:10]
    finding = codes(checked(healthy(), (x, digits[1][:60]), tmp_path))["IN003"]
    assert finding.severity == Severity.WARNING
    assert finding.evidence["repeated"] == [str(i) for i in range(50, 60)]
    assert finding.evidence["usable"] == 50


@pytest.fixture(scope="module")
def transferred(trained: Callable[[int], Any], digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net with a new head, trained on digits whose light and dark are exchanged, everything else frozen."""
    path, net = tmp_path_factory.mktemp("transferred") / "transfer.keras", trained(UPDATES[-1])
    for layer in net.layers[:-1]:
        layer.trainable = False
    fitted(net, 1 - digits[0], digits[1], 1500).save(path)
    return path


def test_modes_that_differ_for_a_good_reason(transferred: Path, digits: Digits, tmp_path: Path) -> None:
    """BN005 with converged statistics: training mode does harm to a head on old statistics. The check passes and advises against the repair."""
    inverted = (1 - digits[0], digits[1])
    net = nets._keras().models.load_model(transferred)
    for layer in net.layers:
        layer.trainable = True  # thawed, so that training mode shows what it would do
    report = checked(net, inverted, tmp_path)
    assert report, report.findings
    finding = codes(report)["BN005"]
    assert finding.severity == Severity.WARNING
    assert finding.evidence["causes"] == []
    assert finding.evidence["inference_correct"] > finding.evidence["training_correct"] + 100
    assert "nothing shows that inference mode is wrong" in finding.message
    assert finding.fix[0].startswith("do not recalibrate: accuracy falls")


def test_a_head_on_frozen_statistics_is_not_recalibrated(transferred: Path, digits: Digits, tmp_path: Path) -> None:
    """Transfer learning: the head was trained on frozen statistics of other data. Recalibrating takes them from under it, and is refused."""
    x, y = 1 - digits[0], digits[1]
    np.savez(tmp_path / "data.npz", x=x[:512], labels=y[:512])
    report = check(transferred, inputs=tmp_path / "data.npz")
    assert "do not recalibrate" in " ".join(codes(report)["IN002"].fix)
    done = recalibrate(transferred, None, tmp_path / "o.keras", inputs=tmp_path / "data.npz")
    assert not done
    assert "accuracy falls from" in done.refused
    assert not (tmp_path / "o.keras").exists()
    forced = recalibrate(transferred, None, tmp_path / "o.keras", inputs=tmp_path / "data.npz", force=True)
    assert forced.before.correct is not None
    assert forced.after.correct is not None
    assert forced.after.correct < forced.before.correct - 100
    assert (tmp_path / "o.keras").exists()
