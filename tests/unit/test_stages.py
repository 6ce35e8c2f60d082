"""What the stages of a command cost, and how they are shown: every second belongs to one stage of its thread."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from bnexport.cli.progress import show_stages
from bnexport.cli.stages import Stages, describe


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines(stages: Stages, width: int = 80, height: int = 24) -> list[str]:
    """What a terminal of a size shows."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, highlight=False)
    console.print(show_stages(stages, console))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_stage_ends_where_the_next_begins(clock: Clock) -> None:
    """The costs add up to the time that passed; a stage that took no time is among them."""
    stages = Stages(clock)
    for text, seconds in (("reading", 1.0), ("opening", 0.0), ("comparing", 2.5), ("reading", 0.5)):
        stages.begin(text)
        clock.now += seconds
    stages.end()
    assert stages.list_finished() == [("reading", 1.5), ("opening", 0.0), ("comparing", 2.5)]
    assert stages.duration == 4.0
    expected = "stages: reading 1.5 s, opening 0.0 s, comparing 2.5 s; 4.0 s in all"
    assert describe(stages.list_finished(), stages.duration) == expected


def test_a_stage_in_the_middle_takes_its_time_off_the_other(clock: Clock) -> None:
    """The outer stage goes on behind it, also where it fails."""
    stages = Stages(clock)
    stages.begin("exporting")
    clock.now += 1

    def load() -> None:
        with stages.within("loading"):
            clock.now += 10
            assert [(stage.text, seconds) for stage, seconds in stages.list_running()] == [("loading", 10)]
            raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        load()
    clock.now += 2
    assert [(stage.text, seconds) for stage, seconds in stages.list_running()] == [("exporting", 3)]
    assert stages.list_finished() == [("loading", 10)]
    stages.begin("comparing")
    stages.end()
    assert stages.list_finished() == [("exporting", 3), ("loading", 10), ("comparing", 0)]


def test_stages_of_several_threads_do_not_end_each_other(clock: Clock) -> None:
    """Each thread has a stage of its own; that of a thread that is gone has ended."""
    stages = Stages(clock)
    stages.begin("opening")
    began, may_end = threading.Event(), threading.Event()

    def load() -> None:
        with stages.within("loading"):
            began.set()
            may_end.wait(10)

    def forget() -> None:
        stages.begin("forgotten")

    beside = threading.Thread(target=load)
    beside.start()
    assert began.wait(10)
    clock.now += 1
    stages.begin("comparing", 12)
    stages.advance(3)
    clock.now += 1
    running = {stage.text: (stage.count, seconds) for stage, seconds in stages.list_running()}
    assert running == {"comparing": (3, 1), "loading": (0, 2)}
    assert stages.list_finished() == [("opening", 1)]
    may_end.set()
    beside.join()
    gone = threading.Thread(target=forget)
    gone.start()
    gone.join()
    assert [stage.text for stage, _ in stages.list_running()] == ["comparing"]
    assert stages.list_finished() == [("opening", 1), ("loading", 2), ("forgotten", 0)]


def test_threads_advance_the_stage_that_counts(clock: Clock) -> None:
    """Workers without a stage of their own advance the one with images; nothing is lost."""
    stages = Stages(clock)
    stages.begin("comparing", 4000)
    workers = [threading.Thread(target=lambda: [stages.advance(1) for _ in range(1000)]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    [(stage, _)] = stages.list_running()
    assert stage.count == 4000
    stages.begin("judging")
    stages.advance(1)
    [(stage, _)] = stages.list_running()
    assert stage.count == 0


def test_the_display_lists_what_ended_above_what_runs(clock: Clock) -> None:
    """With the seconds of each, and for images how many, how fast and how long."""
    stages = Stages(clock)
    stages.begin("opening onnxruntime")
    clock.now = 0.04
    stages.begin("comparing", 40)
    stages.advance(10)
    clock.now = 5.04
    first, second = lines(stages)
    assert first.split(maxsplit=2) == ["0.0", "s", "opening onnxruntime"]
    assert second.split()[:3] == ["5.0", "s", "comparing"]
    assert second.endswith("10/40, 2/s, 15 s left")


@pytest.mark.parametrize("height", [1, 2, 3, 5, 10, 24])
@pytest.mark.parametrize("width", [8, 20, 40, 80])
def test_the_display_fits_on_the_terminal(width: int, height: int, clock: Clock) -> None:
    """However small that is, and however many stages there were; none of its lines is wrapped."""
    stages = Stages(clock)
    for nth in range(30):
        stages.begin(f"trying the options of a runtime with a long name, number {nth}")
        clock.now += 1
    stages.begin("comparing", 40)
    shown = lines(stages, width, height)
    assert len(shown) <= max(height - 1, 1)
    assert all(len(line) <= width for line in shown)
    if height >= 3 and width >= 40:
        assert shown[-1].split()[2] == "comparing"
        assert shown[-1].endswith("  0/40")
    if height >= 5 and width >= 40:
        earlier = 30 - (height - 3)
        assert shown[0].split() == [f"{earlier}.0", "s", str(earlier), "earlier", "stages"]


def test_the_text_of_a_stage_cannot_act_on_the_terminal(clock: Clock) -> None:
    """Names from files are shown with escapes, and are no markup."""
    stages = Stages(clock)
    stages.begin("opening \x1b[2J\n[red]x[/]")
    [line] = lines(stages)
    assert line.endswith("opening \\x1b[2J\\n[red]x[/]")
