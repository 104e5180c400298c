"""Runs that are stopped inside every stage and resumed, as a signal would stop them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import reverie
from reverie.errors import Interrupted
from reverie.train.fit import Fit


def stopped_in_every_stage(
    monkeypatch: pytest.MonkeyPatch, model: str, data: Any, run: Path, between: Callable[[Any], None] | None = None,
    **how: Any,
) -> Any:  # fmt: skip
    """Train with one stop inside each stage, resumed each time; return the finished run.

    Args:
        between: what is done with the run after each stop but the first.
    """
    plain, stops = Fit.run, []

    def once_a_stage(self: Fit) -> str:
        if self.stage not in stops and self.steps > 2:
            stops.append(self.stage)
            self.asked = lambda: int(self.state.step) >= self.steps // 3
            self._chunk = 1
        return plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "run", once_a_stage)
        with pytest.raises(Interrupted):
            reverie.train(model, data, run=run, **how)
        while reverie.load(run).record["status"] != "finished":
            try:
                reverie.load(run).resume()
            except Interrupted:
                if between is not None:
                    between(reverie.load(run))
    again = reverie.load(run)
    assert stops == list(range(len(again.record["plan"].get("stages") or [None])))
    return again


def assert_same_weights(one: Any, other: Any) -> None:
    """Assert that two runs' weights that count are the same bits."""
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(one.model), jax.tree.leaves(other.model))
