r"""The order in which training meets the rows: permutations that can be evaluated at any position.

Step s reads positions [sB, (s+1)B) of the concatenated permutations of the epochs.  Position p lies in epoch
:math:`e = \lfloor p/n \rfloor` and is the row :math:`\pi_{seed,e}(p \bmod n)`, where :math:`\pi` is a keyed
permutation of 0..n-1 that is never written out: nothing of the data order is state, and no batch is ragged.

:math:`\pi` is the generalised Feistel network of Black & Rogaway, "Ciphers with arbitrary finite domains" (CT-RSA
2002).  A number below ab, with :math:`ab \ge n` barely, is split into (l, r), l below a and r below b; rounds

.. math:: l \leftarrow l + F_i(r) \bmod a, \qquad r \leftarrow r + F_{i+1}(l) \bmod b

alternate and each can be undone.  Results outside 0..n-1 are fed in again until they fall inside (cycle walking),
which a share of less than :math:`1/\sqrt n` needs; over a power of two it would be up to three quarters.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

#: Rounds; few rows have few round functions to draw from and need more rounds to reach every permutation evenly.
ROUNDS, SMALL_ROUNDS, SMALL = 8, 24, 256
#: Odd, and its first multiples lie far apart: the rounds read the one mixing function at places that never meet.
_STRIDE = 0x9E3779B9


def batch_indices(seed: int | Int[Array, ""], step: int | Int[Array, ""], batch: int, n: int) -> Int[Array, " batch"]:
    """Return the rows of step `step`: ``batch`` numbers in 0..n-1, int32.

    Args:
        seed: of the order; may be traced.
        step: may be traced; ``step * batch`` must stay below 2^32 rows seen.
        batch, n: rows a step and rows there are.
    """
    position = _word(step) * _word(batch) + jnp.arange(batch, dtype=jnp.uint32)
    return row_index(seed, position // _word(n), position % _word(n), n)


def row_index(
    seed: int | Int[Array, ""], epoch: int | Int[Array, "..."], offset: int | Int[Array, "..."], n: int
) -> Int[Array, "..."]:
    """Return which row stands at `offset` (in 0..n-1) of the permutation of (`seed`, `epoch`), int32.

    `epoch` and `offset` broadcast; for each pair of seed and epoch this is a bijection of 0..n-1.
    """
    return _row_index(_word(seed), _word(epoch), _word(offset), n)


@partial(jax.jit, static_argnums=3)
def _row_index(
    seed: UInt32[Array, ""], epoch: UInt32[Array, "..."], offset: UInt32[Array, "..."], n: int
) -> Int[Array, "..."]:
    # A program of its own: its many rounds are traced once for each n, not once for each training.
    epoch, offset = jnp.broadcast_arrays(epoch, offset)
    keys = _keys(seed, epoch)
    left = math.isqrt(n - 1) + 1
    right = -(-n // left)
    rounds = ROUNDS if n > SMALL else SMALL_ROUNDS
    walk = lambda v: jnp.where(v < n, v, _permute(keys, v, left, right, rounds))  # noqa: E731
    # The loop runs until the whole batch has come home; who is home stays.
    found = jax.lax.while_loop(lambda v: (v >= n).any(), walk, _permute(keys, offset, left, right, rounds))
    return found.astype(jnp.int32)


def _permute(
    keys: tuple[UInt32[Array, "..."], UInt32[Array, "..."]], v: UInt32[Array, "..."], left: int, right: int, rounds: int
) -> UInt32[Array, "..."]:
    moved, other = v // _word(right), v % _word(right)
    size, other_size = left, right
    for i in range(rounds):
        drawn = _mix((other ^ keys[1]) + keys[0] + _word(i * _STRIDE)) % _word(size)
        total = moved + drawn
        moved = jnp.where(total >= size, total - _word(size), total)
        moved, other, size, other_size = other, moved, other_size, size
    # The number of rounds is even, so the halves are back in their places.
    return moved * _word(right) + other


def _keys(seed: UInt32[Array, ""], epoch: UInt32[Array, "..."]) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    # Two words, so that two epochs meet in a round only if both words do.
    first = _mix(_mix(seed ^ _word(0x243F6A88)) + epoch)
    return first, _mix(_mix(seed + _word(0x85A308D3)) ^ _mix(epoch ^ _word(0x13198A2E)))


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """Return a bijective hash of 32 bits: xor-shift and multiply, twice, so that every bit reaches every other."""
    x = (x ^ (x >> 16)) * _word(0x7FEB352D)
    x = (x ^ (x >> 15)) * _word(0x846CA68B)
    return x ^ (x >> 16)


def _word(x: int | Int[Array, "..."]) -> UInt32[Array, "..."]:
    return jnp.uint32(x % 2**32) if isinstance(x, int) else jnp.asarray(x).astype(jnp.uint32)
