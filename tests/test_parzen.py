"""Parzen windows and noise around a generator: exact values, the rule of the bandwidth, what the record says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm
from tests.toys import WEIGHT, dataset, linear, rows_of

from reverie import asking
from reverie.data import load
from reverie.data.dataset import Dataset, Rows
from reverie.errors import ReverieError
from reverie.evaluate import annealed, chains, measure, observed, parzen, windows
from reverie.models import load_module
from reverie.prob.contracts import Given, Implicit
from reverie.report import sections
from reverie.report.reading import RunView
from reverie.train.folder import RunFolder
from reverie.train.recipe import Brief
from reverie.trained import Trained


class Plane(Implicit):
    """x = W z + b with z ~ N(0, I): with noise around it, a Gaussian whose density is a formula."""

    weight: jax.Array
    offset: jax.Array

    def draw_prior(self, key: jax.Array, given: Given = None) -> jax.Array:
        return jax.random.normal(key, (self.weight.shape[1],))

    def log_prior(self, z: jax.Array, given: Given = None) -> jax.Array:
        return jax.scipy.stats.norm.logpdf(z).sum()

    def mean(self, z: jax.Array, given: Given = None) -> jax.Array:
        return self.weight @ z + self.offset


def plane() -> Plane:
    return Plane(WEIGHT, jnp.zeros(4))


def dense(rows: np.ndarray, means: np.ndarray, bandwidth: float) -> np.ndarray:
    """The same in float64, from differences."""
    x, mu = np.asarray(rows, np.float64), np.asarray(means, np.float64)
    gaps = np.stack([((row - mu) ** 2).sum(axis=1) for row in x])
    scale = np.log(len(mu)) + x.shape[1] * np.log(bandwidth * np.sqrt(2 * np.pi))
    return logsumexp(-gaps / (2 * bandwidth**2), axis=1) - scale


def pictures(n: int, seed: int, offset: float = 0.0) -> np.ndarray:
    """Rows like MNIST's: 784 cells, most of them nearly 0, rows near others."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(0).random((20, 784)) ** 6
    x = np.clip(rng.dirichlet(np.ones(20), n) @ basis * 3 + 0.03 * rng.standard_normal((n, 784)), 0, 1)
    return (x + offset).astype(np.float32)


def test_one_window_is_a_normal_density_and_copies_change_nothing() -> None:
    x, mu = rows_of(5), rows_of(1, 3)
    found = windows.log_density(x, mu, np.array([0.3, 2.0]))
    for b, s in enumerate((0.3, 2.0)):
        np.testing.assert_allclose(found[:, b], norm.logpdf(x, mu, s).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(windows.log_density(x, np.repeat(mu, 7, axis=0), np.array([0.3, 2.0])), found, rtol=1e-6)


def test_float32_blocks_are_within_a_thousandth_of_a_nat(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.05, half the least bandwidth of the grid.  The mutants: no window computed again, and rows not centred."""
    x, mu = pictures(300, 1), pictures(700, 2)
    x[::3] = mu[: len(x[::3])] + 0.01 * x[::3]
    truth = dense(x, mu, 0.05)
    monkeypatch.setattr(windows, "ROWS", 64)
    monkeypatch.setattr(windows, "WINDOWS", 150)
    np.testing.assert_allclose(windows.log_density(x, mu, np.array([0.05]))[:, 0], truth, rtol=0, atol=1e-3)
    # Shifted by 30, products are a thousand times as large; centring takes it off again.
    shifted = windows.log_density(x + np.float32(30), mu + np.float32(30), np.array([0.05]))[:, 0]
    near = dense(x + np.float32(30), mu + np.float32(30), 0.05)
    np.testing.assert_allclose(shifted, near, rtol=0, atol=1e-3)
    monkeypatch.setattr(windows, "DOUBT", np.inf)
    assert abs(windows.log_density(x, mu, np.array([0.05]))[:, 0] - truth).max() > 1e-3
    naive = windows.Windows(x + np.float32(30), np.array([0.05]))
    naive.centre = np.zeros_like(naive.centre)
    naive.add(mu + np.float32(30))
    assert abs(naive.log_density()[:, 0] - near).max() > 1.0


def test_windows_added_in_any_blocks_are_the_whole_at_every_bandwidth() -> None:
    x, mu, widths = pictures(40, 1), pictures(90, 2), np.array([0.1, 0.4])
    stream = windows.Windows(x, widths)
    for start in range(0, 90, 25):
        stream.add(mu[start : start + 25])
    found = stream.log_density()
    np.testing.assert_allclose(found, np.stack([dense(x, mu, s) for s in widths], axis=1), rtol=0, atol=1e-3)


def test_a_tile_is_all_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array of products is at most a tile; the mutant holds all rows by all windows."""
    seen: list[int] = []
    tile = windows.Windows._tile

    def watched(self: Any, part: slice, means: np.ndarray, *rest: np.ndarray) -> None:
        seen.append(len(self.rows[part]) * len(means))
        tile(self, part, means, *rest)

    monkeypatch.setattr(windows.Windows, "_tile", watched)
    monkeypatch.setattr(windows, "ROWS", 32)
    monkeypatch.setattr(windows, "WINDOWS", 50)
    windows.log_density(rows_of(200), rows_of(330, 1), np.array([0.5]))
    assert max(seen) <= 32 * 50 and sum(seen) == 200 * 330


def test_the_bandwidth_is_the_best_on_validation_rows_and_goes_beyond_the_grid() -> None:
    means = rows_of(400, 1)
    inside = parzen.fit(rows_of(300, 2), lambda a, b: means[a:b], 400)
    scores = [dense(rows_of(300, 2), means, s).mean() for s in parzen.GRID]
    assert inside.bandwidth == pytest.approx(parzen.GRID[int(np.argmax(scores))]) and "extended" not in inside.words
    assert "300 validation rows" in inside.words and f"{inside.bandwidth:.3g}" in inside.words
    for scale in (0.02, 50.0):
        beyond = parzen.fit(rows_of(300, 2) * scale, lambda a, b, s=scale: means[a:b] * s, 400)
        assert beyond.bandwidth == pytest.approx(inside.bandwidth * scale, rel=0.35) and "extended" in beyond.words
    # A window on every validation row: the narrower the better, and it ends all the same.
    assert parzen.fit(means[:50], lambda a, b: means[a:b], 400).bandwidth <= 1e-3


def test_an_implicit_model_is_judged_by_windows_and_has_no_log_likelihood() -> None:
    data = dataset(80, scale=np.array([2.0, 0.5, 3.0, 1.0]), shift=1.0)
    records, result = measure.evaluate(plane(), data, samples=300, sets=3)
    assert set(records) == {"parzen", "parzen_of_training_rows"}
    record = records["parzen"]
    assert (record.kind, record.estimator, record.measure, record.unit) == (
        "estimate",
        "parzen-300x3",
        "density",
        "nats",
    )
    assert "bandwidth" in (record.note or "") and "docs/parzen.md" in (record.note or "")
    assert record.monte_carlo_error > 0 and record.n == 80
    # By hand, in the file's own units: the first set alone, at the bandwidth of its rule.
    made = parzen.generator(plane(), data, seed=0, draws=False, most=300)
    fitted = parzen.fit(data.rows("valid"), made, 300)
    sets = [dense(data.rows("test"), made(300 * i, 300 * i + 300), fitted.bandwidth) - np.log(3.0) for i in range(3)]
    np.testing.assert_allclose(result.values, np.mean(sets, axis=0), rtol=0, atol=1e-3)
    assert record.monte_carlo_error == pytest.approx(np.std(np.mean(sets, axis=1), ddof=1) / np.sqrt(3), rel=1e-2)
    one = measure.evaluate(plane(), data, samples=300)[0]["parzen"]
    assert (
        np.isnan(one.monte_carlo_error) and "--sets" in (one.note or "") and one.to_json()["monte_carlo_error"] is None
    )
    with pytest.raises(ReverieError, match="estimator: 'importance' is not one of parzen, ais"):
        measure.evaluate(plane(), data, estimator="importance")


def grey(n: int = 60, **changes: Any) -> Dataset:
    rng = np.random.default_rng(0)
    splits = {name: parzen_rows(rng, n) for name in ("train", "valid", "test")}
    return dataset(
        n, **{"splits": splits, "likelihood": "bernoulli", "scale": 16.0, "binarisation": "dynamic", **changes}
    )


def parzen_rows(rng: np.random.Generator, n: int) -> Any:
    return Rows(rng.integers(0, 17, (n, 4)).astype(np.uint8), np.arange(n) % 2)


def test_grey_rows_stay_grey_and_can_be_dequantised() -> None:
    data = grey()
    record, result = measure.evaluate(linear(), data, estimator="parzen", samples=50)
    assert record["parzen"].binarisation == "means" and "cells in [0, 1]" in (record["parzen"].note or "")
    grey_rows = np.asarray(data.splits["test"].x / 16.0, np.float32)
    made = parzen.generator(linear(), data, seed=0, draws=False, most=50)
    width = parzen.fit(np.asarray(data.splits["valid"].x / 16.0, np.float32), made, 50).bandwidth
    np.testing.assert_allclose(result.values, dense(grey_rows, made(0, 50), width), rtol=0, atol=1e-3)
    spread = parzen._spread(data, 0)(grey_rows, 0)
    assert ((spread >= 0) & (spread < 1)).all() and (np.floor(spread * 17) == data.splits["test"].x).mean() > 0.999
    found = measure.evaluate(linear(), data, estimator="parzen", samples=50, dequantise=True, draws=True)[0]["parzen"]
    assert found.estimator == "parzen-50-draws-dequantised" and "draws" in (found.note or "")
    with pytest.raises(ReverieError, match="dequantise"):
        measure.evaluate(linear(), dataset(), estimator="parzen", samples=50, dequantise=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"likelihood": "categorical", "levels": 3}, "categorical"), ({"missing": True}, "missing cells")],
)
def test_rows_without_distances_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ReverieError, match=words):
        measure.evaluate(linear(), dataset(**changes), estimator="parzen", samples=10)


def test_training_rows_and_centres_stand_beside_and_centres_win_on_few_modes() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 30))
    draw = lambda n: np.float32(centres[rng.integers(0, 5, n)] + 0.3 * rng.standard_normal((n, 30)))  # noqa: E731
    data = dataset(splits={name: Rows(draw(n)) for name, n in (("train", 300), ("valid", 200), ("test", 200))},
                   shape=(30,), class_names=None)  # fmt: skip
    found = parzen.sanity(data, samples=60)
    assert set(found) == {"training rows", "k-means centres"} and found["k-means centres"].estimator.startswith(
        "parzen-60"
    )
    rows, k = found["training rows"], found["k-means centres"]
    assert k.value > rows.value + 5 * rows.standard_error


def test_validation_is_quick_and_prefers_the_better_generator() -> None:
    data, validate = dataset(100), parzen.validator(200)
    good, bad = (validate(g, data, None) for g in (plane(), Plane(3.0 * WEIGHT, jnp.ones(4))))
    assert (
        good.value > bad.value and good.kind == "estimate" and good.estimator == "parzen-200" and good.split == "valid"
    )
    assert validate(plane(), data, jax.random.key(5)) == good, "the same z each time, whatever the key"


#: Without a pilot, which is half of what is compiled: the step fits the toy.
STEPS: dict[str, Any] = {"chains": 8, "leapfrog": 4, "pilot": 0, "step_size": 0.3}
FEW = {name: value for name, value in STEPS.items() if name != "chains"}


def test_noise_makes_a_generator_gaussian_and_annealing_bounds_it() -> None:
    noisy = observed.observe(plane(), dataset(), 0.49)
    rows = rows_of(40, 9)
    gap = linear().truth(rows) - annealed.annealed(noisy, rows, temperatures=40, **STEPS).values
    # E[w] = p(x), so that the mean of the log is below: 4.5 standard errors either side of [0, 0.25].
    error = 4.5 * gap.std(ddof=1) / np.sqrt(len(gap))
    assert -error < gap.mean() < 0.25 + error
    ends = annealed.simulated_gap(noisy, n=12, temperatures=40, **STEPS)
    assert ends["bracket"].low < ends["bracket"].high + 0.1 and 0 <= ends["gap"].value + 0.1 < 0.6


def test_a_generator_through_noise_is_named_for_what_it_is() -> None:
    data = dataset(40, scale=np.array([2.0, 0.5, 3.0, 1.0]))
    records, result = measure.evaluate(plane(), data, estimator="ais", samples=8, temperatures=40, variance=0.49, **FEW)
    assert set(records) == {"noisy_log_likelihood"}
    record = records["noisy_log_likelihood"]
    assert record.estimator == "ais-8x40-variance-0.49" and record.kind == "lower_bound" and record.measure == "density"
    exact = linear().truth(data.rows("test")) - np.log(3.0)
    assert abs(result.values - exact).mean() < 0.3
    with pytest.raises(ReverieError, match="variance"):
        measure.evaluate(plane(), data, estimator="ais", variance=-1.0)


def test_the_variance_is_chosen_on_validation_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "_PLAN", {**STEPS, "temperatures": 40, "step_size": 0.1, "start": "prior"})
    key = np.random.default_rng(0)
    rows = key.normal(size=(60, 2)) @ np.asarray(WEIGHT).T + np.sqrt(0.02) * key.normal(size=(60, 4))
    data = dataset(splits={name: Rows(rows.astype(np.float32)) for name in ("train", "valid", "test")})
    found = observed.observe(plane(), data)
    assert 0.01 <= float(found.variance) <= 0.05 and "validation rows" in found.rule


def test_a_missing_cell_has_no_share_in_the_noise() -> None:
    noisy, x = observed.observe(plane(), dataset(), 0.3), jnp.asarray(rows_of(1)[0])
    z = jnp.asarray([0.2, -0.4])
    part = x.at[1].set(jnp.nan)
    whole = norm.logpdf(np.asarray(x), np.asarray(plane().mean(z)), np.sqrt(0.3))
    prior = norm.logpdf(np.asarray(z)).sum()
    assert float(noisy.log_p(x, z)) == pytest.approx(whole.sum() + prior, rel=1e-5)
    assert float(noisy.log_p(part, z)) == pytest.approx(whole.sum() - whole[1] + prior, rel=1e-5)
    assert np.isfinite(jax.grad(lambda h: noisy.log_p(part, h))(z)).all()


class Asked(Trained):
    """A run of a generator that nobody trained, in a folder of its own."""

    model = plane()

    def __init__(self, path: Path, data: Dataset) -> None:
        (path / "run.json").write_text(json.dumps({"format": 1, "model": "plane", "data": data.to_json()}))
        super().__init__(RunFolder(path), data=data)


def test_the_doors_of_an_implicit_model(tmp_path: Path) -> None:
    data = dataset(60)
    run = Asked(tmp_path, data)
    found = asking.evaluate(run, samples=200)
    assert "log_likelihood" not in found and found["parzen"].kind == "estimate"
    assert set(run.folder.evaluations()) == {"test/parzen-200"}
    scores = asking.score(run, data.rows("test"), samples=200)
    np.testing.assert_allclose(scores.values.mean(), found["parzen"].value, atol=1e-3)
    assert scores.record.estimator == "parzen-200" and scores.record.split is None
    noisy = asking.evaluate(run, estimator="ais", samples=8, temperatures=40, variance=0.49, **FEW)
    assert set(noisy) == {"noisy_log_likelihood", "bracket", "gap"}
    assert "test/ais-8x40-variance-0.49" in run.folder.evaluations()
    with pytest.raises(ReverieError, match="minutes"):
        asking.evaluate(run, minutes=1.0)
    first = RunView.read(tmp_path).numbers[0]
    assert first.metric == "noisy_log_likelihood" and sections.metric_name("parzen") == "Parzen windows"


def test_an_energy_and_a_latent_model_take_windows_too() -> None:
    assert "parzen" in measure.estimators(linear()) and measure.default_estimator(linear()) == "importance"
    model, _ = load_module("rbm").recipe(Brief(load("digits"), jax.random.key(0), 1.0), hidden=4)
    ends = chains.draw(model, 30, chains.Chain(5), seed=0)
    made = parzen.generator(model, load("digits"), seed=0, draws=False, most=30)
    assert made(3, 7).shape == (4, 64) and ends.means.shape == (30, 64)
    assert "parzen" in measure.estimators(model)
