"""Whether onnxruntime's own optimisations change a result (RT004): which optimizer, and at which node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.parts import node_title
from bnexport.onnx_graph.protobuf import serialise
from bnexport.progress import Progress
from bnexport.runtimes import ort_session
from bnexport.runtimes.ort_session import Session
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

_NAMES = """
EliminateIdentity EliminateSlice UnsqueezeElimination EliminateDropout ExpandElimination CastElimination
CastChainElimination PreShapeNodeElimination NoopElimination DivMulFusion FuseReluClip GemmSumFusion
GemmTransposeFusion NotWhereFusion ConvAddFusion ConvMulFusion ConvBNFusion Pad_Fusion PadFusion
MatMul_BatchNormalization_Fusion LabelEncoderFusion ClipQuantRewrite ReluQuantRewrite DoubleQDQPairsRemover
ConstantSharing CommonSubexpressionElimination ConstantFolding MatMulAddFusion ReshapeFusion GeluFusionL1
LayerNormFusionL1 QDQPropagationTransformer WeightBiasQuantization TransposeOptimizer
TransposeOptimizer_CPUExecutionProvider QDQS8ToU8Transformer QDQSelectorActionTransformer GemmActivationFusion
MatMulIntegerToFloatFusion DynamicQuantizeMatMulFusion ConvActivationFusion GeluFusion GeluFusionL2
LayerNormFusion LayerNormFusionL2 SimplifiedLayerNormFusion AttentionFusion EmbedLayerNormFusion
GatherSliceToSplitFusion GatherToSliceFusion MatmulTransposeFusion BiasGeluFusion GroupQueryAttentionFusion
SkipLayerNormFusion FastGeluFusion QuickGeluFusion BiasSoftmaxFusion BiasDropoutFusion MatMulScaleFusion
MatMulActivationFusion Avx2WeightS8ToU8Transformer MatMulNBitsFusion QDQFinalCleanupTransformer
NchwcTransformer NhwcTransformer ConvAddActivationFusion
"""
OPTIMIZERS = tuple(_NAMES.split())
"""The names of onnxruntime's graph optimizers (core/optimizer/graph_transformer_utils.cc, and the rules' own headers); it cannot be asked for them, and ignores those it does not know."""

Outputs = dict[str, Array]
Feeds = Mapping[str, Array]

OpenOptimised = Callable[[bytes, bool, Sequence[str]], Callable[[Feeds, Sequence[str]], Outputs]]
"""What opens a graph: whether it is optimised, and the optimizers that shall not run; it returns what computes tensors of it by name."""


def on_provider(provider: ort_session.Provider) -> OpenOptimised:
    """The onnxruntime of this process on one provider."""
    return lambda content, optimized, without: Session(content, provider, optimized=optimized, without=without).run


@dataclass(frozen=True, slots=True)
class Blame:
    """What changes the result.

    Args:
        optimizers: switched off together, the result is right; empty where only switching everything off helps.
        nodes: where it happens: the node that makes the tensor which must be kept for the result to be right, and the nodes that read it.
        tensor: that tensor; "" where none was found.
    """

    optimizers: tuple[str, ...]
    nodes: tuple[str, ...]
    tensor: str


def find_blame(
    graph: onnx.ModelProto,
    open_optimised: OpenOptimised,
    feeds: Feeds,
    names: Mapping[str, str],
    right: Callable[[Outputs], bool],
    progress: Progress,
) -> Blame | None:
    """What makes the result wrong; None where it is wrong without optimisations too.

    Args:
        graph: with the tensors of `names` among its outputs.
        open_optimised: opens it (`on_provider`).
        feeds: a batch on which the optimised graph is wrong.
        names: what to compute: the name a check gives it, and the tensor.
        right: whether outputs agree with Keras.
        progress: notified of the stage.
    """
    content = serialise(graph)

    def good(content: bytes, *, optimized: bool = True, without: Sequence[str] = ()) -> bool:
        outputs = open_optimised(content, optimized, without)(feeds, list(names.values()))
        return right({name: outputs[tensor] for name, tensor in names.items()})

    if not good(content, optimized=False):
        return None
    progress.stage("finding the optimisation that changes the result")
    optimizers: tuple[str, ...] = ()
    if good(content, without=OPTIMIZERS):
        optimizers = tuple(smallest(OPTIMIZERS, lambda off: good(content, without=off)))
    inner = _inner(graph)

    def kept(some: Sequence[str]) -> bool:
        return good(serialise(tensors.with_outputs(graph, some)))

    # A tensor that the graph gives out cannot be fused away.
    last = smallest(inner, kept)[-1:] if kept(inner) else []
    return Blame(optimizers, nodes_around(graph, last[0]) if last else (), last[0] if last else "")


def smallest(candidates: Sequence[str], works: Callable[[Sequence[str]], bool]) -> list[str]:
    """A small set that works where all `candidates` together do: found by halving, one member after the other, the last one first."""
    needed: list[str] = []
    while not (needed and works(needed)):
        low, high = 0, len(candidates)  # the shortest beginning that works together with what is needed already
        while low < high:
            middle = (low + high) // 2
            if works([*candidates[:middle], *needed]):
                high = middle
            else:
                low = middle + 1
        if low == 0:
            break
        needed.insert(0, candidates[low - 1])
        candidates = candidates[: low - 1]
    return needed


def _inner(graph: onnx.ModelProto) -> list[str]:
    given = {output.name for output in graph.graph.output}
    typed = {info.name for info in graph.graph.value_info}
    made = [output for node in graph.graph.node for output in node.output if output and output not in given]
    return [name for name in made if name in typed] or made


def nodes_around(graph: onnx.ModelProto, tensor: str) -> tuple[str, ...]:
    """The node that makes a tensor and those that read it."""
    makers = [node for node in graph.graph.node if tensor in node.output]
    readers = [node for node in graph.graph.node if tensor in node.input]
    return tuple(node_title(node) for node in [*makers, *readers])
