r"""The ladder's net: an encoder with noise at every layer, and denoising functions down beside it.

Written for whole batches: the labelled and the unlabelled half have batch statistics of their own, and the noisy and
the clean pass meet layer by layer.  As stored, the clean pass of one row uses frozen statistics.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.nn.blocks import Norm, host_random
from reverie.nn.memory import Gate
from reverie.prob.contracts import Given, Judged

#: Added to a batch's variance, as in the authors' code.
EPSILON = 1e-10


class Layer(eqx.Module):
    r"""One layer up: :math:`z = \mathrm{BN}(h W)`, :math:`h = \max(0, z + \beta)`, or at the top
    :math:`\mathrm{softmax}(\gamma(z + \beta))`.

    Rectified units need no scale of their own before another normalised layer, so `scale` is None for them.
    """

    weight: Float[Array, "n m"]
    shift: Float[Array, " m"]
    scale: Float[Array, " m"] | None
    norm: Norm

    def fields(self, z: Float[Array, "*B m"]) -> Float[Array, "*B m"]:
        """Return what the activation is given."""
        return z + self.shift if self.scale is None else self.scale * (z + self.shift)


class Gaussian(eqx.Module):
    r"""The denoising function that is right for normal z given what is above, an affine map of the noisy value:

    .. math:: g(\tilde z, u) = (\tilde z - \mu(u))\, v(u) + \mu(u), \quad
              \mu(u) = a_1 \sigma(a_2 u + a_3) + a_4 u + a_5, \quad v(u) = a_6 \sigma(a_7 u + a_8) + a_9 u + a_{10}.
    """

    a: Float[Array, "10 d"]

    @staticmethod
    def init(width: int) -> Gaussian:
        """Return a function that says 0 whatever it is given, and whose sigmoids are of u."""
        return Gaussian(jnp.zeros((10, width)).at[jnp.asarray([1, 6])].set(1.0))

    def __call__(self, noisy: Float[Array, "*B d"], above: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
        a = self.a
        mean = a[0] * jax.nn.sigmoid(a[1] * above + a[2]) + a[3] * above + a[4]
        share = a[5] * jax.nn.sigmoid(a[6] * above + a[7]) + a[8] * above + a[9]
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
    """A batch on its way up: normalised layers with their noise (the data first), the means and deviations they were
    normalised by, and the fields of the classes."""

    z: list[Float[Array, "B _"]]
    means: list[Float[Array, "*_"]]
    deviations: list[Float[Array, "*_"]]
    logits: Float[Array, "B C"]


class Ladder(Judged):
    """Layers up to the classes and denoising functions down; see the model's page.

    Attributes:
        layers: from the data upwards, the classes' the last.
        rungs: those with a cost and all above them, from below; there may be none.
        costs: of the layers from the data upwards, per unit.
    """

    layers: tuple[Layer, ...]
    rungs: tuple[Rung, ...]
    costs: tuple[float, ...] = eqx.field(static=True)

    @property
    def metrics(self) -> dict[str, str]:
        return {"classification_error": "fraction", "cross_entropy": "nats"}

    @property
    def supervised(self) -> bool:
        return True

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

    def judge(self, x: Float[Array, " D"], given: Given = None) -> dict[str, Float[Array, ""]]:
        logits = self.logits(x)
        wrong = (logits.argmax() != jnp.argmax(given)).astype(jnp.float32)  # type: ignore[arg-type]
        return {"classification_error": wrong, "cross_entropy": -jnp.vdot(jax.nn.log_softmax(logits), given)}

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " C"]:
        """Return p(class | x), the classes in their order."""
        return jax.nn.softmax(self.logits(x))

    def up(self, rows: Float[Array, "B D"], parts: tuple[int, ...], key: PRNGKeyArray | None, noise: float) -> Up:
        """Return a batch on its way up.

        Args:
            parts: rows of each part of the batch, which is normalised by itself.
            key, noise: of the normal noise of every layer and its standard deviation; no key, no noise.
        """

        h = jnp.where(jnp.isnan(rows), 0.0, rows)
        sizes = [h.shape[1], *(layer.shift.size for layer in self.layers)]
        added = _noise(key, len(h), sizes, noise, h.dtype)
        h = h + added[0]
        z, means, deviations = [h], [jnp.zeros(())], [jnp.ones(())]
        fields = h
        for number, layer in enumerate(self.layers, 1):
            normal, mean, deviation = normalised(h @ layer.weight, parts)
            z.append(normal + added[number])
            means.append(mean)
            deviations.append(deviation)
            fields = layer.fields(z[-1])
            h = jax.nn.relu(fields)
        return Up(z, means, deviations, fields)

    def down(self, noisy: list[Float[Array, "B _"]], logits: Float[Array, "B C"]) -> dict[int, Float[Array, "B _"]]:
        """Return the denoised layers by number, from the noisy ones of the way up."""
        above, found = jax.nn.softmax(logits), {}
        for number, rung in reversed(list(enumerate(self.rungs, self.lowest))):
            heard = above if rung.weight is None else above @ rung.weight
            above = rung.combine(noisy[number], normalised(heard, (len(heard),))[0])
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


def _noise(key: PRNGKeyArray | None, rows: int, sizes: list[int], scale: float, dtype: Any) -> list[Any]:
    """Return normal noise of every layer, 0 without a key."""
    if key is None or not scale:
        return [0.0 for _ in sizes]
    # Drawn at once: each draw of its own costs a second of compilation.
    drawn = scale * jax.random.normal(key, (rows, sum(sizes)), dtype)
    return jnp.split(drawn, list(accumulate(sizes))[:-1], axis=1)


def normalised(
    pre: Float[Array, "B d"], parts: tuple[int, ...]
) -> tuple[Float[Array, "B d"], Float[Array, " d"], Float[Array, " d"]]:
    """Return each part of a batch less its mean, divided by its deviation, and these two of the last part."""
    found, start = [], 0
    mean, deviation = pre[0], pre[0]
    for size in parts:
        part = pre[start : start + size]
        mean = part.mean(axis=0)
        deviation = jnp.sqrt(((part - mean) ** 2).mean(axis=0) + EPSILON)
        found.append((part - mean) / deviation)
        start += size
    return jnp.concatenate(found), mean, deviation


def untrained(key: PRNGKeyArray, widths: tuple[int, ...], costs: tuple[float, ...], combinator: str) -> Ladder:
    """Return normal weights of variance one over the inputs.

    Args:
        widths: of all layers, from the data to the classes.
        costs: as many.
    """
    rng = host_random(key)

    def drawn(n: int, m: int) -> Array:
        return jnp.asarray(rng.standard_normal((n, m)) / n**0.5, jnp.float32)

    top = len(widths) - 1
    layers = tuple(
        Layer(drawn(n, m), jnp.zeros(m), jnp.ones(m) if number == top else None, _statistics(m))
        for number, (n, m) in enumerate(pairwise(widths), 1)
    )
    lowest = next((number for number, cost in enumerate(costs) if cost), top + 1)
    rungs = tuple(
        Rung(None if number == top else drawn(widths[number + 1], widths[number]), _combine(combinator, widths[number]))
        for number in range(lowest, top + 1)
    )
    return Ladder(layers, rungs, costs)


def _statistics(width: int) -> Norm:
    # Shift and scale are the layer's own: they come after the noise.
    return replace(Norm.init(width), scale=None, shift=None, epsilon=EPSILON)  # type: ignore[arg-type]


def _combine(name: str, width: int) -> Gaussian | Gate:
    if name == "gauss":
        return Gaussian.init(width)
    # The noisy value is the gate's own, what comes from above its memory: both pass by the coefficients of the paper.
    return replace(Gate.init(width), b=jnp.ones(width))
