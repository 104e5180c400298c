"""MADE against enumeration, for any masks: it sums to one, looks back alone, draws from its own law."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.autoregressive import ALPHA, frequencies_p, jittered, log_probs, rows, slopes, total

import reverie
from reverie.errors import ReverieError
from reverie.evaluate import explicit
from reverie.models.directed._autoregressive import drawn_order
from reverie.models.directed.made import MADE, batch_log_probs, untrained
from reverie.nn.blocks import ACTIVATIONS
from reverie.nn.cells import Cells
from reverie.nn.laws import base_logits


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def some(width: int, hidden: tuple[int, ...] = (12, 9), masks: int = 1, direct: bool = True, seed: int = 0,
         scale: float = 0.7) -> MADE:  # fmt: skip
    return jittered(
        untrained(jax.random.key(seed), Cells.binary(width), jnp.zeros(width), hidden, masks, direct, "tanh"),
        seed,
        scale,
    )


@pytest.mark.parametrize(
    ("width", "hidden", "masks", "direct"),
    [(10, (12,), 1, True), (10, (12, 9), 1, False), (8, (7, 6, 5), 3, True), (2, (3,), 2, False), (1, (4,), 1, True)],
)
def test_it_sums_to_one_for_any_weights_and_masks(
    width: int, hidden: tuple[int, ...], masks: int, direct: bool, double: None
) -> None:
    assert abs(total(some(width, hidden, masks, direct), width) - 1.0) < 1e-10


class Peeks(MADE):
    """A mutant: outputs see the units of their own degree, and through them their own cell."""

    def says(self, x: Any, member: Any = 0) -> Any:
        place, below = self.places[member], self.degrees[0][member]
        first, last = self.layers
        h = ACTIVATIONS[self.activation](x @ (first.weight * (place[:, None] <= below[None, :])) + first.bias)
        return (h @ (last.weight * (below[:, None] <= place[None, :])) + last.bias)[:, None]


class Unmasked(MADE):
    """A mutant: cells reach all cells directly."""

    def says(self, x: Any, member: Any = 0) -> Any:
        return super().says(x, member) + (x @ self.direct)[:, None]


@pytest.mark.parametrize("member", [0, 1])
def test_a_logit_depends_on_the_cells_before_it_alone(member: int, double: None) -> None:
    model = some(8, (20,), 2)
    order = np.argsort(np.asarray(model.places[member]))
    np.testing.assert_array_equal(order, drawn_order(member + 1, 8))
    before, others = slopes(lambda x: model.says(x, member)[:, 0], order)
    assert others == 0.0 < 1e-3 < before
    for mutant in (Peeks, Unmasked):
        wrong = mutant(**vars(model))
        assert slopes(lambda x, m=wrong: m.says(x, member)[:, 0], order)[1] > 1e-3
        assert abs(total(wrong, 8) - 1.0) > 1e-3
    # By the other mask's order it would look ahead.
    assert slopes(lambda x: model.says(x, 1 - member)[:, 0], order)[1] > 1e-3


def test_draws_are_from_the_mixture_of_the_masks() -> None:
    """False alarm: a thousandth, at a fixed seed."""
    model = some(6, (8,), 3, seed=4)
    draws, means = jax.vmap(model.sample)(jax.random.split(jax.random.key(2), 20_000))
    law = np.exp(log_probs(model, rows(6)).astype(float))
    assert frequencies_p(np.asarray(draws), law / law.sum()) > ALPHA
    assert ((means > 0) & (means < 1)).all()
    one = np.exp(log_probs(model.ensemble(1), rows(6)).astype(float))
    assert frequencies_p(np.asarray(draws), one / one.sum()) < 1e-6


def test_the_mixture_is_no_worse_than_its_masks_on_average(double: None) -> None:
    model = some(6, (8,), 4)
    x = rows(6)
    each = np.stack([jax.vmap(lambda r, i=i: model.member_log_prob(r, i))(jnp.asarray(x)) for i in range(4)])
    np.testing.assert_allclose(log_probs(model, x), np.log(np.exp(each).mean(axis=0)), atol=1e-12)
    assert (log_probs(model, x) >= each.mean(axis=0) - 1e-12).all()
    # A step ascends one of them.
    found = batch_log_probs(model, jnp.asarray(x), jax.random.key(0))
    assert any(np.allclose(found, one, atol=1e-12) for one in each)


def test_an_ensemble_begins_with_the_masks_that_were_learnt_with() -> None:
    model = untrained(jax.random.key(0), Cells.binary(6), jnp.zeros(6), (5, 4), 2, True, "relu")
    fewer, more = model.ensemble(1), model.ensemble(5)
    assert (fewer.members, more.members) == (1, 5)
    np.testing.assert_array_equal(more.places[:2], model.places)
    np.testing.assert_array_equal(more.degrees[1][:1], fewer.degrees[1])
    drawn = untrained(jax.random.key(1), Cells.binary(6), jnp.zeros(6), (5, 4), 5, True, "relu")
    np.testing.assert_array_equal(more.places, drawn.places)
    np.testing.assert_array_equal(more.degrees[0], drawn.degrees[0])
    x = rows(6)[:7].astype(np.float32)
    assert explicit.exact(model, x, samples=5).estimator == "exact-5"
    np.testing.assert_allclose(explicit.exact(model, x, samples=5).values, log_probs(more, x), atol=1e-5)


def test_a_mask_of_no_hidden_influence_leaves_independent_columns(double: None) -> None:
    mean = np.asarray([0.1, 0.5, 0.9])
    model = untrained(jax.random.key(0), Cells.binary(3), base_logits(mean), (4,), 1, False, "relu")
    quiet = replace(model, layers=(replace(model.layers[0], bias=jnp.full(4, -1e3)), model.layers[1]))
    value = float(quiet.log_prob(jnp.asarray([1.0, 0.0, 1.0])))
    assert value == pytest.approx(np.log(0.1 * 0.5 * 0.9), abs=1e-5)


def test_what_it_cannot_do_is_refused(tmp_path: Path) -> None:
    x = np.eye(60, 4)
    for more, words in (({"hidden": ()}, "hidden"), ({"masks": 0}, "masks: 0")):
        with pytest.raises(ReverieError, match=words):
            reverie.train("made", x, run=tmp_path / "no", **more)
