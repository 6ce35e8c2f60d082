"""Searches for the preprocessing of random programs, written with the real libraries, and counts the names that are wrong.

    python scripts/recorded.py [COUNT]      200 by default

Libraries that are installed are used: opencv-python-headless, Pillow, TensorFlow, torch, and a canvas in Chromium.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.e2e import recorded_programs as programs


def main() -> None:
    """Prints one line for each program that was not named, and the counts."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = random.Random(0)  # noqa: S311 - the same programs each time
    counts: Counter[str] = Counter()
    slowest = 0.0
    with contextlib.ExitStack() as stack:
        available = {name: make() for name, make in programs.libraries().items()}
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        available["canvas"] = stack.enter_context(programs.canvas(Path(folder) / "page.html"))
        for nth in range(count):
            program = programs.random_program(rng, available)
            pictures = programs.photos(nth)
            begun = time.perf_counter()
            result = programs.search(program, pictures)
            slowest = max(slowest, seconds := time.perf_counter() - begun)
            verdict = programs.verdict(program, result)
            counts[verdict] += 1
            if verdict in ("FALSE", "best fit"):
                print(f"{nth}: {verdict} ({seconds:.1f} s)", program.kernel, program.side, program.fit, program.turned)
                print(f"    {program.order}, {program.scaling}, mixed {program.mixed}, {program.layout}")
                print(f"    residual {result.residual:.3g}, largest {result.largest:.3g}: {result.steps}", flush=True)
    print(f"{count} programs with {', '.join(available)}: {dict(counts)}; the slowest search took {slowest:.1f} s")


if __name__ == "__main__":
    main()
