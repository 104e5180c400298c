r"""What a model promises that answers questions about stories, and what such a row is.

A row (`data.stories`) is texts of J words, flat: the question, then the sentences, the newest first.  A word is its
number in the vocabulary from 1 up, 0 is no word.  The answer is one word, the row's class.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Float

from reverie.prob.contracts import Given, Judged, Row, told_wrongly


class Reply(NamedTuple):
    """log p(answer) of every word (V,), and what each hop attends to (K, n), the newest sentence first."""

    log_answers: Float[Array, " V"]
    attention: Float[Array, "K n"]


class Replying(Judged):
    """A model that answers questions, judged by the share that it answers wrongly and by its cross-entropy."""

    @property
    def running(self) -> bool:
        """Whether the rows are running text, of which the next word is told: cross-entropy judges it."""
        return False

    @property
    def metrics(self) -> dict[str, str]:
        both = {"error_rate": "fraction", "cross_entropy": "nats"}
        return dict(reversed(both.items())) if self.running else both

    @property
    def supervised(self) -> bool:
        return True

    def reply(self, x: Row) -> Reply:
        """Return the answer to the question of one row, and what it was read from."""
        raise NotImplementedError

    def judge(self, x: Row, given: Given = None) -> dict[str, Float[Array, ""]]:
        wrong, cost = told_wrongly(self.reply(x).log_answers, given)
        return {"error_rate": wrong, "cross_entropy": cost}
