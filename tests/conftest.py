"""What every test may use. Nothing here needs a network, a GPU or a file outside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture(scope="session")
def models() -> Path:
    """The small models that scripts/make_models.py writes."""
    return MODELS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that a mistake shows early; tests of one file stay together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
