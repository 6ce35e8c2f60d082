"""Does a Keras model and its ONNX export compute the same thing in every runtime? The public names; importing them loads no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnexport.version import __version__

if TYPE_CHECKING:
    from bnexport.bundles.pack import Packing, pack
    from bnexport.bundles.verify import verify
    from bnexport.checking.check import check
    from bnexport.cli.scripting import iter_checks
    from bnexport.comparison.opening import Request
    from bnexport.datasets.preparation import Overrides
    from bnexport.demo.train import train
    from bnexport.environment.doctor import doctor
    from bnexport.errors import BnexportError, ExportError, InputError, MachineError, UsageError
    from bnexport.exporter.export import export
    from bnexport.folding.fold import fold
    from bnexport.recalibration.recalibrate import recalibrate
    from bnexport.results.health import Health
    from bnexport.results.preprocessing import Preprocessing, Resize, Scaling
    from bnexport.results.verdict import CheckReport

_HOME = {
    "BnexportError": "bnexport.errors",
    "CheckReport": "bnexport.results.verdict",
    "ExportError": "bnexport.errors",
    "Health": "bnexport.results.health",
    "InputError": "bnexport.errors",
    "MachineError": "bnexport.errors",
    "Overrides": "bnexport.datasets.preparation",
    "Packing": "bnexport.bundles.pack",
    "Preprocessing": "bnexport.results.preprocessing",
    "Request": "bnexport.comparison.opening",
    "Resize": "bnexport.results.preprocessing",
    "Scaling": "bnexport.results.preprocessing",
    "UsageError": "bnexport.errors",
    "check": "bnexport.checking.check",
    "doctor": "bnexport.environment.doctor",
    "export": "bnexport.exporter.export",
    "fold": "bnexport.folding.fold",
    "iter_checks": "bnexport.cli.scripting",
    "pack": "bnexport.bundles.pack",
    "recalibrate": "bnexport.recalibration.recalibrate",
    "train": "bnexport.demo.train",
    "verify": "bnexport.bundles.verify",
}

__all__ = [
    "BnexportError",
    "CheckReport",
    "ExportError",
    "Health",
    "InputError",
    "MachineError",
    "Overrides",
    "Packing",
    "Preprocessing",
    "Request",
    "Resize",
    "Scaling",
    "UsageError",
    "__version__",
    "check",
    "doctor",
    "export",
    "fold",
    "iter_checks",
    "pack",
    "recalibrate",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bnexport' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
