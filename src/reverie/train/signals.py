"""Being asked to stop, politely: Ctrl-C and SIGTERM are noted and the work ends where it can be saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A context in which the first SIGINT or SIGTERM asks to stop, and a second SIGINT raises `KeyboardInterrupt`.

    Only the main thread can be told of signals; in another thread the context does nothing.  Whoever handled the
    signals before does so again afterwards.
    """

    def __init__(self) -> None:
        self._asked = False
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop."""
        return self._asked

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python, which cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
