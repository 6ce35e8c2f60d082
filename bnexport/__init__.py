"""Does a model compute the same thing everywhere it will run? The public names are those of `__init__.pyi`; importing them loads no framework."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
