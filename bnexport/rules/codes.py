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
        "of updates t, and the optimizer's own counter, where the file has one, stands beside it. Raised from l = 5 % and R^2 = 0.8 on: what sampling and the drift of the weights "
        "do to the statistics looks like up to about 1 % of l.",
        "BN002: exactly nothing was learnt. IN001, IN002: only the first layers are off. BN005 alone: the modes differ and no warm-up explains it. A warning instead of an "
        "error: both modes answer alike on these images.",
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
    "BN004": Explanation(
        "channels that hardly varied in training",
        "A moving variance is below epsilon, so that epsilon and no data sets the channel's gain gamma / sqrt(var + epsilon), and that gain is far above the layer's others. "
        "While the channel stays constant this does no harm but amplify rounding; where it varies on these images, it comes out many times too large. One such channel can "
        "ruin a model whose medians are perfect.",
        "Channel by channel: variance below epsilon, gain more than 5 times the layer's median. A warning where the channel varies on these images, by more than 10 standard "
        "deviations of its output; else an information.",
        "BN002, BN001: all channels of a layer are off. IN001, IN002: all channels of the first layers.",
        "Find out what makes the channel vary now. bnexport recalibrate gives it the statistics of these images.",
    ),
    "BN005": Explanation(
        "training and inference mode answer differently",
        "Some images get another class in inference mode than in training mode; without classes, the outputs differ by more than a tenth of their size.",
        "The training pass (BatchNormalization by the batch, dropout off) against the inference pass, on the same batches. An error where the statistics are known to be wrong "
        "(BN001, BN002, BN003), or where labels show that inference mode gets fewer right than chance explains (two standard deviations of a sign test, and 2 % of the images). "
        "Otherwise a warning, or an information where at most 5 % of the images are concerned. A warning, too, where the statistics could not be examined.",
        "BN001, BN002 and BN003 say why, where the statistics tell. Without them the statistics were converged: on small batches a healthy net differs in a few images; and a net "
        "whose head was trained on frozen statistics differs by design. What recalibrating would give (onnx-recalibrated@cpu) decides, best on images with labels.",
        "What the finding says first: it was measured on your images.",
    ),
    "BN006": Explanation(
        "the output depends on the batch",
        "What the model computes for an image in inference mode depends on the other images in its batch: an exporter baked training mode in, a layer was called with "
        "training=True, or an operator mixes the images of a batch. In production the same image gets different answers from one request to the next.",
        "Up to four images in one batch against the first two of them one by one, in each runtime, on logits and outputs that have a row for each image, at the tolerance of inference mode. Whether something in the graph may normalise by the batch is in the evidence.",
        "EX001: the export differs from Keras whatever the batch. BN005: training mode differs, which is what it is for.",
        "Export the model in inference mode, with bnexport export; in Keras, do not call BatchNormalization with training=True.",
    ),
    "BN007": Explanation(
        "frozen layers",
        "Layers with trainable=False run on their moving statistics in training mode too: the training pass proves nothing about them.",
        "From the model's configuration, or the metadata that bnexport export writes. The side onnx-recalibrated@cpu treats every layer as thawed: how far the frozen "
        "statistics are from what the layers see, and what the model would answer, come from it.",
        "BN005 cannot show for frozen layers, however wrong their statistics are; BN001 to BN004 and IN001, IN002 can, they look at the statistics themselves.",
        "Nothing, where the head was trained on the frozen statistics: recalibrating would take them from under it. Labelled images decide.",
    ),
    "IN001": Explanation(
        "wrong scaling",
        "The images are scaled otherwise than in training (0-255 in place of 0-1, for instance). Training mode hides it, since normalisation takes the scale away, and so would "
        "recalibration: the mistake would come back with the first image that is scaled rightly.",
        "At the first BatchNormalization layers, which see the images through fixed weights only: the median over channels of sqrt(z^2 + r^2), z the distance of the means in standard "
        "deviations, r the logarithm of the ratio of the standard deviations. Where it is above 0.3 + 0.5 / sqrt(images), every scaling bnexport knows is tried on the images; the "
        "finding names the one that fits at least three times better, and those that cannot be told from it. An error; a warning where the scaling was assumed: the check goes on with the "
        "one that fits.",
        "IN002: no known scaling fits. BN001: all layers are off, not only the first.",
        "Prepare the images as in training: --scaling, or the file beside the model. Do not recalibrate.",
    ),
    "IN002": Explanation(
        "other data than in training",
        "At the first BatchNormalization layers these images have other statistics than the training images had, and no known scaling explains it: other colours, contrast, "
        "inversion, another crop or a scaling of its own.",
        "As IN001, where no scaling fits and no warm-up explains it (BN001).",
        "IN001: a known scaling fits. Data that differ in what they show, not in how they are made, pass the first layers unnoticed.",
        "Compare how both kinds of images are made. Recalibrating may help (another camera) or do harm (a head trained on these statistics): judge it on labelled images.",
    ),
    "IN003": Explanation(
        "too few different images",
        "Statistics need different images. Images of one colour and copies add nothing, and statistics of a handful of images hold for those only.",
        "By a hash of every prepared image, and by whether all its pixels are equal. An information below 32 different images or where some are copies or of one colour, a "
        "warning where more than a tenth are, or where fewer than two different images are left: then bnexport recalibrate refuses.",
        "IN004: files that could not be read at all.",
        "Use some hundred different images like those of training.",
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
    "IN006": Explanation(
        "this machine prepares pictures otherwise",
        "The pictures in a bundle become other inputs here than on the machine that packed them: another decoder, or another version of one. An error where the outputs are then outside the tolerance.",
        "bnexport verify decodes and resizes the packed pictures and holds the result against the packed inputs, which must be equal to the last bit.",
        "EX001: the outputs differ for the packed inputs too, so that it is the runtime.",
        "Install the versions of pillow and simplejpeg that the bundle names, or decode as your service does and pack arrays with --inputs.",
    ),
    "EX001": Explanation(
        "the export differs from Keras",
        "The exported graph in onnxruntime computes something else than Keras in the same mode, by more than float rounding.",
        "On logits where there are, and on every output, relative to the tensor's size (probabilities: 1). The limit is 8 noise floors: the distance of Keras' own pass in float32 to the same pass in "
        "float64, measured on 8 images and again on the batch with the largest difference. Without a float64 pass it is 1e-4 in inference, 1e-3 in training mode, 2e-2 in half precision. Then "
        "every layer is held against the tensor of the same layer, optimisations off, and the first one that is off while what it reads agrees is named. With --onnx the layers "
        "are compared even where the outputs agree, because an error may not show on these images. With --reference keras2 the outputs are those of tf_keras, and the message says whether "
        "Keras 3 on the same data equals the graph (then Keras 3 reads the file as another model) or not; the floors are Keras 3's.",
        "RT004: onnxruntime's optimisations are to blame. EX003, EX004, EX005: the file is another mode's, is called otherwise, or has other weights. RT005: two providers differ.",
        "Look at how the named layer was exported. Do not deploy the file. If the difference is acceptable, say so with --rtol.",
    ),
    "EX002": Explanation(
        "an operator that cannot be exported",
        "A layer uses an operation that ONNX or tf2onnx does not know. Nothing is written.",
        "By what the converter leaves in the graph.",
        "-",
        "Replace the layer by one that ONNX can express.",
    ),
    "EX003": Explanation(
        "the file computes the training pass",
        "Its BatchNormalization layers normalise by the batch, as in training: what it answers for an image depends on the images beside it.",
        "The file agrees with Keras' training pass (BatchNormalization by the batch, dropout off), and not with the inference pass, or gives an image another output alone than in a batch.",
        "BN006 says the same of any graph, without Keras. BN005: the modes differ, and the file is the inference mode's, as it should be.",
        "Export the model in inference mode, without training=True in the calls of its layers: bnexport export.",
    ),
    "EX004": Explanation(
        "the file is called otherwise than the model",
        "It has other names, another layout (channels first), another dtype, a fixed batch size, or wants images prepared otherwise. What its interface says is allowed for, and listed as an "
        "information. An error where only another layout, scaling or channel order makes it compute what the model computes, or where it gives out logits in place of probabilities.",
        "By its interface and metadata; and where the outputs differ, by feeding the same images transposed, scaled by each known scaling, and with the channels reversed.",
        "EX001: no other way of calling it is right.",
        "Call it so where it is deployed, or export it again.",
    ),
    "EX005": Explanation(
        "the weights of another checkpoint",
        "The file has the model's structure, and other weights in most of its kernels.",
        "Kernels are compared in every order of axes, and up to a factor for each channel, which is what folding BatchNormalization leaves. A kernel that agrees to 1 % is the same.",
        "EX001 with a layer: one kernel is wrong, the others are the model's.",
        "Export the file again from this model, or check the model it was exported from.",
    ),
    "QT001": Explanation(
        "what quantisation costs",
        "The file computes with 8 bits or fewer. It cannot equal a float model to rounding, and need not: what counts is whether its answers stay. Where they are lost, "
        "calibration is the usual cause.",
        "Quantised is a graph with QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, or operators on integers (QLinearConv, MatMulInteger, QGemm, MatMulNBits). With classes, an error where "
        "more than 10 % of the answers change, beyond what so few images leave to chance (Wilson's lower bound at 95 %), or where labels show fewer right answers (a sign test at two standard "
        "deviations and 2 % of the images); a warning where fewer than 99 % stay, MLPerf Inference's share, or where the noise is above a third of the signal (10 dB). Without classes an error below 10 dB, a "
        "warning below 20 dB, a tenth. For a file alone, what is compared is the same file with onnxruntime's optimisations off.",
        "EX005: the dequantised kernels are another checkpoint's. EX001, RT004: files in floating point. Only part of a difference may be quantisation: compare the float export first.",
        "Calibrate again with some hundred images prepared as in deployment, per channel; or leave the most sensitive layers in float.",
    ),
    "EX007": Explanation(
        "the training-mode graph differs",
        "The graph that normalises by the batch computes something else than Keras' training pass, while the inference graph agrees with Keras. It is never deployed: only what is said about training "
        "mode is less certain.",
        "As EX001, in training mode. Batch statistics of many values amplify float32 rounding, for instance.",
        "EX001: the inference graph differs too.",
        "Nothing has to be done before deploying the file.",
    ),
    "EX008": Explanation(
        "an unusual ONNX file",
        "The file could be checked, after it was put in order in memory, or with one part of the check left out: nodes that are not sorted, BatchNormalization nodes whose parameters the graph computes.",
        "By reading the graph. Parameters that follow from constants are computed first; only those that depend on an input are left.",
        "-",
        "Nothing, where the file runs where it is deployed. Other runtimes may refuse it: write it anew.",
    ),
    "RT008": Explanation(
        "another number of rows",
        "An output's number of rows depends on the data (NonMaxSuppression, NonZero, Unique, Compress), and two sides select another number. Rounding moves scores across the threshold.",
        "By the shapes of such outputs, batch by batch; batches where they differ are not compared. The tensors that are selected from have a fixed shape, and are compared.",
        "RT004, RT005, EX001: what is selected from differs by more than rounding.",
        "Compare the detections on labelled images.",
    ),
    "RT009": Explanation(
        "another runtime computes something else",
        "A runtime other than onnxruntime, which was asked for as a target, does not compute from the file what the reference computes.",
        "As EX001, by the noise floors. Whether onnxruntime is right with the same file tells the runtime from the file.",
        "EX001: onnxruntime is off too. RT004: onnxruntime's own optimisations.",
        "Report it to the runtime's authors with the file, or deploy with onnxruntime.",
    ),
    "RT004": Explanation(
        "the runtime's optimisation changes the result",
        "With onnxruntime's graph optimisations off the file computes what it should; with the default ones, with which it is deployed, it does not.",
        "By running a failing batch with optimisations off; then the optimizer is found by switching them off by halves, and the node by keeping tensors from being fused away by halves. "
        "For an ONNX file alone the graph without optimisations (onnx-unoptimised@cpu) takes Keras' place.",
        "EX001: the file itself is wrong.",
        "Use bnexport export, which writes what the known faulty optimisations leave alone; or disabled_optimizers; or a version of onnxruntime where it is mended.",
    ),
    "EX006": Explanation(
        "an old file that was repaired",
        "Keras 3 refuses, or reads wrongly, what Keras 1 and 2 wrote: an argument it no longer knows, a Sequential model without an input. The configuration was rewritten in memory; the "
        "file is as it was.",
        "By known changes of the format, each of which leaves what the model computes as it is. The repaired model is run once before anything else.",
        "-",
        "Nothing has to be done. Whoever loads the file elsewhere meets the same difficulty: save it anew.",
    ),
    "ST001": Explanation(
        "random layers",
        "Dropout and its like are on in fit and off in inference, which is as it should be. They too make training look worse or better than inference, and their share is not BatchNormalization's.",
        "The training pass is repeated on one batch with other random numbers; its distance to the training pass without random layers is theirs, and that pass's distance to the "
        "inference pass is BatchNormalization's.",
        "BN005: what is left when the random layers are off.",
        "Judge training by evaluate(), which switches them off.",
    ),
    "RT001": Explanation(
        "a provider that does not run",
        "CUDA was asked for with --provider cuda, and does not run here. What was asked for was not checked.",
        "By loading the libraries it needs and by running a real batch: onnxruntime lists CUDA as available, and makes sessions with it, where it cannot run.",
        "--require cuda makes it exit with 3 instead.",
        "Install what is missing, or check with --provider cpu.",
    ),
    "RT002": Explanation(
        "compute nodes on the CPU",
        "CUDA runs, but it has no kernel for some of the graph's nodes, and they run on the CPU. The answer is right; each such node costs two copies.",
        "onnxruntime is asked where it placed each node (session.record_ep_graph_assignment_info, from 1.23 on). Operators on shapes, which it leaves to the CPU on purpose, are not counted.",
        "RT001: nothing runs on CUDA.",
        "Export with operators that CUDA has kernels for, or use a newer onnxruntime-gpu. --strict-placement makes it an error.",
    ),
    "RT003": Explanation(
        "reduced precision in use",
        "Under onnxruntime's defaults CUDA computes convolutions and matrix products in TF32 (10 bits of mantissa) on Ampere GPUs and later. Strictly, with use_tf32=0, the file is right; as deployed "
        "it is further from Keras than rounding to float32 explains. A warning; an error where images get another class.",
        "By running both, and counting the error of the second in noise floors.",
        "EX001: the strict side is off too.",
        "Deploy with use_tf32=0, or accept it.",
    ),
    "RT005": Explanation(
        "two providers differ",
        "onnxruntime computes something else on CUDA than on the CPU, by more than float rounding.",
        "As EX001, without Keras; TF32 is switched off.",
        "EX001: the difference is to Keras.",
        "Do not deploy on that provider before it is understood.",
    ),
    "RT007": Explanation(
        "this machine computes something else",
        "The file in a bundle agreed with Keras where it was packed, and is the same to the last bit. This machine makes something else of the same inputs: another onnxruntime, another "
        "provider, another processor.",
        "bnexport verify runs the packed inputs and holds the outputs against the packed ones, within the packed noise floors.",
        "RT004: the runtime's optimisations are to blame. IN006: the inputs are other ones.",
        "Run with the onnxruntime that bundle.json names under environment, and bnexport doctor for what is installed here.",
    ),
    "RT006": Explanation(
        "outputs that are not finite",
        "A side computes NaN or infinity for some images.",
        "By looking at every output of every side.",
        "BN003: the moving statistics are not finite. EX001: only one of two sides is concerned.",
        "Look for values that are not finite in the inputs and the weights; in half precision, for values above 65504.",
    ),
}
