"""Coverage-guided fuzzing of what reads files (needs atheris: pip install atheris).

    python scripts/fuzz_atheris.py toml|onnx|image|h5|keras [CORPUS] [-max_total_time=600 ...]

The same loading functions as in tests/fuzz, which damages files at random; here libFuzzer looks for inputs that reach new code. Everything but bnexport's own errors is a finding. Options that
start with a dash go to libFuzzer.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    """The command."""
    try:
        import atheris
    except ImportError as error:
        raise SystemExit("this needs atheris: pip install atheris") from error
    with atheris.instrument_imports(include=["bnexport"]):
        from bnexport.errors import BnexportError
        from tests.fuzz.loading import kinds

    found = kinds(ROOT / "models", ROOT / "tests/odd_images", ROOT / "models")
    if len(sys.argv) < 2 or sys.argv[1] not in set(found) - {"bundle"}:
        raise SystemExit(__doc__)
    kind = found[sys.argv.pop(1)]
    folder = Path(tempfile.mkdtemp(prefix="bnexport-fuzz-"))
    if not any(not argument.startswith("-") for argument in sys.argv[1:]):
        corpus = folder / "corpus"
        corpus.mkdir()
        for nth, seed in enumerate(kind.seeds):
            (corpus / f"{nth}").write_bytes(seed.read_bytes())
        sys.argv.append(str(corpus))
    path = folder / f"input{kind.suffix}"

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            kind.load(path)
        except BnexportError:
            return

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
