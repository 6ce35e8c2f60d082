"""Imports onnxruntime as checks do, without its telemetry and its log: for a process that others are forked from."""

from contextlib import suppress

from bnexport.errors import MachineError
from bnexport.runtimes import ort_library

with suppress(MachineError):  # each check says so itself
    ort_library.version()
