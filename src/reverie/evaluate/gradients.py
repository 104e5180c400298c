r"""How good estimators of a gradient are: bias and variance of each, on one model and the same rows.

An estimator draws g; what it is an estimate of is its target t.  For the parameters of P and of Q apart, in units of
the target's own length:

.. math:: \text{noise} = \frac{\sqrt{\operatorname{tr}\operatorname{cov} g}}{\lVert t \rVert}, \qquad
          \text{bias} = \frac{\lVert \mathbb E g - t \rVert}{\lVert t \rVert}.

Targets are the gradients, averaged over the rows, of

=======  ==============================================================================================================
elbo     :math:`\mathbb E_q[\log w]`
bound    the k-sample bound :math:`\mathbb E[\log \frac1k \sum_i w_i]`
wake     :math:`-\mathrm{KL}(p(h \mid x)\,\|\,q(h \mid x))`, in Q; in P it is :math:`\log p(x)`
dreams   :math:`\mathbb E_p[\log q(h \mid x)]`, in Q alone
=======  ==============================================================================================================

Where h has at most 12 binary units, elbo and wake are summed over all of its states.  Else a target is the mean of many
draws of an estimator that is unbiased for it (wake: importance weights of many samples, whose own bias is of the order
of one over their number).  A mean of n draws lies off its expectation by the noise alone, so that a squared distance is
told less what noise makes of it,

.. math:: \widehat{b^2} = \lVert \bar g - \bar t \rVert^2 - \tfrac1n \operatorname{tr}\widehat{\operatorname{cov}} g
          - \tfrac1m \operatorname{tr}\widehat{\operatorname{cov}} t,

which is unbiased, may be negative, and has its standard error by the jackknife over blocks of draws.

References: Mnih & Rezende, *Variational Inference for Monte Carlo Objectives*, 2016; Tucker et al., *REBAR*, 2017;
Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, 2018.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.arrays import is_trainable, named_leaves
from reverie.errors import ReverieError
from reverie.evaluate.gradient_ways import RUNNING, Target, Way, plan
from reverie.evaluate.rows import Watch
from reverie.prob.contracts import Latent
from reverie.prob.surrogates import objective

#: The two halves of a directed model, told by the first name of a leaf's path; a baseline's net is neither.
GROUPS = ("P", "Q")
#: Blocks of draws, and how many times as many draws the targets have.
_BLOCKS, _MORE = 20, 10
#: Samples of the importance weights behind ``wake``, and binary units whose states are all visited.
_WAKE, _COUNTED = 1000, 12


class Drawn(NamedTuple):
    """Gradients of one estimator: the mean of each block of draws, of P and of Q, and mean squared lengths."""

    blocks: tuple[Float[np.ndarray, "M p"], Float[np.ndarray, "M q"]]
    squares: tuple[float, float]
    draws: int

    def mean(self, group: int) -> np.ndarray:
        return self.blocks[group].mean(axis=0, dtype=np.float64)

    def variance(self, group: int) -> float:
        """Return the trace of the covariance of one draw; 0 of what is exact."""
        if self.draws < 2:
            return 0.0
        spread = self.squares[group] - float(np.sum(self.mean(group) ** 2))
        return max(spread, 0.0) * self.draws / (self.draws - 1)


@dataclass(frozen=True)
class Measured:
    """What was found of one estimator in one group.

    Attributes:
        noise: root of the summed variances of one draw, in lengths of the target.
        bias: distance of the mean from the target, in the same; 0 where the squared one came out negative.
        bias_low, bias_high: within two standard errors of the squared distance.
        target: what it is an estimate of.
    """

    noise: float
    bias: float
    bias_low: float
    bias_high: float
    target: Target

    @property
    def biased(self) -> bool:
        """Whether a bias is shown."""
        return self.bias_low > 0

    def to_json(self) -> dict[str, Any]:
        return {"noise": self.noise, "bias": self.bias, "bias_low": self.bias_low, "bias_high": self.bias_high,
                "target": self.target, "biased": self.biased}  # fmt: skip


def measure(
    model: Latent,
    rows: Float[np.ndarray, "B D"],
    *,
    given: Float[np.ndarray, "B C"] | None = None,
    k: int = 5,
    draws: int = 400,
    only: tuple[str, ...] = (),
    seed: int = 0,
    progress: Watch | None = None,
) -> dict[str, dict[str, Any]]:
    """Return, by estimator, `Measured` of ``P`` and ``Q``, and ``ms``, milliseconds of one gradient over the rows.

    Args:
        model: directed, at the weights to be looked at.
        rows: in the model's units; a gradient is averaged over them.
        given: their classes, one-hot, for models that want them.
        k: samples per row.
        draws: gradients of each estimator, at least 40; targets that cannot be counted have ten times as many.
        only: names of estimators (default: all that the model allows).
        seed: of the draws.
        progress: called with the number of estimators and targets done.

    Raises:
        ReverieError: for an unknown estimator, or numbers that are too small.
    """
    if draws < 2 * _BLOCKS:
        raise ReverieError(f"draws: {draws} are too few to tell bias from noise; give {2 * _BLOCKS} or more")
    if k < 1 or not len(rows):
        raise ReverieError(f"{'k' if k < 1 else 'rows'}: give 1 or more")
    todo, key = plan(model, rows, given, k, only), jax.random.key(seed)
    batch = {"x": jnp.asarray(rows), "given": None if given is None else jnp.asarray(given), "step": jnp.zeros((), int)}
    tell, found = progress or (lambda done: None), dict[str, dict[str, Any]]()
    targets: dict[Target, Drawn] = {}
    for target in todo.targets:
        targets[target] = _target(target, model, batch, todo.known, jax.random.fold_in(key, len(targets)), draws)
        tell(len(targets))
    for way in todo.chosen:
        own = jax.random.fold_in(key, len(targets) + len(found))
        if way.name == RUNNING:
            way = replace(way, surrogate=partial(way.surrogate, level=_level(model, batch, own)))
        got, seconds = draw(model, batch, way, own, draws)
        pair = enumerate(zip(GROUPS, way.targets, strict=True))
        measured = {group: compared(got, targets[target], i, target) for i, (group, target) in pair}
        found[way.name] = {**measured, "ms": 1e3 * seconds}
        tell(len(targets) + len(found))
    return found


def _target(
    target: Target, model: Latent, batch: dict[str, Any], known: Mapping[str, Way], key: PRNGKeyArray, draws: int
) -> Drawn:
    """Return a target's gradient, counted where that can be."""
    if target in ("elbo", "wake") and (counted := _counted(target, model, batch)) is not None:
        return counted
    more = _MORE * draws
    if target == "wake":
        way = replace(known["rws, wake"], k=_WAKE)
        return draw(model, batch, way, key, max(2 * _BLOCKS, more * way.k // (_WAKE * 20)))[0]
    names = {"elbo": ("elbo", "score, leave-one-out", "score, none"), "bound": ("iwae", "vimco", "score, none"),
             "dreams": ("wake-sleep",)}[target]  # fmt: skip
    return draw(model, batch, next(known[name] for name in names if name in known), key, more)[0]


def draw(model: Latent, batch: dict[str, Any], way: Way, key: PRNGKeyArray, draws: int) -> tuple[Drawn, float]:
    """Return gradients of one estimator in blocks, and the seconds that one takes."""
    size = max(2, draws // _BLOCKS)
    ascend = objective("it", way.k, known={"it": way.surrogate})

    @eqx.filter_jit
    def block(model: Latent, own: PRNGKeyArray) -> tuple[tuple[Array, Array], Array]:
        def add(total: Any, one: PRNGKeyArray) -> tuple[Any, None]:
            found = eqx.filter_grad(lambda m: ascend(m, batch, None, one)[0])(model)
            parts = [-part for part in flat(found)]
            squares = jnp.stack([jnp.vdot(part, part) for part in parts])
            return ([a + b for a, b in zip(total[0], parts, strict=True)], total[1] + squares), None

        start = [jnp.zeros_like(part) for part in flat(eqx.filter(model, is_trainable))]
        (sums, squares), _ = jax.lax.scan(add, (start, jnp.zeros(2)), jax.random.split(own, size))
        return tuple(part / size for part in sums), squares / size  # type: ignore[return-value]

    keys = jax.random.split(key, _BLOCKS)
    jax.block_until_ready(block(model, keys[0]))
    began = time.perf_counter()
    got = [jax.tree.map(np.asarray, block(model, own)) for own in keys]
    seconds = (time.perf_counter() - began) / (size * _BLOCKS)
    p, q = (np.stack([means[i] for means, _ in got]) for i in range(2))
    squares = np.stack([squares for _, squares in got]).mean(axis=0, dtype=np.float64)
    if not np.isfinite(squares).all():
        raise ReverieError(f"{way.name}: its gradients are not finite at these weights; train a little first")
    return Drawn((p, q), (float(squares[0]), float(squares[1])), size * _BLOCKS), seconds


def flat(gradient: Any) -> list[Array]:
    """Return the numbers of P's leaves and of Q's, each in a row; leaves of neither are left out."""
    groups: dict[str, list[Array]] = {group: [jnp.zeros(0)] for group in GROUPS}
    for path, leaf in named_leaves(gradient, is_trainable):
        head = path.split(".")[0]
        if head not in ("forecast", "sight"):
            groups["Q" if head == "q" else "P"].append(leaf.ravel())
    return [jnp.concatenate(parts) for parts in groups.values()]


def compared(got: Drawn, target: Drawn, group: int, name: Target) -> Measured:
    """Return noise and bias of an estimator beside its target."""
    length = max(float(np.sum(target.mean(group) ** 2)) - target.variance(group) / target.draws, 1e-300)
    squared, error = _squared_bias(got, target, group)
    root = lambda value: float(np.sqrt(max(value, 0.0) / length))  # noqa: E731
    noise = float(np.sqrt(got.variance(group) / length))
    return Measured(noise, root(squared), root(squared - 2 * error), root(squared + 2 * error), name)


def _squared_bias(got: Drawn, target: Drawn, group: int) -> tuple[float, float]:
    """Return the squared distance of the expectations, and its standard error by the jackknife over blocks of both."""
    off = sum(one.variance(group) / one.draws for one in (got, target))
    whole = float(np.sum((got.mean(group) - target.mean(group)) ** 2)) - off
    variance = 0.0
    for one, other in ((got, target), (target, got)):
        without = np.asarray([float(np.sum((m - other.mean(group)) ** 2)) for m in _without(one.blocks[group])])
        # Leaving a block out leaves more noise in the mean: the same for every block, it falls out of their spread.
        variance += (len(without) - 1) * float(np.var(without)) if len(without) > 1 else 0.0
    return whole, float(np.sqrt(variance))


def _without(blocks: Float[np.ndarray, "M n"]) -> Iterator[np.ndarray]:
    """Yield the mean of all blocks but one, for each."""
    total, count = blocks.sum(axis=0, dtype=np.float64), len(blocks)
    return ((total - block) / (count - 1) for block in blocks if count > 1)


def _counted(target: Target, model: Latent, batch: dict[str, Any]) -> Drawn | None:
    """Return the gradient of elbo or wake by a sum over all states of h; None where there are too many, or no end."""
    given = None if batch["given"] is None else batch["given"][0]
    shapes = jax.eval_shape(lambda key: model.infer(key, batch["x"][0], given), jax.random.key(0))
    leaves, tree = jax.tree.flatten(shapes)
    units = sum(leaf.size for leaf in leaves)
    if any(leaf.dtype != bool for leaf in leaves) or units > _COUNTED:
        return None
    states = np.asarray(list(product([False, True], repeat=units)))
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    h = jax.tree.unflatten(tree, [jnp.asarray(part) for part in np.split(states, ends, axis=1)])

    def value(m: Latent, x: Array, y: Any) -> Array:
        log_p, log_q = (jax.vmap(f)(h) for f in (lambda s: m.log_p(x, s, y), lambda s: m.log_q(s, x, y)))
        if target == "elbo":
            return (jnp.exp(log_q) * (log_p - log_q)).sum()
        posterior = jax.lax.stop_gradient(jax.nn.softmax(log_p))
        return jax.nn.logsumexp(log_p) + (posterior * log_q).sum()

    def mean(m: Latent) -> Array:
        return jax.vmap(partial(value, m), (0, None if batch["given"] is None else 0))(
            batch["x"], batch["given"]
        ).mean()

    p, q = (np.asarray(part)[None] for part in flat(eqx.filter_jit(eqx.filter_grad(mean))(model)))
    return Drawn((p, q), (float(np.sum(p**2)), float(np.sum(q**2))), 1)


def _level(model: Latent, batch: dict[str, Any], key: PRNGKeyArray) -> float:
    """Return what a running mean of log w has come to: its mean over the rows."""

    def one(own: PRNGKeyArray, x: Array, y: Any) -> Array:
        return model.forward(own, x, y).log_w

    keys = jax.random.split(key, (64, len(batch["x"])))
    inner = jax.vmap(one, (0, 0, None if batch["given"] is None else 0))
    run: Callable[..., Array] = eqx.filter_jit(jax.vmap(inner, (0, None, None)))
    return float(run(keys, batch["x"], batch["given"]).mean())
