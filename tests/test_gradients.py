"""Bias and variance of estimators of a gradient, against enumeration of every draw; the verb that tells them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.enumeration import all_tuples, bound_gradient, gradients, slope, some, tables
from tests.oracles import assert_kills

import reverie
from reverie import cli
from reverie.errors import ReverieError
from reverie.evaluate import gradient_ways
from reverie.evaluate import gradients as measuring
from reverie.models.directed import helmholtz
from reverie.models.directed._binary import Helmholtz
from reverie.prob.score_surrogates import SCORED, score, without

X = np.array([1.0, 0.0, 1.0, 1.0])


def truth(name: str, k: int) -> tuple[list[np.ndarray], list[float]]:
    """Return mean gradient and summed variance, of P and of Q, of one draw of an estimator for the row X."""
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr("reverie.prob.bounds.sample_keys", lambda keys, k, start=0: keys[start : start + k])
        model = some()
        draws, mass = all_tuples(model, X, k)
        surrogate = SCORED[name] if name in SCORED else partial(score, baseline=name)
        each = gradients(surrogate, model, draws, jnp.broadcast_to(jnp.asarray(X), (len(draws), 4)), k)
        parts = [np.asarray(part) for part in jax.vmap(lambda g: measuring.flat(g))(each)]
        mass = np.asarray(mass)
        means = [mass @ part for part in parts]
        return means, [float(mass @ (p**2).sum(axis=1) - (m**2).sum()) for p, m in zip(parts, means, strict=True)]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Two thousand draws at a fixed seed of every estimator, k = 2, one row."""
    plain = Helmholtz(**vars(jax.tree.map(lambda a: a.astype(jnp.float32), some())))
    return measuring.measure(plain, X[None].astype(np.float32), k=2, draws=2000, seed=1)


@pytest.mark.parametrize(("way", "name"), [("vimco", "vimco"), ("score, leave-one-out", "leave-one-out"),
                                           ("score, none", "none")])  # fmt: skip
def test_noise_is_the_enumerated_one_and_no_bias_is_found_where_there_is_none(
    way: str, name: str, found: dict[str, Any]
) -> None:
    means, variances = truth(name, 2)
    for group, mean, variance in zip(("P", "Q"), means, variances, strict=True):
        got = found[way][group]
        assert got.noise == pytest.approx(np.sqrt(variance / (mean @ mean)), rel=0.08)
        assert got.bias_low == 0.0 and got.bias_high < 0.3


def test_bias_is_the_enumerated_one_where_there_is_one(found: dict[str, Any]) -> None:
    """The wake update of q follows the posterior's divergence with a bias of order 1/k."""
    with jax.enable_x64(True):
        model = some()

        def divergence(m: Any) -> Any:
            log_p, log_q = tables(m, X)
            return jax.lax.stop_gradient(jax.nn.softmax(log_p)) @ log_q

        wanted = np.asarray(measuring.flat(slope(divergence, model))[1])
    off = float(np.linalg.norm(wake_of_q() - wanted) / np.linalg.norm(wanted))
    got = found["rws, wake"]["Q"]
    assert got.target == "wake" and got.biased
    assert got.bias_low - 0.02 < off < got.bias_high + 0.02 and off > 0.1


def wake_of_q() -> np.ndarray:
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr("reverie.prob.bounds.sample_keys", lambda keys, k, start=0: keys[start : start + k])
        model = some()
        draws, mass = all_tuples(model, X, 2)
        rows = jnp.broadcast_to(jnp.asarray(X), (len(draws), 4))
        each = gradients(partial(SCORED["rws"], q_updates="wake"), model, draws, rows, 2)
        return np.asarray(mass) @ np.asarray(jax.vmap(lambda g: measuring.flat(g)[1])(each))


def test_targets_are_counted_where_they_can_be(enumerated: None) -> None:
    model = some((2, 1))
    batch = {"x": jnp.asarray(np.stack([X, 1 - X])), "given": None, "step": jnp.zeros((), int)}

    def mean(m: Any) -> Any:
        each = [jnp.exp(q) @ (p - q) for p, q in (tables(m, row) for row in (X, 1 - X))]
        return sum(each) / 2

    got = measuring._counted("elbo", Helmholtz(**vars(model)), batch)
    assert got is not None and got.variance(0) == 0.0
    for part, wanted in zip(got.blocks, measuring.flat(slope(mean, model)), strict=True):
        np.testing.assert_allclose(part[0], wanted, atol=1e-6)
    bound = bound_gradient(model, X, 1)
    assert_kills(
        lambda tree: np.testing.assert_allclose(measuring.flat(tree)[0], measuring.flat(bound)[0], atol=1e-9),
        slope(lambda m: (lambda p, q: jnp.exp(q) @ (p - q))(*tables(m, X)), model), slope(mean, model),
    )  # fmt: skip


def test_a_squared_bias_has_noise_taken_off_and_an_honest_error() -> None:
    """200 repetitions without a bias: their mean is 0 within four errors, and two errors are passed by few."""
    rng = np.random.default_rng(0)

    def of(draws: np.ndarray) -> measuring.Drawn:
        blocks = draws.reshape(20, -1, draws.shape[1]).mean(axis=1)
        square = float((draws**2).sum(axis=1).mean())
        return measuring.Drawn((blocks, blocks), (square, square), len(draws))

    target = 3.0 * np.ones(30)
    pairs = [[of(target + rng.normal(size=(n, 30))) for n in (100, 400)] for _ in range(200)]
    squares, errors = np.array([measuring._squared_bias(*pair, 0) for pair in pairs]).T
    assert abs(squares.mean()) < 4 * squares.std() / np.sqrt(200)
    assert np.mean(squares > 2 * errors) < 0.06 and errors.mean() == pytest.approx(squares.std(), rel=0.35)
    off = [measuring.compared(of(target + 1.0 + rng.normal(size=(100, 30))), pair[1], 0, "elbo") for pair in pairs[:20]]
    assert np.mean([one.bias for one in off]) == pytest.approx(1 / 3, rel=0.05) and all(one.biased for one in off)


def test_a_continuous_model_has_the_reparameterised_ones_and_a_binary_one_has_not() -> None:
    run = reverie.train("vae", np.eye(40, 6), run="vae", latent=(2,), hidden=((4,),), batch=10, epochs=1)
    x = run.data.rows("train", 0, 2)
    names = set(gradient_ways.known_ways(run.model, x[0], 3))
    assert {"elbo", "elbo-analytic", "iwae", "dreg", "vimco", "score, leave-one-out"} <= names
    assert not {name for name in names if name.startswith(("concrete", "straight"))}
    got = run.gradients(k=3, rows=8, draws=400, only=("iwae", "stl", "dreg"))
    # Through draws and twice so: the same target, less noise (Tucker et al.); stl is biased for k > 1.
    assert got["dreg"]["Q"].noise < got["iwae"]["Q"].noise
    assert got["iwae"]["P"].bias_low == 0.0 and not got["dreg"]["Q"].biased
    plain = Helmholtz(**vars(jax.tree.map(lambda a: a.astype(jnp.float32), some())))
    binary = set(gradient_ways.known_ways(plain, X.astype(np.float32), 1))
    assert "vimco" not in binary and "elbo" not in binary and "concrete, 0.5" in binary
    assert without(jnp.zeros(3)).shape == (3,)


def test_the_verb_tells_keeps_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = {**helmholtz.TINY, "epochs": 1, "latent": (6,), "surrogate": "score", "baseline": "input"}
    run = reverie.train("helmholtz", "digits", run=tmp_path / "run", **how)
    words = ["gradients", str(run.path), "--draws", "40", "--rows", "4", "--k", "2"]
    assert cli.main([*words, "--only", "vimco; score, input; score, running-mean", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["estimators"]) == {"vimco", "score, input", "score, running-mean"}
    assert told["estimators"]["vimco"]["P"]["target"] == "bound" and told["estimators"]["vimco"]["ms"] > 0
    kept = json.loads((run.path / "gradients.json").read_text())
    assert kept["k"] == 2 and kept["rows"] == 4
    assert (run.path / "gradients.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main([*words, "--only", "vimco", "--out", str(tmp_path / "own.svg")]) == 0
    drawing = (tmp_path / "own.svg").read_text()
    assert "#fe0" not in drawing and "vimco" in drawing
    assert "noise" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"only": ("vimko",)}, "only: 'vimko' .*did you mean 'vimco'"),
        ({"draws": 10}, "draws: 10 are too few"),
        ({"rows": 0}, "rows: 0"),
        ({"k": 0}, "k: give 1"),
        ({"k": 1, "only": ("vimco",)}, "k: vimco compares a row's samples"),
        ({"split": "exam"}, "split: 'exam'"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict, words: str, tmp_path: Path) -> None:
    tiny = {"latent": (2,), "batch": 5, "epochs": 1, "valid_samples": 2}
    run = reverie.train("helmholtz", np.eye(30, 4), run=tmp_path / "run", **tiny)
    with pytest.raises(ReverieError, match=words) as caught:
        run.gradients(**how)
    assert "\n" not in str(caught.value)


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    run = reverie.train("nade", np.eye(30, 4), run=tmp_path / "run", hidden=2, batch=5, epochs=1)
    with pytest.raises(ReverieError, match=r"gradients: .*nade is not"):
        run.gradients()
