"""Replicated softmax on corpora so small that every document and every hidden state is counted, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import factorial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2
from tests.oracles import assert_kills

import reverie
from reverie import data as data_floor
from reverie import models
from reverie.errors import ReverieError
from reverie.evaluate import length_chains, lengths
from reverie.evaluate.annealing import Annealing, Plan
from reverie.evaluate.baseline import independent_rows
from reverie.evaluate.log_z import Kept
from reverie.models.undirected import _replicated as replicated
from reverie.models.undirected.replicated_softmax import ReplicatedSoftmax
from reverie.nn.units import Multinomial
from reverie.prob import partition
from reverie.prob.chains import sweeps
from reverie.train.recipe import Brief

#: Spec 19.12, measured apart from this code.
GOLDEN = 3.95965337084
#: Sums of squares beyond this come once in 10,000 seeds.
RARE = 1e-4


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


pytestmark = pytest.mark.usefixtures("double")


def machine(words: int = 4, hidden: int = 3, seed: int = 0, scale: float = 1.0) -> ReplicatedSoftmax:
    """Standard normal W (K, F), b (K,), c (F,), drawn in this order, as the golden number's."""
    rng = np.random.default_rng(seed)
    w, b, c = (jnp.asarray(scale * rng.standard_normal(shape)) for shape in ((words, hidden), words, hidden))
    base = jax.nn.log_softmax(jnp.asarray(rng.standard_normal(words)))
    return ReplicatedSoftmax(w, b, c, base, jnp.asarray([2.0, 3.0, 5.0]))


def hidden_states(n: int) -> np.ndarray:
    return np.array(list(product([0.0, 1.0], repeat=n)))


def counts_of(words: int, length: int) -> np.ndarray:
    """Every vector of counts of so many words."""
    return np.array([n for n in product(range(length + 1), repeat=words) if sum(n) == length], float)


def ways(n: np.ndarray) -> float:
    return factorial(int(n.sum())) / np.prod([factorial(int(k)) for k in n])


def log_joint(model: ReplicatedSoftmax, n: np.ndarray, h: np.ndarray, beta: float = 1.0) -> float:
    """log f_beta of one document's counts (as one sequence) and h, from the page's first formula; N once for c."""
    w, b, c, a = (np.asarray(x) for x in (model.weights, model.words, model.topics, model.base))
    return float(beta * (n @ w @ h + b @ n + n.sum() * (c @ h)) + (1 - beta) * (a @ n))


def joint(model: ReplicatedSoftmax, length: int, beta: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, hidden states, and their masses (counts in rows), unnormalised."""
    every, states = counts_of(model.words.size, length), hidden_states(model.topics.size)
    table = [[ways(n) * np.exp(log_joint(model, n, h, beta)) for h in states] for n in every]
    return every, states, np.array(table)


def test_log_z_is_the_golden_number_in_three_ways() -> None:
    model = machine()
    sequences = [np.bincount(s, minlength=4).astype(float) for s in product(range(4), repeat=3)]
    ones = [log_joint(model, n, h) for n in sequences for h in hidden_states(3)]
    ours = lengths.counted(model, np.array([3]))[3].value
    assert np.logaddexp.reduce(ones) == pytest.approx(GOLDEN, abs=1e-10)
    assert np.log(joint(model, 3)[2].sum()) == pytest.approx(GOLDEN, abs=1e-10)
    assert partition.enumerated(model.of_length(3.0)) == pytest.approx(GOLDEN, abs=1e-10)
    assert ours == pytest.approx(GOLDEN, abs=1e-10)


def test_every_length_is_counted_in_one_pass_over_more_states_than_one_chunk() -> None:
    model = machine(5, 15, scale=0.5)
    wanted = np.array([1, 4, 30])
    found = lengths.counted(model, wanted)
    for n in wanted.tolist():
        assert found[n].value == pytest.approx(partition.enumerated(model.of_length(float(n))), abs=1e-9)


@pytest.mark.parametrize("length", [1, 3, 6])
def test_the_mass_over_all_counts_of_a_length_is_one(length: int) -> None:
    model = machine()
    rows = counts_of(4, length)

    def check(log_p: Any) -> None:
        assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-9)

    right = (
        np.asarray(jax.vmap(model.log_unnormalised)(jnp.asarray(rows)))
        - lengths.counted(model, np.array([length]))[length].value
    )
    ordered = right - lengths.log_coefficients(rows)
    if length > 1:
        assert_kills(check, right, ordered)
    check(right)


@pytest.mark.parametrize("length", [2, 5])
def test_conditionals_are_those_of_the_table(length: int) -> None:
    model = machine()
    every, states, table = joint(model, length)
    wanted = table @ states / table.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(jax.vmap(model.encode)(jnp.asarray(every)), wanted, atol=1e-10)
    means = table.T @ every / table.sum(axis=0)[:, None]
    found = jax.vmap(lambda h: model.mean((h, jnp.asarray(float(length)))))(jnp.asarray(states))
    np.testing.assert_allclose(found, means, atol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_annealed_marginals_lead_from_the_base_law(beta: float) -> None:
    model = machine()
    _, states, table = joint(model, 3, beta)
    found = jax.vmap(lambda h: model.log_marginal((h, jnp.asarray(3.0)), beta))(jnp.asarray(states))
    np.testing.assert_allclose(found, np.log(table.sum(axis=0)), atol=1e-10)
    if beta == 0.0:
        assert float(model.of_length(3.0).base_log_partition()) == pytest.approx(np.log(table.sum()), abs=1e-10)
        assert float(model.base_log_partition()) == pytest.approx(3 * np.log(2.0), abs=1e-9)


def test_a_multinomial_has_its_law_at_any_length() -> None:
    units, field = Multinomial(jnp.asarray(3.0)), jnp.asarray([0.3, -1.0, 0.8])
    every = counts_of(3, 3)
    p = np.array([ways(n) for n in every]) * np.exp(every @ np.asarray(jax.nn.log_softmax(field)))
    drawn = np.asarray(jax.vmap(lambda k: units.sample(k, field))(jax.random.split(jax.random.key(0), 5000)))
    seen = np.array([(drawn == n).all(axis=1).sum() for n in every])
    assert seen.sum() == 5000
    # False once in 10,000 seeds.
    assert ((seen - 5000 * p) ** 2 / (5000 * p)).sum() < chi2.ppf(1 - RARE, len(p) - 1)
    np.testing.assert_allclose(units.mean(field), p @ every, atol=1e-10)
    assert float(units.log_partition(field).sum()) == pytest.approx(3 * np.log(np.exp(np.asarray(field)).sum()))


def test_a_batch_of_ragged_lengths_has_all_its_words() -> None:
    wanted = jnp.asarray([1.0, 63.0, 64.0, 65.0, 700.0])
    fields = jnp.asarray(np.random.default_rng(0).normal(size=(5, 30)))
    keys = jax.random.split(jax.random.key(1), 5)
    drawn = np.asarray(jax.vmap(lambda k, n, f: Multinomial(n).sample(k, f))(keys, wanted, fields))
    np.testing.assert_array_equal(drawn.sum(axis=1), wanted)
    assert (drawn >= 0).all() and (drawn == np.round(drawn)).all()
    share, p = drawn[4] / 700, np.asarray(jax.nn.softmax(fields[4]))
    # Five standard errors of thirty shares.
    assert (np.abs(share - p) < 5 * np.sqrt(p / 700) + 1e-12).all()


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_sweeps_leave_the_law_and_the_length_alone(beta: float) -> None:
    model, length, n = machine(), 3, 4000
    _, states, table = joint(model, length, beta)
    p = table.sum(axis=0) / table.sum()
    chosen = np.random.default_rng(0).choice(len(p), n, p=p)
    start = (jnp.asarray(states[chosen]), jnp.full(n, float(length)))
    h, kept = sweeps(model, jax.random.key(2), start, 0, 2, beta)
    assert (np.asarray(kept) == length).all()
    seen = np.bincount((np.asarray(h) @ [4, 2, 1]).astype(int), minlength=8)
    # False once in 10,000 seeds.
    assert ((seen - n * p) ** 2 / (n * p)).sum() < chi2.ppf(1 - RARE, len(p) - 1)


def exact_gradient(model: ReplicatedSoftmax, rows: np.ndarray, weights: np.ndarray) -> ReplicatedSoftmax:
    """Autograd of the weighted mean of the exact log-likelihoods."""
    states = jnp.asarray(hidden_states(model.topics.size))

    def mean(m: ReplicatedSoftmax) -> jax.Array:
        own = jax.vmap(m.log_unnormalised)(jnp.asarray(rows))
        log_z = jnp.stack([
            jax.nn.logsumexp(jax.vmap(lambda h, n=n: m.log_marginal((h, jnp.asarray(n))))(states))
            for n in rows.sum(axis=1)
        ])  # fmt: skip
        return jnp.mean(jnp.asarray(weights) * (own - log_z))

    return jax.grad(mean)(model)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_the_gradient_with_exact_averages_is_autograds(normalised: bool, centred: bool) -> None:
    """The model's side is the whole law of each document's length, so that nothing is left to chance."""
    model = machine()
    rows = np.array([[2.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 3.0]])
    how = replicated.Counting(length_normalise=normalised, centred=centred)
    shares = 1 / rows.sum(axis=1) if normalised else np.ones(2)
    wanted = exact_gradient(model, rows, shares)
    active = jnp.asarray([0.2, 0.7, 0.4])
    data = replicated.side(how, model, jnp.asarray(rows))
    parts, probabilities = [], []
    for length in rows.sum(axis=1).astype(int):
        every, _, table = joint(model, length)
        parts.append(every)
        probabilities.append(table.sum(axis=1) / table.sum() / 2)
    chains = replicated.side(how, model, jnp.asarray(np.concatenate(parts)))
    # A weighted mean as a plain one: a document counts by its probability.
    share = chains.share * jnp.asarray(np.concatenate(probabilities)) * len(chains.rows)
    chains = chains._replace(share=share)

    def plain(found: ReplicatedSoftmax) -> tuple[np.ndarray, ...]:
        """Undo the change of direction that centring is."""
        w = np.asarray(found.weights)
        at = np.asarray(active) if centred else np.zeros(3)
        offset = np.exp(np.asarray(model.base)) if centred else np.zeros(4)
        words, topics = np.asarray(found.words) + w @ at, np.asarray(found.topics) + w.T @ offset
        return w + np.outer(words, at) + np.outer(offset, topics), words, topics

    def check(found: ReplicatedSoftmax) -> None:
        got, b, c = plain(found)
        np.testing.assert_allclose(b, wanted.words, atol=1e-9)
        np.testing.assert_allclose(c, wanted.topics, atol=1e-9)
        np.testing.assert_allclose(got, wanted.weights, atol=1e-9)

    right = replicated.average_gradient(model, data, chains, active, centred)
    once = replicated.average_gradient(
        model, data._replace(means=data.means), chains._replace(means=0.5 * chains.means), active, centred
    )
    forgets = replace(right, topics=right.topics / 4.0)
    assert_kills(check, right, once, forgets)


def test_annealing_is_unbiased_at_few_temperatures_and_brackets_at_many() -> None:
    model = machine(4, 3, scale=0.7)
    rows = np.random.default_rng(0).multinomial(4, [0.4, 0.3, 0.2, 0.1], 40).astype(np.float32)
    rows[20:] = np.random.default_rng(1).multinomial(9, [0.1, 0.2, 0.3, 0.4], 20)
    numbers = rows.sum(axis=1).astype(int)
    truth = {n: z.value for n, z in lengths.counted(model, np.array([4, 9])).items()}
    # Both paths are padded to one length, so that they share their executables.
    both = length_chains.Lengths(model, rows, numbers, Plan(400, 3, 100), 0)
    annealing = Annealing(model, both.plan, 0)
    few, _ = both.round(annealing, np.array([4, 9]), 3)
    many, _ = both.round(annealing, np.array([4, 9]), 100)
    for n, short, long in zip((4, 9), few, many, strict=True):
        # False for one seed in 100,000.
        assert abs(short[0].value - truth[n]) < 4.5 * short[0].error, (n, short)
        assert short[0].error > 0
        assert {end.name for end in long} == {"forward", "raise", "reverse"}
        for end in long:
            # RAISE's and the way back are too high at few temperatures alone.
            assert abs(end.value - truth[n]) < 4.5 * end.error + 0.05, (n, end)


def test_lengths_are_annealed_in_blocks_of_one_size_and_progress_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, told, blocks = np.r_[1:23, 4000], [], []

    def block(self: Any, numbers: np.ndarray, watch: Any, of: int) -> dict[int, Any]:
        blocks.append(numbers.tolist())
        # The last one ends before its longest path.
        for done in (1, 30) if 4000 in numbers else (1, 600):
            watch(done)
        return dict.fromkeys(numbers.tolist(), of)

    monkeypatch.setattr(length_chains.Lengths, "block", block)
    found = length_chains.Lengths(
        None, np.zeros((1, 2)), np.zeros(1, int), Plan(2, 100, 150), 0, watch=lambda done, **_: told.append(done)
    ).all(wanted, {}, None)
    assert sorted(found) == wanted.tolist() and set(found.values()) == {3}
    # A long document is there once: a block takes as long as its longest.
    assert {len(b) for b in blocks} == {8} and blocks[2].count(4000) == 1
    assert told == sorted(told) and told[-1] <= 3 * (2 * 150 - 100)


def test_a_bracket_is_of_each_length_and_says_so() -> None:
    model = machine(4, 3, scale=0.7)
    rows = np.concatenate([counts_of(4, 2), counts_of(4, 3)])
    # Of the shapes of the test above, so that nothing is compiled again.
    result = lengths.annealed_lengths(
        model, rows, exact=False, chains=400, temperatures=3, most=100, tolerance=1e6, seed=0
    )
    kept = {int(n): float(low) for n, low in zip(result.info["length"], result.info["low"], strict=True)}
    assert result.kind == "bracket" and "log Z of 2 lengths" in str(result.info["note"])
    assert kept[2] != kept[3] and (result.info["low"] < result.info["high"]).all()
    middle = (result.info["low"] + result.info["high"]) / 2
    free = np.asarray(jax.vmap(model.log_unnormalised)(jnp.asarray(rows)))
    np.testing.assert_allclose(result.values, free - middle, atol=1e-4)
    # Ten documents of one length share its error, twenty of the other theirs: they do not average out.
    alone = lengths.shared_error(result)
    errors = {int(n): float(e) for n, e in zip(result.info["length"], result.info["error"], strict=True)}
    assert alone == pytest.approx(np.hypot(10 / 30 * errors[2], 20 / 30 * errors[3]))


def test_perplexity_is_of_sequences_and_means_over_documents() -> None:
    model = machine()
    rows = np.array([[2.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 3.0]])
    result = lengths.annealed_lengths(model, rows, exact=True)
    per_word = []
    for n in rows:
        length = int(n.sum())
        sequence = np.logaddexp.reduce([log_joint(model, n, h) for h in hidden_states(3)])
        per_word.append((sequence - np.log(joint(model, length)[2].sum())) / length)
    record = reverie.Estimate.of_rows(result.values, kind="exact", estimator="enumerated")
    found = lengths.perplexity(record, result, rows)
    assert found.value == pytest.approx(np.exp(-np.mean(per_word)), rel=1e-5)
    assert (found.unit, found.kind, found.low) == ("perplexity", "exact", None)


def test_lengths_are_kept_and_found_again(tmp_path: Path) -> None:
    model = machine()
    rows = counts_of(4, 3)
    kept = Kept(tmp_path / "log_z.json", "these")
    first = lengths.annealed_lengths(model, rows, exact=True, kept=kept)
    store = lengths.KeptLengths(kept, Plan(lengths.CHAINS), 0)
    assert set(store.read()) == {3}
    poisoned = {3: replace(store.read()[3], value=0.0)}
    store.keep(poisoned)
    again = lengths.annealed_lengths(model, rows, exact=True, kept=kept)
    np.testing.assert_allclose(again.values - first.values, GOLDEN, atol=1e-6)
    other = lengths.KeptLengths(Kept(tmp_path / "log_z.json", "others"), Plan(lengths.CHAINS), 0)
    assert other.read() == {}


def test_the_unigram_baseline_is_normalised_over_counts() -> None:
    every = counts_of(3, 4).astype(int)
    data = data_floor.load(np.concatenate([every] * 4), likelihood="counts")
    p = np.exp(independent_rows(data, "test"))
    shown = data.rows("test")
    masses = {tuple(row): value for row, value in zip(shown.tolist(), p, strict=True)}
    train = data.mean * data.size("train") + 1.0
    share = train / train.sum()
    for row, value in masses.items():
        wanted = ways(np.array(row)) * np.prod(share ** np.array(row))
        assert value == pytest.approx(wanted, rel=1e-5)


def test_rows_that_are_no_counts_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match="needs word counts, not bernoulli") as caught:
        reverie.train("replicated-softmax", "digits", run=tmp_path / "run")
    assert "\n" not in str(caught.value)
    with pytest.raises(ReverieError, match="sweeps"):
        reverie.train("replicated-softmax", "tiny-text", run=tmp_path / "run", sweeps=0)


def synthetic(seed: int = 0) -> tuple[ReplicatedSoftmax, np.ndarray]:
    """A known machine of 20 words and 5 units, and 2,000 documents of 5 to 30 words drawn from it exactly."""
    rng = np.random.default_rng(seed)
    # Each unit has four words of its own: units of many words in common leave long documents one state alone.
    w = 2.0 * np.repeat(np.eye(5), 4, axis=0) + 0.1 * rng.standard_normal((20, 5))
    b = 0.3 * rng.standard_normal(20)
    # Each unit a toss at its own: the log-odds that its words bring are taken off.
    c = -np.log(np.exp(b[:, None] + w).sum(axis=0) / np.exp(b).sum())
    model = ReplicatedSoftmax(*(jnp.asarray(a) for a in (w, b, c)), jnp.full(20, -np.log(20.0)), jnp.ones(2))
    states = hidden_states(5)
    log_f = np.asarray(jax.vmap(lambda h: model.log_marginal((h, jnp.asarray(1.0))))(jnp.asarray(states)))
    rows = []
    for length in rng.integers(5, 31, 2000):
        p = np.exp(length * (log_f - log_f.max()))
        h = states[rng.choice(len(states), p=p / p.sum())]
        q = np.exp(b + w @ h)
        rows.append(rng.multinomial(length, q / q.sum()))
    return model, np.array(rows)


def test_adams_steps_are_as_large_for_rare_words_and_those_of_momentum_are_not() -> None:
    rows = np.random.default_rng(0).integers(1, 4, (60, 3))
    data = data_floor.load(rows, likelihood="counts")

    def moved(optimiser: str) -> np.ndarray:
        brief = Brief(data, jax.random.key(0), 1.0)
        model, how = models.load_module("replicated-softmax").recipe(brief, hidden=2, optimiser=optimiser)
        slope = jax.tree.map(jnp.zeros_like, model)
        slope = replace(slope, weights=jnp.asarray([[1.0, -1.0], [0.1, 0.1], [1e-3, -1e-3]], jnp.float32))
        steps = how.players[0].optimiser
        return np.abs(np.asarray(steps.update(slope, steps.init(model), model)[0].weights))

    np.testing.assert_allclose(moved("adam"), moved("adam")[0, 0], rtol=1e-3)
    np.testing.assert_allclose(moved("momentum")[:, 0] / moved("momentum")[0, 0], [1.0, 0.1, 1e-3], rtol=1e-3)


@pytest.mark.slow
def test_a_known_machine_is_recovered_to_two_per_cent_of_its_perplexity(tmp_path: Path) -> None:
    truth, rows = synthetic()
    with jax.enable_x64(False):
        run = reverie.train("replicated-softmax", rows, likelihood="counts", run=tmp_path / "run", hidden=5,
                            optimiser="momentum", rate=2.0, epochs=60, batch=50)  # fmt: skip
        found = run.evaluate()["perplexity"]
    assert found.kind == "exact"
    test = run.data.rows("test")
    best = lengths.annealed_lengths(truth, test, exact=True)
    wanted = lengths.perplexity(found, best, test).value
    assert found.value < 1.02 * wanted, (found.value, wanted)
    unigram = run.evaluate()["unigram_perplexity"].value
    assert unigram > 1.02 * wanted
