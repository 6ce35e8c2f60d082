"""Recordings as waveforms: .wav, .flac and .ogg files, read by soundfile (the extra `audio`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from bnexport.datasets.arrays.fit import Dtypes, shape_text
from bnexport.datasets.arrays.items import Described
from bnexport.datasets.npz import Shape
from bnexport.errors import InputError, MachineError, reason
from bnexport.types import Array, Nested

SUFFIXES = (".wav", ".flac", ".ogg")


class _Info(Protocol):
    """What soundfile says of a file."""

    frames: int
    samplerate: int
    channels: int


class Recordings:
    """The recordings in a folder, each as one channel for an input of shape (N, samples), (N, samples, 1) or (N, 1, samples).

    The sample rate stays what it is, and has to be the same in all files. Several channels are averaged, unless the input takes as many. A
    recording that is longer than a fixed input is cut at its end; one that is shorter is refused.

    Args:
        folder: where they are.
        shapes: the shape of each input of the model.
        dtypes: what each input takes: floats between -1 and 1, or 16-bit integers.
        paths: all of them, below the folder.
        rate: the sample rate that the model says it takes; None where it says nothing.

    Raises:
        InputError: a file cannot be read, or the sample rates differ.
        MachineError: soundfile is not installed.
    """

    def __init__(
        self,
        folder: Path,
        shapes: Mapping[str, Shape],
        dtypes: Dtypes,
        paths: Sequence[str],
        rate: int | None = None,
    ) -> None:
        self._folder, self._shapes, self._dtypes = folder, shapes, dtypes
        self._infos = {path: _info(folder / path) for path in paths}
        first = paths[0]
        common = rate or self._infos[first].samplerate
        for path, info in self._infos.items():
            if info.samplerate != common:
                other = "the metadata of the model say" if rate else first
                raise InputError(
                    f"{folder / path} has another sample rate than {other}, and recordings are not resampled",
                    found=f"{info.samplerate} Hz",
                    expected=f"{common} Hz",
                )
        mixed = sum(self._channels("", info) == 1 < info.channels for info in self._infos.values())
        cut = sum(self._samples("", path) < info.frames for path, info in self._infos.items())
        self.notes = tuple(
            note
            for note in (
                f"recordings are fed at {common} Hz" + ("" if rate else ", which the model has to expect"),
                f"the channels of {mixed} recordings are averaged" if mixed else "",
                f"{cut} recordings are longer than the input and are cut at the end" if cut else "",
            )
            if note
        )

    def describe(self, name: str, path: str) -> Described:
        """The shape and dtype of a recording."""
        return {name or "input": (self._layout(name, path), self._dtype(name))}

    def read(self, name: str, path: str) -> Mapping[str, Array]:
        """The samples of a recording.

        Raises:
            InputError: it cannot be read.
        """
        where = self._folder / path
        soundfile = _soundfile()
        dtype = self._dtype(name)
        try:
            wave, _ = soundfile.read(where, self._samples(name, path), dtype=dtype.name, always_2d=True)
        except (RuntimeError, OSError) as error:
            raise InputError(f"{where} cannot be read ({reason(error)})") from error
        if self._channels(name, self._infos[path]) == 1 < wave.shape[1]:
            mean = wave.mean(axis=1, keepdims=True)
            wave = np.asarray(np.rint(mean) if dtype.kind == "i" else mean, dtype)
        layout = self._layout(name, path)
        return {name or "input": (wave.T if len(layout) == 2 and layout != wave.shape else wave).reshape(layout)}

    def _input(self, name: str) -> tuple[str, Shape]:
        key = name or next(iter(self._shapes))
        return key, self._shapes[key]

    def _dtype(self, name: str) -> np.dtype[np.generic]:
        wanted = self._dtypes.get(self._input(name)[0])
        return np.dtype(np.int16 if wanted is not None and wanted == np.int16 else np.float32)

    def _channels(self, name: str, info: _Info) -> int:
        """How many channels are fed: those of the file where the input takes as many, else one."""
        shape = self._input(name)[1]
        return info.channels if len(shape) == 3 and info.channels in shape[1:] else 1

    def _samples(self, name: str, path: str) -> int:
        """How many samples are fed."""
        _, shape = self._input(name)
        frames = self._infos[path].frames
        sides = [side for side in shape[1:] if side is not None and side != self._channels(name, self._infos[path])]
        fixed = max(sides, default=None)
        return frames if fixed is None else min(fixed, frames)

    def _layout(self, name: str, path: str) -> tuple[int, ...]:
        """The shape of a recording as the input takes it.

        Raises:
            InputError: the input takes no waveform, or the recording is too short for it.
        """
        key, shape = self._input(name)
        channels, samples = self._channels(name, self._infos[path]), self._samples(name, path)
        if len(shape) not in (2, 3):
            raise InputError(
                f"the input {key} takes no waveform",
                found=f"an input of shape {shape_text(shape)}",
                expected="(N, samples), (N, samples, 1) or (N, 1, samples)",
            )
        layouts: list[tuple[int, ...]] = [(samples,)] if len(shape) == 2 else [(samples, channels), (channels, samples)]
        for layout in layouts:
            if all(side is None or side == own for side, own in zip(shape[1:], layout, strict=True)):
                return layout
        raise InputError(
            f"{self._folder / path} does not fit the input {key}, and recordings are not padded",
            found=f"{self._infos[path].frames} samples, {self._infos[path].channels} channels",
            expected=f"an input of shape {shape_text(shape)}",
        )


def _info(path: Path) -> _Info:
    soundfile = _soundfile()
    try:
        info: _Info = soundfile.info(path)
    except (RuntimeError, OSError) as error:  # soundfile's own errors are RuntimeErrors
        raise InputError(f"{path} cannot be read ({reason(error)})") from error
    return info


def _soundfile() -> Nested:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError where libsndfile is missing
        raise MachineError(
            "reading recordings requires soundfile", fix="install it with: pip install 'bnexport[audio]'"
        ) from error
    return soundfile
