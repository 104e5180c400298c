"""Deep belief nets against enumeration, and the learning of layers one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.oracles import assert_kills
from tests.stops import assert_same_weights, stopped_in_every_stage

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.evaluate import annealing, energy
from reverie.models.undirected import _belief as belief
from reverie.models.undirected import _pretrain as layerwise
from reverie.models.undirected.dbn import DBN, untrained
from reverie.models.undirected.rbm import RBM
from reverie.nn.units import Binary, Gaussian
from reverie.prob import partition


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def bits(n: int) -> Any:
    return jnp.asarray(list(product([0.0, 1.0], repeat=n)))


def net(widths: tuple[int, ...] = (4, 3, 3), seed: int = 0) -> DBN:
    """A net with standard normal weights everywhere, recognition included."""
    rng = np.random.default_rng(seed)
    drawn = lambda tree: jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), tree)  # noqa: E731
    data = data_floor.load(np.eye(widths[0], dtype=np.uint8).repeat(2, axis=0))
    made = untrained(data, widths[1:], jax.random.key(seed))
    return replace(drawn(made), top=drawn(made.top))


def log_p(model: DBN) -> np.ndarray:
    """The logarithm of p(v) of every v of a net of two hidden layers, by summing over everything."""
    v, h = bits(model.biases[0].size), bits(model.up_biases[0].size)
    below = jax.vmap(lambda a: model.weights[0] @ a + model.biases[0])(h)
    told = v @ below.T - jax.nn.softplus(below).sum(axis=1)
    prior = jax.vmap(model.top.log_unnormalised)(h)  # type: ignore[attr-defined]
    return np.asarray(jax.nn.logsumexp(told + prior - jax.nn.logsumexp(prior), axis=1))


def test_a_net_sums_to_one_and_its_z_is_the_top_s(double: None) -> None:
    model = net()
    assert np.exp(log_p(model)).sum() == pytest.approx(1.0, abs=1e-12)
    assert partition.enumerated(model) == pytest.approx(partition.enumerated(model.top), abs=1e-12)
    prior = jax.vmap(model.top.log_unnormalised)(bits(3))  # type: ignore[attr-defined]
    assert partition.enumerated(model) == pytest.approx(float(jax.nn.logsumexp(prior)), abs=1e-10)


def test_weights_are_unbiased_for_p_and_their_mean_log_is_a_bound(double: None) -> None:
    model = net()
    truth, v = log_p(model) + partition.enumerated(model), bits(4)[:6]

    def check(m: DBN) -> None:
        found = np.asarray(jax.vmap(lambda k: jax.vmap(lambda x: m.log_weight(k, x))(v))(keys), np.float64)
        share = np.exp(found - truth[:6])
        z = (share.mean(axis=0) - 1.0) / (share.std(axis=0) / np.sqrt(len(keys)))
        assert np.abs(z).max() < 4.5
        assert (found.mean(axis=0) < truth[:6]).all()

    keys = jax.random.split(jax.random.key(1), 20_000)
    # A layer scored under another law than it was drawn from is not unbiased any more.
    other = replace(model, biases=(model.biases[0] + 0.2,))
    assert_kills(check, model, other)


def test_the_bound_is_exact_where_the_layer_is_the_one_below_upside_down(double: None) -> None:
    """A net whose top machine is the first one transposed is that machine, and q its posterior."""
    rng = np.random.default_rng(2)
    weight, b, c = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
    model = net((4, 3, 4))
    model = belief.put(model, 1, jnp.asarray(weight), jnp.asarray(b), jnp.asarray(c))
    model = belief.started(model, 2)
    alone = RBM((jnp.asarray(weight),), (jnp.asarray(b), jnp.asarray(c)), Binary(), jnp.zeros(4))
    v = bits(4)
    want = jax.vmap(alone.log_unnormalised)(v) - partition.enumerated(alone)
    found = jax.vmap(lambda x: model.log_weight(jax.random.key(0), x))(v) - partition.enumerated(model)
    np.testing.assert_allclose(np.asarray(found), np.asarray(want), atol=1e-10)
    # Of other widths it starts where it was.
    assert belief.started(net((4, 3, 5)), 2).top.weights[0].shape == (3, 5)


def test_evaluation_brackets_the_bound_and_importance_is_tighter(double: None) -> None:
    model, rows = net(), np.asarray(bits(4))
    truth = log_p(model).mean()
    elbo = energy.annealed_energy(model, rows)
    tight = energy.annealed_energy(model, rows, importance=2000)
    assert elbo.kind == tight.kind == "lower_bound" and tight.estimator.startswith("importance-2000")
    noise = 4.5 * np.sqrt(tight.variances.sum()) / len(rows)
    assert elbo.values.mean() < truth and abs(tight.values.mean() - truth) < noise + 0.01
    top, lifted = annealing.annealed_part(model, rows)
    assert top is not model and lifted.shape == (16, 3)
    both = energy.annealed_energy(model, rows, exact=False, temperatures=200, most=200)
    assert both.info["low"][0] - 0.3 < partition.enumerated(model) < both.info["high"][0] + 0.3


def test_up_down_learns_each_direction_from_the_other(double: None) -> None:
    """The wake slopes are those of E_q log p(v, h), the sleep slopes those of E_p log q(h | v)."""
    model = net((3, 2, 2), seed=4)
    rows = jnp.tile(bits(3), (400, 1))
    found = jax.jit(belief.updown_gradients((1,), 10))
    keys = jax.random.split(jax.random.key(0), 40)
    losses = [found(model, {"x": rows, "step": jnp.asarray(0)}, (), key)[0] for key in keys]
    mean = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]).mean(axis=0), *losses)

    def wake(weights: Any) -> Any:
        v, h = bits(3), bits(2)
        q = jax.nn.sigmoid(v @ model.up_weights[0] + model.up_biases[0])
        law = jnp.prod(jnp.where(h[None] == 1, q[:, None], 1 - q[:, None]), axis=-1)
        fields = h @ weights.T + model.biases[0]
        told = v @ fields.T - jax.nn.softplus(fields).sum(axis=1)
        return -(law * told).sum(axis=1).mean()

    np.testing.assert_allclose(mean.weights[0], jax.grad(wake)(model.weights[0]), atol=0.02)
    # The sleep slope is nothing where q is the posterior of what is dreamt: no weights either way.
    flat = replace(model, weights=(0 * model.weights[0],), up_weights=(0 * model.up_weights[0],),
                   top=replace(model.top, weights=(0 * model.top.weights[0],)))  # fmt: skip
    flat = replace(flat, up_biases=(flat.top.biases[0],))
    dreams = [found(flat, {"x": rows, "step": jnp.asarray(0)}, (), key)[0].up_biases[0] for key in keys]
    np.testing.assert_allclose(np.mean(dreams, axis=0), 0.0, atol=0.02)
    assert np.abs(mean.up_weights[0]).max() > 0.02


# Layers one by one


def test_doubled_both_ways_is_a_machine_of_twice_the_weights(double: None) -> None:
    rng = np.random.default_rng(0)
    weight, b, c = (jnp.asarray(rng.normal(size=shape)) for shape in ((5, 4), (5,), (4,)))
    rows = jnp.asarray(rng.integers(0, 2, (30, 5)).astype(float))
    run = lambda w, b, c, **how: layerwise.contrast(  # noqa: E731
        jax.random.key(3), w, b, c, rows, visible=Binary(), hidden=Binary(), count=2, **how
    )
    once, twice = run(2 * weight, 2 * b, 2 * c), run(weight, b, c, up=2.0, down=2.0)
    jax.tree.map(np.testing.assert_array_equal, once, twice)
    assert not np.allclose(run(weight, b, c).weights, twice.weights)


def test_a_contrast_is_nothing_at_the_model_s_own_rows(double: None) -> None:
    """Rows drawn from the machine itself stay its law, whatever units it has; a mutant's do not."""
    rng = np.random.default_rng(1)
    weight, b, c = (jnp.asarray(rng.normal(size=shape)) for shape in ((4, 3), (4,), (3,)))
    model = RBM((weight,), (b, c), Binary(), jnp.zeros(4))
    p = np.exp(np.asarray(jax.vmap(model.log_unnormalised)(bits(4))))
    rows = bits(4)[rng.choice(16, 40_000, p=p / p.sum())]

    def check(up: float) -> None:
        at = layerwise.contrast(jax.random.key(0), weight, b, c, rows, visible=Binary(), hidden=Binary(), up=up)
        for gap in (at.weights, at.below, at.above):
            assert np.abs(np.asarray(gap)).max() < 4.5 * np.sqrt(0.5 / 40_000)

    assert_kills(check, 1.0, 2.0)
    # Linear code units of unit variance: the mean is the field, and sweeps stay where a model without weights is.
    flat = layerwise.contrast(jax.random.key(0), 0 * weight, 0 * b, c, (rows * 0 + rng.integers(0, 2, rows.shape)),
                              visible=Binary(), hidden=Gaussian(jnp.zeros(3)))  # fmt: skip
    np.testing.assert_allclose(np.asarray(flat.above), 0.0, atol=1e-12)


def test_shares_give_the_factors_of_the_paper() -> None:
    half, more = layerwise.Pretrain(share=0.5), layerwise.Pretrain(share=2 / 3)
    assert [half.factors(layer, 3) for layer in (1, 2, 3)] == [(2.0, 1.0), (2.0, 2.0), (1.0, 2.0)]
    np.testing.assert_allclose([more.factors(layer, 2) for layer in (1, 2)], [(3.0, 1.0), (1.0, 1.5)])


@pytest.mark.parametrize("model, settings", [
    ("dbm", {"hidden": (12, 8), "pretrain": {"epochs": 2}}),
    ("dbn", {"hidden": (12, 8), "pretrain": {"epochs": 2}, "updown": {"epochs": 1}}),
])  # fmt: skip
def test_stages_stopped_anywhere_end_where_an_untouched_run_does(
    model: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"batch": 100, "epochs": 3, "valid_every": 1, **settings}
    whole = reverie.train(model, "digits", run=tmp_path / "whole", **how)

    def in_use(run: Any) -> None:
        assert np.isfinite(run.evaluate(rows=20)["log_likelihood"].value)

    parts = stopped_in_every_stage(monkeypatch, model, "digits", tmp_path / "parts", in_use, **how)
    assert_same_weights(whole, parts)
    mains = [stage["main"] for stage in whole.record["plan"]["stages"]]
    assert sum(mains) == 1 and whole.record["plan"]["steps"] == 39


def test_a_net_refuses_what_makes_none() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"hidden": (5,)}, "rbm"),
        ({"pretrain": {"epochs": 0}}, "pretrain.epochs"),
        ({"pretrain": {"share": 1.0}}, "share"),
        ({"updown": {"sweeps": (0,)}}, "updown.sweeps"),
    ]
    for settings, word in wrong:
        with pytest.raises(ReverieError, match=word):
            reverie.train("dbn", "digits", epochs=1, **settings)
