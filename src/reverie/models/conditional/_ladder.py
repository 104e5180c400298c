r"""The ladder's net: an encoder with noise at every layer, and denoising functions down beside it.

Written for batches of a step's passes at once, (passes, rows, units), each pass with batch statistics of its own:
labelled rows with noise, all rows with noise, all rows without.  As stored, one row on its clean way up uses frozen
statistics.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.arrays import placed
from reverie.nn.blocks import Norm, host_random
from reverie.nn.memory import Gate
from reverie.prob.contracts import Classifying, Given

#: Added to a batch's variance, as in the authors' code.
EPSILON = 1e-10


class Layer(eqx.Module):
    r"""One layer up: :math:`z = \mathrm{BN}(h W)`, :math:`h = \max(0, z + \beta)`, or at the top
    :math:`\mathrm{softmax}(\gamma(z + \beta))`.

    Shift and scale are the norm's, but come after the noise; rectified units need no scale of their own before another
    normalised layer, and do not use theirs.
    """

    weight: Float[Array, "n m"]
    norm: Norm
    scaled: bool = eqx.field(static=True)

    def fields(self, z: Float[Array, "*B m"]) -> Float[Array, "*B m"]:
        """Return what the activation is given."""
        return (z + self.norm.shift) * (self.norm.scale if self.scaled else 1.0)


class Gaussian(eqx.Module):
    r"""The denoising function that is right for normal z given what is above, an affine map of the noisy value:

    .. math:: g(\tilde z, u) = (\tilde z - \mu(u))\, v(u) + \mu(u), \quad
              \mu(u) = a_1 \sigma(a_2 u + a_3) + a_4 u + a_5, \quad v(u) = a_6 \sigma(a_7 u + a_8) + a_9 u + a_{10}.
    """

    #: :math:`a_1, \dots, a_5` of the mean and :math:`a_6, \dots, a_{10}` of the share.
    a: Float[Array, "2 5 d"]

    @staticmethod
    def init(width: int) -> Gaussian:
        """Return a function that says 0 whatever it is given, and whose sigmoids are of u."""
        return Gaussian(jnp.zeros((2, 5, width)).at[:, 1].set(1.0))

    def __call__(self, noisy: Float[Array, " d"], above: Float[Array, " d"]) -> Float[Array, " d"]:
        a = [part[:, 0] for part in jnp.split(self.a, 5, axis=1)]
        # Both at once: half as many sums for the gradients.
        mean, share = a[0] * jax.nn.sigmoid(a[1] * above + a[2]) + a[3] * above + a[4]
        return (noisy - mean) * share + mean


class Rung(eqx.Module):
    """What is done beside a layer on the way down.

    Attributes:
        weight: V, from the layer above; None at the top, which hears the noisy classes.
        combine: the denoising function, `Gaussian` or `Gate`.
    """

    weight: Float[Array, "m d"] | None
    combine: Gaussian | Gate


class Up(NamedTuple):
    """Passes on their way up, the data's layer first: the layers with their noise, the means and deviations that they
    were normalised by, and the fields of the classes."""

    z: list[Float[Array, "P B _"]]
    means: list[Float[Array, "P 1 _"]]
    deviations: list[Float[Array, "P 1 _"]]
    logits: Float[Array, "P B C"]

    def of(self, number: int) -> Up:
        """Return one pass, (rows, units)."""
        take = lambda found: [a[number] for a in found]  # noqa: E731
        return Up(take(self.z), take(self.means), take(self.deviations), self.logits[number])


class Ladder(Classifying):
    """Layers up to the classes and denoising functions down; see the model's page.

    Attributes:
        layers: from the data upwards, the classes' the last.
        rungs: those with a cost and all above them, from below; there may be none.
        costs: of the layers from the data upwards, per unit.
    """

    layers: tuple[Layer, ...]
    rungs: tuple[Rung, ...]
    costs: tuple[float, ...] = eqx.field(static=True)

    def moves(self, path: str) -> bool:
        """Say whether a leaf does anything: all but the scales that are not used."""
        top = len(self.layers) - 1
        return not path.endswith("norm.scale") or path == f"layers.{top}.norm.scale"

    @property
    def lowest(self) -> int:
        """Number of the lowest layer that has a rung."""
        return len(self.layers) + 1 - len(self.rungs)

    def trace(self, key: Any, x: Float[Array, " D"], given: Given = None) -> dict[str, dict[str, Array]]:
        """Return what happens to one row on the clean way up, by layer: ``pre``, ``normal``, ``fields``."""
        h, found = jnp.where(jnp.isnan(x), 0.0, x), {}
        for number, layer in enumerate(self.layers):
            pre = h @ layer.weight
            normal = layer.norm.normalise(pre)
            fields = layer.fields(normal)
            found[f"layers.{number}"] = {"pre": pre, "normal": normal, "fields": fields}
            h = jax.nn.relu(fields)
        return found

    def logits(self, x: Float[Array, " D"]) -> Float[Array, " C"]:
        """Return the logarithms of p(class | x), up to a constant, by the clean way up."""
        return self.trace(None, x)[f"layers.{len(self.layers) - 1}"]["fields"]

    def log_classes(self, x: Float[Array, " D"]) -> Float[Array, " C"]:
        return jax.nn.log_softmax(self.logits(x))

    def up(self, rows: Float[Array, "P B D"], noise: Float[Array, "P B N"] | None = None) -> Up:
        """Return passes on their way up, each normalised by itself.

        Args:
            noise: of all layers side by side (`units`), the data's first.
        """
        added = _apart(noise, self.units)
        h = jnp.where(jnp.isnan(rows), 0.0, rows) + added[0]
        one = jnp.ones((len(rows), 1, 1), h.dtype)
        found, fields = Up([h], [0.0 * one], [one], h), h
        for number, layer in enumerate(self.layers, 1):
            normal, mean, deviation = normalised(h @ layer.weight)
            z = normal + added[number]
            for kept, new in zip(found[:3], (z, mean, deviation), strict=True):
                kept.append(new)
            fields = layer.fields(z)
            h = jax.nn.relu(fields)
        return found._replace(logits=fields)

    @property
    def units(self) -> list[int]:
        """Widths of the layers, the data's first."""
        return [self.layers[0].weight.shape[0], *(layer.norm.shift.size for layer in self.layers)]

    def down(self, noisy: list[Float[Array, "B _"]], logits: Float[Array, "B C"]) -> dict[int, Float[Array, "B _"]]:
        """Return the denoised layers by number, from the noisy ones of the way up."""
        above, found = jax.nn.softmax(logits), {}
        for number, rung in reversed(list(enumerate(self.rungs, self.lowest))):
            heard = above if rung.weight is None else above @ rung.weight
            above = jax.vmap(rung.combine)(noisy[number], normalised(heard)[0])
            found[number] = above
        return found

    def denoising_costs(self, clean: Up, noisy: Up) -> list[Float[Array, ""]]:
        r"""Return :math:`\lambda_l/d_l` times the mean squared distance of each layer that has a cost.

        What was denoised is normalised as the clean layer was.  Gradients go through that and through the clean layer.
        """
        denoised, found = self.down(noisy.z, noisy.logits), []
        for number, cost in enumerate(self.costs):
            if cost:
                guess = (denoised[number] - clean.means[number]) / clean.deviations[number]
                found.append(cost * ((clean.z[number] - guess) ** 2).mean())
        return found


def _apart(noise: Float[Array, "P B N"] | None, widths: list[int]) -> list[Any]:
    if noise is None:
        return [0.0 for _ in widths]
    return jnp.split(noise, list(accumulate(widths))[:-1], axis=-1)


def normalised(
    pre: Float[Array, "*P B d"],
) -> tuple[Float[Array, "*P B d"], Float[Array, "*P 1 d"], Float[Array, "*P 1 d"]]:
    """Return a batch less its mean, divided by its deviation, and these two."""
    mean = pre.mean(axis=-2, keepdims=True)
    centred = pre - mean
    deviation = jnp.sqrt((centred**2).mean(axis=-2, keepdims=True) + EPSILON)
    return centred / deviation, mean, deviation


def untrained(key: PRNGKeyArray, widths: tuple[int, ...], costs: tuple[float, ...], combinator: str) -> Ladder:
    """Return normal weights of variance one over the inputs.

    Args:
        widths: of all layers, from the data to the classes.
        costs: as many.
    """
    rng = host_random(key)

    def drawn(n: int, m: int) -> Array:
        return placed(rng.standard_normal((n, m)) / n**0.5, np.float32)

    top = len(widths) - 1
    layers = tuple(
        Layer(drawn(n, m), replace(Norm.init(m), epsilon=EPSILON), number == top)
        for number, (n, m) in enumerate(pairwise(widths), 1)
    )
    lowest = next((number for number, cost in enumerate(costs) if cost), top + 1)
    rungs = tuple(
        Rung(None if number == top else drawn(widths[number + 1], widths[number]), _combine(combinator, widths[number]))
        for number in range(lowest, top + 1)
    )
    return Ladder(layers, rungs, costs)


def _combine(name: str, width: int) -> Gaussian | Gate:
    if name == "gauss":
        return Gaussian.init(width)
    # The noisy value is the gate's own, what comes from above its memory: both pass by the coefficients of the paper.
    return replace(Gate.init(width), b=jnp.ones(width))
