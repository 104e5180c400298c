r"""An external memory that a layer reads by attention (Li, Zhu & Zhang 2016): pure functions and one block.

With :math:`h_g` the layer's own output, :math:`A \in R^{d\times n}`, :math:`M \in R^{n\times d}` (n slots):

.. math:: h_a = f(h_g A + b_A), \qquad h_m = h_a M, \qquad h_{out} = \mathrm{ReLU}(\mathrm{combine}(h_g, h_m)).
"""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.nn.addressing import attend, read
from reverie.nn.blocks import Dense, Linear, Trace, host_random

Attention = Literal["sigmoid", "softmax"]
Combination = Literal["sum", "gate"]


class Gate(eqx.Module):
    r"""Element-wise combination with nine coefficients per unit (the ladder network's combinator):

    .. math:: h = a + b_1\,\sigma(c),\quad a = a_1 + a_2 h_m + a_3 h_g + a_4 h_g h_m,\quad
              c = c_1 + c_2 h_m + c_3 h_g + c_4 h_g h_m .

    Starts as the identity on :math:`h_g` (:math:`a_3 = c_3 = 1`, the rest 0).
    """

    a: Float[Array, "4 d"]
    b: Float[Array, " d"]
    c: Float[Array, "4 d"]

    @staticmethod
    def init(width: int) -> Gate:
        start = jnp.zeros((4, width)).at[2].set(1.0)
        return Gate(start, jnp.zeros(width), start)

    def __call__(self, own: Float[Array, " d"], memory: Float[Array, " d"]) -> Float[Array, " d"]:
        # Written out: stacking the four terms and summing costs more on a CPU than the layer's matrix products.
        both = own * memory
        a = self.a[0] + self.a[1] * memory + self.a[2] * own + self.a[3] * both
        c = self.c[0] + self.c[1] * memory + self.c[2] * own + self.c[3] * both
        return a + self.b * jax.nn.sigmoid(c)


class MemoryBlock(eqx.Module):
    """A `Dense` block whose output asks a memory and is combined with what it reads.

    Trace: the dense block's, with ``own`` (h_g), ``attention``, ``read`` and ``out``.
    `read_as`, when a number, replaces the whole read by that constant (the paper's "disabled" memory).
    """

    dense: Dense
    query: Linear
    slots: Float[Array, "n d"]
    gate: Gate | None
    attention: str = eqx.field(static=True)
    read_as: float | None = eqx.field(static=True, default=None)

    @staticmethod
    def init(key: PRNGKeyArray, dense: Dense, slots: int, attention: str, combination: str) -> MemoryBlock:
        r"""Start with Glorot A, zero biases and :math:`M \sim \mathcal N(0, 0.01^2)`."""
        width = dense.linear.bias.size
        first, second = jax.random.split(key)
        gate = Gate.init(width) if combination == "gate" else None
        memory = jnp.asarray(host_random(second).normal(0.0, 0.01, (slots, width)), jnp.float32)
        return MemoryBlock(dense, Linear.init(first, width, slots), memory, gate, attention)

    def __call__(self, x: Float[Array, " fan_in"]) -> tuple[Float[Array, " d"], Trace]:
        own, trace = self.dense(x)
        attention = attend(self.query(own), self.attention)
        out, got = self.combine(own, attention)
        return out, {**trace, "own": own, "attention": attention, "read": got, "out": out}

    def combine(
        self, own: Float[Array, " d"], attention: Float[Array, " n"]
    ) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Return the block's output and its memory read, given its own activation and the attention."""
        got = read(attention, self.slots) if self.read_as is None else jnp.full_like(own, self.read_as)
        return jax.nn.relu(own + got if self.gate is None else self.gate(own, got)), got
