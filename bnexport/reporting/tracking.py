"""A check or a batch in an MLflow tracking store: a run with metrics, findings as tags, and the report as an artifact (mlflow)."""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bnexport.errors import MachineError, reason
from bnexport.results.text import plain

LOCAL = "sqlite:///mlflow.db"
"""The store where nobody names one: a file in the current folder."""

EXPERIMENT = "bnexport"

_NAME = re.compile(r"[^\w\-. /:]")
_LONGEST = 250
_TEXT = 5000


class Tracker:
    """An experiment in a tracking store, opened before anything is computed.

    Args:
        uri: of the store; "" for $MLFLOW_TRACKING_URI, else `LOCAL`.
        experiment: its name; "" for $MLFLOW_EXPERIMENT_NAME, else `EXPERIMENT`.

    Raises:
        MachineError: mlflow is not installed, or the store does not answer.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "") or LOCAL
        try:
            with _quiet():
                from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise MachineError(
                "logging to MLflow requires mlflow", fix="install it with: pip install 'bnexport[mlflow]'"
            ) from error
        named = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or EXPERIMENT
        with self._report_errors():
            self._client = MlflowClient(tracking_uri=self.uri)
            existing = self._client.get_experiment_by_name(named)
            self._experiment = existing.experiment_id if existing else self._client.create_experiment(named)

    def check(
        self,
        name: str,
        values: Mapping[str, Any],
        artifacts: Mapping[str, str],
        parent: str | None = None,
        note: str = "",
    ) -> str:
        """Logs a check.

        Args:
            name: of the run.
            values: the check as JSON tells it.
            artifacts: the text of each file by its name.
            parent: the run it is a part of.
            note: what its page says first, as Markdown.

        Returns:
            The run's id.
        """
        model = values["model"]
        tags = {"bnexport.verdict": values["verdict"], "bnexport.version": values["tool"]["version"]}
        tags |= {"mlflow.note.content": note} if note else {}
        tags |= {f"bnexport.finding.{f['code']}": f"{f['severity']}: {f['message']}" for f in values["findings"]}
        params = {"model": model["path"], "sha256": model["sha256"], "images": values["images"]["source"]}
        params |= {f"preprocessing.{key}": value for key, value in (values["preprocessing"] or {}).items()}
        return self._run(name, tags, params, dict(_metrics(values)), artifacts, parent)

    def batch(self, name: str, counts: Mapping[str, int], artifacts: Mapping[str, str], note: str) -> str:
        """Logs a batch: how many checks have which status; its checks are runs below it."""
        verdict = "pass" if set(counts) == {"pass"} else "fail"
        tags = {"bnexport.verdict": verdict, "mlflow.note.content": note}
        return self._run(name, tags, {}, {f"checks/{k}": v for k, v in counts.items()}, artifacts)

    def record_failure(self, name: str, error: str, parent: str) -> str:
        """Logs a check without a verdict."""
        return self._run(name, {"bnexport.verdict": "error", "bnexport.error": error}, {}, {}, {}, parent, "FAILED")

    def _run(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        artifacts: Mapping[str, str],
        parent: str | None = None,
        status: str = "FINISHED",
    ) -> str:
        with self._report_errors(), tempfile.TemporaryDirectory() as folder:
            from mlflow.entities import Metric, Param, RunTag

            beside = {"mlflow.source.name": "bnexport", **({"mlflow.parentRunId": parent} if parent else {})}
            run = self._client.create_run(self._experiment, run_name=plain(name)[:_LONGEST], tags=beside)
            run_id: str = run.info.run_id
            now = run.info.start_time
            self._client.log_batch(
                run_id,
                metrics=[Metric(_metric_name(key), value, now, 0) for key, value in metrics.items()],
                params=[Param(_metric_name(key), plain(str(value))[:_TEXT]) for key, value in params.items()],
                tags=[RunTag(_metric_name(key), value[:_TEXT]) for key, value in tags.items()],
            )
            for file, text in artifacts.items():
                Path(folder, file).write_text(text, encoding="utf-8")
                self._client.log_artifact(run_id, str(Path(folder, file)))
            self._client.set_terminated(run_id, status)
        return run_id

    @contextmanager
    def _report_errors(self) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except MachineError:
            raise
        except Exception as error:  # every kind of store raises its own
            raise MachineError(
                f"cannot write to the MLflow store {self.uri} ({reason(error)})",
                fix="check --mlflow-uri, or omit it to use a file in the current folder",
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps MLflow's progress and Alembic's migrations off the terminal."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _metrics(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every number of a check that can be compared with that of another day."""
    yield "passed", float(values["verdict"] == "pass")
    yield "images", float(values["images"]["count"])
    for severity in ("error", "warning"):
        yield f"findings/{severity}", float(sum(f["severity"] == severity for f in values["findings"]))
    for side in values["sides"]:
        yield f"seconds/{side['id']}", side["seconds"]
        if side["top1"]:
            yield f"top1/{side['id']}", side["top1"]["correct"] / side["top1"]["of"]
    for pair in values["comparisons"]:
        label = f"{pair['actual']} vs {pair['reference']}/{pair['tensor']}"
        for key in ("max_rel", "max_abs", "noise_floors", "top1_agreement"):
            if pair[key] is not None and math.isfinite(pair[key]):
                yield f"{key}/{label}", float(pair[key])


def _metric_name(key: str) -> str:
    """A name that MLflow takes.

    >>> _metric_name("top1/onnx-inference@cpu")
    'top1/onnx-inference-cpu'
    """
    return _NAME.sub("-", plain(key))[:_LONGEST]
