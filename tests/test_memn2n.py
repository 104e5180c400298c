"""Memory networks: hops against loops, what tables share, padding, ages, the linear start, restarts side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie import data as data_floor
from reverie.errors import ReverieError
from reverie.models.conditional import _questions, memn2n
from reverie.nn import words
from reverie.nn.addressing import attend
from reverie.train.optimise import SCHEDULES, descent
from reverie.train.recipe import Brief

KEY = jax.random.key(0)
V, AGES, PLACES, WIDTH = 6, 9, 4, 5


@pytest.fixture
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def network(**more: Any) -> memn2n.Network:
    """Return a small network with tables large enough that attention is no mean."""
    settings = {
        "vocabulary": V, "ages": AGES, "slots": 7, "places": PLACES, "width": WIDTH, "hops": 3, "tying": "adjacent",
        "encoding": "position", "rectified": 0.0,
    }  # fmt: skip
    made = memn2n.build(KEY, **(settings | more))
    return jax.tree.map(lambda a: 8.0 * a, made)


def row(seed: int = 0, sentences: int = 4, slots: int = 6) -> np.ndarray:
    """Return a question and a story as numbers of words, of texts of one to `PLACES` words."""
    rng = np.random.default_rng(seed)
    x = np.zeros((1 + slots, PLACES), np.int32)
    for line in x[: 1 + sentences]:
        size = rng.integers(1, PLACES + 1)
        line[:size] = rng.integers(1, V + 1, size)
    return x


def weights(kind: str) -> np.ndarray:
    """Return l (d, J) by the formulas, one number after the other; the word for time is counted among the words."""
    found, total = np.ones((WIDTH, PLACES)), PLACES + 1
    for k in range(1, WIDTH + 1):
        for j in range(1, PLACES + 1):
            if kind == "position":
                found[k - 1, j - 1] = 1 + 4 * (k - (WIDTH + 1) / 2) * (j - (total + 1) / 2) / (WIDTH * total)
            elif kind == "position-paper":
                found[k - 1, j - 1] = (1 - j / total) - (k / WIDTH) * (1 - 2 * j / total)
    return found


def by_loops(net: memn2n.Network, x: np.ndarray, ages: list[int], linear: bool = False) -> tuple[np.ndarray, list]:
    """Return log p(answer) and attention by the equations, sentence by sentence."""
    tables, layerwise = [np.asarray(t, float) for t in net.tables], net.across is not None
    weigh = weights(net.encoding)

    def vector(table: np.ndarray, text: np.ndarray, age: int | None) -> np.ndarray:
        total = sum((weigh[:, j] * table[word - 1] for j, word in enumerate(text) if word), start=np.zeros(WIDTH))
        return total if age is None else total + table[V + age]

    story = [text for text in x[1:] if text[0]]
    u, seen = vector(tables[2 if layerwise else 0], x[0], None), []
    for hop in range(net.hops):
        a, c = (tables[0], tables[1]) if layerwise else (tables[hop], tables[hop + 1])
        scores = np.asarray([vector(a, text, age) @ u for text, age in zip(story, ages, strict=True)])
        empty = max(net.slots - len(story), 0)
        p = scores if linear else np.exp(scores) / (np.exp(scores).sum() + empty)
        o = sum(w * vector(c, text, age) for w, text, age in zip(p, story, ages, strict=True))
        u = (np.asarray(net.across, float) @ u if layerwise else u) + o
        first = round(net.rectified * WIDTH)
        u = np.concatenate([np.maximum(u[:first], 0), u[first:]])
        seen.append(p)
    logits = tables[-1][:V] @ u
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max(), seen


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(
    "more",
    [{}, {"slots": 0}, {"hops": 1, "encoding": "bag"}, {"tying": "layer-wise"},
     {"encoding": "position-paper", "hops": 2}, {"tying": "layer-wise", "rectified": 0.4, "hops": 4}],
)  # fmt: skip
def test_hops_are_those_of_the_equations(more: dict, linear: bool) -> None:
    net = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), network(**more))
    net = net if not linear else jax.tree.map(lambda a: 0.3 * a, net)
    ages = [0, 1, 3, 5]
    found = net.reply(jnp.asarray(row()), jnp.asarray([*ages, 6, 7]), linear)
    log_p, seen = by_loops(net, row(), ages, linear)
    np.testing.assert_allclose(found.log_answers, log_p, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.asarray(found.attention)[:, :4], seen, rtol=1e-9, atol=1e-12)
    assert not np.asarray(found.attention)[:, 4:].any()


def test_empty_sentences_and_places_change_nothing() -> None:
    net, x = network(), row(sentences=3, slots=3)
    wide = np.pad(x, ((0, 4), (0, 0)))
    short, long = net.reply(jnp.asarray(x)), net.reply(jnp.asarray(wide))
    np.testing.assert_allclose(short.log_answers, long.log_answers, rtol=1e-5, atol=1e-6)
    full = eqx.tree_at(lambda n: n.tables, network(slots=0), net.tables).reply(jnp.asarray(wide))
    np.testing.assert_allclose(np.asarray(full.attention).sum(axis=1), 1.0, rtol=1e-6)
    # Four of seven places are empty, and take their share.
    assert (np.asarray(long.attention).sum(axis=1) < 1.0 - 1e-6).any()
    narrow = row(1, 3)[:, :2]
    # Texts of two words in rows of two places and in rows of four.
    same = np.pad(narrow, ((0, 0), (0, PLACES - 2)))
    np.testing.assert_allclose(
        net.reply(jnp.asarray(narrow)).log_answers, net.reply(jnp.asarray(same)).log_answers, rtol=1e-5, atol=1e-6
    )


def test_a_story_without_a_sentence_is_answered_from_the_question() -> None:
    x = row()
    x[1:] = 0
    net = network()
    slope = jax.grad(lambda n: n.reply(jnp.asarray(x)).log_answers[2])(net)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slope))
    assert not np.asarray(net.reply(jnp.asarray(x)).attention).any()


def test_sentences_may_change_places_with_their_ages() -> None:
    net, x, order = network(), row(), np.asarray([2, 0, 3, 1])
    ages = jnp.asarray([0, 2, 3, 4, 5, 6])
    moved = x.copy()
    moved[1:5] = x[1:5][order]
    found = net.reply(jnp.asarray(moved), ages.at[:4].set(ages[:4][order]))
    before = net.reply(jnp.asarray(x), ages)
    np.testing.assert_allclose(found.log_answers, before.log_answers, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.attention[:, :4], np.asarray(before.attention)[:, :4][:, order], rtol=1e-4)
    # With their ages left behind they are another story.
    assert np.abs(np.asarray(net.reply(jnp.asarray(moved), ages).log_answers - before.log_answers)).max() > 0.1


def test_attention_finds_the_sentence_that_is_the_question() -> None:
    net = network(hops=1, encoding="bag", vocabulary=WIDTH)
    table = jnp.zeros((WIDTH + AGES, WIDTH)).at[:WIDTH].set(20.0 * jnp.eye(WIDTH))
    net = eqx.tree_at(lambda n: n.tables, net, (table, table))
    x = np.zeros((5, PLACES), np.int32)
    x[1:, 0], x[0, 0] = [2, 4, 1, 3], 1
    np.testing.assert_allclose(net.reply(jnp.asarray(x)).attention[0], [0, 0, 1, 0], atol=1e-6)
    # What is asked for in vain is looked for in vain: four sentences and three empty places weigh alike.
    x[0, 0] = 5
    np.testing.assert_allclose(net.reply(jnp.asarray(x)).attention[0], 1 / 7, rtol=1e-6)


def test_without_the_softmax_memories_add_up() -> None:
    """What one hop reads of a story is the sum of what it reads of its parts."""
    net = network(hops=1, tying="layer-wise")
    answers = jnp.eye(V, WIDTH)
    net = eqx.tree_at(lambda n: (n.tables[3], n.across), net, (answers, jnp.zeros((WIDTH, WIDTH))))
    x, ages = row(sentences=4, slots=4), jnp.arange(4)
    first, second = x.copy(), x.copy()
    first[3:], second[1:3] = 0, 0
    parts = [net.reply(jnp.asarray(part), ages, True).log_answers for part in (x, first, second)]
    # Logits up to a constant each, of which the last, of no number of u, is 0.
    whole, one, two = (part[:WIDTH] - part[-1] for part in parts)
    np.testing.assert_allclose(whole, one + two, rtol=1e-4, atol=1e-3)


def test_words_that_are_not_there_have_no_gradient_and_shared_tables_have_both() -> None:
    x = row()
    x[x == 3] = 4
    net = network(hops=2)
    slope = jax.grad(lambda n: n.reply(jnp.asarray(x)).attention[1, 0])(net)
    assert not np.asarray(slope.tables[1][2]).any() and np.asarray(slope.tables[1][3]).any()
    # A^2 is C^1: three tables for two hops, the question's and the answer's among them.
    assert len(net.tables) == 3 and net.asked is not None
    np.testing.assert_array_equal(net.asked, net.tables[0][:V])
    np.testing.assert_array_equal(net.answers, net.tables[-1][:V])
    assert len(network(tying="layer-wise", hops=5).tables) == 4


@pytest.mark.usefixtures("double")
def test_counting_words_and_fetching_their_rows_agree() -> None:
    table = jnp.asarray(np.random.default_rng(0).normal(size=(V, WIDTH)))
    texts, place = jnp.asarray(row()), jnp.asarray(words.encoding("position", PLACES, WIDTH)[0])
    counted = lambda t: words.counted(texts, place, V) @ t  # noqa: E731
    fetched = lambda t: words.fetched(texts, place, t)  # noqa: E731
    np.testing.assert_allclose(counted(table), fetched(table), rtol=1e-12)
    slopes = [jax.grad(lambda t, f=f: (f(t) ** 2).sum())(table) for f in (counted, fetched)]
    np.testing.assert_allclose(*slopes, rtol=1e-12)
    wide = jnp.zeros((words.COUNTED + 1, WIDTH))
    many, few = (str(jax.make_jaxpr(lambda t: words.embedded(texts, place, t))(t)) for t in (wide, table))
    assert "gather" in many and "gather" not in few


@pytest.mark.parametrize("kind", ["bag", "position", "position-paper"])
def test_encodings_are_sums_of_two_products(kind: words.Encoding) -> None:
    place, number = words.encoding(kind, PLACES + 1, WIDTH)
    np.testing.assert_allclose(np.einsum("jr,rk->kj", place, number)[:, :PLACES], weights(kind), rtol=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "linear"])
def test_slots_that_hold_nothing_weigh_nothing(kind: str) -> None:
    scores, there = jnp.asarray([0.3, -2.0, 1.5]), jnp.asarray([True, False, True])
    found = attend(scores, kind, there)
    np.testing.assert_allclose(found[jnp.asarray([0, 2])], attend(scores[jnp.asarray([0, 2])], kind), rtol=1e-6)
    assert found[1] == 0.0
    slope = jax.jacobian(lambda s: attend(s, kind, jnp.zeros(3, bool)))(scores)
    assert not np.asarray(slope).any()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("shift", [0.0, 900.0, -900.0])
def test_empty_slots_are_scores_of_nothing(shift: float) -> None:
    scores = jnp.asarray([0.3, -2.0, 1.5]) + shift
    found = attend(scores, "softmax", jnp.asarray([True, True, False]), 3.0)
    whole = jax.nn.softmax(jnp.concatenate([scores[:2], jnp.zeros(3)]))
    np.testing.assert_allclose(found, [*whole[:2], 0.0], rtol=1e-12)
    slope = jax.grad(lambda s: attend(s, "softmax", None, 3.0)[0])(scores)
    wanted = jax.grad(lambda s: jax.nn.softmax(jnp.concatenate([s, jnp.zeros(3)]))[0])(scores)
    np.testing.assert_allclose(slope, wanted, rtol=1e-9, atol=1e-300)


def test_ages_with_noise_rise_and_leave_every_gap_alike() -> None:
    draw = jax.jit(jax.vmap(lambda k: _questions.aged(k, jnp.asarray(10), 12, 0.1, 50)))
    found = np.asarray(draw(jax.random.split(KEY, 4000)))[:, :10]
    assert (np.diff(found, axis=1) > 0).all() and found.min() == 0 and found.max() == 10
    empty = found[:, -1] != 9
    # A tenth of ten sentences is one: none or one is put in with equal chances, one at each of eleven places.
    where = np.asarray([next((i for i, age in enumerate(ages) if age != i), 10) for ages in found])
    counts = np.bincount(where, minlength=11)
    np.testing.assert_allclose(counts[:10] / 4000, 1 / 22, atol=0.016)
    np.testing.assert_allclose(counts[10] / 4000, 1 / 2 + 1 / 22, atol=0.04)
    assert empty.any()
    np.testing.assert_array_equal(_questions.aged(KEY, jnp.asarray(3), 5, 0.0, 50), np.arange(5))
    most = _questions.aged(KEY, jnp.asarray(50), 50, 0.1, 50)
    assert int(most.max()) == 49


def batch_of(data: Any, rows: slice = slice(0, 8), step: int = 0) -> dict[str, Any]:
    given = jax.nn.one_hot(np.asarray(data.labels("train"))[rows], data.classes)
    return {"x": jnp.asarray(data.rows("train")[rows]), "given": given, "step": jnp.asarray(step)}


def test_networks_side_by_side_learn_as_each_would_alone() -> None:
    data = data_floor.load("tiny-stories")
    model, _ = memn2n.recipe(Brief(data, KEY, 2.0), width=6, hops=2, restarts=3)
    # A norm that shortens the gradients of one of them.
    model = eqx.tree_at(lambda m: m.networks, model, jax.tree.map(lambda a: a.at[1].multiply(30.0), model.networks))
    loss, rule = _questions.objective(0.1, 0.0), descent(lambda step: 0.1, clip=5.0)

    @eqx.filter_jit
    def stepped(model: Any) -> Any:
        slope = jax.grad(lambda n: loss(eqx.tree_at(lambda m: m.networks, model, n), batch_of(data), None, KEY)[0])(
            model.networks
        )
        moves, _ = rule.update(slope, rule.init(model.networks))
        return jax.tree.map(lambda a, b: a + b, model.networks, moves)

    together = stepped(model)
    for place in range(3):
        alone = jax.tree.map(lambda a, place=place: a[place : place + 1], model.networks)
        own = stepped(memn2n.MemN2N(alone, jnp.asarray(0)))
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(own), strict=True):
            np.testing.assert_allclose(a[place], b[0], rtol=2e-4, atol=2e-6)


def test_a_gradient_is_shortened_leaf_by_leaf_and_network_by_network() -> None:
    rule = descent(lambda step: 1.0, clip=1.0)
    slope = {"a": jnp.asarray([[3.0, 4.0], [0.3, 0.4]]), "b": jnp.asarray([[[6.0]], [[0.5]]])}
    moves, _ = rule.update(slope, rule.init(slope))
    np.testing.assert_allclose(moves["a"], [[-0.6, -0.8], [-0.3, -0.4]], rtol=1e-6)
    np.testing.assert_allclose(moves["b"], [[[-1.0]], [[-0.5]]], rtol=1e-6)
    halves = [float(SCHEDULES["halving"](jnp.asarray(t))) for t in (0.0, 0.24, 0.26, 0.74, 0.99)]
    assert halves == [1.0, 1.0, 0.5, 0.25, 0.125]


def test_the_loss_is_linear_at_first_and_summed_over_the_batch() -> None:
    data = data_floor.load("tiny-stories")
    model, _ = memn2n.recipe(Brief(data, KEY, 2.0), width=6, hops=2, restarts=1)
    model = eqx.tree_at(lambda m: m.networks, model, jax.tree.map(lambda a: 5.0 * a, model.networks))
    loss = _questions.objective(0.0, 10.0)
    for step, linear in ((0, True), (9, True), (10, False)):
        batch = batch_of(data, step=step)
        x = _questions.texts(batch["x"], model.networks.places)
        told = [
            model.one.reply(one, None, linear).log_answers @ given for one, given in zip(x, batch["given"], strict=True)
        ]
        assert float(loss(model, batch, None, KEY)[0]) == pytest.approx(-float(sum(told)), rel=1e-4)


def test_the_one_that_answers_is_wrong_least_often() -> None:
    data = data_floor.load("tiny-stories")
    run = reverie.train("memn2n", "tiny-stories", width=10, hops=2, restarts=1, epochs=12, run="taught")
    good = run.model.networks
    blank = jax.tree.map(jnp.zeros_like, good)
    several = jax.tree.map(lambda *a: jnp.concatenate(a), blank, good, blank)
    model = memn2n.MemN2N(several, jnp.asarray(0, jnp.int32))
    for split in ("valid", "train"):
        assert int(_questions.chooser(split)(model, data, KEY).chosen) == 1


def test_it_learns_which_sentences_bear_an_answer_out() -> None:
    run = reverie.train("memn2n", "tiny-stories", hops=2, restarts=2, epochs=20)
    found = run.evaluate()
    # Most of the 20 words are no places: a guess is wrong four times of five.
    assert found["error_rate"].value < 0.15 and found["error_rate"].unit == "fraction"
    assert "Wilson" in found["error_rate"].note
    told = run.ask(
        ["Anna went to the attic.", "Boris walked to the garden.", "Anna moved to the cellar."], "Where is Anna?"
    )
    assert told["answers"][0]["answer"] == "cellar" and told["note"] == ""
    hops = np.asarray([one["hops"] for one in told["story"]])
    np.testing.assert_allclose(hops.sum(axis=0) + told["nothing"], 1.0, rtol=1e-5)
    assert hops[:, -1].argmax() == 2 and told["story"][2]["sentence"] == "anna moved to the cellar"


@pytest.mark.parametrize(
    ("more", "words"),
    [({"width": 0}, "width: 0 must be positive"), ({"time_noise": 1.5}, "time-noise: 1.5 is no share"),
     ({"linear_start": -0.1}, "linear-start: -0.1 is no share"), ({"restarts": 0}, "restarts: 0 must be positive"),
     ({"slots": -1}, "slots: -1 is no size of a memory")],
)  # fmt: skip
def test_settings_that_make_no_network_are_refused(more: dict, words: str) -> None:
    with pytest.raises(ReverieError, match=words):
        reverie.train("memn2n", "tiny-stories", **more)
