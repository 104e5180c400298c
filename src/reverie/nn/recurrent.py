r"""Recurrent cells: one step, the state passed in and out.

.. math:: (i, f, g, o) = [x, h]W + b, \quad c' = \sigma(f)\,c + \sigma(i) \tanh g, \quad h' = \sigma(o) \tanh c' .

References: Hochreiter & Schmidhuber, *Long Short-Term Memory*, 1997; Gers et al., *Learning to Forget*, 2000.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.arrays import placed
from reverie.nn.blocks import Linear


class LSTMState(NamedTuple):
    """Output h and cell c."""

    h: Float[Array, " H"]
    c: Float[Array, " H"]


class LSTM(eqx.Module):
    """A layer of long short-term memory, gates in the order input, forget, candidate, output; the state it begins in.

    `begin` is the state before the first step: learned, or zero and still.
    """

    gates: Linear
    begin: LSTMState

    @staticmethod
    def init(key: PRNGKeyArray, fan_in: int, width: int) -> LSTM:
        """Return Glorot weights, zero biases but 1 for the forget gate, and a state of zeros."""
        bias = np.zeros(4 * width)
        bias[width : 2 * width] = 1.0
        gates = Linear.init(key, fan_in + width, 4 * width, placed(bias, np.float32))
        return LSTM(gates, LSTMState(jnp.zeros(width), jnp.zeros(width)))

    def __call__(self, state: LSTMState, x: Float[Array, " fan_in"]) -> LSTMState:
        i, f, g, o = jnp.split(self.gates(jnp.concatenate([x, state.h])), 4)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


def through(
    layers: tuple[LSTM, ...], states: tuple[LSTMState, ...], x: Float[Array, " fan_in"]
) -> tuple[tuple[LSTMState, ...], Float[Array, " H"]]:
    """Return the states of stacked layers after a step, and the top one's output."""
    after = []
    for layer, state in zip(layers, states, strict=True):
        after.append(layer(state, x))
        x = after[-1].h
    return tuple(after), x


def stacked(key: PRNGKeyArray, fan_in: int, widths: tuple[int, ...]) -> tuple[LSTM, ...]:
    """Return layers of these widths, each above the one before."""
    keys = jax.random.split(key, len(widths))
    return tuple(LSTM.init(k, a, b) for k, a, b in zip(keys, (fan_in, *widths), widths, strict=False))
