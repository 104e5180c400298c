r"""Gaussian latent layers: what VAE, IWAE and MEM-VAE share.

A chain of L stochastic layers above x = h^0 (the spec's letters):

.. math::

    p(x, h) = \mathcal N(h^L; 0, I)\,\prod_{l=L-1}^{1} p(h^l \mid h^{l+1})\; p(x \mid h^1), \qquad
    q(h \mid x) = \prod_{l=1}^{L} q(h^l \mid h^{l-1}),

every conditional a diagonal Gaussian (or the law of the data) whose parameters a network computes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.models.directed._images import ImageHead, Seen
from reverie.nn.blocks import Net, Trace, dense_trunk
from reverie.nn.laws import GaussianHead, Law, expectation, log_prob, output_head
from reverie.prob.contracts import Given, Latent, Pass

#: Layers have widths of their own.
Latents = tuple[Float[Array, " _"], ...]


class Sight(eqx.Module):
    """How a network sees a row: categories as one-hot columns, missing cells at the mean with a flag for each."""

    mean: Float[Array, " D"] | None
    levels: int = eqx.field(static=True)
    missing: bool = eqx.field(static=True)

    @staticmethod
    def of(data: Dataset) -> Sight:
        mean = jnp.asarray(data.mean, jnp.float32) if data.missing else None
        return Sight(mean, data.levels if data.likelihood == "categorical" else 0, data.missing)

    def width(self, columns: int) -> int:
        return columns * max(self.levels, 1) + (columns if self.missing else 0)

    def __call__(self, x: Float[Array, " D"]) -> Float[Array, " W"]:
        seen = ~jnp.isnan(x)
        filled = x if self.mean is None else jnp.where(seen, x, self.mean)
        if self.levels:
            filled = jax.nn.one_hot(filled.astype(jnp.int32), self.levels).ravel()
        return jnp.concatenate([filled, seen.astype(jnp.float32)]) if self.missing else filled


class LayeredGaussian(Latent):
    """P-net and Q-net over Gaussian layers.

    Attributes:
        q: ``q[l]`` gives the law of h^{l+1} from h^l (h^0 = x).
        p: ``p[l]`` gives the law of h^l from h^{l+1} (h^0 = x).
        sight: how q sees a row.
        latent: widths of h^1 .. h^L.
        classes: number of classes the model is conditioned on, 0 for none; `given` is then one-hot and is
            appended to the input of every network.
    """

    q: tuple[Net, ...]
    p: tuple[Net, ...]
    sight: Sight
    latent: tuple[int, ...] = eqx.field(static=True)
    classes: int = eqx.field(static=True)

    @property
    def conditional(self) -> bool:
        """Whether `given` (a one-hot class) is needed."""
        return self.classes > 0

    def infer(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Latents:
        """Draw h^1 .. h^L upwards, each reparameterised as mean + scale * noise."""
        below, h = self.sight(x), []
        for net, k in zip(self.q, jax.random.split(key, len(self.q)), strict=True):
            below = self._law(net, below, given).rsample(k)
            h.append(below)
        return tuple(h)

    def log_q(self, h: Latents, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        belows = (self.sight(x), *h[:-1])
        return sum(
            (self._law(net, below, given).log_prob(own) for net, below, own in zip(self.q, belows, h, strict=True)),
            start=jnp.zeros(()),
        )

    def log_prior(self, h: Latents, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(h^L) + \sum_l \log p(h^l \mid h^{l+1})`."""
        total = dist.Normal().expand(h[-1].shape).to_event(1).log_prob(h[-1])
        for net, own, above in zip(self.p[1:], h[:-1], h[1:], strict=True):
            total += self._law(net, above, given).log_prob(own)
        return total

    def log_p(self, x: Float[Array, " D"], h: Latents, given: Given = None) -> Float[Array, ""]:
        return self.log_prior(h, given) + log_prob(self.law(h, given), x, self.sight.missing)

    def law(self, h: Latents, given: Given = None) -> Law:
        """Return p(x | h), the law of the data."""
        return self._law(self.p[0], h[0], given)

    def mean(self, h: Latents, given: Given = None) -> Float[Array, " D"]:
        return expectation(self.law(h, given))

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> Latents:
        """Draw h^L from N(0, I) and the layers below it in turn."""
        keys = jax.random.split(key, len(self.p))
        h = [jax.random.normal(keys[0], (self.latent[-1],))]
        for net, k in zip(self.p[:0:-1], keys[1:], strict=True):
            h.insert(0, self._law(net, h[0], given).rsample(k))
        return tuple(h)

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Float[Array, " D"], Latents]:
        first, second = jax.random.split(key)
        h = self.draw_prior(first, given)
        return self.law(h, given).sample(second).astype(jnp.float32), h

    def kl(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\mathrm{KL}(q(h \mid x) \,\|\, \mathcal N(0, I))` in closed form (one layer only).

        Raises:
            ReverieError: with more than one stochastic layer, where there is no closed form.
        """
        if len(self.latent) > 1:
            raise ReverieError("surrogate: elbo-analytic needs one stochastic layer; use elbo with more")
        law = self._law(self.q[0], self.sight(x), given).base_dist
        return 0.5 * (law.loc**2 + law.scale**2 - 1.0 - 2.0 * jnp.log(law.scale)).sum()

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " d"]:
        """Return the posterior means of all layers, upper ones at the mean of the one below, concatenated."""
        below, codes = self.sight(x), []
        for net in self.q:
            below = self._law(net, below, given).mean
            codes.append(below)
        return jnp.concatenate(codes)

    def posterior(
        self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None
    ) -> tuple[tuple[Float[Array, " _"], Float[Array, " _"]], ...]:
        """Return mean and scale of q(h^l | h^{l-1}) for each layer, h^{l-1} drawn."""
        h = self.infer(key, x, given)
        laws = [self._law(n, b, given).base_dist for n, b in zip(self.q, (self.sight(x), *h[:-1]), strict=True)]
        return tuple((law.loc, law.scale) for law in laws)

    def prior(self, h: Latents, given: Given = None) -> tuple[tuple[Array, Array], ...]:
        """Return mean and scale of p(h^l | h^{l+1}) for each layer, of N(0, I) for the top one."""
        laws = [self._law(net, above, given).base_dist for net, above in zip(self.p[1:], h[1:], strict=True)]
        return (*((law.loc, law.scale) for law in laws), (jnp.zeros_like(h[-1]), jnp.ones_like(h[-1])))

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return E[x | h] at one draw of h given x."""
        return self.mean(self.infer(key, x, given), given)

    def forward(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Pass:
        """Draw h and score it, going through every network once; the trace names blocks by their path."""
        below, h, log_q = self.sight(x), [], jnp.zeros(())
        inside: dict[str, Trace] = {}
        log_likelihood = jnp.zeros(())
        for i, (net, k) in enumerate(zip(self.q, jax.random.split(key, len(self.q)), strict=True)):
            law, blocks = net(self._join(below, given))
            below = law.rsample(k)
            log_q += law.log_prob(below)
            h.append(below)
            inside |= {f"q.{i}.{name}": block for name, block in blocks.items()}
        log_prior = dist.Normal().expand(h[-1].shape).to_event(1).log_prob(h[-1])
        for i, (net, above) in enumerate(zip(self.p, h, strict=True)):
            law, blocks = net(self._join(above, given))
            inside |= {f"p.{i}.{name}": block for name, block in blocks.items()}
            if i:
                log_prior += law.log_prob(h[i - 1])
            else:
                log_likelihood = log_prob(law, x, self.sight.missing)
        return Pass(tuple(h), log_likelihood, log_prior, log_q, inside)

    def trace(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> dict[str, Trace]:
        """Return what happened in every block on the way up (drawing h) and down, by the block's path."""
        return self.forward(key, x, given).trace

    def _law(self, net: Net, below: Float[Array, " n"], given: Given) -> Any:
        return net(self._join(below, given))[0]

    def _join(self, below: Float[Array, " n"], given: Given) -> Float[Array, " m"]:
        if not self.classes:
            return below
        if given is None:
            raise ReverieError("given: this model is class-conditional; give it a one-hot class")
        return jnp.concatenate([below, given])


def build(
    kind: type[LayeredGaussian],
    key: PRNGKeyArray,
    data: Dataset,
    latent: tuple[int, ...],
    hidden: tuple[tuple[int, ...], ...],
    activation: str,
    norm: bool,
    half: float,
    conditional: bool,
    conv: tuple[int, ...] = (),
) -> LayeredGaussian:
    """Return an untrained chain; `hidden[l]` are the widths between h^l and h^{l+1}, mirrored in p.

    With `conv`, channels from the image upwards, convolutions stand between the image and those of h^1.

    Raises:
        ReverieError: for widths that do not fit together, or class-conditioning without classes.
    """
    hidden = hidden * len(latent) if len(hidden) == 1 else hidden
    if len(hidden) != len(latent):
        raise ReverieError(f"hidden: {len(hidden)} groups of widths for {len(latent)} stochastic layers; give one each")
    if not latent or min(latent) < 1 or any(w < 1 for group in hidden for w in group):
        raise ReverieError("latent, hidden: every width must be at least 1")
    if conditional and not data.classes:
        raise ReverieError(f"conditional: the data set {data.name} has no classes")
    sight, classes = Sight.of(data), data.classes if conditional else 0
    sizes = (sight.width(data.width), *latent)
    keys = iter(jax.random.split(key, 4 * len(latent)))
    seen = Seen.init(jax.random.fold_in(key, 0), data, sizes[0], conv) if conv else None
    q: list[Net] = []
    p: list[Net] = []
    for below, above, widths in zip(sizes[:-1], sizes[1:], hidden, strict=True):
        first = () if seen is None or q else (seen,)
        fan_in = (first[0].width if first else below) + classes
        trunk = dense_trunk(next(keys), fan_in, widths, activation, norm)
        fan_out = widths[-1] if widths else fan_in
        q.append(Net((*first, *trunk), GaussianHead.init(next(keys), fan_out, above, half)))
        trunk = dense_trunk(next(keys), above + classes, widths[::-1], activation, norm)
        fan_out = widths[0] if widths else above + classes
        if first:
            head: eqx.Module = ImageHead.init(next(keys), fan_out, data, conv)
        else:
            head = GaussianHead.init(next(keys), fan_out, below, half) if p else output_head(next(keys), fan_out, data)
        p.append(Net(trunk, head))
    return kind(tuple(q), tuple(p), sight, tuple(latent), classes)


def without_units(model: LayeredGaussian, keep: Array) -> LayeredGaussian:
    """Return a one-layer model with only the units of h^1 in the boolean array `keep` (deleting inactive ones)."""
    head, first = model.q[0].head, model.p[0].trunk[0]
    slim = lambda lin: replace(lin, weight=lin.weight[:, keep], bias=lin.bias[keep])  # noqa: E731
    rows = jnp.concatenate([keep, jnp.ones(model.classes, bool)])
    dense = getattr(first, "dense", first)
    dense = replace(dense, linear=replace(dense.linear, weight=dense.linear.weight[rows]))
    first = replace(first, dense=dense) if hasattr(first, "dense") else dense
    q = replace(model.q[0], head=replace(head, mean=slim(head.mean), log_scale=slim(head.log_scale)))
    p = replace(model.p[0], trunk=(first, *model.p[0].trunk[1:]))
    return replace(model, q=(q, *model.q[1:]), p=(p, *model.p[1:]), latent=(int(keep.sum()), *model.latent[1:]))
