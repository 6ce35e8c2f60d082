"""The version of bnexport, for everything that is written."""

__version__ = "0.1.0"
