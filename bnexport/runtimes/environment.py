"""The versions and the machine that a report names."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from bnexport.runtimes import ort_library
from bnexport.system import machine
from bnexport.version import __version__


def environment(versions: Mapping[str, str]) -> dict[str, str | int]:
    """Versions and machine, those of `versions` among them."""
    import numpy
    import PIL
    import simplejpeg

    return {
        "bnexport": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": numpy.__version__,
        "onnxruntime": ort_library.version(),
        "pillow": PIL.__version__,
        "simplejpeg": simplejpeg.__version__,
        **versions,
        "threads": machine.threads(),
    }
