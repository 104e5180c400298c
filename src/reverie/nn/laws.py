"""Heads: the last layer of a network, which returns the law that the network describes."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from reverie.errors import ReverieError
from reverie.nn.blocks import Linear

Law: TypeAlias = dist.Distribution
#: The data's means come from the host.
Mean: TypeAlias = Float[Array | np.ndarray, " D"]


@runtime_checkable
class Columns(Protocol):
    """What a head must know of the data (`data.dataset.Dataset` does): this folder does not stand on that one."""

    @property
    def likelihood(self) -> str: ...

    @property
    def levels(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def mean(self) -> Any: ...


class GaussianHead(eqx.Module):
    r""":math:`\mathcal N(\mu, \mathrm{diag}\,\sigma^2)` with :math:`\mu` linear and :math:`\log\sigma` linear times
    `half` (1 for a log-sigma head, as the IWAE code; 1/2 for a log-variance head, as the MEM-VAE code), held within
    `bounds` if there are any."""

    mean: Linear
    log_scale: Linear
    half: float = eqx.field(static=True, default=1.0)
    bounds: tuple[float, float] | None = eqx.field(static=True, default=None)

    @staticmethod
    def init(
        key: PRNGKeyArray, fan_in: int, fan_out: int, half: float = 1.0, mean: Mean | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> GaussianHead:  # fmt: skip
        first, second = jax.random.split(key)
        bias = None if mean is None else jnp.asarray(mean, jnp.float32)
        return GaussianHead(
            Linear.init(first, fan_in, fan_out, bias), Linear.init(second, fan_in, fan_out), half, bounds
        )

    def __call__(self, x: Float[Array, " fan_in"]) -> Law:
        log_scale = self.half * self.log_scale(x)
        if self.bounds is not None:
            log_scale = jnp.clip(log_scale, *self.bounds)
        return dist.Normal(self.mean(x), jnp.exp(log_scale)).to_event(1)


@jax.custom_jvp
def bernoulli_log_prob(x: Float[Array, "*d"], logits: Float[Array, "*d"]) -> Float[Array, "*d"]:
    r"""Return :math:`xa - \log(1 + e^a)` at logits a, to the logit's own rounding, however large.

    The rule for its gradient, :math:`x - \sigma(a)`, spares training the logarithm where the value is not asked for.
    """
    return x * logits - (jnp.maximum(logits, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(logits))))


@bernoulli_log_prob.defjvp
def _bernoulli_slope(at: tuple[Array, Array], along: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, logits), (dx, dlogits) = at, along
    return bernoulli_log_prob(x, logits), (x - jax.nn.sigmoid(logits)) * dlogits + logits * dx


class Bernoulli(dist.BernoulliLogits):
    """NumPyro's law of logits, whose density and its gradient cost half of what they cost there on a CPU."""

    def log_prob(self, value: Shaped[Array, "..."]) -> Float[Array, "..."]:
        return bernoulli_log_prob(*jnp.broadcast_arrays(jnp.asarray(value, self.logits.dtype), self.logits))


def base_logits(mean: Mean) -> Float[Array, " D"]:
    r"""Return :math:`\mathrm{logit}(\mathrm{clip}(\bar x, .001, .999))`, at which cells start: independent columns."""
    p = jnp.clip(jnp.asarray(mean, jnp.float32), 0.001, 0.999)
    return jnp.log(p) - jnp.log1p(-p)


class BernoulliHead(eqx.Module):
    """Independent binary columns, from logits alone (a clipped probability would bound the likelihood)."""

    logits: Linear

    @staticmethod
    def init(key: PRNGKeyArray, fan_in: int, mean: Mean) -> BernoulliHead:
        r"""Start at the data's means: bias :math:`\mathrm{logit}(\mathrm{clip}(\bar x, .001, .999))`."""
        bias = base_logits(mean)
        return BernoulliHead(Linear.init(key, fan_in, bias.size, bias))

    def __call__(self, x: Float[Array, " fan_in"]) -> Law:
        return Bernoulli(self.logits(x)).to_event(1)


class CategoricalHead(eqx.Module):
    """Independent columns of `levels` categories each."""

    logits: Linear
    levels: int = eqx.field(static=True)

    @staticmethod
    def init(key: PRNGKeyArray, fan_in: int, columns: int, levels: int) -> CategoricalHead:
        return CategoricalHead(Linear.init(key, fan_in, columns * levels), levels)

    def __call__(self, x: Float[Array, " fan_in"]) -> Law:
        return dist.Categorical(logits=self.logits(x).reshape(-1, self.levels)).to_event(1)


def output_head(key: PRNGKeyArray, fan_in: int, data: Columns) -> eqx.Module:
    """Return the head for the law of `data`, its biases at the data's means."""
    if data.likelihood == "bernoulli":
        return BernoulliHead.init(key, fan_in, data.mean)
    if data.likelihood == "gaussian":
        return GaussianHead.init(key, fan_in, data.width, 0.5, data.mean)
    if data.likelihood == "categorical":
        return CategoricalHead.init(key, fan_in, data.width, data.levels)
    if data.likelihood == "counts":
        raise ReverieError(
            "likelihood: this model has no law of word counts; use replicated-softmax, or give --likelihood bernoulli "
            "to model which words occur"
        )
    if data.likelihood == "sequences":
        raise ReverieError("likelihood: this model has no law of sequences to be answered; use ntm or lstm")
    raise ReverieError(f"likelihood: {data.likelihood!r} is not one of bernoulli, gaussian, categorical")


def log_prob(law: Law, x: Float[Array, " D"], missing: bool = False) -> Float[Array, ""]:
    """Return log p(x), or the log-likelihood of the observed cells alone where some are `missing` (NaN)."""
    base: Any = law.base_dist
    seen = ~jnp.isnan(x)
    # NaN must be gone before the law sees it: a gradient through jnp.where keeps the NaN of the branch not taken.
    cells = jnp.where(seen, x, 0.0) if missing else x
    if isinstance(base, dist.CategoricalLogits):
        cells = cells.astype(jnp.int32)
    return jnp.where(seen, base.log_prob(cells), 0.0).sum() if missing else law.log_prob(cells)


def expectation(law: Law) -> Float[Array, " D"]:
    """Return the mean of a law over columns; of a categorical one, the most probable category."""
    base: Any = law.base_dist
    if isinstance(base, dist.CategoricalLogits):
        return base.logits.argmax(axis=-1).astype(jnp.float32)
    return law.mean
