"""Telling classes apart: a stack as a network, its intervals, the baselines beside it, and `reverie classify`."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import reverie
from reverie import class_answer, cli, models
from reverie import data as data_floor
from reverie.errors import Interrupted, ReverieError
from reverie.evaluate import baselines, classification
from reverie.models.conditional import classifier as module
from reverie.models.conditional._waiting import waiting
from reverie.models.undirected._layered import initial
from reverie.models.undirected.dbm import DBM
from reverie.models.undirected.rbm import RBM
from reverie.nn.units import Binary
from reverie.train.draws import Feed
from reverie.train.engine import Engine
from reverie.train.recipe import Brief

#: Short, and on one machine the same to the bit.
SHORT: dict[str, Any] = {"epochs": 4, "rate": 0.01}


def machine(widths: tuple[int, ...], kind: Any = DBM, scale: float = 0.7) -> Any:
    rng = np.random.default_rng(3)
    start = initial(jax.random.key(0), widths, Binary(), np.full(widths[0], 0.5), 100, 1.0)
    draw = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)  # noqa: E731
    weights = tuple(draw(*w.shape) for w in start["weights"])
    return kind(**{**start, "weights": weights, "biases": tuple(draw(n) for n in widths)})


def sigma(field: Any) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.asarray(field, np.float64)))


@pytest.mark.parametrize(("wrong", "n"), [(0, 20), (1, 300), (19, 300), (150, 300), (300, 300), (95, 10_000)])
def test_intervals_are_wilsons(wrong: int, n: int) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(wrong, n).proportion_ci(0.95, method="wilson")
    assert classification.wilson(wrong, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_an_interval_of_no_share_is_refused() -> None:
    with pytest.raises(ReverieError, match="no share"):
        classification.wilson(5, 4)


@pytest.mark.parametrize("count", [3, 10, 31, 64, 70])
def test_labelled_rows_are_as_many_of_each_class_as_there_are(count: int) -> None:
    labels = np.repeat([0, 1, 2], [4, 30, 36])
    rows = classification.balanced(labels, count, seed=1)
    sizes = np.bincount(labels[rows], minlength=3)
    assert len(np.unique(rows)) == len(rows) == count
    room = sizes < [4, 30, 36]
    # Classes with rows to spare have equal numbers, but for one; those without gave all they had.
    assert sizes.min() >= 1 and (not room.any() or np.ptp(sizes[room]) <= 1)
    assert (sizes[~room] <= (sizes[room].max() if room.any() else 36)).all()
    np.testing.assert_array_equal(rows, classification.balanced(labels, count, seed=1))


def test_too_few_labelled_rows_are_refused() -> None:
    with pytest.raises(ReverieError, match="between 3"):
        classification.balanced(np.array([0, 1, 2, 2]), 2)


def network(widths: tuple[int, ...], augmented: bool, classes: int = 3, units: str = "sigmoid") -> Any:
    return module.untrained(jax.random.key(1), widths, classes, units, augmented, 1.0)


def test_the_network_of_a_deep_machine_is_the_papers() -> None:
    """By NumPy: q by mean field in the machine, then h1 = s(v W1 + q A + c1), h2 = s(h1 W2 + c2), h3, softmax."""
    stack = machine((6, 5, 4, 3))
    net = network((6, 5, 4, 3), True).on(stack)
    net = replace(net, above=net.above + 0.1)  # untied: A is a weight of its own
    w1, w2, w3 = (np.asarray(w, np.float64) for w in stack.weights)
    _, c1, c2, c3 = (np.asarray(b, np.float64) for b in stack.biases)
    for x in np.random.default_rng(0).uniform(size=(4, 6)):
        m1 = sigma(2 * x @ w1 + c1)
        m2 = sigma(2 * m1 @ w2 + c2)
        m3 = sigma(m2 @ w3 + c3)
        for _ in range(50):
            m1, m3 = sigma(x @ w1 + m2 @ w2.T + c1), sigma(m2 @ w3 + c3)
            m2 = sigma(m1 @ w2 + m3 @ w3.T + c2)
        h1 = sigma(x @ w1 + m2 @ np.asarray(net.above) + c1)
        h3 = sigma(sigma(h1 @ w2 + c2) @ w3 + c3)
        logits = h3 @ np.asarray(net.top) + np.asarray(net.offset)
        p = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(net.encode(jnp.asarray(x, jnp.float32)), p, atol=1e-4)
        found = net.judge(jnp.asarray(x, jnp.float32), jnp.asarray([0.0, 1.0, 0.0]))
        assert float(found["cross_entropy"]) == pytest.approx(-np.log(p[1]), abs=1e-3)
        assert float(found["classification_error"]) == float(p.argmax() != 1)


def test_before_learning_the_features_are_the_machines_own() -> None:
    """At a fixed point of mean field one pass up with A = W2' gives the means back; a copy not turned would not."""
    stack, x = machine((6, 5, 4)), jnp.asarray(np.random.default_rng(1).uniform(size=6), jnp.float32)
    net = network((6, 5, 4), True).on(stack)
    features = jnp.concatenate(net.layers(x, net.heard(x)))
    np.testing.assert_allclose(features, stack.encode(x), atol=1e-4)
    np.testing.assert_allclose(net.heard(x), stack.posterior_above(x), atol=1e-4)
    wrong = replace(net, above=2.0 * net.above)
    assert np.abs(jnp.concatenate(wrong.layers(x, net.heard(x))) - stack.encode(x)).max() > 1e-2


def test_without_upper_weights_the_features_are_the_shallow_machines() -> None:
    deep, x = machine((6, 5, 4)), jnp.asarray(np.random.default_rng(2).uniform(size=6), jnp.float32)
    deep = replace(deep, weights=(deep.weights[0], 0.0 * deep.weights[1]))
    shallow = RBM(deep.weights[:1], deep.biases[:2], Binary(), deep.base)
    net, below = network((6, 5, 4), True).on(deep), network((6, 5), False).on(shallow)
    np.testing.assert_allclose(net.layers(x, net.heard(x))[0], shallow.encode(x), atol=1e-6)
    np.testing.assert_allclose(below.layers(x)[0], shallow.encode(x), atol=1e-6)


def test_a_stack_of_other_widths_is_refused() -> None:
    with pytest.raises(ReverieError, match="same widths"):
        network((6, 5, 3), True).on(machine((6, 5, 4)))


def test_an_optimiser_that_waits_begins_as_if_nothing_had_been() -> None:
    plain, late = optax.adam(0.1), waiting(optax.adam(0.1), 3)
    x, gradients = jnp.asarray([1.0, -2.0]), jnp.asarray([[0.3, 5.0], [1.0, -1.0], [2.0, 2.0], [0.5, 1.0], [1.0, 4.0]])
    state, fresh = late.init(x), plain.init(x)
    for step, gradient in enumerate(gradients):
        move, state = late.update(gradient, state, x)
        if step < 3:
            np.testing.assert_array_equal(move, 0.0)
        else:
            wanted, fresh = plain.update(gradient, fresh, x)
            np.testing.assert_array_equal(move, wanted)


@pytest.fixture(scope="module")
def grey() -> Any:
    return data_floor.load("digits", binarisation="means")


def test_the_label_layer_learns_alone_at_first_and_the_machine_never(grey: Any) -> None:
    alone = round(1297 / 50)  # a warm-up of one epoch
    how: dict[str, Any] = {"hidden": (8, 6), "batch": 50, "augmented": True, "warmup": 1.0}
    model, recipe = module.recipe(Brief(grey, jax.random.key(0), 2.0), **how)
    engine = Engine(model, recipe, Feed(grey.training_source(), jnp.uint32(0)), 0)
    state = engine.advance(engine.init(), alone)
    np.testing.assert_array_equal(state.model.weights[0], model.weights[0])
    np.testing.assert_array_equal(state.model.above, model.above)
    assert np.abs(state.model.top - model.top).max() > 1e-3
    after = engine.advance(state, alone + 2).model
    for moved, before in ((after.weights[0], model.weights[0]), (after.above, model.above)):
        assert np.abs(moved - before).max() > 1e-4
    np.testing.assert_array_equal(after.machine.weights[0], model.machine.weights[0])


def test_decay_is_of_the_weights_and_dropout_of_its_share() -> None:
    net = network((64, 30), False)
    batch = {"x": jnp.ones((50, 64)), "given": jnp.eye(3)[jnp.zeros(50, int)]}

    def gradient(**how: float) -> Any:
        loss = module.objective(how.get("dropout", 0.0), 0.0, how.get("decay", 0.0))
        return jax.grad(lambda m: loss(m, batch, None, jax.random.key(0))[0])(net)

    free, pulled = gradient(), gradient(decay=0.1)
    np.testing.assert_allclose(pulled.weights[0] - free.weights[0], 0.1 * net.weights[0], atol=1e-6)
    np.testing.assert_allclose(pulled.top - free.top, 0.1 * net.top, atol=1e-6)
    np.testing.assert_array_equal(pulled.biases[0], free.biases[0])
    assert np.abs(gradient(dropout=0.5).top - free.top).max() > 1e-4
    keep = (jnp.ones(64), jnp.zeros(30).at[:3].set(2.0))
    h = net.layers(jnp.ones(64), None, keep)[0]
    np.testing.assert_allclose(h[:3], 2.0 * net.layers(jnp.ones(64))[0][:3], rtol=1e-6)
    np.testing.assert_array_equal(h[3:], 0.0)


def test_few_labels_are_all_that_training_sees(grey: Any) -> None:
    _, recipe = module.recipe(Brief(grey, jax.random.key(0), 1.0), hidden=(4,), batch=10, labels=20)
    feed = Feed(grey.training_source(), jnp.uint32(0))
    seen = np.concatenate([recipe.draw(jax.random.key(0), i, feed, None, None)[0]["index"] for i in jnp.arange(4)])
    chosen = classification.balanced(np.asarray(grey.labels("train")), 20)
    np.testing.assert_array_equal(np.sort(seen), np.sort(np.concatenate([chosen, chosen])))


def test_means_are_the_grey_rows_and_dynamic_draws_them() -> None:
    grey = data_floor.load("digits", binarisation="means")
    stored = np.asarray(grey.splits["train"].x[:5], np.float32) / 16.0
    np.testing.assert_allclose(grey.rows("train", 0, 5), stored)
    np.testing.assert_allclose(grey.prepare(jax.random.key(0), jnp.asarray(stored * 16.0)), stored)
    assert (grey.likelihood, grey.binarisation) == ("bernoulli", "means")
    assert any("Law: bernoulli (pixels from black to white); binarisation: means" in note for note in grey.notes)
    asked = data_floor.load("digits", binarisation="means", likelihood="bernoulli").notes
    assert any("Law: bernoulli (as asked)" in note for note in asked)
    real = data_floor.load(np.random.default_rng(0).normal(size=(40, 3)), binarisation="means")
    assert (real.likelihood, real.binarisation) == ("gaussian", "as-is")
    bits = data_floor.load(np.random.default_rng(0).integers(0, 2, (40, 3)), binarisation="means")
    assert (bits.likelihood, bits.binarisation) == ("bernoulli", "as-is")


def test_means_have_no_likelihood(tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match="no likelihood"):
        reverie.train("vae", "digits", run=tmp_path / "run", binarisation="means", **models.load_module("vae").TINY)


def blobs() -> baselines.Problem:
    rng = np.random.default_rng(0)
    y = {split: np.arange(n) % 3 for split, n in (("train", 90), ("valid", 30), ("test", 60))}
    centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    x = {split: (centres[c] + 0.5 * rng.normal(size=(len(c), 2))).astype(np.float32) for split, c in y.items()}
    return baselines.Problem(x, y, (20,), codes=lambda: {split: rows[:, :1] for split, rows in x.items()})


@pytest.mark.parametrize("name", ["logistic", "knn", "svm", "mlp", "features"])
def test_baselines_are_fitted_chosen_and_scored(name: str) -> None:
    problem = blobs()
    found = baselines.run(name, problem)
    record = found["test"]
    # Three well parted clouds; the codes are one of their two columns, which cannot tell two of them apart.
    assert 0.2 < record.value < 0.5 if name == "features" else record.value < 0.07
    assert record.n == 60 and record.kind == "exact" and record.unit == "fraction"
    assert found["low"] <= record.value <= found["high"]
    assert found["fitted_rows"] == 90 and found["chosen"]


def test_baselines_learn_the_training_rows_classes_alone() -> None:
    """With the training classes turned round every method is wrong on the test rows: none has seen them."""
    problem = blobs()
    turned = replace(problem, y={split: (c + 1) % 3 if split != "test" else c for split, c in problem.y.items()})
    assert baselines.run("knn", turned)["test"].value > 0.9


def test_dear_settings_are_chosen_on_a_part_which_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(baselines.CHOOSING, "svm", 30)
    monkeypatch.setattr(baselines, "MOST_SVM", 60)
    found = baselines.run("svm", blobs())
    assert "chosen on 30 rows, fitted to 60" in found["chosen"] and found["fitted_rows"] == 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> reverie.Run:
    root = tmp_path_factory.mktemp("stack")
    run = reverie.train("dbm", "digits", run=root / "dbm", hidden=(20, 10), epochs=3, batch=50, rate=0.1)
    assert isinstance(run, reverie.Run)
    return run


@pytest.fixture
def copied(stack: reverie.Run, tmp_path: Path) -> reverie.Run:
    """The stack in a folder of the test's own."""
    import shutil

    shutil.copytree(stack.path, tmp_path / "dbm", ignore=shutil.ignore_patterns("classif*"))
    return reverie.load(tmp_path / "dbm")


def sha(folder: Path) -> str:
    return json.loads((folder / "checkpoint.json").read_text())["sha256"]


def by_method(found: dict[str, Any]) -> dict[str, Any]:
    return {one["method"]: one for one in found["results"]}


def test_classify_sets_the_fine_tuned_stack_beside_baselines(copied: reverie.Run, monkeypatch: Any) -> None:
    found = copied.classify(baselines="logistic,knn", **SHORT)
    results = by_method(found)
    assert set(results) == {"fine-tuned/seed-0", "logistic", "knn"}
    # Sanity: a tenth of the rows would be right by chance.
    assert results["logistic"]["test"].value < 0.12 and results["knn"]["test"].value < 0.12
    tuned = results["fine-tuned/seed-0"]
    assert tuned["low"] <= tuned["test"].value <= tuned["high"] < 0.9 and tuned["test"].n == 300
    net = reverie.load(copied.path / "classifier")
    assert net.record["init_from"]["model"] == "dbm" and net.model.machine is not None
    np.testing.assert_array_equal(net.model.machine.weights[0], copied.model.weights[0])
    assert tuned["test"].value == net.evaluate()["classification_error"].value
    # Again: nothing is trained or fitted a second time.
    before = sha(net.path)
    monkeypatch.setattr(baselines, "run", lambda *_: pytest.fail("was known already"))
    again = by_method(copied.classify(baselines="logistic,knn", **SHORT))
    assert sha(net.path) == before and again["knn"]["test"] == results["knn"]["test"]
    assert not any(one["kept"] for one in again.values())
    # What was not asked for again is told as known from before.
    some = by_method(copied.classify(baselines="knn", **SHORT))
    assert {name for name, one in some.items() if one["kept"]} == {"logistic"}


def test_stopped_and_gone_on_is_the_same_to_the_bit(copied: reverie.Run, stack: reverie.Run, tmp_path: Path) -> None:
    whole = stack.classify(baselines="none", **SHORT)["runs"][0]
    with pytest.raises(Interrupted) as stopped:
        copied.classify(baselines="none", minutes=0.0, **SHORT)
    # Resuming the network alone would leave out its evaluation and the baselines.
    again = f"reverie classify {copied.path} --epochs 4 --baselines none --rate 0.01"
    assert str(stopped.value) == f"stopped at step 0; go on with: {again}"
    cut = copied.path / "classifier"
    assert json.loads((cut / "run.json").read_text())["status"] == "stopped"
    copied.classify(baselines="none", **SHORT)
    assert sha(cut) == sha(Path(whole))
    # `reverie resume DIR/classifier` is the other way.
    other = tmp_path / "other"
    copied.path.rename(other)
    import shutil

    shutil.rmtree(other / "classifier")
    with pytest.raises(Interrupted):
        reverie.load(other).classify(baselines="none", minutes=0.0, **SHORT)
    reverie.load(other / "classifier").resume()
    assert sha(other / "classifier") == sha(Path(whole))


def test_ctrl_c_keeps_the_baselines_that_are_done(copied: reverie.Run, monkeypatch: Any) -> None:
    def slow(problem: baselines.Problem) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        problem.watch(1)
        pytest.fail("went on after Ctrl-C")

    knn = baselines.METHODS["knn"]
    monkeypatch.setitem(baselines.METHODS, "knn", ("slow", slow))
    with pytest.raises(Interrupted, match="goes on"):
        copied.classify(baselines="logistic,knn", **SHORT)
    kept = json.loads((copied.path / "classification.json").read_text())["tables"]["digits"]["results"]
    assert "logistic" in kept and "knn" not in kept
    monkeypatch.setitem(baselines.METHODS, "knn", knn)
    assert {"logistic", "knn"} <= set(by_method(copied.classify(baselines="logistic,knn", **SHORT)))


def test_controls_seeds_and_few_labels_have_folders_of_their_own(copied: reverie.Run) -> None:
    copied.classify(baselines="none", seeds=2, **SHORT)
    found = by_method(copied.classify(baselines="none", from_scratch=True, **SHORT))
    assert set(found) == {"fine-tuned/seed-0", "fine-tuned/seed-1", "from-scratch/seed-0"}
    few = copied.classify(baselines="knn", labels=20, **SHORT)
    assert few["labels"] == 20 and {one["fitted_rows"] for one in few["results"]} == {20}
    names = {path.parent.name for path in copied.path.glob("*/run.json")}
    assert names == {"classifier", "classifier-seed-1", "classifier-from-scratch", "classifier-20-labels"}
    control = reverie.load(copied.path / "classifier-from-scratch")
    assert control.record["init_from"] is None and control.model.machine is None


def test_other_labelled_rows_are_taken_as_the_runs(copied: reverie.Run, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez(tmp_path / "mine.npz", train=digits.data[:500].reshape(-1, 8, 8), train_labels=digits.target[:500])
    found = copied.classify(data=str(tmp_path / "mine.npz"), baselines="knn", **SHORT)
    assert found["data"] == "mine" and found["binarisation"] == "means"
    # Kept beside, so that the run can be resumed without the file.
    (tmp_path / "mine.npz").unlink()
    assert reverie.load(copied.path / "classifier-mine").evaluate()["classification_error"].n > 10


@pytest.mark.parametrize(
    ("labels", "words"), [(None, "over the last 2 epochs.*--epochs 40"), (250, "over the last 8 epochs.*--epochs 160")]
)
def test_a_classifier_that_was_still_learning_is_told_to_go_on(labels: int | None, words: str) -> None:
    def journal(*values: float) -> list[dict[str, Any]]:
        return [
            {"epoch": 2 * i, "valid": {"value": v, "standard_error": 0.02, "unit": "fraction"}}
            for i, v in enumerate(values, 1)
        ]

    found = {"rows": {"train": 1000}, "labels": labels}
    plan = {"plan": {"steps": 1000}}
    rising = SimpleNamespace(path="runs/dbm/classifier", record=plan, journal=lambda: journal(0.2, 0.4, 0.6, 0.7, 0.75))
    hint = class_answer.unlearnt(rising, found)
    assert hint is not None and re.search(r"classifier: .*still falling, by 5\.00 % .*" + words, hint)
    settled = SimpleNamespace(path="x", record=plan, journal=lambda: journal(0.2, 0.9, 0.9, 0.901, 0.902))
    assert class_answer.unlearnt(settled, found) is None
    settled.record = {"plan": {"steps": 26}}
    assert "26 steps alone, which are few" in str(class_answer.unlearnt(settled, found))


def test_what_to_do_about_a_net_stands_under_the_table() -> None:
    test = SimpleNamespace(value=0.2)
    one = {"method": "fine-tuned/seed-0", "title": "fine-tuned stack", "kept": False, "chosen": "8", "test": test,
           "low": 0.1, "high": 0.3, "seconds": 1.0, "seed": 0}  # fmt: skip
    found = {"data": "d", "rows": {"train": 100, "test": 10}, "labels": None, "results": [one]}
    few = SimpleNamespace(path="d/classifier", record={"plan": {"steps": 26}}, journal=list)
    answer = class_answer.answer(found, Path("d"), [few])
    first, table, hint, last = answer.shown
    assert "learnt from 100 rows" in first and table.row_count == 1
    assert "26 steps alone" in hint and "reverie report d" in last
    assert answer.record["hints"] == [hint] and class_answer.answer(found, Path("d")).record["hints"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"baselines": "knnn"}, "knn"),
        ({"labels": 5}, "between 10"),
        ({"seeds": 0}, "seeds"),
        ({"dropout": 1.5}, "dropout"),
        ({"data": np.random.default_rng(0).integers(0, 2, (50, 64))}, "no classes"),
        (
            {"data": {"train": np.random.default_rng(0).integers(0, 2, (60, 5)), "train_labels": np.arange(60) % 3}},
            "5 columns",
        ),
        ({"data": "nothing.csv"}, "no file"),
        ({"epochs": -1.0}, "epochs"),
        ({"rat": 0.1}, "rate"),
    ],
)
def test_wrong_input_gets_one_line(arguments: dict[str, Any], words: str, copied: reverie.Run) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        copied.classify(**{"baselines": "none", "epochs": 1.0, **arguments})
    assert "\n" not in str(caught.value)
    assert not (copied.path / "classifier").exists()


def test_other_settings_and_a_run_trained_on_are_refused(copied: reverie.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    copied.classify(baselines="none", **SHORT)
    with pytest.raises(ReverieError, match="another rate"):
        copied.classify(baselines="none", epochs=4, rate=0.02)
    # Its rate has ended at 0, for which it would be refused before.
    monkeypatch.setattr("reverie.further.ends", lambda record: False)
    longer = copied.resume(epochs=4)
    with pytest.raises(ReverieError, match="other weights"):
        longer.classify(baselines="none", **SHORT)


def test_a_model_without_a_stack_says_what_has_one(tmp_path: Path) -> None:
    vae = reverie.train("vae", "digits", run=tmp_path / "vae", latent=(2,), hidden=((8,),), steps=2)
    with pytest.raises(ReverieError, match=r"no stack of features.*rbm"):
        vae.classify()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[reverie.Run]:
    """Two classifiers from random weights, one hardly trained."""
    root = tmp_path_factory.mktemp("plain")
    how: dict[str, Any] = {"hidden": (20,), "batch": 50, "rate": 0.01}
    return [reverie.train("classifier", "digits", run=root / f"of-{n}", steps=n, **how) for n in (400, 3)]  # type: ignore[misc]


def test_a_classifier_is_judged_by_its_task(plain: list[reverie.Run], tmp_path: Path) -> None:
    run = plain[0]
    found = run.evaluate()
    error = found["classification_error"]
    assert list(found) == ["classification_error", "cross_entropy"]
    assert (error.kind, error.unit, error.n) == ("exact", "fraction", 300) and error.value < 0.15
    assert "Wilson" in (error.note or "") and "0." in str(error)
    truth, said = run.data.labels("test"), run.encode(run.data.restore(run.data.rows("test"))).argmax(axis=1)
    assert error.value == pytest.approx(np.mean(truth != said))
    assert run.evaluate(rows=50)["classification_error"].rows_of == 300
    valid = [line["valid"] for line in run.journal() if "valid" in line]
    assert valid[-1]["estimator"] == "accuracy" and 0 < valid[-1]["value"] <= 1
    assert run.record["data"]["binarisation"] == "means"
    for wrong, words in (
        ({"estimator": "ais"}, "judged by"),
        ({"samples": 9}, "samples"),
        ({"temperatures": 9}, "temp"),
    ):
        with pytest.raises(ReverieError, match=words):
            run.evaluate(**wrong)
    for verb in (lambda: run.sample(2), lambda: run.score(np.zeros((2, 64))), lambda: run.impute(np.zeros((2, 64)))):
        with pytest.raises(ReverieError, match="evaluate"):
            verb()


def test_classifiers_are_compared_by_their_errors(plain: list[reverie.Run]) -> None:
    good, bad = plain
    for run in plain:
        run.evaluate()
    (found,) = reverie.compare(good, bad).values()
    assert found["better"] == good.path.name and found["difference"] < 0


def test_of_a_classifier_classify_fits_the_baselines(plain: list[reverie.Run]) -> None:
    results = by_method(plain[0].classify(baselines="knn"))
    assert set(results) == {"classifier/seed-0", "knn"}
    with pytest.raises(ReverieError, match="already"):
        plain[0].classify(from_scratch=True)


def test_the_report_shows_methods_confusions_and_mistakes(copied: reverie.Run, plain: list[reverie.Run]) -> None:
    from reverie.report import page

    copied.classify(baselines="knn", **SHORT)
    arrays = copied.folder.load_arrays("classification")
    net = reverie.load(copied.path / "classifier")
    wrong = net.evaluate()["classification_error"].value * 300
    assert arrays["confusion"].sum() == 300
    assert arrays["confusion"].sum() - np.trace(arrays["confusion"]) == pytest.approx(wrong)
    assert (arrays["truth"] != arrays["said"]).all() and len(arrays["mistakes"]) == min(12, round(wrong))
    assert (np.diff(arrays["sure"]) <= 0).all()
    html = page.write(copied.path).read_text()
    for words in (
        "Classes told apart",
        "fine-tuned stack",
        "k nearest neighbours",
        "taken for whom",
        "surest mistakes",
    ):
        assert words in html
    own = plain[0].report().read_text()
    assert "Classification error" in own and "nothing of it is estimated" in own and "accuracy, validation" in own


def test_the_command_prints_a_table_or_one_object(copied: reverie.Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["classify", str(copied.path), "--epochs", "1", "--seeds", "2", "--baselines", "knn"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "fine-tuned stack" in shown and "k nearest neighbours" in shown and "over 2 seeds" in shown
    assert "from before" not in shown
    assert cli.main([*words[:-1], "none"]) == 0
    assert "k nearest neighbours (from before)" in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {one["method"] for one in record["results"]} >= {"knn", "fine-tuned/seed-1"}
    assert cli.main(["classify", str(copied.path), "--seeds", "2", "--seed", "1"]) == 2
    # Minutes that are used up are what was asked for.
    assert cli.main(["classify", str(copied.path), "--labels", "30", "--minutes", "1e-9"]) == 0
    assert cli.main(["classify", str(copied.path), "--baselines", "all,sv"]) == 2
