"""`bnexport check` in Python: what is asked becomes a request, which is opened and examined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from bnexport.checking.examine import examine
from bnexport.checking.in_memory import Batches, Images, Model, Reference, arrays, is_images, model_file
from bnexport.comparison.opening import Request, open_request
from bnexport.comparison.options import by_tensor
from bnexport.errors import UsageError
from bnexport.progress import Progress
from bnexport.results.option_names import conflict
from bnexport.results.overrides import Overrides
from bnexport.results.target_names import split_targets
from bnexport.results.verdict import CheckReport
from bnexport.system.cache import NOTHING_KEPT, Cache


def check(
    model: Model,
    data: Images | Batches | None = None,
    *,
    inputs: Path | str | None = None,
    deployed: Path | str | None = None,
    labels: Path | str | None = None,
    local: bool = False,
    shard: tuple[int, int] | None = None,
    providers: Sequence[str] = ("auto",),
    require: Sequence[str] = (),
    targets: Sequence[str] = (),
    python: Path | str | None = None,
    batch_size: int = 32,
    overrides: Overrides | None = None,
    rtol: float | Mapping[str, float] | None = None,
    atol: float | Mapping[str, float] | None = None,
    min_agreement: float | None = None,
    max_accuracy_drop: float | None = None,
    layers: bool = False,
    sweep: bool = False,
    speed: Sequence[int] = (),
    max_slowdown: float | None = None,
    strict_placement: bool = False,
    gpu_memory_limit: int | None = None,
    store: Cache = NOTHING_KEPT,
    trust: bool = False,
    signature: str = "",
    architecture: str | Path = "",
    weights: Path | str | None = None,
    reference: Reference = "keras",
    progress: Progress | None = None,
    onnx: Path | str | None = None,
) -> CheckReport:
    """Whether a model computes the same thing in Keras and in onnxruntime, and in training and in inference mode.

    Args:
        model: .h5, .hdf5, .keras, a SavedModel folder, or .onnx, then only the ONNX sides are run; or a `keras.Model` or an
            `onnx.ModelProto` in memory.
        data: a folder of images, one image, a manifest, tar shards, or a list of images; paths or URLs
            (`bnexport.datasets.find`); or a folder of arrays or recordings. Or arrays as they are fed: one, by the name of the
            input, or batches or items of either, also with labels, as a `tf.data.Dataset` gives them.
        inputs: a file or folder of arrays in place of `data` (`bnexport.datasets.arrays.opening`).
        deployed: the deployed file, to be held against the model: .onnx, .tflite, or .xml of an OpenVINO IR with its .bin.
        labels: a CSV file with the columns file and label.
        local: refuse images outside of the folder, or of the manifest's folder, that `source` names: links and URLs.
        shard: the position of a part of the images, from 0, and how many parts there are.
        providers: "auto", "cpu", "cuda".
        require: providers and other targets without which the check makes no sense.
        targets: runtimes to execute the file on, NAME[:DEVICE][:OPTION=VALUE], such as "onnx-reference"
            (`bnexport.runtimes.protocols`); "onnxruntime:cuda" takes the place of `providers`.
        python: the interpreter of targets that run in a process of their own; None for this one.
        batch_size: the largest batch; training mode depends on it.
        overrides: what is known better than the sidecar about preprocessing.
        rtol: the largest error, relative to the tensor's scale, that passes; by tensor ("" for all others) or for all. None for both: the noise floors decide.
        atol: the same in the tensor's own unit; an error passes up to the sum of both.
        min_agreement: the smallest share of items, from 0 to 1, to which a file of reduced precision must give the same class; None for no limit.
        max_accuracy_drop: the largest share of labelled items, from 0 to 1, of which it may get fewer right; None for no limit.
        layers: compare layer by layer also where the outputs agree.
        sweep: also try other batch sizes, other sizes of open axes, and items of zeros and of NaN, each against the model.
        speed: the batch sizes at which the speed of each run is measured; empty for none.
        max_slowdown: how many times as long as onnxruntime on the CPU a run may take; None for no limit.
        strict_placement: a compute node that CUDA leaves to the CPU fails the check.
        gpu_memory_limit: the most GPU memory that onnxruntime may take, in bytes.
        store: what was computed before; nothing by default.
        trust: load a Keras model even where it holds code of its own.
        signature: which function of a SavedModel is meant; "" for "serving_default", or the only one.
        architecture: of a Keras file that has weights only: a JSON file that `model.to_json()` wrote, or the name of a network of keras.applications;
            "" for model.json or config.json beside it.
        weights: a state dict (.pt, .pth, .safetensors) that is loaded into a PyTorch module.
        reference: whose outputs are taken as right: "keras", or "keras2" for what the file computes in Keras 2 (tf_keras); or
            recorded outputs of an ONNX file, an .npz file or arrays of shape (N, ...) by the name of the output.
        progress: notified of each stage.
        onnx: the former name of `deployed`.

    Returns:
        The report; truthy when the check passed.

    Raises:
        InputError: the model or the images cannot be read.
        UsageError: the arguments do not fit the model.
        MachineError: a required provider or TensorFlow is missing.
    """
    if deployed is not None and onnx is not None:
        raise UsageError(conflict("deployed", "onnx"))
    deployed = deployed if deployed is not None else onnx
    of_onnxruntime, others = split_targets(targets)
    if data is not None and inputs is not None:
        raise UsageError(
            "a check runs on images or on arrays, not both", found="images and arrays", fix="pass one of them"
        )
    fed = None if data is None or is_images(data) else arrays(cast(Batches, data))
    progress = progress or Progress()
    with model_file(model) as (path, temporary):
        request = Request(
            model=path,
            source=cast(Images, data) if fed is None else None,
            inputs=Path(inputs) if inputs is not None else fed,
            onnx=Path(deployed) if deployed is not None else None,
            labels=Path(labels) if labels is not None else None,
            local=local,
            shard=shard,
            providers=of_onnxruntime or providers,
            require=require,
            targets=others,
            python=Path(python) if python is not None else None,
            batch_size=batch_size,
            overrides=overrides or Overrides(),
            rtol=by_tensor(rtol),
            atol=by_tensor(atol),
            min_agreement=min_agreement,
            max_accuracy_drop=max_accuracy_drop,
            layers=layers,
            sweep=sweep,
            speed=speed,
            max_slowdown=max_slowdown,
            strict_placement=strict_placement,
            gpu_memory_limit=gpu_memory_limit,
            store=store,
            trust=trust or temporary,  # it is the caller's own
            signature=signature,
            architecture=str(architecture),
            weights=Path(weights) if weights is not None else None,
            reference=str(reference) if isinstance(reference, str | Path) else "keras",
            recorded=None if isinstance(reference, str | Path) else reference,
            temporary=temporary,
        )
        return examine(open_request(request, progress), progress).report
