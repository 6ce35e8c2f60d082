"""The folder of results: one JSON for each check, named by everything it depends on, so that nothing is computed twice and everything that changed is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from bnexport import datasets
from bnexport.batch.plan import Check
from bnexport.errors import BnexportError, MachineError
from bnexport.results.batched import STATUSES, Result
from bnexport.system import cache, files
from bnexport.system.cache import Cache


class _Finding(msgspec.Struct):
    """What is read of a finding."""

    code: str
    severity: str
    message: str


class _Report(msgspec.Struct):
    """What is read of a check's report."""

    verdict: str
    findings: list[_Finding]


class Folder:
    """The folder.

    Args:
        path: where; made where it is not there.
        store: remembers the hashes of large files.

    Raises:
        InputError: the path cannot be looked up.
        MachineError: it cannot be made.
    """

    def __init__(self, path: Path, store: Cache) -> None:
        self.path, self._store = path, store
        self._checks = path / "checks"
        self._hashed: dict[Path, str] = {}
        files.status(path)  # refuses what is no path
        try:
            self._checks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"cannot write {path} ({error.strerror})") from error

    def key(self, check: Check) -> str:
        """The hash of everything a check depends on: the files' names and content, the options, bnexport and the frameworks."""
        beside = check.model.with_name(check.model.name + ".toml")
        parts: list[Any] = [check.name, check.arguments, cache.surroundings()]  # copies of one model have their own
        read = (check.model, beside, check.arrays, check.deployed, check.labels)
        parts += [[path.name, self._file(path)] if path else None for path in read]
        parts.append(self._images(check.images) if check.images else None)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _file(self, path: Path) -> str:
        if path not in self._hashed:
            there = path.exists()
            self._hashed[path] = (files.sha256(path) if path.is_dir() else self._store.sha256(path)) if there else ""
        return self._hashed[path]

    def _images(self, source: str) -> str:
        """A hash of the pictures, read again only where a file's facts have changed; "" where they cannot be listed, which the check will say."""
        path = Path(source)
        if path not in self._hashed:
            try:
                self._hashed[path] = datasets.fingerprint(source, self._store.remember_hash)
            except BnexportError:
                self._hashed[path] = ""
        return self._hashed[path]

    def get(self, key: str) -> Result | None:
        """The result of an earlier run; None where there is none with a verdict."""
        try:
            result = msgspec.json.decode((self._checks / f"{key}.json").read_bytes(), type=Result)
            if result.report is not None:
                msgspec.convert(result.report, _Report)
        except (OSError, ValueError, RecursionError):
            return None  # nothing there, or nothing that this version wrote: it is computed anew
        if result.status not in STATUSES or result.evaluated != (result.report is not None):
            return None
        return result if result.evaluated else None

    def put(self, result: Result, check: Check | None = None) -> None:
        """Keeps a result, whole or not at all; not one of a model that was changed since `check` got its key.

        The report says which bytes were read. Such a result is right, and is computed again in the next run.
        """
        if check is not None and result.report is not None and not self._is_of(result.report, check):
            return
        files.write_text(self._checks / f"{result.key}.json", json.dumps(asdict(result), indent=1) + "\n")

    def _is_of(self, report: Any, check: Check) -> bool:
        read = report.get("model", {}).get("sha256")
        return read is None or read == self._file(check.model)

    def last(self) -> dict[str, str]:
        """The status of each check in the run before this one, by name."""
        try:
            return msgspec.json.decode((self.path / "last.json").read_bytes(), type=dict[str, str])
        except (OSError, ValueError, RecursionError):
            return {}

    def finish(self, results: Iterable[Result]) -> None:
        """Remembers this run for the next one."""
        files.write_text(self.path / "last.json", json.dumps({r.name: r.status for r in results}, indent=1) + "\n")
