"""Progress: told on stderr, seldom enough to be read."""

from __future__ import annotations

import io

import pytest

from reverie import progress


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_at_most_every_ten_seconds_and_none_for_what_is_quick() -> None:
    clock, stream = Clock(), io.StringIO()
    with progress.Lines(stream, clock).task("vae on digits", 100) as task:
        for step in range(1, 36):
            clock.now = float(step)
            task.update(step, loss=1.5)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "vae on digits: 10/100, 10 s so far, 1:30 to go, loss 1.5"


def test_a_resumed_task_is_not_thought_faster_than_it_is() -> None:
    clock, stream = Clock(), io.StringIO()
    with progress.Lines(stream, clock).task("more", 100) as task:
        task.update(50)
        clock.now = 5.0
        task.update(55)
        clock.now = 10.0
        task.update(60)
    assert "40 s to go" in stream.getvalue()


def test_time_to_go_leaves_compiling_out() -> None:
    clock, stream = Clock(), io.StringIO()
    with progress.Lines(stream, clock).task("more", 100) as task:
        # The first word comes after what was compiled, and says nothing of the speed.
        clock.now = 30.0
        task.update(2)
        # Nor does the second, before which the validation was compiled.
        clock.now = 90.0
        task.update(3)
        for step in range(4, 13):
            clock.now = 87.0 + step
            task.update(step)
        clock.now = 101.0
        task.update(14)
    first, second, third = stream.getvalue().splitlines()
    assert "to go" not in first and "to go" not in second and "1:26 to go" in third


def test_bars_show_numbers_on_stderr_and_leave_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    bars = progress.Bars()
    bars.say("understood [this]")
    with bars.task("outer [x]", 10) as outer:
        outer.update(1, loss=2.0)
        with bars.task("inner", 5) as inner:
            inner.update(5, valid=-17.25)
        outer.update(10, loss=1.25)
    out, err = capsys.readouterr()
    assert out == "" and "understood [this]" in err and "outer [x]" in err and "loss 1.25" in err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = progress.Quiet()
    quiet.say("x")
    with quiet.task("x", 1) as task:
        task.update(1, loss=0.0)
    assert capsys.readouterr() == ("", "")


def test_only_the_first_process_of_a_job_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress.for_stderr(), progress.Lines)
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert isinstance(progress.for_stderr(), progress.Quiet)


@pytest.mark.parametrize(("seconds", "text"), [(7.2, "7 s"), (125, "2:05"), (3725, "1:02:05")])
def test_durations(seconds: float, text: str) -> None:
    assert progress.clock_text(seconds) == text
