"""Sequences of the tasks, drawn by a key: the same functions give training its batches and judging its rows.

Each draws one sequence of given sizes (which may be traced) into a given number of steps: shorter ones end in NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from reverie.data.rows import Rows
from reverie.data.tasks import SIZES, Task, of

#: The mean and the spread of how often training repeats (1 to 10), by which the count is told, whatever the range.
_REPEATS = (5.5, 99**0.5 / 12**0.5)
_CONTEXT, _FIRST = 5, 4

Sequence = Float[Array, "T C"]
Drawer = Callable[..., Sequence]


def bits(key: PRNGKeyArray, *shape: int) -> Float[Array, "..."]:
    """Return fair coins, 0 or 1."""
    return jax.random.bernoulli(key, 0.5, shape).astype(jnp.float32)


def _joined(
    heard: Float[Array, "T I"], end: Int[Array, ""] | int, answer: Float[Array, "T O"], asked: Bool[Array, " T"]
) -> Sequence:
    """Return a sequence: what is heard until the end, and the answer where it is asked for."""
    live = jnp.arange(len(heard)) < end
    return jnp.concatenate([jnp.where(live[:, None], heard, jnp.nan), jnp.where(asked[:, None], answer, jnp.nan)], 1)


def copy(key: PRNGKeyArray, steps: int, length: Int[Array, ""]) -> Sequence:
    """8-bit vectors, a delimiter in a channel of its own, and as many silent steps in which to give them back."""
    t, data = jnp.arange(steps), bits(key, steps, 8)
    heard = jnp.concatenate([jnp.where((t < length)[:, None], data, 0.0), (t == length)[:, None]], 1)
    start, end = length + 1, 2 * length + 1
    return _joined(heard, end, data[(t - start) % length], (t >= start) & (t < end))


def repeat_copy(key: PRNGKeyArray, steps: int, length: Int[Array, ""], repeats: Int[Array, ""]) -> Sequence:
    """As `copy`, so many times; the count, standardised, comes after the delimiter, and the answer ends in a mark."""
    t, data = jnp.arange(steps), bits(key, steps, 8)
    count = (repeats - _REPEATS[0]) / _REPEATS[1]
    marks = [t == length, jnp.where(t == length + 1, count, 0.0)]
    heard = jnp.concatenate([jnp.where((t < length)[:, None], data, 0.0), jnp.stack(marks, 1)], 1)
    start, mark = length + 2, length + 2 + length * repeats
    again = jnp.where((t < mark)[:, None], data[(t - start) % length], 0.0)
    answer = jnp.concatenate([again, (t == mark)[:, None]], 1)
    return _joined(heard, mark + 1, answer, (t >= start) & (t <= mark))


def associative_recall(key: PRNGKeyArray, steps: int, items: Int[Array, ""]) -> Sequence:
    """Items of 3 vectors of 6 bits, each after a delimiter; one of them again between two others; then the next one."""
    t, (one, two) = jnp.arange(steps), jax.random.split(key)
    data = bits(one, steps, 3, 6)
    asked = jax.random.randint(two, (), 0, items - 1)
    query = 4 * items
    place, shown = jnp.maximum(t % 4 - 1, 0), (t % 4 > 0) & (t < query + 4)
    which = jnp.where(t < query, t // 4, asked)
    vectors = jnp.where(shown[:, None], data[which, place], 0.0)
    marks = [(t % 4 == 0) & (t < query), (t == query) | (t == query + 4)]
    heard = jnp.concatenate([vectors, jnp.stack(marks, 1)], 1)
    start, end = query + 5, query + 8
    return _joined(heard, end, data[asked + 1, (t - start) % 3], (t >= start) & (t < end))


def dynamic_ngrams(key: PRNGKeyArray, steps: int) -> Sequence:
    """200 bits: five fair ones, then by a table of 32 chances from Beta(1/2, 1/2); each is heard before the next.

    Asked for are the 195 bits that the table draws.
    """
    one, two, three = jax.random.split(key, 3)
    # The arcsine law is Beta(1/2, 1/2).
    table = jnp.sin(0.5 * jnp.pi * jax.random.uniform(one, (2**_CONTEXT,))) ** 2
    first = bits(two, _CONTEXT)
    state = (first * 2.0 ** jnp.arange(_CONTEXT)[::-1]).sum().astype(jnp.int32)

    def next_bit(state: Array, u: Array) -> tuple[Array, Array]:
        bit = (u < table[state]).astype(jnp.int32)
        return (2 * state + bit) % 2**_CONTEXT, bit

    _, later = jax.lax.scan(next_bit, state, jax.random.uniform(three, (steps + 1 - _CONTEXT,)))
    all_bits = jnp.concatenate([first, later.astype(jnp.float32)])[:, None]
    return _joined(all_bits[:-1], steps, all_bits[1:], jnp.arange(steps) >= _FIRST)


def priority_sort(key: PRNGKeyArray, steps: int) -> Sequence:
    """20 vectors of 8 bits with a priority in -1..1 each; then silence, in which the 16 highest are asked, falling."""
    one, two = jax.random.split(key)
    data, priority = bits(one, 20, 8), jax.random.uniform(two, (20,), minval=-1.0, maxval=1.0)
    # Whole vectors are put in order: a sort of each channel by itself would be another, easier task.
    order = jnp.argsort(-priority)[:16]
    heard = jnp.concatenate([jnp.concatenate([data, priority[:, None]], 1), jnp.zeros((16, 9))])
    answer = jnp.concatenate([jnp.zeros((20, 8)), data[order]])
    return _joined(heard, steps, answer, jnp.arange(steps) >= 20)


DRAWERS: dict[str, Drawer] = {
    "copy": copy, "repeat-copy": repeat_copy, "associative-recall": associative_recall,
    "dynamic-ngrams": dynamic_ngrams, "priority-sort": priority_sort,
}  # fmt: skip


def sizes(key: PRNGKeyArray, task: Task, most: Float[Array, ""] | float = np.inf) -> tuple[Int[Array, ""], ...]:
    """Draw each size of a sequence evenly from its least to its largest value, or to `most` where that is less."""
    keys = jax.random.split(key, max(1, len(task.sizes)))
    return tuple(
        jax.random.randint(k, (), low, jnp.clip(most, low, high).astype(jnp.int32) + 1)
        for k, (_, low, high) in zip(keys, task.sizes, strict=False)
    )


def sequence(key: PRNGKeyArray, task: Task, chosen: tuple[Int[Array, ""], ...]) -> Sequence:
    """Draw one sequence of the sizes chosen, NaN after its end."""
    return DRAWERS[task.name.partition(":")[0]](key, task.longest, *chosen)


@partial(jax.jit, static_argnums=(0, 1))
def _rows(source: str, n: int) -> Array:
    task: Any = of(source)

    def one(key: PRNGKeyArray) -> Array:
        first, second = jax.random.split(key)
        return sequence(second, task, sizes(first, task)).ravel()

    return jax.vmap(one)(jax.random.split(jax.random.key(0), n))


def splits(task: Task) -> dict[str, Rows]:
    """Return the sequences by which a task is judged, always the same ones, sizes drawn for each by itself."""
    # On the processor, so that the bytes, and with them the hash, are the same wherever a run goes on.
    with jax.default_device(jax.devices("cpu")[0]):
        rows = np.asarray(_rows(task.name, sum(SIZES)), np.float32)
    ends = np.cumsum(SIZES)[:-1]
    return {split: Rows(part) for split, part in zip(("train", "valid", "test"), np.split(rows, ends), strict=True)}
