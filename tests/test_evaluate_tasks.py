"""Units, codes, imputation and the memory microscope, on hand-built models whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from tests.toys import dataset, rows_of

from reverie.data.dataset import Dataset, Rows
from reverie.errors import ReverieError
from reverie.evaluate import tasks
from reverie.evaluate.impute import centre_of, impute, mask_of
from reverie.evaluate.microscope import entropy, look, normalised, top_slots
from reverie.prob.contracts import Latent


class TwoLayers(Latent):
    r"""q(h1|x) = N(x A, .5^2), q(h2|h1) = N(h1 B, 1); p(h1|h2) = N(h2 C, 1), p(h2) = N(0, 1); x = h1 D + noise."""

    a: jax.Array
    b: jax.Array
    d: jax.Array
    c: jax.Array

    def posterior(self, key, x, given=None):
        h = self.infer(key, x)
        return (x @ self.a, jnp.full(h[0].shape, 0.5)), (h[0] @ self.b, jnp.ones(h[1].shape))

    def infer(self, key, x, given=None):
        first, second = jax.random.split(key)
        h1 = x @ self.a + 0.5 * jax.random.normal(first, (self.a.shape[1],))
        return h1, h1 @ self.b + jax.random.normal(second, (self.b.shape[1],))

    def prior(self, h, given=None):
        return (h[1] @ self.c, jnp.ones(h[0].shape)), (jnp.zeros(h[1].shape), jnp.ones(h[1].shape))

    def log_q(self, h, x, given=None):
        first = dist.Normal(x @ self.a, 0.5).to_event(1).log_prob(h[0])
        return first + dist.Normal(h[0] @ self.b, 1.0).to_event(1).log_prob(h[1])

    def log_prior(self, h, given=None):
        top = dist.Normal(jnp.zeros(h[1].shape), 1.0).to_event(1).log_prob(h[1])
        return top + dist.Normal(h[1] @ self.c, 1.0).to_event(1).log_prob(h[0])

    def log_p(self, x, h, given=None):
        return self.log_prior(h) + dist.Normal(self.mean(h), 1.0).to_event(1).log_prob(x)

    def mean(self, h, given=None):
        return h[0] @ self.d

    def sample(self, key, given=None):
        h1 = jax.random.normal(key, (self.a.shape[1],))
        return self.mean((h1, h1)) + 1.0, (h1, h1)

    def encode(self, x, given=None):
        return x @ self.a

    def reconstruct(self, key, x, given=None):
        return self.mean(self.infer(key, x))


def two_layers(dead: tuple[int, ...] = (1, 3, 4)) -> TwoLayers:
    """Five units in the first layer, of which `dead` see nothing and say nothing; two in the second, one dead."""
    random = np.random.default_rng(0)
    a, d = random.normal(size=(4, 5)), random.normal(size=(5, 4))
    a[:, list(dead)], d[list(dead)] = 0.0, 0.0
    b = np.array([[1.0, 0.0], [0, 0], [-0.5, 0], [0, 0], [0, 0]])
    return TwoLayers(*(jnp.asarray(m, jnp.float32) for m in (a, b, d, np.zeros((2, 5)))))


def test_exactly_the_dead_units_are_inactive() -> None:
    """T9: three dead units of five."""
    rows = rows_of(500)
    found = tasks.activity(two_layers(), rows)
    assert np.flatnonzero(found[0] <= tasks.ACTIVE).tolist() == [1, 3, 4]
    expected = np.var(rows.astype(np.float64) @ np.asarray(two_layers().a, np.float64), axis=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-12)
    assert tasks.active(found) == [2, 1]


def test_upper_layers_need_samples_for_the_definition() -> None:
    """One draw adds the spread within a row, .25 (1 + .25); with 50 the average is unbiased.

    Both estimates are within five of their standard errors over 2,000 rows (a false alarm once in a million)."""
    rows, model = rows_of(2000), two_layers()
    signal = np.var(rows @ np.asarray(model.a) @ np.asarray(model.b)[:, 0], dtype=np.float64)
    code = tasks.activity(model, rows)[1][0]
    definition = tasks.activity(model, rows, samples=50)[1][0]
    error = 5 * signal * np.sqrt(2 / 2000)
    assert code == pytest.approx(signal + 0.25 * 1.25, abs=error)
    assert definition == pytest.approx(signal, abs=0.05)
    assert tasks.activity(model, rows, samples=50)[1][1] < 1e-9


def test_the_kl_of_units_is_the_closed_form() -> None:
    rows, model = rows_of(400), two_layers()
    first, second = tasks.unit_kl(model, rows)
    mean = rows.astype(np.float64) @ np.asarray(model.a, np.float64)
    expected = 0.5 * (0.25 + (mean**2).mean(axis=0) - 1 - np.log(0.25))
    np.testing.assert_allclose(first, expected, rtol=1e-4)
    assert second[1] == pytest.approx(0.0, abs=1e-6) and second[0] > 0.1

    class Silent(TwoLayers):
        prior = None

    silent = Silent(model.a, model.b, model.d, model.c)
    with pytest.raises(TypeError):
        tasks.unit_kl(silent, rows)


def test_units_are_asked_of_models_that_have_them() -> None:
    from tests.toys import linear

    for ask in (tasks.activity, tasks.unit_kl, tasks.reconstructions, tasks.codes):
        with pytest.raises(ReverieError, match="a Linear has no"):
            ask(linear(), rows_of(3))
    with pytest.raises(ReverieError, match="2 or more"):
        tasks.activity(two_layers(), rows_of(1))


def drop(model: TwoLayers, keep: jax.Array) -> TwoLayers:
    return replace(model, a=model.a[:, keep], b=model.b[keep], d=model.d[keep], c=model.c[:, keep])


def test_deleting_dead_units_changes_nothing_and_deleting_live_ones_much() -> None:
    """The cost of a dead unit is Monte Carlo noise: 400 samples, 60 rows, five standard errors."""
    model, rows = two_layers(), rows_of(60)
    cost = tasks.deletion_check(model, drop, rows, samples=400)
    assert abs(cost.value) < 5 * cost.standard_error + 0.1
    wrong = tasks.deletion_check(model, lambda m, keep: drop(m, jnp.asarray([True, *[False] * 4])), rows, samples=400)
    assert abs(wrong.value) > 1.0
    with pytest.raises(ReverieError, match="none is active"):
        tasks.deletion_check(two_layers((0, 1, 2, 3, 4)), drop, rows, samples=2)


def test_codes_are_the_latents_or_their_principal_axes() -> None:
    rows = rows_of(40)
    found, kind = tasks.codes(two_layers(), rows)
    assert found.shape == (40, 2) and kind == "pca"
    spread = found.var(axis=0)
    assert spread[0] > spread[1] and abs(np.corrcoef(found.T)[0, 1]) < 1e-6
    two, kind = tasks.codes(drop(two_layers(), jnp.asarray([True, False, True, False, False])), rows)
    assert kind == "latent"
    np.testing.assert_allclose(two, rows @ np.asarray(two_layers().a)[:, [0, 2]], rtol=1e-5, atol=1e-6)
    one, kind = tasks.codes(drop(two_layers(), jnp.asarray([True, False, False, False, False])), rows)
    assert kind == "latent" and (one[:, 1] == 0).all()
    single, _ = tasks.codes(two_layers(), rows[:1])
    assert single.shape == (1, 2)


def test_samples_depend_on_their_number_alone() -> None:
    means, draws = tasks.samples(two_layers(), 7, seed=3)
    np.testing.assert_allclose(draws, means + 1.0, rtol=1e-6)
    np.testing.assert_allclose(tasks.samples(two_layers(), 3, seed=3)[0], means[:3], rtol=1e-6)
    assert (tasks.samples(two_layers(), 7, seed=4)[0] != means).all()
    assert len(np.unique(means[:, 0])) == 7
    with pytest.raises(ReverieError, match="n: 0"):
        tasks.samples(two_layers(), 0)


class Half(eqx.Module):
    """Reconstructs every cell as the mean of all: known answers at every iteration."""

    def reconstruct(self, key, x, given=None):
        return jnp.full(x.shape, x.mean())


def test_imputation_follows_the_protocol_step_by_step() -> None:
    rows = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    mask = np.ones((5, 4), bool)
    mask[:, 2:] = False
    found = impute(Half(), rows, mask, iterations=6, frames=(1, 3, 6))
    assert found.iterations.tolist() == [1, 3, 6] and found.frames.shape == (3, 5, 4)
    np.testing.assert_array_equal(found.filled[mask], rows[mask])
    now = found.frames[0].astype(np.float64)
    for _ in range(2):
        now = np.where(mask, rows, now.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(found.frames[1], now, rtol=1e-5)
    assert found.errors.shape == (6,)
    for at, frame in zip((1, 3, 6), found.frames, strict=True):
        assert found.errors[at - 1] == pytest.approx(((rows - frame)[~mask] ** 2).mean(), rel=1e-5)
    # The fixed point of the iteration: missing cells at the mean of the known ones.
    end = impute(Half(), rows, mask, iterations=100).filled
    np.testing.assert_allclose(end[~mask], np.repeat(rows[:, :2].mean(axis=1), 2), rtol=1e-5)


def test_imputation_does_not_feel_order_company_or_what_is_hidden() -> None:
    model, rows = two_layers(), rows_of(21)
    mask = mask_of("drop:0.5", rows, (4,))
    whole = impute(model, rows, mask, iterations=4).filled
    hidden = np.where(mask, rows, 9.0)
    np.testing.assert_array_equal(impute(model, hidden, mask, iterations=4).filled, whole)
    np.testing.assert_allclose(impute(model, rows[::-1], mask[::-1], iterations=4).filled[::-1], whole, rtol=1e-5)
    assert (impute(model, rows, mask, iterations=4, seed=1).filled[~mask] != whole[~mask]).all()


def test_missing_cells_stay_out_of_the_error() -> None:
    rows = rows_of(3)
    rows[0, 0] = np.nan
    found = impute(Half(), rows, mask_of("nan", rows, (4,)), iterations=2)
    assert np.isfinite(found.filled).all() and found.errors.size == 0
    mask = mask_of("half", rows, (4,))
    other = impute(Half(), rows, mask, iterations=2)
    cells = ~mask & ~np.isnan(rows)
    assert other.errors[-1] == pytest.approx(((rows - other.filled)[cells] ** 2).mean(), rel=1e-5)


def test_a_guess_that_grows_each_time_stays_where_data_are() -> None:
    """A net that doubles what it sees, as a VAE of colour pictures may along some direction of its guess."""

    class Doubling(eqx.Module):
        def reconstruct(self, key, x, given=None):
            return 2.0 * x

    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    rows[0, 3], centre = 7.5, np.array([0.0, 0.0, np.nan, 0.0], np.float32)
    known = np.tile([False, False, False, True], (20, 1))
    found = impute(Doubling(), rows, known, iterations=100, centre=centre).filled
    assert (np.abs(found[1:, :2]) == np.maximum(4.0, np.sign(found[1:, :2]) * rows[1:, 3:])).all(), "at an end each"
    assert set(found[0, :2]) <= {-4.0, 7.5}, "a known cell lies further out"
    assert np.isnan(found[:, 2]).all() and (found[:, 3] == rows[:, 3]).all()
    # Cells in [0, 1] have their ends in their law, and start there.
    assert np.abs(impute(Doubling(), rows, known, iterations=5).filled[:, :3]).max() > 10


def test_missing_cells_start_where_data_are() -> None:
    class Still(eqx.Module):
        def reconstruct(self, key, x, given=None):
            return x

    rows, none = np.full((300, 4), 0.5, np.float32), np.zeros((300, 4), bool)
    rows += np.arange(300, dtype=np.float32)[:, None] * 1e-4  # equal rows would share their random numbers
    some = none.copy()
    some[:, 0] = True
    uniform = impute(Still(), rows, some, iterations=1).filled[:, 1:]
    assert uniform.min() >= 0 and uniform.max() <= 1 and abs(uniform.mean() - 0.5) < 0.05, "900 draws, 5 sd"
    levels = impute(Still(), rows, some, iterations=1, levels=3).filled[:, 1:]
    assert set(np.unique(levels)) == {0.0, 1.0, 2.0}
    normal = impute(Still(), rows, some, iterations=1, centre=np.full(4, 50.0)).filled[:, 1:]
    assert abs(normal.mean() - 50) < 0.2 and abs(normal.std() - 1) < 0.15
    assert centre_of(dataset(likelihood="bernoulli")) is None
    centre = centre_of(dataset())
    assert centre is not None and centre.shape == (4,)


@pytest.mark.parametrize(
    ("rule", "shape", "known"),
    [("half", (4, 6), 12), ("half", (24,), 12), ("rect:2", (4, 6), 20), ("half", (4, 3, 2), 16), ("nan", (24,), 24)],
)
def test_masks_by_rule(rule: str, shape: tuple[int, ...], known: int) -> None:
    rows = np.random.default_rng(0).random((3, 24)).astype(np.float32)
    mask = mask_of(rule, rows, shape)
    assert mask.shape == (3, 24) and (mask.sum(axis=1) == known).all()


def test_the_rectangle_is_centred_and_the_left_half_is_missing() -> None:
    rows = np.zeros((1, 28 * 28), np.float32)
    hole = ~mask_of("rect:12", rows, (28, 28)).reshape(28, 28)
    assert hole[8:20, 8:20].all() and hole.sum() == 144
    left = ~mask_of("half", rows, (28, 28)).reshape(28, 28)
    assert left[:, :14].all() and not left[:, 14:].any()


def test_drop_is_of_the_row_and_takes_whole_pixels() -> None:
    rows = np.random.default_rng(0).random((200, 48)).astype(np.float32)
    mask = mask_of("drop:0.6", rows, (4, 4, 3))
    assert abs((~mask).mean() - 0.6) < 0.05, "3,200 pixels, 5 sd"
    pixels = mask.reshape(200, 16, 3)
    assert (pixels == pixels[:, :, :1]).all()
    np.testing.assert_array_equal(mask_of("drop:0.6", rows[::-1], (4, 4, 3))[::-1], mask)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("dorp:0.5", "did you mean 'drop'"), ("drop", "write drop:"), ("half:3", "write half"), ("drop:x", "no number"),
        ("drop:1.5", "not a probability"), ("rect:2", "needs images"),
    ],
)  # fmt: skip
def test_wrong_rules_are_refused(rule: str, message: str) -> None:
    with pytest.raises(ReverieError, match=message):
        mask_of(rule, rows_of(2), (4,))


def test_a_rectangle_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ReverieError, match="from 1 to 4"):
        mask_of("rect:5", np.zeros((1, 24), np.float32), (4, 6))


@pytest.mark.parametrize("mask", [np.ones((2, 3), bool), np.ones((2, 4))])
def test_a_mask_that_does_not_fit_is_refused(mask: Any) -> None:
    with pytest.raises(ReverieError, match="mask:"):
        impute(Half(), rows_of(2), mask)


def test_a_model_that_cannot_impute_says_so() -> None:
    with pytest.raises(ReverieError, match="does not reconstruct"):
        impute(eqx.nn.Identity(), rows_of(2), np.ones((2, 4), bool))


class Memory(TwoLayers):
    """Adds to the mean of x what its three slots hold, attended to by the sign of x: slot 2 is never read."""

    slots: jax.Array
    read_as: float | None = eqx.field(static=True, default=None)

    def weights(self, h: jax.Array) -> jax.Array:
        up = (h[0] > 0).astype(jnp.float32)
        return jnp.stack([0.8 * up, 0.8 * (1 - up), jnp.zeros(())])

    def mean(self, h, given=None):
        read = self.weights(h[0]) @ self.slots
        return h[0] @ self.d + (read if self.read_as is None else jnp.full(read.shape, self.read_as))

    def memory_trace(self, key, x, given=None):
        weights = self.weights(self.infer(key, x)[0])
        return {"top": {"attention": weights, "read": weights @ self.slots}}

    def slot_image(self, layer, slot):
        return self.slots[slot]

    def silence(self, layer, slot):
        return replace(self, slots=self.slots.at[slot].set(0.0))

    def disable(self, layer, read):
        return replace(self, read_as=read)


def memory() -> Memory:
    base, one = two_layers(()), jnp.zeros((4, 5)).at[0, 0].set(3.0)
    slots = jnp.asarray([[2.0, 0, 0, 0], [-1.0, 0, 0, 0], [0, 5.0, 0, 0]])
    return Memory(one, base.b, jnp.zeros((5, 4)), base.c, slots)


def memory_data() -> Dataset:
    """Class 1 has a positive first column, class 0 a negative one."""
    labels = np.arange(80) % 2
    x = 0.3 * rows_of(80)
    x[:, 0] = np.where(labels == 1, 1.6, -0.8) + 0.1 * x[:, 0]
    return dataset(splits={name: Rows(x, labels) for name in ("train", "valid", "test")})


def test_the_microscope_sees_what_is_there() -> None:
    data, seen = memory_data(), []
    found = look(memory(), data, samples=20, rows=40, ones=True, progress=lambda done: seen.append(done))
    assert found["layers"].tolist() == ["top"] and found["layers"].dtype.kind == "U"
    np.testing.assert_allclose(found["preference_top"], [[0, 0.8, 0], [0.8, 0, 0]], atol=0.05)
    np.testing.assert_allclose(found["profile_top"], [[0, 1, 0], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found["usage_top"], found["preference_top"].mean(axis=0), atol=1e-6)
    assert found["entropy_top"].shape == (80,) and found["entropy_top"].max() < 1e-6
    np.testing.assert_array_equal(found["images_top"], memory().slots)
    fall, error = found["knockout_top"].T
    assert fall[0] > 3 * error[0] and fall[1] > 3 * error[1], "slots in use are worth something"
    assert fall[2] == 0.0 and error[2] == 0.0, "with common random numbers an unread slot is worth exactly nothing"
    assert found["disabled_top"].shape == (2, 2) and (found["disabled_top"][:, 0] > 0).all()
    assert seen == [1, 2, 3, 4, 5]
    slots, values = top_slots(found["preference_top"], 2)
    assert slots[:, 0].tolist() == [1, 0] and (values[:, 0] > 0.75).all()


def test_the_knock_out_without_common_random_numbers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from reverie.evaluate import microscope

    real = microscope.fall
    monkeypatch.setattr(microscope, "fall", lambda *a, seed, **k: real(*a, seed=seed + 1, **k))
    found = look(memory(), memory_data(), samples=20, rows=40)
    assert found["knockout_top"][2, 0] != 0.0


def test_the_microscope_works_without_classes_and_without_knocking_out() -> None:
    x = memory_data().rows("test")
    found = look(memory(), dataset(splits={"train": Rows(x), "test": Rows(x)}, class_names=None), knockout=False)
    assert found["preference_top"].shape == (0, 3) and found["usage_top"].shape == (3,)
    assert not any(name.startswith("knockout") for name in found)


def test_entropy_is_of_the_normalised_attention() -> None:
    weights = np.array([[0.5, 0.5, 0.5, 0.5], [0.0, 0.9, 0.0, 0.0], [0.1, 0.3, 0.0, 0.0], [0, 0, 0, 0]])
    expected = [np.log(4), 0.0, -0.25 * np.log(0.25) - 0.75 * np.log(0.75), 0.0]
    np.testing.assert_allclose(entropy(normalised(weights)), expected, atol=1e-12)


def test_a_model_without_a_memory_is_told() -> None:
    with pytest.raises(ReverieError, match="has none"):
        look(two_layers(), dataset())
