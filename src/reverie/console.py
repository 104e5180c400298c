"""What the command line says and how: an answer on stdout, as text or as one JSON object; everything else on stderr."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reverie.errors import Interrupted, ReverieError
from reverie.stopping import SAID, STOPPED

#: Exit codes: what the user can mend, a bug of ours; `stopping` has that of what was stopped.
WRONG, BUG = 2, 1
#: Columns of a table that goes to a file or a pipe.
_WIDE = 160


@dataclass(frozen=True)
class Wide:
    """Text of long lines, as files and pipes have it, and what a terminal that is too narrow for it shows instead.

    Attributes:
        text: the lines.
        narrow: of the terminal's columns, gives what is shown.
    """

    text: str
    narrow: Callable[[int], Sequence[Any]]

    def parts(self) -> Sequence[Any]:
        """Return what is to be printed on stdout as it is."""
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
        widest = max(map(len, self.text.splitlines()), default=0)
        return [self.text] if widest <= room else self.narrow(int(room))


@dataclass(frozen=True)
class Answer:
    """What a verb found out.

    Attributes:
        record: the same as JSON; values may be records with `to_json`, arrays and paths.
        shown: the same for a person: lines of text, rich tables and `Wide` text, in order.
        status: what the command exits with.
    """

    record: Mapping[str, Any]
    shown: Sequence[Any] = ()
    status: int = 0

    def print(self, as_json: bool) -> None:
        """Print it on stdout, either as exactly one JSON object or for a person."""
        if as_json:
            # Imported when it is wanted: it needs numpy, and most of what people type does not.
            from reverie.files import to_json

            sys.stdout.write(to_json(dict(self.record)).decode())
            sys.stdout.flush()
            return
        shown = [part for some in self.shown for part in (some.parts() if isinstance(some, Wide) else [some])]
        if all(isinstance(part, str) for part in shown):
            sys.stdout.write("".join(f"{part}\n" for part in shown))
        else:
            from rich.console import Console

            console = Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, highlight=False)
            # Caught and written in one piece: rich has its own way, and exit code, when the reader has left.
            with console.capture() as caught:
                for part in shown:
                    console.print(part)
            sys.stdout.write(caught.get())
        sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> Any:
    """Return a rich table; `right` are the numbers of columns that hold numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


def tell(text: str) -> None:
    """Say something on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def run(work: Callable[[], Answer | None], as_json: bool) -> int:
    """Do the work of a verb, print its answer or its one line of what went wrong, and return the exit code."""
    try:
        with _stdout_kept(as_json):
            answer = work()
        if answer is None:
            return 0
        answer.print(as_json)
        return answer.status
    except BrokenPipeError:
        # Whoever read stdout (head, less) has gone; the interpreter must not try to flush to it at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(*_said(error), as_json)
    except KeyboardInterrupt:
        return _failed(SAID, STOPPED, as_json)


@contextlib.contextmanager
def _stdout_kept(as_json: bool) -> Iterator[None]:
    """Keep stdout for the one JSON object: whatever prints besides goes to stderr."""
    if not as_json:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _said(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code of an error."""
    if isinstance(error, Interrupted):
        return str(error), STOPPED
    if isinstance(error, ReverieError):
        return str(error), WRONG
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; choose another file or mend this one", WRONG
    first = (str(error).strip().splitlines() or [""])[0]
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"{what} (this is a bug in reverie; REVERIE_DEBUG=1 shows where, please report it)", BUG


def _failed(line: str, code: int, as_json: bool) -> int:
    if os.environ.get("REVERIE_DEBUG", "0") not in ("", "0"):
        traceback.print_exc()
    line = " ".join(line.split())
    tell(f"reverie: {line}")
    if as_json:
        with contextlib.suppress(BrokenPipeError):
            Answer({"error": line}).print(as_json=True)
    return code
