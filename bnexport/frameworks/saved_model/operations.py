"""The TensorFlow operations that a SavedModel may hold: static lists of names.

They are what tf2onnx converts, what those operations need around them (variables, calls, control flow, lists of
tensors, random numbers, tables in memory), and what training functions that
are saved beside the inference function compute. Each of them only computes on tensors and variables in memory. Whatever
is in none of the lists is refused: that leaves out everything that
reads or writes files, opens connections, calls Python or prints, also operations of later versions of TensorFlow.
"""

from __future__ import annotations

_ARITHMETIC = """
Abs Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin Asinh Atan Atan2 Atanh Betainc Bitcast BitwiseAnd BitwiseOr
BitwiseXor Cast Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Digamma Div DivNoNan Elu Equal Erf Erfc Erfinv Exp
Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Igamma Igammac Imag Inv Invert IsFinite IsInf IsNan LeakyRelu
LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg
NextAfter NotEqual Polygamma Pow Real RealDiv Reciprocal Relu Relu6 RightShift Rint Round Rsqrt Selu Sigmoid Sign Sin
Sinh Softplus Softsign Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlog1py Xlogy Zeta
BesselI0 BesselI0e BesselI1 BesselI1e
"""
_REDUCTIONS = """
All Any ArgMax ArgMin Bincount Bucketize Cumprod Cumsum CumulativeLogsumexp DenseBincount EuclideanNorm
HistogramFixedWidth InTopK InTopKV2 L2Loss LogSoftmax Max Mean Min NthElement Prod SegmentMax SegmentMean SegmentMin
SegmentProd SegmentSum Softmax Sum TopK TopKV2 Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 UnsortedSegmentMax
UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
"""
_SHAPES = """
BatchToSpace BatchToSpaceND BroadcastArgs BroadcastGradientArgs BroadcastTo Concat ConcatOffset ConcatV2 DepthToSpace
Diag DiagPart DynamicPartition DynamicStitch Empty EnsureShape ExpandDims Fill Gather GatherNd GatherV2
InvertPermutation LinSpace ListDiff LowerBound MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad OneHot OnesLike
Pack Pad PadV2 ParallelDynamicStitch Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd Select
SelectV2 Shape ShapeN Size Slice SpaceToBatchND SpaceToDepth SparseToDense Split SplitV Squeeze StridedSlice
TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate Tile Transpose
ConjugateTranspose Unpack UnravelIndex UpperBound Where ZerosLike
"""
_LAYERS = """
AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchNormWithGlobalNormalization BiasAdd BiasAddV1 BlockLSTM
BlockLSTMV2 CTCGreedyDecoder CTCLoss CTCLossV2 Conv Conv2D Conv3D Cross CudnnRNN CudnnRNNCanonicalToParams
CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize CudnnRNNV2 CudnnRNNV3 DataFormatDimMap DataFormatVecPermute
DepthwiseConv2dNative Dequantize Dilation2D Einsum FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
FakeQuantWithMinMaxVarsPerChannel FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 GRUBlockCell LRN LSTMBlockCell
MatMul MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
QuantizeAndDequantizeV4 QuantizeV2 SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits
"""
_LINEAR_ALGEBRA = """
Cholesky FFT FFT2D FFT3D IFFT IFFT2D IFFT3D IRFFT IRFFT2D IRFFT3D LogMatrixDeterminant MatrixDeterminant MatrixInverse
MatrixSolve MatrixSquareRoot MatrixTriangularSolve Qr RFFT RFFT2D RFFT3D SelfAdjointEigV2 Svd
"""
_IMAGES = """
AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize DrawBoundingBoxesV2
ExtractGlimpseV2 ExtractImagePatches HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression
NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic
ResizeBilinear ResizeNearestNeighbor SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 ScaleAndTranslate
"""
_SPARSE_AND_RAGGED = """
DenseToDenseSetOperation RaggedBincount RaggedGather RaggedRange RaggedTensorFromVariant RaggedTensorToSparse
RaggedTensorToTensor RaggedTensorToVariant SparseAdd SparseConcat SparseFillEmptyRows SparseReorder SparseReshape
SparseSegmentMean SparseSegmentMeanWithNumSegments SparseSegmentSqrtN SparseSegmentSqrtNWithNumSegments
SparseSegmentSum SparseSegmentSumWithNumSegments SparseSlice SparseSoftmax SparseTensorDenseMatMul
"""
_STRINGS = """
AsString ReduceJoin RegexFullMatch RegexReplace StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin
StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast
StringToHashBucketStrong StringToNumber StringUpper Substr UnicodeDecodeWithOffsets UnicodeEncode UnicodeTranscode
"""
_RANDOM = """
Multinomial NonDeterministicInts RandomGamma RandomIndexShuffle RandomShuffle RandomStandardNormal RandomUniform
RandomUniformInt RngReadAndSkip RngSkip StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
StatefulUniformFullInt StatefulUniformInt StatelessMultinomial StatelessRandomBinomial StatelessRandomGammaV2
StatelessRandomGammaV3 StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg
StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformFullInt
StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2
StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal
"""
_PLUMBING = """
Assert Case CheckNumerics CheckNumericsV2 Const ControlTrigger Enter Exit FakeParam GuaranteeConst Identity IdentityN
If LoopCond Merge NextIteration NoOp PartitionedCall Placeholder PlaceholderV2 PlaceholderWithDefault PreventGradient
StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile StopGradient Switch While
"""
_VARIABLES = """
Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp CountUpTo DisableCopyOnRead
IsVariableInitialized ReadVariableOp ResourceCountUpTo ResourceGather ResourceGatherNd ResourceScatterAdd
ResourceScatterDiv ResourceScatterMax ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd
ResourceScatterNdUpdate ResourceScatterSub ResourceScatterUpdate ScatterAdd ScatterSub ScatterUpdate TemporaryVariable
DestroyTemporaryVariable VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2
"""
_LISTS = """
EmptyTensorList TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayGradV3 TensorArrayReadV3
TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcatV2
TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListPopBack
TensorListPushBack TensorListReserve TensorListResize TensorListScatterIntoExistingList TensorListScatterV2
TensorListSetItem TensorListSplit TensorListStack
"""
_TABLES_IN_MEMORY = """
HashTable HashTableV2 InitializeTable InitializeTableV2 LookupTableExportV2 LookupTableFind LookupTableFindV2
LookupTableImportV2 LookupTableInsertV2 LookupTableRemoveV2 LookupTableSize LookupTableSizeV2 MutableDenseHashTableV2
MutableHashTableV2
"""
_TRAINING = """
ApplyAdagrad ApplyAdam ApplyFtrl ApplyGradientDescent ApplyMomentum ApplyRMSProp AvgPool3DGrad AvgPoolGrad BiasAddGrad
BlockLSTMGrad BlockLSTMGradV2 Conv2DBackpropFilter Conv2DBackpropInput Conv3DBackpropFilterV2 Conv3DBackpropInputV2
CropAndResizeGradBoxes CropAndResizeGradImage CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3
DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput EluGrad FakeQuantWithMinMaxArgsGradient
FakeQuantWithMinMaxVarsGradient FakeQuantWithMinMaxVarsPerChannelGradient FusedBatchNormGrad FusedBatchNormGradV2
FusedBatchNormGradV3 InvGrad LRNGrad LeakyReluGrad MaxPool3DGrad MaxPoolGrad MaxPoolGradV2 MaxPoolGradWithArgmax
MirrorPadGrad ReciprocalGrad Relu6Grad ReluGrad ResizeBicubicGrad ResizeBilinearGrad ResizeNearestNeighborGrad
ResourceApplyAdaMax ResourceApplyAdadelta ResourceApplyAdagrad ResourceApplyAdagradV2 ResourceApplyAdam
ResourceApplyAdamWithAmsgrad ResourceApplyCenteredRMSProp ResourceApplyFtrl ResourceApplyFtrlV2
ResourceApplyGradientDescent ResourceApplyKerasMomentum ResourceApplyMomentum ResourceApplyRMSProp
ResourceSparseApplyAdagrad ResourceSparseApplyAdagradV2 ResourceSparseApplyFtrl ResourceSparseApplyFtrlV2
ResourceSparseApplyKerasMomentum ResourceSparseApplyMomentum ResourceSparseApplyRMSProp RsqrtGrad SeluGrad SigmoidGrad
SoftplusGrad SoftsignGrad SparseFillEmptyRowsGrad SparseSegmentMeanGrad SparseSegmentSqrtNGrad SparseSegmentSumGrad
SqrtGrad StridedSliceGrad TanhGrad TileGrad
"""

COMPUTING = frozenset(
    " ".join(
        (
            _ARITHMETIC,
            _REDUCTIONS,
            _SHAPES,
            _LAYERS,
            _LINEAR_ALGEBRA,
            _IMAGES,
            _SPARSE_AND_RAGGED,
            _STRINGS,
            _RANDOM,
            _PLUMBING,
            _VARIABLES,
            _LISTS,
            _TABLES_IN_MEMORY,
            _TRAINING,
        )
    ).split()
)
"""The operations that may be anywhere."""

_AROUND_A_SAVER = """
Assign AssignVariableOp Cast Const DisableCopyOnRead Identity LookupTableExportV2 LookupTableImportV2 NoOp Pack
PartitionedCall Placeholder PlaceholderWithDefault ReadVariableOp Select StatefulPartitionedCall StaticRegexFullMatch
StringJoin VarHandleOp Variable VariableV2
"""

SAVING = frozenset(_AROUND_A_SAVER.split()) | {"SaveV2", "MergeV2Checkpoints", "ShardedFilename"}
"""What a function that saves variables is made of, as TensorFlow writes it."""

RESTORING = frozenset(_AROUND_A_SAVER.split()) | {"RestoreV2"}
"""What a function that restores variables is made of, as TensorFlow writes it."""

WRITES = frozenset({"SaveV2", "MergeV2Checkpoints", "ShardedFilename"})
"""The operations of `SAVING` that exist only to write a checkpoint."""
