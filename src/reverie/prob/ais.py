r"""Annealed importance sampling of decoders, forwards and backwards: bounds of log p(x) that close in on each other.

The path of `anneal` leads from :math:`f_0 = p(z)` or :math:`q(z \mid x)` to :math:`f_1 = p(x, z)` with Hamiltonian
Monte Carlo, so that :math:`\mathbb E[w] = p(x)` and :math:`\log\frac1k\sum_i w_i` is a stochastic lower bound of
:math:`\log p(x)` (Jensen).  The same chain run backwards from an exact draw of :math:`p(z \mid x)` has
:math:`\mathbb E[1/w] = 1/p(x)`: a stochastic upper bound, to be had where x was simulated together with its z
(bidirectional Monte Carlo).

Every function takes one row and is pure; map it over rows.  Use ``jax.default_matmul_precision("highest")`` for
certified numbers.

Trap: adapting the step size along the chain that is weighed, as published code does, makes the kernel depend on the
past, and the bounds are then bounds no more.  Here a pilot of its own randomness finds the step sizes, and the weighed
chains use them frozen.

References: Neal, *Annealed importance sampling*, 2001; Grosse, Ghahramani & Adams, *Sandwiching the marginal
likelihood using bidirectional Monte Carlo*, 2015; Wu, Burda, Salakhutdinov & Grosse, *On the Quantitative Analysis of
Decoder-Based Generative Models*, 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from reverie.arrays import LogMean
from reverie.errors import ReverieError
from reverie.prob.anneal import Annealed, anneal, geometric, geometric_ratio, sigmoid_schedule
from reverie.prob.contracts import Given, Latent, Row
from reverie.prob.mcmc import Kernel, LogDensity, adaptive, hmc

# A fifth of jitter keeps a fixed trajectory from resonating with a Gaussian posterior (Neal 2011, section 3.2).
JITTER = 0.2
# The pilot moves its step faster than the paper's 2 %: it has two hundred temperatures, not ten thousand.
PILOT_FACTOR, PILOT_CHAINS = 1.1, 4

Info = dict[str, Array]


@dataclass(frozen=True)
class Plan:
    """How a decoder is annealed.

    Attributes:
        chains: k, averaged as weights.
        temperatures: T.
        leapfrog: steps of each temperature's one HMC proposal.
        start: ``prior`` (path p(z) p(x|z)^b) or ``posterior`` (q(z|x)^(1-b) p(x,z)^b; about ten times fewer
            temperatures where q is good, but it misses modes that q misses).
        step_size: of the leapfrog: the pilot's first, or the only one without a pilot.
        pilot: temperatures of the pilot that finds the step sizes; 0 for none.

    Raises:
        ReverieError: for a number below its least, or an unknown start.
    """

    chains: int = 16
    temperatures: int = 1000
    leapfrog: int = 10
    start: Literal["prior", "posterior"] = "prior"
    step_size: float = 0.01
    pilot: int = 200

    def __post_init__(self) -> None:
        for name, least in (("chains", 1), ("temperatures", 1), ("leapfrog", 1), ("pilot", 0)):
            if getattr(self, name) < least:
                raise ReverieError(f"{name}: {getattr(self, name)} is too few; give at least {least}")
        if not self.step_size > 0:
            raise ReverieError(f"step_size: {self.step_size} is not positive; 0.01 is the usual start")
        if self.start not in ("prior", "posterior"):
            raise ReverieError(f"start: {self.start!r} is unknown; give 'prior' or 'posterior'")


class AISState(NamedTuple):
    """A row's chains under way; all that a checkpoint needs besides key, row, model and plan.

    Attributes:
        chains: `Annealed`, each leaf with the chains in front.
        step_size: the pilot's, at the betas of ``sigmoid_schedule(pilot)``; shape ``(pilot + 1,)``.
        done: temperatures done.
    """

    chains: Annealed
    step_size: Float[Array, " P"]
    done: Int[Array, ""]

    @staticmethod
    def axes() -> AISState:
        """Return `in_axes` and `out_axes` to map over rows: a shared `done` keeps the loop's bound one number."""
        return AISState(0, 0, None)  # type: ignore[arg-type]


def ais_init(plan: Plan, model: Latent, key: PRNGKeyArray, x: Row, given: Given = None) -> AISState:
    """Draw the chains at the start of the path and let the pilot find the step sizes for this row.

    Raises:
        ReverieError: for a model with discrete latents, which HMC cannot move.
    """
    draw_key, pilot_key, _ = jax.random.split(key, 3)
    draw = _drawer(plan, model, x, given)
    _require_continuous(jax.eval_shape(draw, draw_key))
    positions = jax.vmap(draw)(jax.random.split(draw_key, plan.chains))
    step_size = _pilot(plan, pilot_key, draw, *_ends(plan, model, x, given))
    return AISState(jax.vmap(Annealed.start)(positions), step_size, jnp.zeros((), jnp.int32))


def ais_reverse(state: AISState, z: PyTree) -> AISState:
    """Return the state with every chain at the exact posterior draw `z`, for the way back."""
    chains = state.chains.total.shape[0]
    tiled = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (chains, *leaf.shape)), z)
    return AISState(jax.vmap(Annealed.start)(tiled), state.step_size, jnp.zeros((), jnp.int32))


def ais_advance(
    plan: Plan,
    model: Latent,
    state: AISState,
    key: PRNGKeyArray,
    x: Row,
    given: Given = None,
    *,
    upto: int | Int[Array, ""] | None = None,
    reverse: bool = False,
) -> AISState:
    """Go on to `upto` temperatures done (all by default), with the same key, row and plan as `ais_init`.

    `upto` may be traced: one executable serves every piece, and pieces equal the whole bit for bit.  `reverse` walks
    the path from its end, for a state from `ais_reverse`.
    """
    log_f0, log_f1 = _ends(plan, model, x, given)
    betas = sigmoid_schedule(plan.temperatures)
    stop = jnp.clip(plan.temperatures if upto is None else upto, state.done, plan.temperatures)

    def kernel(beta: Float[Array, ""]) -> Kernel:
        return hmc(geometric(log_f0, log_f1, beta), _size_at(state.step_size, beta), plan.leapfrog, JITTER)

    def lead(chain_key: PRNGKeyArray, chain: Annealed) -> Annealed:
        path = betas[::-1] if reverse else betas
        return anneal(chain_key, chain, geometric_ratio(log_f0, log_f1), kernel, path, state.done, stop)

    keys = jax.random.split(jax.random.split(key, 3)[2], plan.chains)
    return AISState(jax.vmap(lead)(keys, state.chains), state.step_size, jnp.asarray(stop, jnp.int32))


def ais_result(state: AISState, reverse: bool = False) -> tuple[Float[Array, ""], Info]:
    r"""Return the bound and what it was made of.

    The bound is :math:`\log\frac1k\sum_i w_i`, forwards; :math:`-\log\frac1k\sum_i 1/w_i`, backwards.  The info has
    ``log_weights`` (chains,) (of w, both ways), ``effective_sample_size``, ``variance`` (of the bound, by the delta
    method; backwards it leaves out that the chains share z) and ``acceptance``, the mean over temperatures and chains.
    """
    signed = state.chains.log_weight()
    mean = LogMean.start().add(signed)
    value = -mean.value() if reverse else mean.value()
    acceptance = state.chains.acceptance.mean() / jnp.maximum(state.done, 1)
    return value, {
        "log_weights": -signed if reverse else signed,
        "effective_sample_size": mean.effective_sample_size(),
        "variance": mean.variance(),
        "acceptance": acceptance,
    }


def ais_log_likelihood(
    model: Latent, key: PRNGKeyArray, x: Row, given: Given = None, **plan: Any
) -> tuple[Float[Array, ""], Info]:
    r"""Return a stochastic lower bound of :math:`\log p(x)` in nats, and the info of `ais_result`.

    Args:
        plan: the attributes of `Plan`: chains=16, temperatures=1000, leapfrog=10, start="prior", step_size=0.01,
            pilot=200.
    """
    settings = Plan(**plan)
    state = ais_init(settings, model, key, x, given)
    return ais_result(ais_advance(settings, model, state, key, x, given))


def reverse_log_likelihood(
    model: Latent, key: PRNGKeyArray, x: Row, z: PyTree, given: Given = None, **plan: Any
) -> tuple[Float[Array, ""], Info]:
    r"""Return a stochastic upper bound of :math:`\log p(x)`, for a pair (x, z) drawn together from the model."""
    settings = Plan(**plan)
    state = ais_reverse(ais_init(settings, model, key, x, given), z)
    return ais_result(ais_advance(settings, model, state, key, x, given, reverse=True), reverse=True)


def bdmc_gap(
    model: Latent, key: PRNGKeyArray, given: Given = None, n: int = 50, **plan: Any
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    r"""Simulate `n` rows and return their lower and upper bounds, forwards and backwards (shapes ``(n,)``).

    The mean of their difference bounds how far AIS with this plan falls short of :math:`\log p(x)` on data like the
    model's own; on real rows, where the posterior may be harder, it is a diagnosis and no guarantee.

    Args:
        given: what each row is conditioned on, rows in front.
    """
    settings = Plan(**plan)

    def both(row_key: PRNGKeyArray, own: Given) -> tuple[Float[Array, ""], Float[Array, ""]]:
        sample_key, forward_key, reverse_key = jax.random.split(row_key, 3)
        x, z = model.sample(sample_key, own)
        state = ais_init(settings, model, forward_key, x, own)
        there = ais_advance(settings, model, state, forward_key, x, own)
        # The pilot's step sizes depend on x alone, so they serve both ways.
        back = ais_advance(settings, model, ais_reverse(state, z), reverse_key, x, own, reverse=True)
        return ais_result(there)[0], ais_result(back, reverse=True)[0]

    return jax.vmap(both)(jax.random.split(key, n), given)


def _ends(plan: Plan, model: Latent, x: Row, given: Given) -> tuple[LogDensity, LogDensity]:
    log_f1: LogDensity = lambda z: model.log_p(x, z, given)  # noqa: E731
    if plan.start == "prior":
        return lambda z: model.log_prior(z, given), log_f1
    return lambda z: model.log_q(z, x, given), log_f1


def _drawer(plan: Plan, model: Latent, x: Row, given: Given) -> Callable[[PRNGKeyArray], PyTree]:
    if plan.start == "prior":
        return lambda key: model.draw_prior(key, given)
    return lambda key: model.infer(key, x, given)


def _pilot(
    plan: Plan, key: PRNGKeyArray, draw: Callable[[PRNGKeyArray], PyTree], log_f0: LogDensity, log_f1: LogDensity
) -> Float[Array, " P"]:
    """Walk the path with few chains that adapt their step, and return its geometric mean at each temperature."""
    if not plan.pilot:
        return jnp.full(1, plan.step_size)
    settle = plan.pilot // 4
    betas = jnp.concatenate([jnp.zeros(settle), jnp.asarray(sigmoid_schedule(plan.pilot), jnp.result_type(float))])

    def tuned(beta: Float[Array, ""]) -> Kernel:
        density = geometric(log_f0, log_f1, beta)
        return adaptive(lambda size: hmc(density, size, plan.leapfrog, JITTER), plan.step_size, factor=PILOT_FACTOR)

    def body(state: Any, at: tuple[Array, PRNGKeyArray]) -> tuple[Any, Array]:
        beta, step_key = at
        fresh = tuned(beta).init(state.position)
        state, _ = tuned(beta).step(step_key, state._replace(inner=fresh.inner))
        return state, jnp.log(state.step_size)

    def walk(chain_key: PRNGKeyArray) -> Float[Array, " P"]:
        draw_key, move_key = jax.random.split(chain_key)
        first = tuned(betas[0]).init(draw(draw_key))
        return jax.lax.scan(body, first, (betas, jax.random.split(move_key, betas.shape[0])))[1][settle:]

    return jnp.exp(jax.vmap(walk)(jax.random.split(key, min(plan.chains, PILOT_CHAINS))).mean(axis=0))


def _size_at(table: Float[Array, " P"], beta: Float[Array, ""]) -> Float[Array, ""]:
    if table.shape[0] == 1:
        return table[0]
    return jnp.interp(beta, jnp.asarray(sigmoid_schedule(table.shape[0] - 1), table.dtype), table)


def _require_continuous(z: PyTree) -> None:
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(z)):
        raise ReverieError("ais: Hamiltonian moves need continuous latents, this model's are discrete; use importance")
