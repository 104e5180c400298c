"""Autoencoders against closed forms: principal components, Wiener's filter, Jacobians, divergences, supports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import linalg, optimize
from tests.oracles import assert_kills, assert_same, linear_data
from tests.stops import assert_same_weights, stopped_in_every_stage

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.models.reconstructing import _learning as learning
from reverie.models.reconstructing import _stack
from reverie.models.reconstructing._net import Corruption, Net, contraction, slopes_of, strongest
from reverie.models.reconstructing.autoencoder import recipe
from reverie.train.recipe import Brief

SHORT: dict[str, Any] = {"batch": 100, "epochs": 3, "stack": {"epochs": 2}}


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def net(
    widths: tuple[int, ...] = (6, 5, 3), *, tied: bool = False, real: bool = False, seed: int = 0, **more: Any
) -> Net:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    pairs = list(pairwise(widths))
    up, down = tuple(draw(a, b) for a, b in pairs), tuple(draw(b, a) for a, b in pairs)
    biases = tuple(draw(b) for _, b in pairs), tuple(draw(a) for a, _ in pairs)
    return Net(up, biases[0], () if tied else down, biases[1], real, **more)


def rows_like(model: Net, n: int = 9, seed: int = 1) -> Any:
    return jnp.asarray(np.random.default_rng(seed).uniform(size=(n, model.down_biases[0].size)))


def fitted(model: Net, aim: Any, rows: Any) -> Net:
    """The net at the minimum of an objective whose noise is held, by L-BFGS."""
    flat, back = ravel_pytree(model)
    batch = {"x": jnp.asarray(rows), "step": jnp.asarray(0)}
    loss = jax.jit(jax.value_and_grad(lambda w: aim(back(w), batch, None, jax.random.key(0))[0]))
    told = lambda w: tuple(np.asarray(part, np.float64) for part in loss(w))  # noqa: E731
    found = optimize.minimize(
        told, flat, jac=True, method="L-BFGS-B", options={"maxiter": 3000, "ftol": 0, "gtol": 1e-9}
    )
    return back(jnp.asarray(found.x))


@pytest.mark.parametrize("tied", [False, True])
def test_a_linear_net_finds_the_principal_components(tied: bool, double: None) -> None:
    x = linear_data()
    model = fitted(net((8, 3), real=True, units="linear", tied=tied), learning.objective(), x)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    error = (
        ((x - np.asarray(jax.vmap(lambda r: model.decode(model.encode(r)))(jnp.asarray(x)))) ** 2).sum(axis=1).mean()
    )
    assert error == pytest.approx(values[:-3].sum(), abs=1e-4)
    assert linalg.subspace_angles(np.asarray(model.decoder[0]).T, vectors[:, -3:]).max() < 1e-3


def test_a_linear_denoising_net_is_wieners_filter(double: None) -> None:
    rng, level = np.random.default_rng(0), 0.8
    spread = np.diag([1.5, 1.0, 0.4]) @ linalg.orth(rng.normal(size=(3, 3)))
    x = rng.normal(size=(100_000, 3)) @ spread
    sigma = np.cov(x.T, bias=True)
    wanted = sigma @ np.linalg.inv(sigma + level**2 * np.eye(3))

    def check(kind: str) -> None:
        start = net((3, 3), real=True, units="linear", corruption=Corruption(kind, level))  # type: ignore[arg-type]
        model = fitted(start, learning.objective(), x)
        np.testing.assert_allclose(np.asarray(model.up[0] @ model.decoder[0]).T, wanted, atol=1e-2)

    assert_kills(check, "gaussian", "none")


def test_a_denoising_net_points_along_the_score_of_the_smoothed_rows(double: None) -> None:
    """Rows of a line with a little noise around it, where the smoothed law is normal and its score is known."""
    rng, level = np.random.default_rng(1), 0.8
    centre, line = np.array([2.0, -1.0]), np.array([1.2, 0.9])
    x = centre + rng.normal(size=(50_000, 1)) * line + 0.3 * rng.normal(size=(50_000, 2))
    spread = np.outer(line, line) + (0.09 + level**2) * np.eye(2)
    smoothed = jax.grad(lambda at: jax.scipy.stats.multivariate_normal.logpdf(at, jnp.asarray(centre), spread))
    at = jnp.asarray(centre + rng.normal(size=(20, 2)))
    start = net((2, 2), real=True, units="linear", corruption=Corruption("gaussian", level))
    model = fitted(start, learning.objective(), x)
    away = np.asarray(jax.vmap(lambda row: model.decode(model.encode(row)))(at) - at)

    def check(variance: float) -> None:
        # 50,000 rows leave the map uncertain by some 0.004, the score two units from the centre by 0.015.
        np.testing.assert_allclose(away / variance, np.asarray(jax.vmap(smoothed)(at)), atol=0.03)

    assert_kills(check, level**2, level)


# Contraction


@pytest.mark.parametrize(
    ("widths", "units", "code"),
    [((6, 4), "", "sigmoid"), ((6, 5, 4, 3), "tanh", "sigmoid"), ((6, 5, 3), "relu", "linear")],
)
def test_the_contraction_is_that_of_the_jacobian(widths: tuple[int, ...], units: str, code: str, double: None) -> None:
    model = net(widths, tied=True, units=units, code_units=code)
    rows = rows_like(model)

    def exact(m: Net) -> Any:
        return (jax.vmap(jax.jacobian(m.encode))(rows) ** 2).sum(axis=(1, 2)).mean()

    def ours(m: Net, key: Any = None) -> Any:
        return learning.contracted(m, jax.vmap(m.layers)(rows), key)

    assert float(ours(model)) == pytest.approx(float(exact(model)), rel=1e-10)
    assert_same(eqx.filter_grad(ours)(model), eqx.filter_grad(exact)(model), 1e-8)
    drawn = np.asarray(jax.vmap(lambda key: ours(model, key))(jax.random.split(jax.random.key(0), 1000)))
    assert abs(drawn.mean() - exact(model)) < 4.5 * drawn.std() / np.sqrt(len(drawn))


def test_what_is_added_to_the_loss_is_the_cost_times_the_contraction(double: None) -> None:
    model = net((6, 4), tied=True, code_units="sigmoid")
    batch = {"x": rows_like(model), "step": jnp.asarray(0)}
    told = lambda cost: learning.objective(contract=learning.Contraction(cost))(model, batch, None, jax.random.key(0))  # noqa: E731
    (plain, _, _), (more, _, shown) = told(0.0), told(0.7)
    h = 1 / (1 + np.exp(-np.asarray(batch["x"] @ model.up[0] + model.up_biases[0])))
    by_hand = (((h * (1 - h)) ** 2) * (np.asarray(model.up[0]) ** 2).sum(axis=0)).sum(axis=1).mean()
    assert float(more - plain) == pytest.approx(0.7 * by_hand, rel=1e-9)
    assert float(shown["contraction"]) == pytest.approx(by_hand, rel=1e-9)
    one = [np.asarray(s) for s in slopes_of(model, model.layers(batch["x"][0]))]
    assert float(contraction([model.up[0]], [jnp.asarray(one[0])])) > 0


# Sparse codes


def test_the_divergence_is_nothing_at_its_target_alone_and_its_slope_is_known(double: None) -> None:
    q = jnp.asarray([0.01, 0.05, 0.3, 0.9])
    found = learning.kl(0.05, q)
    assert float(found[1]) == pytest.approx(0.0, abs=1e-15) and (np.asarray(found)[[0, 2, 3]] > 1e-3).all()
    slope = jax.grad(lambda q: learning.kl(0.05, q).sum())(q)
    np.testing.assert_allclose(slope, -0.05 / q + 0.95 / (1 - q), rtol=1e-9, atol=1e-12)
    step = 1e-6
    up, down = learning.kl(0.05, q + step), learning.kl(0.05, q - step)
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-5, atol=1e-6)
    # Units that are never or always on cost much, but no infinity.
    assert np.isfinite(learning.kl(0.05, jnp.asarray([0.0, 1.0]))).all()


def test_the_gradient_of_sparsity_is_the_slope_at_the_running_mean_times_that_of_the_batch(double: None) -> None:
    model, how = net((6, 4), tied=True, code_units="sigmoid"), learning.Sparsity(cost=2.0)
    batch, kept = {"x": rows_like(model), "step": jnp.asarray(50)}, jnp.asarray([0.1, 0.2, 0.3, 0.4])
    flat, back = ravel_pytree(model)

    def loss(w: Any, cost: float) -> Any:
        aim = learning.objective(replace(how, cost=cost))
        return aim(back(w), batch, kept if cost else None, jax.random.key(0))

    def mean(w: Any) -> Any:
        return jax.vmap(back(w).encode)(batch["x"]).mean(axis=0)

    now = 0.9 * kept + 0.1 * mean(flat)
    slope = 2.0 * (-0.05 / now + 0.95 / (1 - now))
    (value, carry, _), plain = loss(flat, 2.0), loss(flat, 0.0)[0]
    assert float(value - plain) == pytest.approx(2.0 * float(learning.kl(0.05, now).sum()), rel=1e-9)
    np.testing.assert_allclose(carry, now, rtol=1e-12)
    found = jax.grad(lambda w: loss(w, 2.0)[0] - loss(w, 0.0)[0])(flat)
    step, some = 1e-6, [0, 7, 25]
    for i in some:
        nudge = jnp.zeros_like(flat).at[i].set(step)
        moved = float(slope @ (mean(flat + nudge) - mean(flat - nudge))) / (2 * step)
        assert float(found[i]) == pytest.approx(moved, rel=1e-4, abs=1e-8)
    # At first it is a plain mean, so that nothing is left of where it began.
    np.testing.assert_allclose(learning.running(mean(flat), kept, jnp.asarray(0), 0.9), mean(flat), rtol=1e-12)


def test_exactly_the_strongest_are_kept_and_gradients_go_through_them_alone() -> None:
    z = jnp.asarray([0.5, 2.0, -3.0, 2.0, 0.5, 0.5])
    np.testing.assert_array_equal(strongest(z, 3), [0.5, 2.0, 0, 2.0, 0, 0])  # of equal ones the first
    np.testing.assert_array_equal(strongest(z, jnp.asarray(1), 4), [0, 2.0, 0, 0, 0, 0])
    slope = jax.grad(lambda z: (strongest(z, 3) * jnp.arange(1.0, 7.0)).sum())(z)
    np.testing.assert_array_equal(slope, [1.0, 2.0, 0, 4.0, 0, 0])
    model = net((6, 12), tied=True, real=True, keep=4)
    codes = np.asarray(jax.vmap(model.encode)(rows_like(model)))
    assert ((codes != 0).sum(axis=1) == 4).all()
    assert ((np.asarray(jax.vmap(replace(model, wide=2.0).encode)(rows_like(model))) != 0).sum(axis=1) == 8).all()
    full, plain = replace(model, keep=12), replace(model, keep=0)
    x = rows_like(model)[0]
    assert_same(full.reconstruct(jax.random.key(0), x), plain.reconstruct(jax.random.key(0), x), 0)


def test_more_numbers_are_kept_at_first_and_fewer_by_the_step() -> None:
    how = learning.Sparsity(keep=5)
    kept = [int(how.kept(64, jnp.asarray(step), 100)[0]) for step in (0, 10, 25, 49, 50, 99)]
    assert kept[0] == 20 and kept[-2:] == [5, 5] and kept == sorted(kept, reverse=True) and 5 < kept[2] < 20
    assert how.kept(64, jnp.asarray(0), 100)[1] == 20 and learning.Sparsity(keep=5).kept(8, jnp.asarray(0), 9)[1] == 8
    model = net((6, 12), tied=True, real=True, keep=2)
    batch = {"x": rows_like(model), "step": jnp.asarray(0)}
    early, late = (
        learning.objective(learning.Sparsity(keep=2), steps=10)(model, {**batch, "step": jnp.asarray(s)}, None,
                                                                 jax.random.key(0))[0]
        for s in (0, 9)
    )  # fmt: skip
    assert float(early) != float(late)


# Noise


def test_noise_is_what_it_is_called() -> None:
    x, key, n = jnp.full(40_000, 0.7), jax.random.key(0), 40_000
    within = lambda share, p: abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / n)  # noqa: E731
    masked = np.asarray(Corruption("masking", 0.3)(key, x))
    assert within((masked == 0).mean(), 0.3) and (masked[masked != 0] == x[0]).all()
    salted = np.asarray(Corruption("salt-and-pepper", 0.3)(key, x, (-1.0, 1.0)))
    assert within((salted == -1).mean(), 0.15) and within((salted == 1).mean(), 0.15)
    added = np.asarray(Corruption("gaussian", 0.3)(key, x)) - 0.7
    assert abs(added.mean()) < 4.5 * 0.3 / np.sqrt(n) and abs(added.var() - 0.09) < 4.5 * 0.09 * np.sqrt(2 / n)
    np.testing.assert_array_equal(Corruption()(key, x), x)


def test_clean_rows_must_come_back_from_noise_that_is_drawn_at_each_step(double: None) -> None:
    model = net((6, 5), code_units="sigmoid", corruption=Corruption("masking", 0.4))
    batch = {"x": rows_like(model), "step": jnp.asarray(0)}
    told = [float(learning.objective()(model, batch, None, jax.random.key(k))[0]) for k in (0, 0, 1)]
    assert told[0] == told[1] != told[2]
    seen = model.corruption(jax.random.split(jax.random.key(0))[0], batch["x"])
    p = np.asarray(jax.vmap(lambda x: model.decode(model.encode(x)))(seen))
    x = np.asarray(batch["x"])
    assert told[0] == pytest.approx(-(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean(), rel=1e-9)


# Stacks


def test_the_code_of_the_whole_net_is_the_stacked_one_to_the_bit() -> None:
    data = data_floor.load("digits", binarisation="means")
    model, made = recipe(Brief(data, jax.random.key(0), 1.0), hidden=(7, 5), code=3, pretrain="ae")
    names = []
    while made.next is not None:
        names.append(made.name)
        model, made = made.next(model, data, made.carry)
    rows = jnp.asarray(data.rows("test")[:20])
    assert names == ["layer 1", "layer 2", "layer 3"] and model.down == ()
    np.testing.assert_array_equal(_stack.below(model, rows, 3), jax.vmap(model.encode)(rows))


@pytest.mark.parametrize("units", ["sigmoid", "tanh"])
def test_a_layer_of_a_denoising_stack_gives_back_clean_codes(units: str, double: None) -> None:
    model = net((6, 5, 4), units=units, code_units=units, corruption=Corruption("salt-and-pepper", 0.5))
    batch = {"x": rows_like(model)}
    loss = _stack.shallow(1, "dae")(model, batch, None, jax.random.key(0))[0]
    codes = jax.vmap(lambda x: model.lifted(x, 0))(batch["x"])
    noisy = model.corruption(jax.random.key(0), codes, (0.0, 1.0) if units == "sigmoid" else (-1.0, 1.0))
    s = jax.nn.sigmoid if units == "sigmoid" else jnp.tanh
    back = s(s(noisy @ model.up[1] + model.up_biases[1]) @ model.down[1] + model.down_biases[1])
    wanted = (
        -(codes * jnp.log(back) + (1 - codes) * jnp.log(1 - back)) if units == "sigmoid" else 0.5 * (codes - back) ** 2
    )
    assert float(loss) == pytest.approx(float(wanted.sum(axis=1).mean()), rel=1e-9)
    held = _stack.shallow(1, "cae", 0.3)(model, batch, None, jax.random.key(0))[0]
    plain = _stack.shallow(1, "ae")(model, batch, None, jax.random.key(0))[0]
    jacobians = jax.vmap(jax.jacobian(lambda a: model.lifted(a, 1)))(codes)
    assert float(held - plain) == pytest.approx(0.3 * float((jacobians**2).sum(axis=(1, 2)).mean()), rel=1e-9)


def test_stages_stopped_anywhere_end_where_an_untouched_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {**SHORT, "hidden": (9,), "code": 5, "pretrain": "dae", "corruption": {"kind": "masking"},
           "sparsity": {"cost": 1.0}}  # fmt: skip
    whole: Any = reverie.train("autoencoder", "digits", run=tmp_path / "whole", **how)
    parts = stopped_in_every_stage(monkeypatch, "autoencoder", "digits", tmp_path / "parts", **how)
    assert len(whole.record["plan"]["stages"]) == 3
    assert_same_weights(whole, parts)


# What comes of it


@pytest.fixture(scope="module")
def denoising(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return reverie.train("autoencoder", "digits", run=tmp_path_factory.mktemp("runs") / "run", preset="denoising")


def pca_error(run: Any, count: int) -> float:
    from sklearn.decomposition import PCA

    x, test = run.data.rows("train"), run.data.rows("test")
    pca = PCA(count).fit(x)
    return float(((test - pca.inverse_transform(pca.transform(test))) ** 2).sum(axis=1).mean())


def test_a_denoising_one_takes_most_noise_away_and_says_so(denoising: Any) -> None:
    found = denoising.evaluate()
    assert list(found)[:3] == ["denoising_error", "squared_error", "corrupted_error"]
    assert found["denoising_error"].value < 0.6 * found["corrupted_error"].value  # the spec's floor
    assert found["squared_error"].kind == "exact" and found["denoising_error"].kind == "estimate"
    told = [line["valid"] for line in denoising.journal() if "valid" in line]
    assert {(record["estimator"], record["kind"]) for record in told} == {("-denoising_error", "estimate")}
    assert "drawn" in found["denoising_error"].note or "draw" in found["denoising_error"].note
    # Three tenths of the cells are lost: what is lost is, in the mean, so much of the rows' squares.
    squares = float((denoising.data.rows("test") ** 2).sum(axis=1).mean())
    assert found["corrupted_error"].value == pytest.approx(0.3 * squares, rel=0.05)
    assert denoising.evaluate()["denoising_error"].value == found["denoising_error"].value
    assert all(line["valid"]["estimator"] == "-denoising_error" for line in denoising.journal() if "valid" in line)


def test_it_encodes_completes_classifies_and_shows_its_filters(denoising: Any) -> None:
    x = denoising.data.restore(denoising.data.rows("test"))[:40]
    assert denoising.encode(x).shape == (40, 100)
    mask = np.random.default_rng(0).random(x.shape) < 0.7
    filled = denoising.impute(x, mask, iterations=10).reshape(x.shape)
    np.testing.assert_array_equal(filled[mask], x[mask])
    middle = denoising.data.restore(denoising.data.rows("train")).mean(axis=0)
    wrong = lambda guess: ((x - guess)[~mask] ** 2).mean()  # noqa: E731
    assert wrong(filled) < 0.6 * wrong(np.broadcast_to(middle, x.shape))
    found = denoising.classify(epochs=20, baselines="features")
    errors = {one["method"]: one["test"].value for one in found["results"]}
    assert errors["fine-tuned/seed-0"] < 0.15 and errors["features"] < 0.15
    assert "Filters" in denoising.report().read_text()
    arrays = denoising.folder.load_arrays("filters")
    np.testing.assert_allclose(arrays["filters"], np.asarray(denoising.model.filters())[arrays["units"]], rtol=1e-6)
    assert (np.diff(arrays["used"]) <= 0).all()


@pytest.mark.parametrize(("preset", "components"), [("deep", 10), ("sparse", 5), ("k-sparse", 10), ("contractive", 10)])
def test_floors_on_digits(preset: str, components: int, tmp_path: Path) -> None:
    run: Any = reverie.train("autoencoder", "digits", run=tmp_path / "run", preset=preset)
    assert run.evaluate()["squared_error"].value < pca_error(run, components)
    codes = run.encode(run.data.restore(run.data.rows("test")))
    if preset == "sparse":
        assert abs(codes.mean() - 0.05) < 0.01
    if preset == "k-sparse":
        assert ((codes != 0).sum(axis=1) == 10).all()


def test_the_pictures_of_a_stack_are_of_all_its_layers(tmp_path: Path) -> None:
    how: dict[str, Any] = {"hidden": (9,), "code": 5, "units": "tanh", "code_units": "tanh"}
    run: Any = reverie.train("autoencoder", "digits", run=tmp_path / "run", steps=30, **how)
    run.report()
    arrays = run.folder.load_arrays("filters")
    assert arrays["filters"].shape == (9, 64) and arrays["filters_2"].shape == (5, 64)
    below = np.asarray(run.model.decoder[1]) @ np.asarray(run.model.decoder[0])
    np.testing.assert_allclose(arrays["filters_2"], below[arrays["units_2"]], rtol=1e-4, atol=1e-6)
    net_of = run.classify(epochs=1, baselines="none")["runs"][0]
    assert reverie.load(net_of).model.units == "tanh" and reverie.load(net_of).model.weights[0].shape == (64, 9)


def test_what_is_a_feature() -> None:
    shapes = lambda model: [w.shape for w, _ in model.feed_forward()]  # noqa: E731
    assert shapes(net((6, 5, 3))) == [(6, 5)] and net((6, 5, 3)).activation == "sigmoid"
    assert shapes(net((6, 5, 3), code_units="sigmoid")) == [(6, 5), (5, 3)]
    assert shapes(net((6, 5), keep=2)) == [(6, 5)] and net((6, 5), keep=2).activation == "relu"
    with pytest.raises(ReverieError, match="linear") as caught:
        net((6, 3)).feed_forward()
    assert "\n" not in str(caught.value)
    assert net((6, 3)).components == 3 and not hasattr(net((6, 9)), "components")


def test_real_columns_and_squared_errors_of_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 0.01 * rng.normal(size=(200, 5))
    how: dict[str, Any] = {"code": 2, "code_units": "linear", "batch": 20, "rate": 1e-2}
    run: Any = reverie.train("autoencoder", x, run=tmp_path / "run", epochs=60, **how)
    assert run.evaluate()["squared_error"].value < 0.1 and run.model.real
    digits = data_floor.load("digits", binarisation="means")
    model, _ = recipe(Brief(digits, jax.random.key(0), 1.0), loss="squared")
    assert model.real and np.allclose(model.down_biases[0], digits.mean)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"code": 0}, "widths"),
        ({"corruption": {"kind": "masking", "level": 1.5}}, "corruption.level"),
        ({"corruption": {"kind": "gaussian", "level": 0.0}}, "corruption.level"),
        ({"sparsity": {"cost": 1.0}, "code_units": "relu"}, "sparsity.cost"),
        ({"sparsity": {"cost": -1.0}}, "sparsity.cost"),
        ({"sparsity": {"keep": 200}, "code_units": "linear"}, "sparsity.keep"),
        ({"sparsity": {"keep": 5}}, "sparsity.keep"),
        ({"sparsity": {"keep": 5, "start": 3}, "code_units": "linear"}, "sparsity.start"),
        ({"sparsity": {"target": 0.0}}, "sparsity.target"),
        ({"sparsity": {"keep": 5}, "code_units": "linear", "contraction": {"cost": 1.0}}, "one of them"),
        ({"contraction": {"cost": -0.1}}, "contraction.cost"),
        ({"pretrain": "dae"}, "corruption.kind"),
        ({"pretrain": "cae"}, "contraction.cost"),
        ({"pretrain": "rbm", "code_units": "tanh"}, "pretrain"),
        ({"pretrain": "dae", "hidden": (5,), "units": "relu", "corruption": {"kind": "salt-and-pepper"}}, "relu"),
        ({"data": np.random.default_rng(0).normal(size=(20, 3)), "corruption": {"kind": "salt-and-pepper"}}, "real"),
        ({"data": np.random.default_rng(0).normal(size=(20, 3)), "loss": "cross-entropy"}, "loss"),
        ({"data": np.arange(60).reshape(20, 3) % 4, "likelihood": "categorical"}, "categorical"),
    ],
)  # fmt: skip
def test_wrong_input_gets_one_line(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        reverie.train("autoencoder", **{"data": "digits", "run": tmp_path / "run", "steps": 2, **arguments})
    assert "\n" not in str(caught.value)
