"""scripts/wild.py: what becomes of a folder of models, and what is not run again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(folder: Path, output: Path, *options: str) -> tuple[str, dict[str, Any]]:
    command = [
        sys.executable,
        str(SCRIPTS / "wild.py"),
        str(folder),
        "--output",
        str(output),
        "--no-baselines",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(output.read_text())["models"]


def test_a_folder_becomes_a_table_and_is_not_run_again(models: Path, tmp_path: Path) -> None:
    """Models that work, a damaged one and arrays of one's own: each has its line; the second run only runs what changed."""
    folder, arrays, output = tmp_path / "models", tmp_path / "arrays", tmp_path / "wild.json"
    (folder / "inner").mkdir(parents=True)
    arrays.mkdir()
    (folder / "inner" / "good.onnx").write_bytes((models / "tiny_residual.onnx").read_bytes())
    (folder / "damaged.h5").write_bytes(b"no model")
    np.savez(arrays / "good.onnx.npz", x=np.zeros((2, 32, 32, 1), np.float32))
    text, found = run(folder, output, "--inputs-folder", str(arrays))
    assert found["inner/good.onnx"]["exit"] in (0, 1)
    assert found["inner/good.onnx"]["agrees"] is True
    assert found["damaged.h5"]["exit"] == 2
    assert "2 models:" in text
    assert "reaches a verdict on 1, agrees on 1" in text
    assert "damaged.h5: " in text.splitlines()[-1]
    marked = {name: record | {"message": "kept"} for name, record in found.items()}
    output.write_text(json.dumps({"models": marked}))
    (folder / "damaged.h5").write_bytes(b"another")
    _, again = run(folder, output, "--inputs-folder", str(arrays))
    assert again["inner/good.onnx"]["message"] == "kept"
    assert again["damaged.h5"]["message"] != "kept"


CONFIGS: dict[str, tuple[dict[str, Any], dict[str, tuple[list[int | None], int | None]]]] = {
    "Keras 3, functional": (
        {
            "class_name": "Functional",
            "config": {
                "layers": [
                    {
                        "class_name": "InputLayer",
                        "config": {"name": "tokens", "batch_shape": [None, 7], "dtype": "int32"},
                    },
                    {"class_name": "InputLayer", "config": {"name": "facts", "batch_shape": [None, 3]}},
                    {
                        "class_name": "Embedding",
                        "config": {"name": "embedding", "input_dim": 40},
                        "inbound_nodes": [{"args": [{"config": {"keras_history": ["tokens", 0, 0]}}]}],
                    },
                ],
                "input_layers": [["facts", 0, 0], ["tokens", 0, 0]],
            },
        },
        {"facts": ([None, 3], None), "tokens": ([None, 7], 40)},
    ),
    "Keras 2, bare list": (
        {
            "class_name": "Sequential",
            "config": [{"class_name": "Embedding", "config": {"batch_input_shape": [None, 9], "input_dim": 5}}],
        },
        {"x": ([None, 9], 5)},
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_inputs_are_guessed_from_the_configuration(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every input by name with its shape, and how many tokens the Embedding behind it has."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import wild_inputs

    config, expected = CONFIGS[case]
    wanted = wild_inputs.from_config(config)
    assert {name: (entry.shape, entry.tokens) for name, entry in wanted.items()} == expected
    for entry in wanted.values():
        values = wild_inputs.array_for(entry, np.random.default_rng(1))
        assert values.shape == (wild_inputs.ROWS, *entry.shape[1:])
        assert not entry.tokens or 0 <= values.min() <= values.max() < entry.tokens


def test_absurd_sizes_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that asks for more than memory holds is refused before anything is made."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import wild_inputs

    with pytest.raises(ValueError, match="asks for an input"):
        wild_inputs.array_for(wild_inputs.Wanted([None, 1 << 40]), np.random.default_rng(1))
