"""What becomes of other people's models: `bnexport check` on a folder of them, beside plain Keras 3 and the two common exporters.

    python scripts/wild.py FOLDER                          # every .h5, .hdf5, .keras, .onnx and SavedModel folder in it
    python scripts/wild.py FOLDER --images PICTURES --inputs-folder ARRAYS --output wild.json
    python scripts/wild.py FOLDER --only '*lstm*' --no-baselines

Inputs are guessed from each file; ARRAYS/NAME.npz comes first where it exists (NAME is the name of the model file, with its suffix).
Nothing in a file is trusted: every attempt runs in a child process with limits of time and memory, and never with --allow-custom-code. Files that
Keras 1 and 2 wrote are also compared with tf_keras, where it is installed. Results are kept in --output: a model is run again when
its file, its inputs or bnexport has changed. Exit code: 0, or 1 where a check ended with an internal error.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from wild_inputs import draw
from wild_table import BASELINES, Record, table

import bnexport
from bnexport.system import files

HERE = Path(__file__).parent
SUFFIXES = (".h5", ".hdf5", ".keras", ".onnx")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take: seconds, and bytes of memory."""

    seconds: float
    memory: int

    @property
    def options(self) -> list[str]:
        """The same for bnexport, which runs in one more process of its own."""
        return ["--isolate", "--isolate-timeout", f"{self.seconds:g}", "--isolate-memory", str(self.memory)]


def models(folder: Path) -> Iterator[Path]:
    """The models in a folder and in the folders inside it."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / "saved_model.pb").is_file():
            yield path
        elif path.is_dir():
            yield from models(path)
        elif path.suffix in SUFFIXES and path.is_file():
            yield path


def run(arguments: Sequence[str], limits: Limits, folder: Path) -> tuple[int, str, str]:
    """A Python process with limits, in a folder of its own: its exit code and what it wrote to stdout and stderr."""

    def limited() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.memory, limits.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONSAFEPATH": "1"}
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        child = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=limited,
            start_new_session=True,
        )
        try:
            code = child.wait(limits.seconds)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = 124
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(64 << 20).decode(errors="replace"))
    return code, texts[0], texts[1]


def attempt(kind: str, model: Path, arrays: Path, limits: Limits, folder: Path, *more: str) -> Record:
    """One attempt of scripts/wild_child.py."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        script = str(HERE / "wild_child.py")
        code, out, err = run([script, kind, str(model), str(arrays), own, *more], limits, folder)
    try:
        answer: Record = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        why = f"more than {limits.seconds:g} s" if code == 124 else f"exit {code}: {_last(err)}"
        return {"ok": False, "error": why}
    return answer


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")[:300]


def examine(
    model: Path, given: Path | None, pictures: Path, limits: Limits, kept: Record, *, baselines: bool
) -> Record:
    """Everything that is tried on one model; what `kept` holds of the baselines is not tried again."""
    with tempfile.TemporaryDirectory(prefix="bnexport-wild-") as name:
        folder, arrays = Path(name), Path(name, "arrays.npz")
        guess = [str(HERE / "wild_inputs.py"), str(model), str(given or ""), str(arrays)]
        code, out, err = run(guess, limits, folder)
        about: Record = json.loads(out.strip().splitlines()[-1]) if code == 0 else {"problem": _last(err)}
        record: Record = {"about": about, "baselines": kept}
        if baselines and not kept and about.get("format") != "onnx":
            record["baselines"] = {"keras": attempt("keras", model, arrays, limits, folder)}
            if record["baselines"]["keras"]["ok"]:
                for kind in BASELINES[1:]:
                    record["baselines"][kind] = attempt(kind, model, arrays, limits, folder)
        record |= check(model, about, None if given else pictures, arrays, limits, folder)
        if record["exit"] not in (0, 1):
            record["loads"] = attempt("load", model, arrays, limits, folder)["ok"]
        elif str(about.get("keras_version") or "3")[0] in "12" and arrays.exists() and has("tf_keras"):
            record["keras2"] = against_keras2(model, arrays, limits, folder)
    return record


def check(model: Path, about: Record, pictures: Path | None, arrays: Path, limits: Limits, folder: Path) -> Record:
    """What `bnexport check` makes of a model."""
    command = ["-m", "bnexport", "check", str(model), "--format", "json", "-q", "--no-cache", *limits.options]
    image = about.get("image")
    if pictures is not None and image:
        command += [str(pictures), *(["--size", f"{image[0]}x{image[1]}"] if about["open"] else [])]
    elif arrays.exists():
        command += ["--arrays", str(arrays)]
    else:
        command += [str(pictures or folder)]
    code, out, err = run(command, Limits(limits.seconds + 30, limits.memory), folder)
    record: Record = {
        "exit": code,
        "loads": code in (0, 1),
        "codes": [],
        "verdict": None,
        "agrees": None,
        "message": "",
    }
    if code not in (0, 1):
        return record | {"message": _last(err)}
    report = json.loads(out)
    held = [c for c in report["comparisons"] if c["tolerance"] is not None and " " not in c["reference"]]
    return record | {
        "verdict": report["verdict"],
        "agrees": bool(held) and all(c["passed"] for c in held),
        "noise_floors": max((c["noise_floors"] or 0.0 for c in held), default=None),
        "codes": sorted({f["code"] for f in report["findings"] if f["severity"] != "info"}),
        "findings": [
            {"code": f["code"], "severity": f["severity"], "message": f["message"]} for f in report["findings"]
        ],
    }


def against_keras2(model: Path, arrays: Path, limits: Limits, folder: Path) -> Record:
    """How far bnexport's export is from what tf_keras computes of the file."""
    exported = folder / "export.onnx"
    command = ["-m", "bnexport", "export", str(model), "-o", str(exported), "-q", *limits.options]
    code, _, err = run(command, limits, folder)
    return (
        attempt("keras2", model, arrays, limits, folder, str(exported))
        if code == 0
        else {"ok": False, "error": _last(err)}
    )


def has(package: str) -> bool:
    """Whether a package is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def program() -> str:
    """The version of bnexport, and the hash of its source."""
    digest = hashlib.sha256()
    for path in sorted(Path(bnexport.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{bnexport.__version__}+{digest.hexdigest()[:12]}"


def versions() -> str:
    """The versions that the baselines depend on."""
    names = ("keras", "tensorflow", "tf2onnx", "tf_keras")
    return " ".join(f"{name} {importlib.metadata.version(name) if has(name) else '-'}" for name in names)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the models are, folders inside it included")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="pictures for models that take images; default: eight that are drawn",
    )
    parser.add_argument(
        "--inputs-folder",
        type=Path,
        metavar="FOLDER",
        help="arrays for models that need their own: NAME.npz for the file NAME",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", help="keep the results here, and take up what is there"
    )
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="only the models whose path matches, such as '*lstm*'"
    )
    parser.add_argument("--no-baselines", action="store_true", help="leave out plain Keras and the two exporters")
    parser.add_argument("--jobs", type=int, default=1, help="how many models at a time (default: 1)")
    parser.add_argument(
        "--time-limit", type=float, default=300, metavar="SECONDS", help="for each attempt (default: 300)"
    )
    parser.add_argument("--memory-limit", type=float, default=16, metavar="GB", help="for each attempt (default: 16)")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Runs what is not up to date, and prints the table."""
    options = arguments(given)
    limits = Limits(options.time_limit, int(options.memory_limit * 1e9))
    paths = {path.relative_to(options.folder).as_posix(): path.resolve() for path in models(options.folder)}
    chosen = {name: path for name, path in paths.items() if fnmatch.fnmatch(name, options.only)}
    if not chosen:
        print(f"there is no model in {options.folder} whose path matches {options.only!r}", file=sys.stderr)
        return 2
    records: dict[str, Record] = {}
    if options.output and options.output.exists():
        records = json.loads(options.output.read_text(encoding="utf-8"))["models"]
    now, stack = program(), versions()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<40.40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="bnexport-wild-") as drawn,
        Progress(*columns, console=console) as progress,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        pictures = options.images.resolve() if options.images else draw(Path(drawn))
        task = progress.add_task("", total=len(chosen))

        def work(name: str, path: Path) -> tuple[str, Record]:
            own = options.inputs_folder / f"{path.name}.npz" if options.inputs_folder else None
            inputs = own.resolve() if own is not None and own.is_file() else None
            key = [files.sha256(path), files.sha256(inputs) if inputs else ""]
            old = records.get(name, {})
            same = old.get("key") == key and old.get("stack") == stack
            kept = old["baselines"] if same else {}
            if same and old["bnexport"] == now and (kept or options.no_baselines):
                return name, old
            progress.update(task, description=name)
            record = examine(path, inputs, pictures, limits, kept, baselines=not options.no_baselines)
            return name, record | {"key": key, "stack": stack, "bnexport": now}

        for future in as_completed([pool.submit(work, name, path) for name, path in chosen.items()]):
            name, record = future.result()
            records[name] = record
            progress.advance(task)
            if options.output:
                with files.whole(options.output) as fresh:
                    fresh.write_text(json.dumps({"models": records}, indent=1), encoding="utf-8")
    shown = {name: record for name, record in records.items() if name in chosen}
    print(table(shown))
    return 1 if any(record["exit"] not in (0, 1, 2, 3) for record in shown.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
