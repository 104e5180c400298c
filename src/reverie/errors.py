"""The errors that reverie raises on purpose: one line that says what is wrong and what to do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Nothing is imported to get this far: a Ctrl-C meets Python's own handler until `stopping` has run.
    from collections.abc import Iterable
    from pathlib import Path


class ReverieError(Exception):
    """Something the person at the keyboard can mend.

    The message is one line that names the file or the argument, says what is wrong and what to do.
    The command line prints it without a traceback and exits with status 2.
    """


class Interrupted(ReverieError):
    """The work was asked to stop (Ctrl-C, SIGTERM, a budget of minutes); what was done is saved.

    Attributes:
        run: the folder of the run that `reverie resume` goes on with; None where the same command goes on instead.
    """

    def __init__(self, message: str = "", *, run: Path | None = None) -> None:
        super().__init__(message)
        self.run = run


class NonFinite(ReverieError):
    """A loss, gradient or weight stopped being a finite number; the last good checkpoint is kept."""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the valid word nearest to `word`, or an empty string."""
    import difflib

    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def an(name: str) -> str:
    """Return a model's name with its article: a nade, an orderless-nade, a VAE, an rbm (read out letter by letter)."""
    first = name.split("-")[0].lower()
    spelt = not set(first) & set("aeiouy")
    return f"{'an' if first[:1] in ('aefhilmnorsx' if spelt else 'aeiou') else 'a'} {name}"
