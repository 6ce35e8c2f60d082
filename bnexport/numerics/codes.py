"""What every finding's code means, how it is measured, how to tell it from its neighbours, and what to do. `bnexport explain` prints it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """The four paragraphs about one code, and its name."""

    name: str
    meaning: str
    measured: str
    neighbours: str
    remedy: str


CODES = {
    "BN001": Explanation(
        "stale moving statistics",
        "BatchNormalization's moving averages have seen too few updates: much of what they hold is still the 0 and 1 they started from. Training "
        "mode, which normalises by the batch, is right; inference mode, and every export, is not.",
        "What the layers see is measured on the given images (as by bnexport recalibrate). The share l of the initial values that is left is fitted "
        "by least squares over all channels: mm - mu = -l mu, mv - v = l (1 - v). R^2 says how much of the distance the fit explains; l = momentum^t gives the number "
        "of updates t, and the optimizer's own counter, where the file has one, stands beside it. Raised from l = 5 % and R^2 = 0.8 on.",
        "BN002: exactly nothing was learnt. BN005 alone: the modes differ and no warm-up explains it. A warning instead of an error: both modes answer alike on these images.",
        "bnexport recalibrate with representative images; or train on; or train with a lower BatchNormalization momentum.",
    ),
    "BN002": Explanation(
        "statistics never updated or never loaded",
        "A layer's moving mean is exactly 0 and its moving variance exactly 1 in every channel, although its scale or offset was trained.",
        "By equality, channel by channel.",
        "BN001: a few updates leave values near 0 and 1, never exactly those.",
        "Load the non-trainable weights of the checkpoint too; or bnexport recalibrate.",
    ),
    "BN003": Explanation(
        "statistics that are no statistics",
        "A moving mean or variance is NaN or infinite, or a variance is negative.",
        "By looking at every channel; the evidence lists layers and channels.",
        "EX001 with values that are not finite: the weights, not the statistics, are broken.",
        "Find out where training diverged. If the weights are finite, bnexport recalibrate replaces the statistics.",
    ),
    "BN005": Explanation(
        "training and inference mode answer differently",
        "Some images get another class in inference mode than in training mode; without classes, the outputs differ by more than a tenth of their size.",
        "The training pass (BatchNormalization by the batch, dropout off) against the inference pass, on the same batches.",
        "BN001, BN002 and BN003 say why, where the statistics tell. On small batches a healthy net differs in a few images; and a net whose head was trained on frozen "
        "statistics differs by design. What recalibrating would give (onnx-recalibrated@cpu) decides, best on images with labels.",
        "What the finding says first: it was measured on your images.",
    ),
    "BN007": Explanation(
        "frozen layers",
        "Layers with trainable=False run on their moving statistics in training mode too: the training pass proves nothing about them.",
        "From the model's configuration, or the metadata that bnexport export writes.",
        "BN005 cannot show for frozen layers, however wrong their statistics are.",
        "Set trainable=True, save again, and check that copy.",
    ),
    "IN004": Explanation(
        "unreadable images",
        "Files that look like images and cannot be decoded. They are listed and left out.",
        "By decoding every file: JPEG, PNG, BMP, GIF, WebP and TIFF, by content.",
        "-",
        "Replace or remove the files.",
    ),
    "IN005": Explanation(
        "assumed preprocessing",
        "Nothing says how the model's images are to be prepared, so something had to be assumed. The wrong scaling makes a good model look broken.",
        "There is no MODEL.toml beside the model, no metadata in the ONNX file, and no flag.",
        "-",
        "Say it with --size, --channels, --resize and --scaling.",
    ),
    "EX001": Explanation(
        "the export differs from Keras",
        "The exported graph in onnxruntime computes something else than Keras in the same mode, by more than float rounding.",
        "On logits where there are, and on every output, relative to the tensor's size: at most 1e-4 in inference, 1e-3 in training mode, 2e-2 in half precision.",
        "RT005: two providers of onnxruntime differ from each other.",
        "Do not deploy the file. If the difference is acceptable, say so with --rtol.",
    ),
    "EX002": Explanation(
        "an operator that cannot be exported",
        "A layer uses an operation that ONNX or tf2onnx does not know. Nothing is written.",
        "By what the converter leaves in the graph.",
        "-",
        "Replace the layer by one that ONNX can express.",
    ),
    "RT001": Explanation(
        "a provider that does not run",
        "CUDA was asked for with --provider cuda, and does not run here. What was asked for was not checked.",
        "By loading the libraries it needs and by running a real batch: onnxruntime lists CUDA as available, and makes sessions with it, where it cannot run.",
        "--require cuda makes it exit with 3 instead.",
        "Install what is missing, or check with --provider cpu.",
    ),
    "RT005": Explanation(
        "two providers differ",
        "onnxruntime computes something else on CUDA than on the CPU, by more than float rounding.",
        "As EX001, without Keras; TF32 is switched off.",
        "EX001: the difference is to Keras.",
        "Do not deploy on that provider before it is understood.",
    ),
}
