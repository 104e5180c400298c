"""The deep autoencoder: its stack, the unrolling, stages that resume to the bit, and what stands beside its error."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.oracles import assert_kills, assert_same

import reverie
from reverie import data as data_floor
from reverie import training
from reverie.errors import ReverieError
from reverie.evaluate import components
from reverie.models.reconstructing import _stack, deep_autoencoder
from reverie.models.reconstructing.deep_autoencoder import DeepAutoencoder
from reverie.models.undirected import _pretrain as layerwise
from reverie.nn.units import Binary, Gaussian
from reverie.train.recipe import Brief

SMALL: dict[str, Any] = {"hidden": (7,), "code": 3, "batch": 50, "stack": {"epochs": 0.5}}


def net(real: bool = False, widths: tuple[int, ...] = (6, 5, 3), seed: int = 0) -> DeepAutoencoder:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    pairs = list(pairwise(widths))
    return DeepAutoencoder(
        tuple(draw(a, b) for a, b in pairs), tuple(draw(b) for _, b in pairs),
        tuple(draw(b, a) for a, b in pairs), tuple(draw(a) for a, _ in pairs), real,
    )  # fmt: skip


def sigma(field: Any) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.asarray(field, np.float64)))


def test_the_unrolled_net_is_the_stack_up_and_down() -> None:
    model, x = net().unrolled(), jnp.asarray(np.random.default_rng(1).uniform(size=6), jnp.float32)

    def check(there: DeepAutoencoder) -> None:
        # Up: means of the machines; down: the same weights the other way, each layer's own lower bias.
        h = sigma(x @ model.up[0] + model.up_biases[0])
        z = h @ np.asarray(model.up[1]) + np.asarray(model.up_biases[1])
        down = sigma(np.asarray(model.up[1]) @ z + np.asarray(model.down_biases[1]))
        back = sigma(np.asarray(model.up[0]) @ down + np.asarray(model.down_biases[0]))
        np.testing.assert_allclose(there.encode(x), z, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(there.reconstruct(jax.random.key(0), x), back, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(there.judge(x)["squared_error"], ((np.asarray(x) - back) ** 2).sum(), rtol=1e-4)

    assert_kills(check, model, net())
    np.testing.assert_allclose(_stack.below(model, x[None], 2)[0], model.encode(x), rtol=1e-5)


def test_real_rows_come_back_linear() -> None:
    model, x = net(real=True), jnp.asarray([2.0, -3.0, 0.5, 1.0, 9.0, -1.0])
    np.testing.assert_array_equal(model.reconstruct(jax.random.key(0), x), model.fields(model.encode(x)))
    assert isinstance(_stack.units_of(model, 0), Gaussian) and isinstance(_stack.units_of(model, 1), Binary)
    assert isinstance(_stack.units_of(model, 2), Gaussian) and isinstance(_stack.units_of(net(), 0), Binary)


def test_contrast_with_real_hidden_units_has_its_expectation() -> None:
    """One sweep from a row of two binary units: its 4 ends' probabilities by integrating z out; |z| < 4.5."""
    with jax.enable_x64(True):
        rng, n = np.random.default_rng(0), 10_000
        w, b, c = rng.normal(size=(2, 1)), rng.normal(size=2), rng.normal(size=1)
        row = np.array([1.0, 0.0])
        nodes, mass = np.polynomial.hermite_e.hermegauss(80)
        z = (row @ w + c)[0] + nodes
        rate = sigma(z[:, None] @ w.T + b)
        ends = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
        p = np.array([(mass * np.prod(np.where(v > 0, rate, 1 - rate), axis=1)).sum() for v in ends]) / mass.sum()
        wanted = np.outer(row, row @ w + c) - sum(q * np.outer(v, v @ w + c) for q, v in zip(p, ends, strict=True))

        def check(hidden: Any) -> None:
            at = layerwise.contrast(
                jax.random.key(0), jnp.asarray(w), jnp.asarray(b), jnp.asarray(c), jnp.tile(jnp.asarray(row), (n, 1)),
                visible=Binary(), hidden=hidden,
            )  # fmt: skip
            spread = max(np.abs(np.outer(v, v @ w + c)).max() for v in ends)
            np.testing.assert_allclose(at.weights, wanted, atol=4.5 * spread / np.sqrt(n))
            np.testing.assert_allclose(at.below, row - p @ ends, atol=4.5 * 0.5 / np.sqrt(n))

        assert_kills(check, Gaussian(jnp.zeros(1)), Binary())


def test_a_machines_gradient_moves_its_own_layer_alone_and_downhill() -> None:
    model = net()
    batch = {"x": jnp.asarray(np.random.default_rng(0).uniform(size=(9, 6)), jnp.float32)}
    for layer in (0, 1):
        found, _, shown = _stack.machine_gradients(_stack.Stack(decay=0.5), layer)(
            model, batch, None, jax.random.key(0)
        )
        at = layerwise.contrast(
            jax.random.key(0), model.up[layer], model.down_biases[layer], model.up_biases[layer],
            _stack.below(model, batch["x"], layer), visible=Binary(), hidden=_stack.units_of(model, layer + 1),
        )  # fmt: skip
        assert_same(found.up[layer], 0.5 * model.up[layer] - at.weights, 1e-5)
        assert_same((found.up_biases[layer], found.down_biases[layer]), (-at.above, -at.below), 1e-5)
        assert not any(np.asarray(part[1 - layer]).any() for part in (found.up, found.up_biases, found.down_biases))
        assert not any(np.asarray(part).any() for part in found.down) and np.isfinite(shown["loss"])


def sha(folder: Path) -> str:
    return (folder / "checkpoint.json").read_text().split('"sha256"')[1][:70]


@pytest.mark.parametrize("how", ["rbm", "ae"])
def test_stopped_in_the_second_stage_and_gone_on_is_the_same_to_the_bit(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reverie.train("deep-autoencoder", "digits", run=tmp_path / "whole", steps=20, pretrain=how, **SMALL)
    assert [s["name"] for s in whole.record["plan"]["stages"]] == ["layer 1", "layer 2", ""]  # type: ignore[union-attr]
    # The clock runs out at the first look in the second stage.
    kept = training.Fit

    class Late(kept):  # type: ignore[misc,valid-type]
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            if self.stage == 1:
                self.deadline = 0.0

    monkeypatch.setattr(training, "Fit", Late)
    with pytest.raises(reverie.Interrupted):
        reverie.train("deep-autoencoder", "digits", run=tmp_path / "cut", steps=20, pretrain=how, **SMALL)
    monkeypatch.setattr(training, "Fit", kept)
    meta = (tmp_path / "cut" / "checkpoint.json").read_text()
    assert '"stage": 1' in meta
    # Half-way, the run is a model already.
    shutil.copytree(tmp_path / "cut", tmp_path / "half")
    assert np.isfinite(reverie.load(tmp_path / "half").evaluate()["squared_error"].value)
    reverie.load(tmp_path / "cut").resume()
    assert sha(tmp_path / "cut") == sha(tmp_path / "whole")


def test_the_way_down_begins_as_the_way_up_turned_round() -> None:
    digits = data_floor.load("digits", binarisation="means")
    for how, same in (("rbm", True), ("ae", False)):
        model, recipe = deep_autoencoder.recipe(
            Brief(digits, jax.random.key(0), 1.0), pretrain=how, hidden=(7,), code=3
        )  # type: ignore[arg-type]
        names = []
        while recipe.next is not None:
            names.append(recipe.name)
            model, recipe = recipe.next(model, digits, recipe.carry)
        assert names == ["layer 1", "layer 2"] and recipe.epochs is None
        assert all(np.array_equal(v, w.T) for v, w in zip(model.down, model.up, strict=True)) == same


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    place = tmp_path_factory.mktemp("runs") / "run"
    how = {"hidden": (24,), "code": 6, "stack": {"epochs": 2}, "batch": 50, "epochs": 40, "rate": 1e-2}
    return reverie.train("deep-autoencoder", "digits", run=place, **how)  # type: ignore[return-value, arg-type]


def test_it_is_judged_by_its_squared_error_beside_principal_components(run: reverie.Run) -> None:
    from sklearn.decomposition import PCA

    found = run.evaluate()
    error, linear = found["squared_error"], found["pca_squared_error"]
    rows = run.data.rows("test")
    assert error.kind == linear.kind == "exact" and error.unit == linear.unit == "squares" and linear.n == 300
    assert "64 cells" in (error.note or "") and "divided by 16" in (error.note or "")
    pca = PCA(6).fit(run.data.rows("train"))
    truth = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(axis=1).mean()
    assert linear.value == pytest.approx(truth, rel=1e-4) and linear.estimator == "pca-6"
    back = np.asarray(jax.vmap(lambda x: run.model.decode(run.model.encode(x)))(jnp.asarray(rows)))
    assert error.value == pytest.approx(((rows - back) ** 2).sum(axis=1).mean(), rel=1e-4)
    # Less than the mean of the data leaves: the code says something.
    assert error.value < 0.7 * ((rows - run.data.mean) ** 2).sum(axis=1).mean()
    valid = [line["valid"] for line in run.journal() if "valid" in line]
    assert valid[-1]["estimator"] == "-squared_error" and valid[-1]["value"] < 0


def test_it_encodes_completes_and_says_what_else_it_cannot(run: reverie.Run) -> None:
    x = run.data.restore(run.data.rows("test"))[:5]
    assert run.encode(x).shape == (5, 6)
    mask = np.random.default_rng(0).random(x.shape) < 0.7
    np.testing.assert_array_equal(run.impute(x, mask, iterations=5).reshape(x.shape)[mask], x[mask])
    for verb in (lambda: run.sample(2), lambda: run.score(x), lambda: run.evaluate(estimator="ais")):
        with pytest.raises(ReverieError, match=r"evaluate|judged") as caught:
            verb()
        assert "\n" not in str(caught.value)
    layers = run.model.feed_forward()
    assert [w.shape for w, _ in layers] == [(64, 24)]


def test_the_report_shows_rows_rebuilt_beside_the_linear_ones(run: reverie.Run) -> None:
    html = run.report().read_text()
    assert "as many PCA components" in html and "Squared error" in html and "minus the squared error" in html
    arrays = run.folder.load_arrays("reconstructions")
    rows = run.data.rows("test", 0, 40)
    np.testing.assert_allclose(arrays["linear"], np.clip(components.rebuilt(run.data, rows, 6), 0, 1), atol=1e-5)


def test_real_columns_are_taken_and_a_constant_one_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)), np.full((200, 1), 3.0)], axis=1)
    how: dict[str, Any] = {"hidden": (8,), "code": 2, "batch": 20, "rate": 1e-2, "stack": {"epochs": 2}}
    run = reverie.train("deep-autoencoder", x, run=tmp_path / "run", epochs=60, **how)
    found = run.evaluate()  # type: ignore[union-attr]
    assert "standard deviation" in (found["squared_error"].note or "")
    assert found["squared_error"].value < 2.5 and found["pca_squared_error"].value < 0.01
    assert np.isfinite(run.encode(x[:3])).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hidden": ()}, "widths"),
        ({"code": 0}, "widths"),
        ({"stack": {"epochs": 0}}, "stack.epochs"),
        ({"rate": -1.0}, "rate"),
        ({"data": np.arange(60).reshape(20, 3) % 4, "likelihood": "categorical"}, "categorical"),
        ({"data": np.where(np.arange(60).reshape(20, 3) % 7, np.random.default_rng(0).normal(size=(20, 3)), np.nan)},
         "missing"),
    ],
)  # fmt: skip
def test_wrong_input_gets_one_line(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        reverie.train("deep-autoencoder", **{"data": "digits", "run": tmp_path / "run", "steps": 2, **arguments})
    assert "\n" not in str(caught.value)
