"""Where the programs and the npm package are that onnxruntime-web needs: they are the user's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bnexport.errors import MachineError, reason
from bnexport.system.confined import INSIDE

NAME = "onnxruntime-web"

INSTALL = f"npm install {NAME}"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_NPM_SECONDS = 20.0


def node() -> str | None:
    """The program of Node.js."""
    return shutil.which("node") or shutil.which("nodejs")


def browser() -> str | None:
    """The program of Chromium or Chrome."""
    return next((program for name in BROWSERS if (program := shutil.which(name))), None)


def find_package(folder: str = "") -> Path | None:
    """The folder of onnxruntime-web; None where there is none.

    Args:
        folder: the package, or a folder with it or with `node_modules`; "" for `./node_modules` (not where nothing of the
            current folder is to be run), the folders in `NODE_PATH`, and the folder of global packages.
    """
    if folder:
        at = Path(folder).expanduser().resolve()
        return _first(iter([at / "node_modules" / NAME, at / NAME, at]))
    return _first(_usual_folders())


def version(package: Path) -> str:
    """The version of a package.

    Raises:
        MachineError: its package.json is damaged.
    """
    try:
        return str(json.loads((package / "package.json").read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineError(f"the npm package in {package} is damaged", found=reason(error), fix=INSTALL) from error


def _usual_folders() -> Iterator[Path]:
    if not os.environ.get(INSIDE):
        yield Path("node_modules").resolve() / NAME
    for folder in os.environ.get("NODE_PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / NAME
    if root := _global_packages(shutil.which("npm")):
        yield Path(root) / NAME


def _first(folders: Iterator[Path]) -> Path | None:
    return next((folder for folder in folders if _is_package(folder)), None)


def _is_package(folder: Path) -> bool:
    """Whether a folder is the package, be it damaged: it has a file that says so, or should."""
    file = folder / "package.json"
    if folder.name == NAME:
        return file.is_file()
    try:
        return bool(json.loads(file.read_bytes())["name"] == NAME)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@cache
def _global_packages(npm: str | None) -> str:
    """Where npm puts global packages; "" where there is no npm. It takes .3 s."""
    if npm is None:
        return ""
    try:
        asked = subprocess.run(  # noqa: S603 - npm, with fixed arguments
            [npm, "root", "--global"], capture_output=True, text=True, timeout=_NPM_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):  # an npm that does not run has no packages
        return ""
    return asked.stdout.strip()
