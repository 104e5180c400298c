"""Building blocks of networks, written for one example and mapped over the batch.

A block's call returns ``(output, trace)``; the trace holds what happened inside (pre-activations, attentions,
memory reads), so that looking inside needs no second code path.  What nobody reads, the compiler drops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.arrays import placed

Tree = TypeVar("Tree")
Trace = dict[str, Any]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "linear": lambda x: x,
}


def host_random(key: PRNGKeyArray) -> np.random.Generator:
    """Return NumPy's generator for a key, for initial weights.

    Drawn by JAX, every new shape of a weight costs a compilation, which takes longer than training a small model.
    """
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def glorot_uniform(key: PRNGKeyArray, fan_in: int, fan_out: int) -> Float[Array, "fan_in fan_out"]:
    r"""Draw :math:`U(\pm\sqrt{6/(n_{in}+n_{out})})` (Glorot & Bengio 2010)."""
    reach = (6.0 / (fan_in + fan_out)) ** 0.5
    return placed(host_random(key).uniform(-reach, reach, (fan_in, fan_out)), np.float32)


class Linear(eqx.Module):
    r""":math:`xW + b` with :math:`W` of shape (in, out)."""

    weight: Float[Array, "fan_in fan_out"]
    bias: Float[Array, " fan_out"]

    @staticmethod
    def init(key: PRNGKeyArray, fan_in: int, fan_out: int, bias: Float[Array, " fan_out"] | None = None) -> Linear:
        """Return Glorot weights, and zero biases unless `bias` is given."""
        start = jnp.zeros(fan_out) if bias is None else jnp.asarray(bias, jnp.float32)
        return Linear(glorot_uniform(key, fan_in, fan_out), start)

    def __call__(self, x: Float[Array, " fan_in"]) -> Float[Array, " fan_out"]:
        return x @ self.weight + self.bias


def standardise(x: Float[Array, " d"], axes: tuple[str, ...], epsilon: float) -> Float[Array, " d"]:
    r"""Return :math:`(x - \bar x)/\sqrt{\mathrm{var}(x) + \epsilon}` over the mapped `axes` (names of `vmap` axes)."""
    centred = x - jax.lax.pmean(x, axes)
    return centred * jax.lax.rsqrt(jax.lax.pmean(centred**2, axes) + epsilon)


class Norm(eqx.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) of one example among the others of its `vmap`.

    With `axes` empty, as stored and evaluated, it uses the frozen `mean` and `variance`, so that the score of a
    row depends on that row alone; `live` names the mapped axes over which training takes its statistics.
    """

    scale: Float[Array, " d"]
    shift: Float[Array, " d"]
    mean: Float[Array, " d"]
    variance: Float[Array, " d"]
    epsilon: float = eqx.field(static=True, default=1e-10)
    axes: tuple[str, ...] = eqx.field(static=True, default=())

    @staticmethod
    def init(width: int) -> Norm:
        return Norm(jnp.ones(width), jnp.zeros(width), jnp.zeros(width), jnp.ones(width))

    def normalise(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """Return x with zero mean and unit variance, before scale and shift."""
        if self.axes:
            return standardise(x, self.axes, self.epsilon)
        return (x - self.mean) * jax.lax.rsqrt(self.variance + self.epsilon)


def live(tree: Tree, axes: tuple[str, ...] = ("batch", "samples")) -> Tree:
    """Return `tree` with every `Norm` taking its statistics over the mapped `axes` (training)."""
    return jax.tree.map(lambda n: replace(n, axes=axes) if _is_norm(n) else n, tree, is_leaf=_is_norm)


def is_statistic(path: str) -> bool:
    """Say whether a leaf's path names a statistic of the data, which no optimiser moves and no count includes."""
    return path.endswith(("norm.mean", "norm.variance", "sight.mean", "exemplars.means", "exemplars.log_scales"))


def _is_norm(node: Any) -> bool:
    return isinstance(node, Norm)


class Dense(eqx.Module):
    """Linear map, optional batch normalisation, activation.  Trace: ``pre``, ``normal``, ``out``."""

    linear: Linear
    norm: Norm | None
    activation: str = eqx.field(static=True)

    @staticmethod
    def init(key: PRNGKeyArray, fan_in: int, fan_out: int, activation: str, norm: bool = False) -> Dense:
        return Dense(Linear.init(key, fan_in, fan_out), Norm.init(fan_out) if norm else None, activation)

    def __call__(self, x: Float[Array, " fan_in"]) -> tuple[Float[Array, " fan_out"], Trace]:
        pre = self.linear(x)
        normal = pre if self.norm is None else self.norm.normalise(pre)
        scaled = normal if self.norm is None else self.norm.scale * normal + self.norm.shift
        out = ACTIVATIONS[self.activation](scaled)
        return out, {"pre": pre, "normal": normal, "out": out}


class Net(eqx.Module):
    """A trunk of blocks with a head that gives a law.  Trace: one entry per block, named ``trunk.<i>``."""

    # Any block and any head will do: what they are called with and return is all that counts.
    trunk: tuple[Any, ...]
    head: Any

    def __call__(self, x: Float[Array, " fan_in"]) -> tuple[Any, Trace]:
        trace = {}
        for i, block in enumerate(self.trunk):
            x, trace[f"trunk.{i}"] = block(x)
        return self.head(x), trace


def dense_trunk(
    key: PRNGKeyArray, fan_in: int, widths: tuple[int, ...], activation: str, norm: bool = False
) -> tuple[Dense, ...]:
    """Return a chain of `Dense` blocks of the given widths."""
    sizes = (fan_in, *widths)
    keys = jax.random.split(key, max(1, len(widths)))
    return tuple(Dense.init(k, a, b, activation, norm) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=False))
