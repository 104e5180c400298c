"""Progress: how far something is, told on stderr so that stdout stays what was asked for.

A `Progress` is handed down to whatever takes long; it opens a `Task` with a description and a total, and tells it now
and then how much is done, with a few numbers worth seeing.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any, Protocol, TextIO

#: Seconds between the lines of `Lines`.
INTERVAL = 10.0


class Task(Protocol):
    """Something under way, entered and left as a context."""

    def update(self, done: float, **numbers: float) -> None:
        """Say that `done` of the total is done, and numbers worth seeing, such as ``loss`` and ``valid``."""
        ...

    def __enter__(self) -> Task: ...

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Where progress is shown."""

    def task(self, description: str, total: float) -> Task:
        """Return a task of `total` steps, rows or whatever is counted."""
        ...

    def say(self, text: str) -> None:
        """Show a line that stays, such as what was understood of the data."""
        ...


class Quiet:
    """Shows nothing; is its own task."""

    def say(self, text: str) -> None:
        pass

    def task(self, description: str, total: float) -> Quiet:
        return self

    def update(self, done: float, **numbers: float) -> None:
        pass

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *problem: object) -> None:
        pass


class Pace:
    """How fast something goes: what came before the first word, and the longest wait after it, are left out.

    Before it a resumed task was done already; and in the longest wait something was compiled, more often than not.
    """

    def __init__(self) -> None:
        self._at: tuple[float, float] | None = None
        self._all = self._longest = 0.0, 0.0

    def update(self, done: float, now: float) -> None:
        """Say that `done` of the whole is done at the time `now`, in seconds."""
        if self._at is not None:
            wait = now - self._at[1], done - self._at[0]
            self._all = self._all[0] + wait[0], self._all[1] + wait[1]
            self._longest = max(self._longest, wait)
        self._at = done, now

    def rest(self, total: float) -> float | None:
        """Return the seconds to go, None while nothing is known."""
        if self._at is None:
            return None
        return remaining(self._all[1] - self._longest[1], total - self._at[0], self._all[0] - self._longest[0])


class Lines:
    """Where nobody watches a terminal: a line of text at most every ten seconds, and none for what is quick."""

    def __init__(self, stream: TextIO | None = None, clock: Any = time.monotonic) -> None:
        self._stream, self._clock = stream, clock

    def task(self, description: str, total: float) -> _Line:
        return _Line(description, total, self._stream or sys.stderr, self._clock)

    def say(self, text: str) -> None:
        print(text, file=self._stream or sys.stderr, flush=True)


class _Line:
    def __init__(self, description: str, total: float, stream: TextIO, clock: Any) -> None:
        self._description, self._total, self._stream, self._clock = description, total, stream, clock
        self._began = self._told = clock()
        self._pace = Pace()

    def update(self, done: float, **numbers: float) -> None:
        now = self._clock()
        self._pace.update(done, now)
        if now - self._told < INTERVAL:
            return
        self._told = now
        rest = self._pace.rest(self._total)
        parts = [f"{self._description}: {done:g}/{self._total:g}", f"{clock_text(now - self._began)} so far"]
        parts += [f"{clock_text(rest)} to go"] if rest is not None else []
        print(", ".join([*parts, *numbers_text(numbers)]), file=self._stream, flush=True)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *problem: object) -> None:
        pass


class Bars:
    """On a terminal: a bar for each task, with time, time to go, and the numbers."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Live

        self._live = Live(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}", markup=False),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=8,
        )
        self._open = 0

    def task(self, description: str, total: float) -> _Bar:
        return _Bar(self, description, total)

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)

    def enter(self, description: str, total: float) -> Any:
        if self._open == 0:
            self._live.start()
        self._open += 1
        return self._live.add_task(description, total=total, numbers="", rest="")

    def leave(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._live.stop()
            for number in self._live.task_ids:
                self._live.remove_task(number)

    def update(self, number: Any, done: float, rest: float | None, numbers: dict[str, float]) -> None:
        shown: dict[str, Any] = {"numbers": "  ".join(numbers_text(numbers))} if numbers else {}
        to_go = "" if rest is None else f"{clock_text(rest)} to go"
        self._live.update(number, completed=done, rest=to_go, **shown)


class _Bar:
    def __init__(self, bars: Bars, description: str, total: float) -> None:
        self._bars, self._description, self._total = bars, description, total
        self._number: Any = None
        self._pace = Pace()

    def update(self, done: float, **numbers: float) -> None:
        if self._number is not None:
            self._pace.update(done, time.monotonic())
            self._bars.update(self._number, done, self._pace.rest(self._total), numbers)

    def __enter__(self) -> _Bar:
        self._number = self._bars.enter(self._description, self._total)
        return self

    def __exit__(self, *problem: object) -> None:
        self._number = None
        self._bars.leave()


def for_stderr() -> Progress:
    """Return bars on a terminal, lines elsewhere, and nothing in the further processes of a cluster's job."""
    if any(os.environ.get(name, "0") != "0" for name in ("REVERIE_PROCESS", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")):
        return Quiet()
    return Bars() if sys.stderr.isatty() else Lines()


def remaining(done: float, rest: float, seconds: float) -> float | None:
    """Return the seconds that `rest` will take at the speed so far, None while there is none."""
    return None if done <= 0 else max(rest, 0.0) * seconds / done


def clock_text(seconds: float) -> str:
    """Return a duration as ``7 s``, ``2:05`` or ``1:02:05``."""
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if not minutes:
        return f"{whole} s"
    return f"{hours}:{minutes % 60:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def numbers_text(numbers: dict[str, float]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in numbers.items()]
