"""The memory block and MEM-VAE: reductions, golden counts, and what silences a slot (spec 7.3, 7.8)."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.arrays import named_leaves
from reverie.data.dataset import Dataset, Rows
from reverie.errors import ReverieError
from reverie.models.directed import mem_vae, vae
from reverie.nn.blocks import Dense, live, standardise
from reverie.nn.memory import Gate, MemoryBlock, attend, read
from reverie.train.engine import parameters
from reverie.train.recipe import Brief

KEY = jax.random.key(0)


def binary(columns: int, rows: int = 60) -> Dataset:
    x = (np.random.default_rng(0).random((rows, columns)) < 0.3).astype(np.uint8)
    parts = {"train": Rows(x), "valid": Rows(x[:20]), "test": Rows(x[20:40])}
    return Dataset("toy", "toy", parts, (columns,), "bernoulli", "as-is", "0")


def size(module: object, columns: int, **settings: object) -> int:
    model, recipe = module.recipe(Brief(binary(columns, 200), KEY, 1.0), **settings)  # type: ignore[attr-defined]
    return parameters(model, recipe)


@pytest.mark.parametrize(
    ("module", "columns", "settings", "count"),
    [
        (vae, 784, vae.PRESETS["one-layer"], 425_284),
        (vae, 784, vae.PRESETS["two-layer"], 521_084),
        (mem_vae, 784, {"hidden": ((530, 530),), "slots": (0, 0)}, 1_559_184),
        (mem_vae, 784, {"hidden": ((500, 500),), "slots": (0, 0)}, 1_440_984),
        (mem_vae, 784, {}, 1_550_084),
        (mem_vae, 784, {"combination": "sum"}, 1_541_084),
        (mem_vae, 128, mem_vae.PRESETS["letters"], 207_528),
        (mem_vae, 128, {**mem_vae.PRESETS["letters"], "slots": (0, 0)}, 163_828),
    ],
)
def test_golden_parameter_counts(module: object, columns: int, settings: dict, count: int) -> None:
    assert size(module, columns, **settings) == count


def block(attention: str = "sigmoid", combination: str = "gate") -> MemoryBlock:
    dense = Dense.init(KEY, 6, 5, "relu", norm=True)
    return MemoryBlock.init(jax.random.key(1), dense, 4, attention, combination)


def test_block_starts_as_the_identity_on_its_own_layer() -> None:
    b, x = block(), jax.random.normal(KEY, (6,))
    assert jnp.array_equal(b(x)[0], b.dense(x)[0])


def test_read_is_the_sum_over_slots_and_softmax_sums_to_one() -> None:
    b, x = block("softmax"), jax.random.normal(KEY, (6,))
    trace = b(x)[1]
    slow = sum(float(a) * np.asarray(row) for a, row in zip(trace["attention"], b.slots, strict=True))
    np.testing.assert_allclose(trace["read"], slow, rtol=1e-5)
    np.testing.assert_allclose(trace["attention"].sum(), 1.0, rtol=1e-6)
    assert attend(jnp.array([0.0, 0.0]), "sigmoid").sum() == 1.0


def test_gate_follows_its_formula_unit_by_unit() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=(4, 3))
    own, memory = rng.normal(size=3), rng.normal(size=3)
    got = Gate(jnp.asarray(a), jnp.asarray(b), jnp.asarray(c))(jnp.asarray(own), jnp.asarray(memory))
    for i in range(3):
        terms = [1.0, memory[i], own[i], own[i] * memory[i]]
        gate = 1 / (1 + np.exp(-sum(c[j, i] * terms[j] for j in range(4))))
        assert float(got[i]) == pytest.approx(sum(a[j, i] * terms[j] for j in range(4)) + b[i] * gate, rel=1e-5)


def toy(**settings: object) -> tuple[mem_vae.MemVAE, object]:
    base = {"latent": (3,), "hidden": ((8, 8),), "slots": (4, 2), "batch": 20}
    return mem_vae.recipe(Brief(binary(10), KEY, 1.0), **{**base, **settings})


def test_empty_memory_with_sum_is_the_plain_vae_bit_for_bit() -> None:
    model, _ = toy(combination="sum")
    for layer in model.memories:
        for slot in range(model.memories[layer].slots.shape[0]):
            model = model.silence(layer, slot)
    trunk = tuple(getattr(b, "dense", b) for b in model.p[0].trunk)
    plain = eqx.tree_at(lambda m: m.p[0].trunk, model, trunk)
    x = jnp.asarray(binary(10).rows("train")[0])
    h = model.infer(KEY, x)
    assert model.log_p(x, h) == plain.log_p(x, h)


def test_gradient_reaches_every_part_of_the_memory() -> None:
    model, _ = toy()
    noise = lambda a: a + 0.1 * jax.random.normal(KEY, a.shape)  # noqa: E731
    model = jax.tree.map(noise, model)
    x = jnp.asarray(binary(10).rows("train")[0])
    gradient = eqx.filter_grad(lambda m: m.forward(KEY, x).log_w)(model)
    for name, leaf in named_leaves(gradient.p[0].trunk):
        if "norm.mean" not in name and "norm.variance" not in name:
            assert bool((leaf != 0).any()), name


def test_local_term_vanishes_when_decoder_repeats_the_encoder() -> None:
    x = jax.random.normal(KEY, (7, 8))

    def one(row: jax.Array) -> jax.Array:
        up = standardise(row, ("batch", "samples"), 1e-10)
        inside = {
            "q.0.trunk.0": {"normal": up}, "q.0.trunk.1": {"normal": up},
            "p.0.trunk.0": {"out": row}, "p.0.trunk.1": {"out": row},
        }  # fmt: skip
        return mem_vae.local_reconstruction([0.1, 0.1])(inside)

    over_samples = jax.vmap(lambda row: jax.vmap(one, axis_name="samples")(row[None]), axis_name="batch")
    assert float(jnp.abs(over_samples(x)).max()) < 1e-9
    flipped = jax.vmap(lambda row: jax.vmap(lambda r: one(r), axis_name="samples")(row[None]), axis_name="batch")
    assert float(flipped(x.at[0].mul(2.0)).max()) < 1e-9


def test_slot_image_silence_and_disable_change_what_they_name() -> None:
    model, _ = toy(combination="sum")
    model = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(KEY, a.shape), model)
    x = jnp.asarray(binary(10).rows("train")[0])
    layer = list(model.memories)[-1]
    assert model.slot_image(layer, 1).shape == (10,)
    silenced = model.silence(layer, 1)
    assert bool((silenced.memories[layer].slots[1] == 0).all())
    assert not jnp.array_equal(silenced.reconstruct(KEY, x), model.reconstruct(KEY, x))
    disabled = model.disable(layer, 0.0)
    everyone = model
    for slot in range(model.memories[layer].slots.shape[0]):
        everyone = everyone.silence(layer, slot)
    np.testing.assert_allclose(disabled.reconstruct(KEY, x), everyone.reconstruct(KEY, x), rtol=1e-6)


def test_frozen_statistics_make_a_row_independent_of_its_batch() -> None:
    model, recipe = toy()
    data = binary(10)
    finished = recipe.finish(model, data, KEY)
    rows = jnp.asarray(data.rows("test"))
    score = lambda m, x: jax.vmap(lambda r: m.forward(KEY, r).log_w, axis_name="batch")(x)  # noqa: E731
    with_others, changed = score(finished, rows), score(finished, rows.at[1:].set(0.0))
    assert with_others[0] == changed[0]

    def one(row: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: live(finished).forward(key, row).log_w, axis_name="samples")(KEY[None])

    training = jax.vmap(one, axis_name="batch")
    assert training(rows)[0] != training(rows.at[1:].set(0.0))[0]


def test_full_pass_statistics_equal_a_float64_reference() -> None:
    model, recipe = toy()
    data = binary(10)
    finished = recipe.finish(model, data, KEY)
    x = data.rows("train").astype(np.float64)
    first = finished.q[0].trunk[0]
    pre = x @ np.asarray(first.linear.weight, np.float64) + np.asarray(first.linear.bias, np.float64)
    np.testing.assert_allclose(first.norm.mean, pre.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.norm.variance, pre.var(0), rtol=1e-4, atol=1e-6)
    second = finished.q[0].trunk[1]
    out = np.maximum((pre - pre.mean(0)) / np.sqrt(pre.var(0) + 1e-10), 0.0)
    pre = out @ np.asarray(second.linear.weight, np.float64) + np.asarray(second.linear.bias, np.float64)
    np.testing.assert_allclose(second.norm.mean, pre.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"slots": (4,)}, "slots"), ({"slots": (-1, 2)}, "slots"), ({"hidden": ((8,), (8,), (8,))}, "hidden")],
)
def test_widths_that_do_not_fit_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ReverieError, match=words):
        toy(**settings)


def test_read_is_linear() -> None:
    slots = jnp.arange(6.0).reshape(3, 2)
    assert jnp.array_equal(read(jnp.array([0.0, 1.0, 0.0]), slots), slots[1])
    assert replace(block(), read_as=1.0)(jnp.ones(6))[1]["read"].min() == 1.0
