"""How the documentation is built: `sphinx-build -W --keep-going -b html docs docs/_build`."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "scripts"))

import write_reference  # noqa: E402 - it lies in scripts/
from sphinx.application import Sphinx  # noqa: E402 - after the line above

from bnexport.version import __version__  # noqa: E402 - found from here on

project = "bnexport"
author = "the bnexport developers"
copyright = "the bnexport developers"  # noqa: A001 - Sphinx reads this name
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
templates_path: list[str] = []

html_theme = "furo"
html_title = f"bnexport {__version__}"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # outputs are shortened with "..."

nitpicky = True
nitpick_ignore = [("py:class", "collections.abc.Callable")]
default_role = "literal"

# Docstrings name types as the code does. No framework is imported to read them.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_use_ivar = True
python_use_unqualified_type_names = True
toc_object_entries = False  # a third of the time of a build; the page of the Python interface has links in front

linkcheck_timeout = 20
linkcheck_anchors = False


def escape_bars(_app: object, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Docstrings write |x| for absolute values, which reStructuredText takes for a substitution."""
    lines[:] = [line if ">>>" in line else line.replace("|", "\\|") for line in lines]


def setup(app: Sphinx) -> None:
    """Pages that are read from the code are written before the others are read."""
    write_reference.write(DOCS / "reference")
    app.connect("autodoc-process-docstring", escape_bars)
