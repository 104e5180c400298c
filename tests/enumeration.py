"""Every draw of a tiny net of binary units, one by one: means of gradients that are sums, exact to rounding.

Use it with the fixture `enumerated`: float64, and the "key" of a surrogate is the list of its draws.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data.dataset import Dataset, Rows
from reverie.models.directed._binary import Helmholtz, untrained
from reverie.prob import score_surrogates
from reverie.prob.contracts import Latent
from reverie.prob.score_surrogates import SCORED
from reverie.train.recipe import Brief

Surrogate = Callable[..., Any]
WIDTH, HIDDEN = 4, 3


class Enumerated(Helmholtz):
    """Its "key" is the draw itself, a number whose bits are the units, h^1 first, and then the cells of x."""

    def _split(self, number: Any) -> tuple[Any, Any]:
        widths = [net.bias.size for net in self.q]
        bits = (number >> jnp.arange(sum(widths) + WIDTH)) & 1
        ends = np.cumsum(widths)
        *h, x = jnp.split(bits, ends)
        return x.astype(float), tuple(own.astype(bool) for own in h)

    def infer(self, key: Any, x: Any, given: Any = None) -> Any:
        return self._split(key)[1]

    def sample(self, key: Any, given: Any = None) -> Any:
        return self._split(key)

    def log_p(self, x: Any, h: Any, given: Any = None) -> Any:
        return super().log_p(jnp.asarray(x), h)

    def log_q(self, h: Any, x: Any, given: Any = None) -> Any:
        return super().log_q(h, jnp.asarray(x))

    def forward(self, key: Any, x: Any, given: Any = None) -> Any:
        return Latent.forward(self, key, x)


def some(
    latent: tuple[int, ...] = (HIDDEN,), width: int = WIDTH, seed: int = 0, scale: float = 0.7, **layers: Any
) -> Enumerated:
    """A net with every weight drawn."""
    rows = Rows(np.tile([[0.0], [1.0]], (1, width)).astype(np.float32), None)
    data = Dataset(name="toy", source="toy", splits={"train": rows}, shape=(width,), likelihood="bernoulli",
                   binarisation="as-is", hash="abc", class_names=())  # fmt: skip
    model = untrained(Brief(data, jax.random.key(seed), 1.0), latent, **layers)
    rng = np.random.default_rng(seed)
    drawn = lambda a: jnp.asarray(rng.normal(scale=scale, size=a.shape)) if a.dtype.kind == "f" else a  # noqa: E731
    return Enumerated(**vars(jax.tree.map(drawn, model)))


def cells(width: int = WIDTH) -> np.ndarray:
    return np.array(list(product([0.0, 1.0], repeat=width)))


def units(model: Helmholtz) -> int:
    return sum(net.bias.size for net in model.q)


def tables(model: Enumerated, x: Any) -> tuple[Any, Any]:
    """Return log p(x, h) and log q(h | x) of every h."""
    numbers = jnp.arange(2 ** units(model))

    def both(m: Enumerated, number: Any) -> tuple[Any, Any]:
        h = m.infer(number, x)
        return m.log_p(x, h), m.log_q(h, x)

    return jax.jit(jax.vmap(both, (None, 0)))(model, numbers)


def log_likelihood(model: Enumerated, x: Any) -> Any:
    return jax.nn.logsumexp(tables(model, x)[0])


def all_tuples(model: Enumerated, x: Any, k: int) -> tuple[Any, Any]:
    """Return every k-tuple of draws and its probability under q."""
    _, log_q = tables(model, x)
    draws = np.array(list(product(range(2 ** units(model)), repeat=k)))
    return jnp.asarray(draws), jnp.exp(jax.lax.stop_gradient(log_q)[draws].sum(axis=1))


def expected(surrogate: Surrogate, model: Enumerated, x: Any, k: int, dreams: Any = None) -> Any:
    """Return the mean gradient over all draws of q and, of those `dreams` (numbers, probabilities), all dreams."""
    return mean_gradient(surrogate, model, x, k, all_tuples(model, x, k), dreams)


def mean_gradient(surrogate: Surrogate, model: Enumerated, x: Any, k: int, wake: Any, dreams: Any = None) -> Any:
    """Return it for draws and their probabilities; x is a row for each of them, or one row for all."""
    (draws, mass), (numbers, chance) = wake, (jnp.zeros(1, int), jnp.ones(1)) if dreams is None else dreams
    # The two kinds of draws add up: each is summed with the other at its first value, which is then counted once.
    keys = jnp.concatenate([_beside(draws, numbers[:1]), _beside(draws[:1], numbers)])
    rows = jnp.broadcast_to(jnp.asarray(x), (len(draws), WIDTH))
    rows = jnp.concatenate([rows, jnp.broadcast_to(rows[0], (len(numbers), WIDTH))])
    mass = jnp.concatenate([mass, chance.at[0].add(-1.0)])
    return jax.tree.map(lambda g: jnp.tensordot(mass, g, 1), gradients(surrogate, model, keys, rows, k))


def _beside(draws: Any, dreams: Any) -> Any:
    n = max(len(draws), len(dreams))
    return jnp.concatenate([jnp.broadcast_to(draws, (n, draws.shape[1])), jnp.broadcast_to(dreams, n)[:, None]], 1)


def gradients(surrogate: Surrogate, model: Enumerated, keys: Any, rows: Any, k: int) -> Any:
    """Return a surrogate's gradient at each row of data and of draws."""
    one = eqx.filter_grad(lambda m, own, x: surrogate(m, own, x, None, k)[0])
    return jax.jit(jax.vmap(one, (None, 0, 0)))(model, keys, rows)


def slope(value: Callable[[Any], Any], model: Enumerated) -> Any:
    return eqx.filter_jit(eqx.filter_grad(value))(model)


def all_dreams(model: Enumerated) -> tuple[Any, Any]:
    """Return every (x, h) as a number, and its probability under p."""
    numbers = jnp.arange(2 ** (units(model) + WIDTH))
    return numbers, jnp.exp(jax.jit(jax.vmap(lambda m, n: m.log_p(*m.sample(n)), (None, 0)))(model, numbers))


def theta(gradient: Helmholtz) -> Any:
    return gradient.p, gradient.data, gradient.top


def mutant(name: str, **wrong: Any) -> Surrogate:
    """Return a surrogate as it would be with parts of its module replaced."""

    def changed(*arguments: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            for attribute, value in wrong.items():
                patch.setattr(score_surrogates, attribute, value)
            return SCORED[name](*arguments, **options)

    changed.__name__ = f"{name} with {', '.join(wrong)}"
    return changed


def bound_gradient(model: Enumerated, x: Any, k: int) -> Any:
    """Return the gradient of the k-sample bound, by enumeration of the k draws."""
    draws, _ = all_tuples(model, x, k)

    def bound(m: Enumerated) -> Any:
        log_p, log_q = tables(m, x)
        log_w = (log_p - log_q)[draws]
        return jnp.exp(log_q[draws].sum(axis=1)) @ (jax.nn.logsumexp(log_w, axis=1) - np.log(k))

    return slope(bound, model)
