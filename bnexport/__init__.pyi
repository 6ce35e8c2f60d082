from .bundles.pack import Packing as Packing, pack as pack
from .bundles.signing import RequiredSignature as RequiredSignature, Signing as Signing, SigningMethod as SigningMethod
from .bundles.verify import verify as verify
from .checking.check import check as check
from .checking.in_memory import (
    Batches as Batches,
    Images as Images,
    KerasModel as KerasModel,
    Model as Model,
    OnnxModel as OnnxModel,
    Reference as Reference,
)
from .checking.reduction import Reduction as Reduction, reduce as reduce
from .cli.scripting import iter_checks as iter_checks
from .comparison.opening import Request as Request
from .demo.options import TrainingKeywords as TrainingKeywords
from .demo.train import Training as Training, train as train
from .environment.doctor import doctor as doctor
from .errors import (
    BnexportError as BnexportError,
    ExportError as ExportError,
    InputError as InputError,
    MachineError as MachineError,
    UsageError as UsageError,
)
from .exporter.export import Export as Export, export as export
from .exporter.registry import Emitter as Emitter, register_emitter as register_emitter
from .folding.fold import fold as fold
from .progress import Progress as Progress
from .recalibration.recalibrate import recalibrate as recalibrate
from .results.actions import Action as Action, NamedOptions as NamedOptions, Operation as Operation
from .results.batched import Result as Result
from .results.drift import Drift as Drift, SiteDrift as SiteDrift, WarmUp as WarmUp
from .results.facts import ImageFacts as ImageFacts, ModelFacts as ModelFacts, Readable as Readable
from .results.health import Health as Health, Point as Point, State as State
from .results.nouns import Noun as Noun
from .results.outcomes import Epoch as Epoch, Folding as Folding, Recalibration as Recalibration, Residual as Residual
from .results.overrides import Overrides as Overrides
from .results.preprocessing import (
    Fit as Fit,
    Layout as Layout,
    Order as Order,
    Preprocessing as Preprocessing,
    Resize as Resize,
    Scaling as Scaling,
)
from .results.releases import Release as Release, ReleaseMatrix as ReleaseMatrix, ReleaseOutcome as ReleaseOutcome
from .results.speed import Speed as Speed
from .results.sweep import SweepCase as SweepCase, SweepOutcome as SweepOutcome
from .results.tasks import OutputKind as OutputKind, TaskResult as TaskResult
from .results.verdict import (
    BundleFacts as BundleFacts,
    CheckReport as CheckReport,
    Comparison as Comparison,
    Difference as Difference,
    Finding as Finding,
    LayerError as LayerError,
    Severity as Severity,
    Side as Side,
)
from .runtimes.ort_session import Cuda as Cuda
from .system.cache import Cache as Cache
from .version import __version__ as __version__

__all__: list[str]
