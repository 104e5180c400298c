"""Addressing of a memory: every stage against its definition, gradients against differences, what must not happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from reverie.nn import addressing, memory
from reverie.nn.addressing import Head


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def law(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.dirichlet(np.ones(n))


def normal(rng: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape))


def head(rng: np.random.Generator, width: int = 3, taps: int = 3, **more: float) -> Head:
    numbers = {"beta": 2.0, "gate": 0.6, "gamma": 1.7, **more}
    return Head(jnp.asarray(rng.normal(size=width)), shift=jnp.asarray(law(rng, taps)),
                **{name: jnp.asarray(value) for name, value in numbers.items()})  # fmt: skip


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_rotation_is_the_circular_convolution_of_its_definition(slots: int, reach: int) -> None:
    rng = np.random.default_rng(slots + 10 * reach)
    w, s = law(rng, slots), law(rng, 2 * reach + 1)
    full = np.zeros(slots)  # Where the offsets are more than the slots, some meet.
    for k, share in enumerate(s):
        full[(k - reach) % slots] += share
    truth = [sum(w[j] * full[(i - j) % slots] for j in range(slots)) for i in range(slots)]
    np.testing.assert_allclose(addressing.rotate(jnp.asarray(w), jnp.asarray(s)), truth, atol=1e-15)
    # A mirrored shift is another function wherever the shift is not symmetric: the test would see it.
    if slots > 2 and reach:
        mirrored = addressing.rotate(jnp.asarray(w), jnp.asarray(s[::-1]))
        assert np.abs(np.asarray(mirrored) - truth).max() > 1e-3


def test_a_head_is_its_four_stages_written_out() -> None:
    rng = np.random.default_rng(1)
    slots, before, told = normal(rng, 5, 3), jnp.asarray(law(rng, 5)), head(rng)
    key = np.asarray(told.key)
    cos = [key @ row / (np.linalg.norm(key) * np.linalg.norm(row)) for row in slots]
    content = np.exp(2.0 * np.array(cos)) / np.exp(2.0 * np.array(cos)).sum()
    mixed = 0.6 * content + 0.4 * before
    turned = [sum(mixed[j] * np.asarray(told.shift)[(i - j + 1) % 5] for j in range(5) if (i - j + 1) % 5 < 3)
              for i in range(5)]  # fmt: skip
    truth = np.array(turned) ** 1.7 / (np.array(turned) ** 1.7).sum()
    np.testing.assert_allclose(addressing.address(told, slots, before), truth, rtol=1e-6)


def test_every_stage_gives_a_weighting() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        slots, before, told = normal(rng, 6, 4), jnp.asarray(law(rng, 6)), head(rng, 4, 5, beta=30.0, gamma=25.0)
        content = addressing.by_content(told.key, told.beta, slots)
        mixed = addressing.interpolate(told.gate, content, before)
        stages = [content, mixed, addressing.rotate(mixed, told.shift), addressing.address(told, slots, before)]
        for w in stages:
            assert w.min() >= 0 and abs(w.sum() - 1) < 1e-12


def test_what_leaves_a_weighting_as_it_is() -> None:
    rng = np.random.default_rng(3)
    slots, before = normal(rng, 4, 3), jnp.asarray(law(rng, 4))
    still = head(rng, gate=0.0, gamma=1.0)._replace(shift=jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(addressing.address(still, slots, before), before, atol=1e-11)
    no_strength = addressing.by_content(still.key, jnp.asarray(0.0), slots)
    np.testing.assert_allclose(no_strength, 0.25, atol=1e-15)


def test_other_places_of_the_slots_are_other_places_of_a_content_weighting() -> None:
    rng = np.random.default_rng(4)
    slots, order, told = normal(rng, 6, 3), rng.permutation(6), head(rng)
    here = addressing.by_content(told.key, told.beta, slots)
    np.testing.assert_allclose(addressing.by_content(told.key, told.beta, slots[order]), here[order], rtol=1e-12)


def test_what_is_written_with_full_erasure_is_read_back() -> None:
    rng = np.random.default_rng(5)
    slots, add = normal(rng, 4, 3), normal(rng, 1, 3)
    there = jnp.eye(4)[2][None]
    after = addressing.write(slots, there, jnp.ones((1, 3)), add)
    np.testing.assert_allclose(addressing.read(there[0], after), add[0])
    np.testing.assert_allclose(after[jnp.array([0, 1, 3])], np.asarray(slots)[[0, 1, 3]])


def test_the_order_of_write_heads_is_no_matter_and_erasing_comes_before_adding() -> None:
    rng = np.random.default_rng(6)
    slots, w = normal(rng, 4, 3), jnp.asarray(rng.dirichlet(np.ones(4), 2))
    erase, add = jnp.asarray(rng.random((2, 3))), normal(rng, 2, 3)
    found = addressing.write(slots, w, erase, add)
    np.testing.assert_allclose(addressing.write(slots, w[::-1], erase[::-1], add[::-1]), found, atol=1e-15)
    truth = slots * (1 - np.outer(w[0], erase[0])) * (1 - np.outer(w[1], erase[1])) + w.T @ add
    np.testing.assert_allclose(found, truth, atol=1e-15)
    one_by_one = addressing.write(addressing.write(slots, w[:1], erase[:1], add[:1]), w[1:], erase[1:], add[1:])
    assert np.abs(np.asarray(one_by_one) - truth).max() > 1e-3


def difference(function: Callable[[jax.Array], jax.Array], at: jax.Array, step: float = 1e-6) -> np.ndarray:
    """Return the gradient of a scalar function by central differences."""
    moves = np.eye(at.size) * step
    ends = [(function(at + m.reshape(at.shape)), function(at - m.reshape(at.shape))) for m in moves]
    return np.array([(up - down) / (2 * step) for up, down in ends]).reshape(at.shape)


def test_gradients_of_a_head_s_step_are_finite_differences() -> None:
    rng = np.random.default_rng(7)
    told, slots, before = head(rng), normal(rng, 5, 3), jnp.asarray(law(rng, 5))
    weigh, add = normal(rng, 3), normal(rng, 1, 3)
    flat, back = ravel_pytree((told, slots, before, add))

    def step(numbers: jax.Array) -> jax.Array:
        told, slots, before, add = back(numbers)
        w = addressing.address(told, slots, before)
        return weigh @ addressing.read(w, addressing.write(slots, w[None], jax.nn.sigmoid(add), add))

    np.testing.assert_allclose(jax.grad(step)(flat), difference(step, flat), atol=1e-8)


def test_sharpening_in_single_precision_does_not_underflow_as_the_power_does() -> None:
    with jax.enable_x64(False):
        even = jnp.full(128, 1 / 128, jnp.float32)
        np.testing.assert_allclose(addressing.sharpen(even, jnp.float32(50.0)), even, rtol=1e-5)
        assert jnp.isnan(even**50 / (even**50).sum()).all()
        # An empty slot has no logarithm: neither it nor its gradient may be lost.
        one = jnp.eye(4, dtype=jnp.float32)[0]
        slope = jax.grad(lambda w: addressing.sharpen(w, jnp.float32(3.0))[0])(one)
        assert jnp.isfinite(slope).all() and addressing.sharpen(one, jnp.float32(3.0))[0] == 1


def test_neither_an_empty_memory_nor_an_empty_key_has_an_infinite_slope() -> None:
    with jax.enable_x64(False):
        look = lambda key, slots: addressing.by_content(key, jnp.float32(5.0), slots)[0]  # noqa: E731
        for slots in (jnp.zeros((4, 3)), jnp.full((4, 3), 1e-6)):
            for key in (jnp.zeros(3), jnp.ones(3)):
                assert all(jnp.isfinite(g).all() for g in jax.grad(look, (0, 1))(key, slots))
        naive = jax.grad(lambda key: (key / jnp.linalg.norm(key))[0])(jnp.zeros(3))
        assert jnp.isnan(naive).any()


def test_the_memory_of_a_layer_is_read_with_the_same_functions() -> None:
    assert memory.read is addressing.read and memory.attend is addressing.attend
