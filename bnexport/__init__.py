"""Does a Keras model and its ONNX export compute the same thing in every runtime? The public names; importing them loads no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bnexport.cli.scripting import iter_checks
    from bnexport.errors import BnexportError, ExportError, InputError, MachineError, UsageError
    from bnexport.jobs.check import check
    from bnexport.jobs.doctor import doctor
    from bnexport.jobs.export import export
    from bnexport.jobs.fold import fold
    from bnexport.jobs.pack import Packing, pack
    from bnexport.jobs.recalibrate import recalibrate
    from bnexport.jobs.train import train
    from bnexport.jobs.verify import verify
    from bnexport.numerics.health import Health
    from bnexport.numerics.spec import Preprocessing, Resize, Scaling
    from bnexport.numerics.verdict import CheckReport
    from bnexport.subjects.opening import Request
    from bnexport.subjects.preparation import Overrides

_HOME = {
    "BnexportError": "bnexport.errors",
    "CheckReport": "bnexport.numerics.verdict",
    "ExportError": "bnexport.errors",
    "Health": "bnexport.numerics.health",
    "InputError": "bnexport.errors",
    "MachineError": "bnexport.errors",
    "Overrides": "bnexport.subjects.preparation",
    "Packing": "bnexport.jobs.pack",
    "Preprocessing": "bnexport.numerics.spec",
    "Request": "bnexport.subjects.opening",
    "Resize": "bnexport.numerics.spec",
    "Scaling": "bnexport.numerics.spec",
    "UsageError": "bnexport.errors",
    "check": "bnexport.jobs.check",
    "doctor": "bnexport.jobs.doctor",
    "export": "bnexport.jobs.export",
    "fold": "bnexport.jobs.fold",
    "iter_checks": "bnexport.cli.scripting",
    "pack": "bnexport.jobs.pack",
    "recalibrate": "bnexport.jobs.recalibrate",
    "train": "bnexport.jobs.train",
    "verify": "bnexport.jobs.verify",
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
