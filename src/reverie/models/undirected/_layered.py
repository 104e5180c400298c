r"""Boltzmann machines of any depth: layers in a row, weights between neighbours.  Shared by the models of this folder.

.. math:: -E(x_0, \dots, x_L) = \sum_l b_l \cdot t_l(x_l) + \sum_l t_l(x_l)^\top W_l\, t_{l+1}(x_{l+1})
          + \log m(x_0),

:math:`x_0 = v` visible, of any `nn.units`; hidden layers binary.  Layers of even number are independent given the odd
ones and the reverse, so a sweep is two draws, and summing the even layers out of an odd state is a closed form.

The base law of annealing keeps the visible layer's biases at the data's base rates and switches all else off
(Salakhutdinov & Murray 2008): :math:`f_v(\beta) = (1-\beta)\,b_A + \beta f_v`, :math:`f_h(\beta) = \beta f_h`.

References: Smolensky 1986; Salakhutdinov & Murray, *On the Quantitative Analysis of Deep Belief Networks*, 2008;
Salakhutdinov & Hinton, *Deep Boltzmann Machines*, 2009.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.arrays import placed
from reverie.nn.blocks import host_random
from reverie.nn.units import Binary, Units
from reverie.prob.contracts import Energy, Given

#: The values of layers by number; a state of the contract holds the odd ones, from the data upwards.
Layers = dict[int, Array]
State = tuple[Float[Array, "..."], ...]
Beta = float | Float[Array, ""]


class Boltzmann(Energy):
    """Layers in a row; see the module's page."""

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    visible: Units
    base: Float[Array, " D"]

    @property
    def depth(self) -> int:
        """L, the number of hidden layers."""
        return len(self.weights)

    @property
    def odd(self) -> range:
        """Numbers of the layers that a state holds."""
        return range(1, self.depth + 1, 2)

    @property
    def even(self) -> range:
        """Numbers of the layers summed out of it, the visible one first."""
        return range(0, self.depth + 1, 2)

    def units(self, layer: int) -> Units:
        """Return what a layer is made of."""
        return Binary() if layer else self.visible

    def field(self, layer: int, layers: Layers, beta: Beta = 1.0) -> Float[Array, " n"]:
        """Return a layer's bias plus what its neighbours in `layers` send, at an inverse temperature."""
        total = self.biases[layer]
        if layer:
            total = total + self.units(layer - 1).statistic(layers[layer - 1]) @ self.weights[layer - 1]
        if layer < self.depth:
            total = total + self.weights[layer] @ layers[layer + 1]
        if isinstance(beta, float) and beta == 1.0:
            return total
        return beta * total if layer else (1.0 - beta) * self.base + beta * total

    def draw(self, key: PRNGKeyArray, wanted: range, layers: Layers, beta: Beta = 1.0) -> Layers:
        """Draw the layers of one colour given those of the other."""
        # A hash for each row counts beside a small product.
        keys = jax.random.split(key, len(wanted)) if len(wanted) > 1 else [key]
        return {
            layer: self.units(layer).sample(own, self.field(layer, layers, beta))
            for layer, own in zip(wanted, keys, strict=True)
        }

    def means(self, wanted: range, layers: Layers) -> Layers:
        """Return E of the layers of one colour given those of the other."""
        return {layer: self.units(layer).mean(self.field(layer, layers)) for layer in wanted}

    def energy(self, layers: Layers) -> Float[Array, ""]:
        """Return E of one state of all layers; the layers may also be means."""
        stats = [self.units(layer).statistic(layers[layer]) for layer in range(self.depth + 1)]
        own = sum(jnp.vdot(bias, stat) for bias, stat in zip(self.biases, stats, strict=True))
        between = sum(stats[layer] @ weight @ stats[layer + 1] for layer, weight in enumerate(self.weights))
        return -(own + between + self.visible.log_base(layers[0]))

    # The contract.

    def base_log_partition(self) -> Float[Array, ""]:
        hidden = sum(bias.size for bias in self.biases[1:])
        return self.visible.log_partition(self.base).sum() + hidden * math.log(2.0)

    def draw_base(self, key: PRNGKeyArray) -> State:
        keys = jax.random.split(key, len(self.odd))
        zeros = [jnp.zeros_like(self.biases[layer]) for layer in self.odd]
        return tuple(Binary().sample(own, field) for own, field in zip(keys, zeros, strict=True))

    def log_marginal(self, state: State, beta: Beta = 1.0) -> Float[Array, ""]:
        layers = self.layers(state)
        return beta * self._own(layers) + sum(self._terms(layer, layers, beta).sum() for layer in self.even)

    def log_ratio(self, state: State, start: Beta, stop: Beta) -> Float[Array, ""]:
        # Term by term: the sums themselves are thousands of times the difference of two near temperatures.
        layers = self.layers(state)
        rest = [
            self.units(layer).log_partition_rise(self.field(layer, layers, start), self.field(layer, layers, stop))
            for layer in self.even
        ]
        return (stop - start) * self._own(layers) + sum(terms.sum() for terms in rest)

    def _own(self, layers: Layers) -> Float[Array, ""]:
        return sum((jnp.vdot(self.biases[layer], layers[layer]) for layer in self.odd), start=jnp.zeros(()))

    def _terms(self, layer: int, layers: Layers, beta: Beta) -> Float[Array, " k"]:
        return self.units(layer).log_partition(self.field(layer, layers, beta))

    def sweep(self, key: PRNGKeyArray, state: State, beta: Beta = 1.0) -> State:
        first, second = jax.random.split(key)
        even = self.draw(first, self.even, self.layers(state), beta)
        return self.state(self.draw(second, self.odd, even, beta))

    def draw_visible(self, key: PRNGKeyArray, state: State) -> Float[Array, " D"]:
        return self.visible.sample(key, self.field(0, self.layers(state)))

    def mean(self, state: State, given: Given = None) -> Float[Array, " D"]:
        return self.visible.mean(self.field(0, self.layers(state)))

    def sample(self, key: PRNGKeyArray, given: Given = None, sweeps: int = 1000) -> tuple[Float[Array, " D"], State]:
        """Draw v and a state from a chain of so many sweeps that starts at the base law."""
        first, move, last = jax.random.split(key, 3)
        keys = jax.random.split(move, sweeps)
        state = jax.lax.fori_loop(0, sweeps, lambda i, s: self.sweep(keys[i], s), self.draw_base(first))
        return self.draw_visible(last, state), state

    def filters(self) -> Float[Array, "F D"]:
        """Return the weights of each unit of the first hidden layer."""
        return self.weights[0].T

    # States.

    def layers(self, state: State) -> Layers:
        """Return the odd layers by number."""
        return dict(zip(self.odd, state, strict=True))

    def state(self, layers: Layers) -> State:
        """Return the odd layers of `layers`, in order."""
        return tuple(layers[layer] for layer in self.odd)


def initial(
    key: PRNGKeyArray, widths: tuple[int, ...], visible: Units, mean: np.ndarray, rows: int, scale: float = 0.01
) -> dict[str, Any]:
    """Return the fields of an untrained machine: small normal weights, hidden biases 0, visible ones at the base law.

    Args:
        widths: of all layers, from the data upwards.
        mean, rows: of the training data, to which the base law is fitted.
        scale: standard deviation of the weights.
    """
    draws = [host_random(own) for own in jax.random.split(key, len(widths) - 1)]
    base = jnp.asarray(visible.fitted_field(mean, rows), jnp.float32)
    return {
        "weights": tuple(
            placed(scale * draw.standard_normal(shape), np.float32)
            for draw, shape in zip(draws, pairwise(widths), strict=True)
        ),
        "biases": (base, *(jnp.zeros(n) for n in widths[1:])),
        "visible": visible,
        "base": base,
    }
