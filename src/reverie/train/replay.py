"""After a step that is not finite: play it again from the checkpoint, looking at everything, and name the culprit."""

from __future__ import annotations

import numpy as np
from jaxtyping import PyTree

from reverie.arrays import is_trainable, named_leaves
from reverie.train.engine import Engine, State


def first_bad(engine: Engine, state: State, step: int) -> str | None:
    """Return the name of the first leaf that is not finite around `step`, such as ``gradient p.0.head.weight``.

    None: every one of them is finite.

    The loop stops at a loss that is not finite; what spoilt it may be the gradient of the step before.

    Args:
        engine: the compiled recipe.
        state: a good state at or before `step`; its buffers are given up.
        step: the step whose loss was not finite.
    """
    for at in (max(step - 1, int(state.step)), step):
        state = engine.advance(state, at)
        if found := _look(engine, state):
            return found
    return None


def _look(engine: Engine, state: State) -> str | None:
    for p in range(len(engine.recipe.players)):
        batch = engine.draw(p, state)
        keys = engine.turn_keys(p, state)
        gradients, _, info = engine.gradients(p, state.model, batch, state.carry, keys[1])
        for kind, tree in (("weight", state.model), ("batch", batch), ("value", info), ("gradient", gradients)):
            if name := _bad_leaf(tree):
                return f"{kind} {name}"
    return None


def _bad_leaf(tree: PyTree) -> str | None:
    for name, leaf in named_leaves(tree, is_trainable):
        if not np.isfinite(np.asarray(leaf)).all():
            return name
    return None
