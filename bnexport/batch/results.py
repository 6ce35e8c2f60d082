"""The folder of results: one JSON for each check, named by everything it depends on, so that nothing is computed twice and everything that changed is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bnexport import cache, files
from bnexport.batch.plan import Check
from bnexport.cache import Cache
from bnexport.errors import MachineError
from bnexport.numerics.batched import Result


class Folder:
    """The folder.

    Args:
        path: where; made where it is not there.
        store: remembers the hashes of large files.

    Raises:
        MachineError: it cannot be made.
    """

    def __init__(self, path: Path, store: Cache) -> None:
        self.path, self._store = path, store
        self._checks = path / "checks"
        self._hashed: dict[Path, str] = {}
        try:
            self._checks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"cannot write {path} ({error.strerror})") from error

    def key(self, check: Check) -> str:
        """The hash of everything a check depends on: the files' names and content, the options, bnexport and the frameworks."""
        files_read = (
            check.model,
            check.model.with_name(check.model.name + ".toml"),
            check.images,
            check.inputs,
            check.onnx,
        )
        parts: list[Any] = [
            check.name,
            check.arguments,
            cache.surroundings(),
        ]  # copies of one model have results of their own
        parts += [[path.name, self._sha256(path) if path.exists() else ""] if path else None for path in files_read]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _sha256(self, path: Path) -> str:
        if path not in self._hashed:
            self._hashed[path] = files.sha256(path) if path.is_dir() else self._store.sha256(path)
        return self._hashed[path]

    def get(self, key: str) -> Result | None:
        """The result of an earlier run; None where there is none with a verdict."""
        try:
            values = json.loads((self._checks / f"{key}.json").read_text(encoding="utf-8"))
            found = Result(**{**values, "command": tuple(values["command"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None  # nothing there, or not by this version: it is computed anew
        return found if found.evaluated else None

    def put(self, result: Result) -> None:
        """Keeps a result, whole or not at all."""
        files.write_text(self._checks / f"{result.key}.json", json.dumps(asdict(result), indent=1) + "\n")

    def last(self) -> dict[str, str]:
        """The status of each check in the run before this one, by name."""
        try:
            found: dict[str, str] = json.loads((self.path / "last.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def finish(self, results: Iterable[Result]) -> None:
        """Remembers this run for the next one."""
        files.write_text(self.path / "last.json", json.dumps({r.name: r.status for r in results}, indent=1) + "\n")
