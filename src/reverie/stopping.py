"""Ctrl-C ends the program at once wherever nothing needs saving, from its first moment on: nothing heavy is here."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

#: What is said, and the exit code.
SAID, STOPPED = "stopped; `reverie runs` shows what can be resumed", 130


def stop_at_once(as_json: bool) -> None:
    """Make Ctrl-C end the process wherever nothing needs saving.

    Python's own way, an exception at any line, gets lost where that line belongs to a callback of JAX, and the work
    goes on as if nobody had asked; where it belongs to an import it ends in pages of it.  Work that has something to
    save listens for itself (`train.signals.Stop`).
    """

    def stop(number: int, frame: FrameType | None) -> None:
        # Whatever was drawing a bar had hidden the cursor.
        shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        _write(2, f"{shown}reverie: {SAID}\n")
        if as_json:
            # Past any redirection: the one JSON object is the answer.
            _write(1, f'{{"error": "{SAID}"}}\n')
        os._exit(STOPPED)

    signal.signal(signal.SIGINT, stop)


def _write(descriptor: int, text: str) -> None:
    """Write past Python's buffers, which may be in use; a reader that has gone is no trouble."""
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return
