r"""The Helmholtz machine itself: P and Q over layers of binary units; what learns, and how, is told in `helmholtz`."""

from __future__ import annotations

import math
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.models.directed._conditionals import (
    ChainedCells,
    Conditional,
    FreeCells,
    LayerKind,
    Walk,
    cells,
    conditional,
)
from reverie.models.directed._gaussian import Sight
from reverie.nn.blocks import Linear
from reverie.nn.laws import bernoulli_log_prob
from reverie.prob.contracts import Given, Latent, Pass
from reverie.prob.relaxed_surrogates import Relaxation
from reverie.train.recipe import Brief

Units = tuple[Bool[Array, " _"], ...]


class Forecast(eqx.Module):
    """A baseline that has seen the row: what log w will come to."""

    hidden: Linear
    out: Linear

    def __call__(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        return self.out(jnp.tanh(self.hidden(x)))[0]


class Helmholtz(Latent):
    """P-net and Q-net over binary layers.

    Attributes:
        q: ``q[l]`` is the law of h^{l+1} given h^l (h^0 = x).
        p: ``p[l]`` is the law of h^{l+1} given h^{l+2}.
        data: the law of x given h^1.
        top: the law of h^L, given nothing.
        sight: how q sees a row.
        forecast: the input-dependent baseline, for the surrogate that wants one.
    """

    q: tuple[Conditional, ...]
    p: tuple[Conditional, ...]
    data: FreeCells | ChainedCells
    top: Conditional
    sight: Sight
    forecast: Forecast | None = None

    def infer(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Units:
        """Draw h^1 .. h^L upwards."""
        return tuple(walk.h.astype(bool) for walk in self._upwards(key, x))

    def _upwards(self, key: PRNGKeyArray, x: Float[Array, " D"]) -> list[Walk]:
        below, found = self.sight(x), []
        for net, own in zip(self.q, jax.random.split(key, len(self.q)), strict=True):
            found.append(net.draw(own, below))
            below = found[-1].h
        return found

    def log_q(self, h: Units, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        numbers = self._numbers(h)
        belows = (self.sight(x), *numbers[:-1])
        return sum((_score(net, own, below) for own, net, below in zip(numbers, self.q, belows, strict=True)),
                   start=jnp.zeros(()))  # fmt: skip

    def log_prior(self, h: Units, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(h^L) + \sum_l \log p(h^l \mid h^{l+1})`."""
        numbers = self._numbers(h)
        return sum((_score(net, own, above) for own, net, above in self._downwards(numbers)), start=jnp.zeros(()))

    def _downwards(self, numbers: tuple[Array, ...]) -> list[tuple[Array, Conditional, Array]]:
        """Return each layer with its law in P and the layer above it, none above the top."""
        nothing = jnp.zeros(0, numbers[-1].dtype)
        return list(zip(numbers, (*self.p, self.top), (*numbers[1:], nothing), strict=True))

    def log_p(self, x: Float[Array, " D"], h: Units, given: Given = None) -> Float[Array, ""]:
        return self.log_prior(h, given) + self.data.log_prob(x, self._numbers(h)[0])

    def mean(self, h: tuple[Array, ...], given: Given = None) -> Float[Array, " D"]:
        """Return E[x | h]; where cells hear each other, each one's mean given the means of those before it."""
        return self.data.mean(self._numbers(h)[0])

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> Units:
        """Draw h^L and the layers below it in turn."""
        keys = jax.random.split(key, len(self.q))
        h = [self.top.draw(keys[0], jnp.zeros(0)).h]
        for net, own in zip(self.p[::-1], keys[1:], strict=True):
            h.insert(0, net.draw(own, h[0]).h)
        return tuple(one.astype(bool) for one in h)

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Float[Array, " D"], Units]:
        first, second = jax.random.split(key)
        h = self.draw_prior(first, given)
        return self.data.sample(second, self._numbers(h)[0]), h

    def forward(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Pass:
        """Draw h and score it, going through every layer of q once."""
        walks = self._upwards(key, x)
        log_q = sum((bernoulli_log_prob(*walk).sum() for walk in walks), start=jnp.zeros(()))
        h = tuple(walk.h.astype(bool) for walk in walks)
        return Pass(h, self.data.log_prob(x, walks[0].h), self.log_prior(h, given), log_q, {})

    def relaxed(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given, way: Relaxation) -> Pass:
        """Draw h as `way` relaxes binary units, and score it by that way's density: gradients go back through h."""
        below, h, scored, log_q = self.sight(x), [], [], jnp.zeros(())
        for net, own in zip(self.q, jax.random.split(key, len(self.q)), strict=True):
            noise = jax.random.logistic(own, net.bias.shape, net.bias.dtype)
            walk = net.walk(noise, below, way.decide)
            scored.append(way.scored(walk.logits, noise, walk.h))
            log_q += way.log_prob(scored[-1], walk.logits).sum()
            below = walk.h
            h.append(walk.h)
        laws = zip(scored, self._downwards(tuple(h)), strict=True)
        prior = sum((way.log_prob(s, net.logits(own, y)).sum() for s, (own, net, y) in laws), start=jnp.zeros(()))
        return Pass(tuple(h), self.data.log_prob(x, h[0]), prior, log_q, {})

    def baseline(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        """Return what the input-dependent baseline expects of log w."""
        if self.forecast is None:
            raise ReverieError("baseline: this machine has no input-dependent one; make it with baseline='input'")
        return self.forecast(self.sight(x))

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " d"]:
        """Return the means of q, layer by layer, upper ones at the means of the one below, concatenated."""
        below, codes = self.sight(x), []
        for net in self.q:
            below = net.mean(below)
            codes.append(below)
        return jnp.concatenate(codes)

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return E[x | h] at one draw of h given x; where cells hear each other, each given those of x before it."""
        return self.data.mean_of(x, self._upwards(key, x)[0].h)

    def _numbers(self, h: tuple[Array, ...]) -> tuple[Float[Array, " _"], ...]:
        return tuple(own.astype(self.top.bias.dtype) for own in h)


def _score(net: Conditional, h: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, ""]:
    return bernoulli_log_prob(h, net.logits(h, y)).sum()


def untrained(
    brief: Brief,
    latent: tuple[int, ...],
    p_layers: tuple[LayerKind, ...] = ("sbn",),
    q_layers: tuple[LayerKind, ...] = ("sbn",),
    ordering: int = 1,
    forecast: int = 0,
    bias: float = 0.0,
) -> Helmholtz:
    """Return random weights; x starts at the data's means, and binary units at `bias`.

    Raises:
        ReverieError: for widths that are none, a bias that is no number, or a number of kinds that is neither one nor a
            layer's each.
    """
    if not math.isfinite(bias):
        raise ReverieError(f"bias: {bias} is no place to start from; give a finite number, such as -2")
    if not latent or min(latent) < 1:
        raise ReverieError("latent: give the width of each layer, from the data upwards, each at least 1")
    down = _kinds("p-layers", p_layers, len(latent) + 1, "the cells, each layer above them but the top, and the top")
    up = _kinds("q-layers", q_layers, len(latent), "each layer, from the one next to the data upwards")
    sight = Sight.of(brief.data)
    sizes = (sight.width(brief.data.width), *latent)
    keys = iter(jax.random.split(brief.key, 2 * len(latent) + 3))
    start = lambda kind, m, n: conditional(kind, next(keys), m, n, jnp.full(n, bias))  # noqa: E731
    q = tuple(start(kind, m, n) for kind, (m, n) in zip(up, pairwise(sizes), strict=True))
    p = tuple(start(kind, m, n) for kind, (n, m) in zip(down[1:], pairwise(latent), strict=False))
    data = cells(down[0], next(keys), latent[0], brief.data, ordering)
    top = start(down[-1], 0, latent[-1])
    return Helmholtz(q, p, data, top, sight, _forecast(brief, next(keys), sizes[0], forecast) if forecast else None)


def _forecast(brief: Brief, key: PRNGKeyArray, width: int, hidden: int) -> Forecast:
    """Return a baseline that starts at what independent columns have, where that is known, of every row."""
    first, second = jax.random.split(key)
    p = jnp.clip(jnp.asarray(brief.data.mean, jnp.float32), 0.001, 0.999)
    start = (p * jnp.log(p) + (1 - p) * jnp.log1p(-p)).sum() if brief.data.likelihood == "bernoulli" else 0.0
    out = Linear.init(second, hidden, 1, jnp.full(1, start))
    return Forecast(Linear.init(first, width, hidden), out)


def _kinds(name: str, kinds: tuple[LayerKind, ...], layers: int, which: str) -> tuple[LayerKind, ...]:
    """Return a kind for each layer, the one that is given for all if there is one."""
    if len(kinds) == 1:
        return kinds * layers
    if len(kinds) != layers:
        raise ReverieError(
            f"{name}: {','.join(kinds) or 'none'} for {layers} laws; give one kind, or {layers}: {which}"
        )
    return kinds
