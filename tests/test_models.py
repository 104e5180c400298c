"""The battery: what every discovered model must do.  A new model passes it without a line here."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.stops import stopped_in_every_stage

import reverie
from reverie import data as data_floor
from reverie import models, settings, training
from reverie.errors import ReverieError
from reverie.estimate import paired_difference
from reverie.evaluate.baseline import independent_rows
from reverie.nn import laws
from reverie.train.recipe import Brief

NAMES = models.discover()


def one_of_a_class(names: list[str]) -> list[str]:
    """Return the first name of each class of models: iwae trains what vae is."""
    return list({models.model_class(name): name for name in reversed(names)}.values())[::-1]


#: Those that give the law of a row from its latents.
LAWFUL = one_of_a_class([name for name in NAMES if hasattr(models.model_class(name), "law")])
#: Those that have a likelihood of rows (others are judged by their task or by windows), and of those the ones that are
#: told a class.
LIKELY = [name for name in NAMES if "likelihood" in models.capabilities(name)]
CONDITIONAL = one_of_a_class([name for name in LIKELY if "class-conditional" in models.capabilities(name)])


def tiny(name: str, **more: Any) -> dict[str, Any]:
    """Return arguments of `train` for a model: its `TINY` on what its `BATTERY` names, ``data`` digits if not said."""
    module = models.load_module(name)
    return {"data": "digits", **getattr(module, "BATTERY", {}), **module.TINY, **more}


class Tiny(dict[str, reverie.Run]):
    """One tiny run of every model, trained when it is first asked for: of two workers neither needs them all."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> reverie.Run:
        self[name] = reverie.train(name, **tiny(name, run=self.root / name))
        return self[name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", NAMES)
def test_file_says_what_it_is(name: str) -> None:
    module = models.load_module(name)
    assert module.__doc__ and "References:" in module.__doc__
    assert module.PAPER.bibtex.startswith("@")
    assert "fast" in module.PRESETS and "epochs" in module.PRESETS["fast"]
    for preset in (*module.PRESETS.values(), module.TINY):
        settings.bind(module.recipe, {k: v for k, v in preset.items() if k != "epochs"})
    for claim in module.CLAIMS:
        settings.bind(module.recipe, claim.settings)
        for budget in claim.budgets.values():
            extra = {k: v for k, v in budget.items() if k not in ("epochs", "evaluation", "binarisation")}
            settings.bind(module.recipe, settings.merge(claim.settings, extra))
        assert claim.source in (("deck", "code", "text", "quoted") if claim.published is not None else (None,))


@pytest.mark.parametrize("name", LIKELY)
def test_tiny_beats_independent_columns(name: str, trained: Tiny) -> None:
    run = trained[name]
    scores = run.score(run.data.restore(run.data.rows("test")), samples=100)
    gap = paired_difference(scores.values, independent_rows(run.data, "test"))
    # A model no better than the baseline passes by chance with probability 3e-5 (4 standard errors).
    assert gap["difference"] > 4 * gap["standard_error"], gap


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_capability_works(name: str, trained: Tiny) -> None:
    run, able = trained[name], models.capabilities(name)
    x = run.data.restore(run.data.rows("test"))[:7]
    if "sample" in able:
        assert run.sample(3).shape == (3, *run.data.shape)
        assert np.isfinite(run.sample(3, mean=True)).all()
    if "likelihood" in able:
        record = run.evaluate(rows=40, samples=20)["log_likelihood"]
        assert record.n == 40 and record.rows_of == run.data.size("test") and record.kind in ("lower_bound", "exact")
        assert math.isfinite(record.value) and record.data_hash == run.data.hash
    elif "sample" in able:
        record = run.evaluate(rows=40, samples=200)["parzen"]
        assert record.n == 40 and record.kind == "estimate" and math.isfinite(record.value)
    if "encode" in able:
        codes = run.encode(x)
        assert codes.shape[0] == 7 and np.isfinite(codes).all()
    if "impute" in able:
        mask = np.random.default_rng(0).random(x.shape) < 0.5
        filled = run.impute(x, mask, iterations=3).reshape(x.shape)
        np.testing.assert_array_equal(filled[mask], x[mask])
    if "memory" in able:
        assert len(run.memory()["layers"]) > 0


@pytest.mark.parametrize("name", LIKELY)
@pytest.mark.parametrize("kind", ["narrow", "missing", "empty"])
def test_wrong_input_gets_one_clear_line(name: str, kind: str, trained: Tiny) -> None:
    width = trained[name].data.width
    bad, words = {"narrow": (np.zeros((3, 5)), str(width)), "missing": (np.full((2, width), np.nan), "missing|NaN|nan"),
                  "empty": (np.zeros((0, width)), "row")}[kind]  # fmt: skip
    with pytest.raises(ReverieError, match=words) as caught:
        trained[name].score(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_stopped_in_every_stage_equals_a_whole_one_and_no_other_seed_s(
    name: str, trained: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained[name]
    cut = stopped_in_every_stage(monkeypatch, name, run=tmp_path / "cut", **tiny(name))
    read = lambda run: (run.path / "checkpoint.json").read_text().split('"sha256"')[1][:70]  # noqa: E731
    assert read(whole) == read(cut)
    plan = training.read_plan(whole.record)
    begun = [jax.tree.leaves(replace(plan, seed=seed).build(whole.data)[0]) for seed in (0, 0, 1)]
    alike = [all(np.array_equal(a, b) for a, b in zip(begun[0], other, strict=True)) for other in begun[1:]]
    assert alike == [True, False]


@pytest.mark.parametrize("name", LAWFUL)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_laws_sample_score_and_average_at_both_batch_shapes(name: str, likelihood: str) -> None:
    rng = np.random.default_rng(0)
    x = {"bernoulli": rng.integers(0, 2, (60, 5)), "gaussian": rng.normal(3.0, 2.0, (60, 5)),
         "categorical": rng.integers(0, 4, (60, 5))}[likelihood]  # fmt: skip
    data = data_floor.load(x, likelihood=likelihood)
    small = {k: v for k, v in models.load_module(name).TINY.items() if k != "epochs"}
    model, _ = models.load_module(name).recipe(Brief(data, jax.random.key(0), 1.0), **small)
    rows = jnp.asarray(data.rows("train"))

    def all_three(key: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        law = model.law(model.infer(key, row))
        return law.sample(key), laws.log_prob(law, row), laws.expectation(law)

    drawn, score, mean = all_three(jax.random.key(0), rows[0])
    assert (drawn.shape, score.shape, mean.shape) == ((5,), (), (5,))
    many = jax.vmap(all_three)(jax.random.split(jax.random.key(0), 5), rows[:5])
    assert [a.shape for a in many] == [(5, 5), (5,), (5, 5)]
    for leaf in many:
        assert bool(jnp.isfinite(leaf).all())


@pytest.mark.parametrize("name", CONDITIONAL)
def test_class_conditional_form(name: str, tmp_path: Path) -> None:
    run = reverie.train(name, **tiny(name, run=tmp_path / "run", conditional=True))
    found = run.evaluate(rows=100, samples=20)
    assert found["classification_error"].value < 0.6
    assert found["log_likelihood"].value < found["conditional_log_likelihood"].value + 0.5
    assert run.sample(4, label=3).shape == (4, 8, 8)
    with pytest.raises(ReverieError, match="class"):
        run.sample(1, label="eleven")


def test_missing_cells_are_left_out_of_the_likelihood(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    x[rng.random(x.shape) < 0.2] = np.nan
    run = reverie.train("vae", x, run=tmp_path / "run", latent=(2,), hidden=((8,),), epochs=20, batch=20)
    scores = run.score(x[:10])
    assert np.isfinite(scores.values).all()
    filled = run.impute(x[:10], iterations=3)
    assert np.isfinite(filled).all()
    np.testing.assert_allclose(filled[~np.isnan(x[:10])], x[:10][~np.isnan(x[:10])], rtol=1e-4, atol=1e-5)
