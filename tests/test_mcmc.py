"""Hamiltonian Monte Carlo against exact draws, an independent leapfrog, BlackJAX and its own mutants.

Stochastic checks start many chains at exact draws of the target and ask whether 20 transitions leave its moments
alone, at 4 standard errors; seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.prob import mcmc
from reverie.prob.mcmc import Phase, adaptive, hmc, leapfrog

CHAINS = 20_000


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def normal(z: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(z**2)


def banana(z: jax.Array) -> jax.Array:
    return -0.5 * z[0] ** 2 - 0.5 * ((z[1] - z[0] ** 2 + 1.0) / 0.7) ** 2


def draw_normal(key: jax.Array) -> jax.Array:
    return jax.random.normal(key, (CHAINS, 2))


def draw_banana(key: jax.Array) -> jax.Array:
    a, b = jax.random.normal(key, (2, CHAINS))
    return jnp.stack([a, a**2 - 1.0 + 0.7 * b], axis=1)


# name: log-density, exact draws, step size, and the exact means of z0, z1, z0^2, z1^2, z0 z1, z0^2 z1.
TARGETS = {
    "normal": (normal, draw_normal, 0.9, (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)),
    "banana": (banana, draw_banana, 0.5, (0.0, 0.0, 1.0, 2.49, 0.0, 2.0)),
}


def worst_moment(name: str, jitter: float = 0.0) -> tuple[float, float]:
    """Return the largest |z-score| of the six moments after 20 transitions, and the mean acceptance."""
    log_density, draw, size, exact = TARGETS[name]
    kernel = hmc(log_density, size, 4, jitter)

    @jax.vmap
    def chain(key: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        state, infos = jax.lax.scan(lambda s, k: kernel.step(k, s), kernel.init(z), jax.random.split(key, 20))
        return state.position, infos.acceptance.mean()

    first, second = jax.random.split(jax.random.key(1))
    end, acceptance = jax.jit(chain)(jax.random.split(first, CHAINS), draw(second))
    a, b = np.asarray(end).T
    moments = np.stack([a, b, a * a, b * b, a * b, a * a * b])
    scores = (moments.mean(1) - np.array(exact)) / (moments.std(1, ddof=1) / CHAINS**0.5)
    return float(np.abs(scores).max()), float(acceptance.mean())


# Six moments at 4 sigma: false alarm 4e-4 a case.
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_hmc_leaves_its_target_invariant(name: str, jitter: float) -> None:
    score, acceptance = worst_moment(name, jitter)
    assert score < 4.0
    assert 0.5 < acceptance < 0.97, "a test that never refuses would not see a missing correction"


def test_without_the_metropolis_correction_the_moments_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phase, "energy", lambda self: jnp.zeros(()))
    assert worst_moment("normal")[0] > 10.0


def test_half_a_kick_too_many_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpaired(field: Callable, phase: Phase, size: float, steps: int) -> Phase:
        end = leapfrog(field, phase, size, steps)
        return end._replace(momentum=end.momentum + 0.5 * size * end.gradient)

    monkeypatch.setattr(mcmc, "leapfrog", unpaired)
    assert worst_moment("normal")[0] > 10.0


# E[exp(H - H')] = 1 over the target holds only if the map keeps volume and the energies are right.  Steps are small
# enough that the ratio has a variance.  One mean at 4 sigma: false alarm 6e-5 a case.
@pytest.mark.parametrize(("name", "size"), [("normal", 0.9), ("banana", 0.15)])
def test_the_energy_error_satisfies_creutz_equality(name: str, size: float) -> None:
    log_density, draw, _, _ = TARGETS[name]
    kernel = hmc(log_density, size, 4)
    z = draw(jax.random.key(2))
    keys = jax.random.split(jax.random.key(3), CHAINS)
    infos = jax.jit(jax.vmap(lambda k, z: kernel.step(k, kernel.init(z))[1]))(keys, z)
    ratio = np.exp(-np.asarray(infos.energy_error))
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / CHAINS**0.5
    assert ratio.std() > 0.05
    np.testing.assert_allclose(infos.acceptance, np.minimum(ratio, 1.0), rtol=1e-12)


def banana_phase() -> tuple[Callable, Phase]:
    z, v = jnp.array([0.4, -1.3]), jnp.array([0.8, 0.5])
    return jax.value_and_grad(banana), Phase(z, v, *jax.value_and_grad(banana)(z))


def test_leapfrog_equals_an_independent_one() -> None:
    field, phase = banana_phase()
    z, v, size = np.array(phase.position), np.array(phase.momentum), 0.07

    def force(z: np.ndarray) -> np.ndarray:
        slope = (z[1] - z[0] ** 2 + 1.0) / 0.49
        return np.array([-z[0] + 2.0 * z[0] * slope, -slope])

    for _ in range(25):
        v = v + size / 2 * force(z)
        z = z + size * v
        v = v + size / 2 * force(z)
    end = leapfrog(field, phase, size, 25)
    np.testing.assert_allclose(end.position, z, rtol=1e-12)
    np.testing.assert_allclose(end.momentum, v, rtol=1e-12)
    np.testing.assert_allclose(end.log_density, banana(jnp.asarray(z)), rtol=1e-12)
    np.testing.assert_allclose(end.gradient, force(z), rtol=1e-11)


def test_leapfrog_turns_back_on_itself_and_keeps_volume() -> None:
    field, phase = banana_phase()
    end = leapfrog(field, phase, 0.1, 50)
    back = leapfrog(field, end._replace(momentum=-end.momentum), 0.1, 50)
    assert np.abs(end.position - phase.position).max() > 0.1
    np.testing.assert_allclose(back.position, phase.position, atol=1e-10)
    np.testing.assert_allclose(back.momentum, -phase.momentum, atol=1e-10)

    def flow(zv: jax.Array) -> jax.Array:
        start = Phase(zv[:2], zv[2:], *field(zv[:2]))
        out = leapfrog(field, start, 0.1, 20)
        return jnp.concatenate([out.position, out.momentum])

    jacobian = jax.jacfwd(flow)(jnp.concatenate([phase.position, phase.momentum]))
    assert abs(np.linalg.det(jacobian) - 1.0) < 1e-10


def test_a_trajectory_equals_blackjax() -> None:
    pytest.importorskip("blackjax")
    from blackjax.mcmc import hmc as oracle
    from blackjax.mcmc import integrators, metrics

    field, phase = banana_phase()
    metric = metrics.default_metric(jnp.ones(2))
    verlet = integrators.velocity_verlet(banana, metric.kinetic_energy)
    state = integrators.new_integrator_state(banana, phase.position, phase.momentum)
    for _ in range(10):
        state = verlet(state, 0.2)
    end = leapfrog(field, phase, 0.2, 10)
    np.testing.assert_allclose(end.position, state.position, rtol=1e-12)
    np.testing.assert_allclose(end.momentum, state.momentum, rtol=1e-12)
    energy = oracle.hmc_energy(metric.kinetic_energy)
    np.testing.assert_allclose(end.energy(), energy(state), rtol=1e-12)


def test_positions_are_any_pytree() -> None:
    def tree_density(z: tuple[jax.Array, dict[str, jax.Array]]) -> jax.Array:
        return banana(jnp.stack([z[0], z[1]["b"][0]]))

    key = jax.random.key(4)
    tree, flat = hmc(tree_density, 0.3, 5), hmc(banana, 0.3, 5)
    a, info = tree.step(key, tree.init((jnp.array(0.3), {"b": jnp.array([0.1])})))
    b, same = flat.step(key, flat.init(jnp.array([0.3, 0.1])))
    assert info.accepted
    np.testing.assert_allclose([a.position[0], a.position[1]["b"][0]], b.position, rtol=1e-12)
    np.testing.assert_allclose(info.energy_error, same.energy_error, rtol=1e-12)


def test_a_state_carries_the_density_and_gradient_of_where_it_is() -> None:
    kernel = hmc(banana, 0.8, 4)
    state, seen = kernel.init(jnp.array([0.5, 0.5])), set()
    for t in range(30):
        state, info = kernel.step(jax.random.key(t), state)
        seen.add(bool(info.accepted))
        fresh = kernel.init(state.position)
        np.testing.assert_allclose(state.log_density, fresh.log_density, rtol=1e-12)
        np.testing.assert_allclose(state.gradient, fresh.gradient, rtol=1e-12)
    assert seen == {True, False}


def test_a_trajectory_into_nothing_is_refused() -> None:
    kernel = hmc(lambda z: jnp.where(z[0] > 0, -z[0], jnp.nan), 2.0, 3)
    start = kernel.init(jnp.array([1.0]))
    ends = [kernel.step(jax.random.key(t), start) for t in range(8)]
    refused = [(s, i) for s, i in ends if not np.isfinite(i.energy_error)]
    assert refused
    for state, info in refused:
        assert not info.accepted
        assert info.acceptance == 0.0
        np.testing.assert_array_equal(state.position, start.position)


@pytest.mark.parametrize(("steps", "jitter", "word"), [(0, 0.0, "leapfrog"), (3, 1.0, "jitter"), (3, -0.1, "jitter")])
def test_senseless_arguments_are_named(steps: int, jitter: float, word: str) -> None:
    with pytest.raises(ReverieError, match=word):
        hmc(normal, 0.1, steps, jitter)


def test_the_step_follows_the_papers_rule() -> None:
    kernel = adaptive(lambda size: hmc(normal, size, 3), 0.01)
    state = kernel.init(jnp.ones(2))
    state, info = kernel.step(jax.random.key(0), state)
    assert info.accepted
    np.testing.assert_allclose([state.step_size, state.average], [0.01 * 1.02, 0.9 * 0.65 + 0.1], rtol=1e-12)
    bad = adaptive(lambda size: hmc(normal, size, 3), 1e6)
    state, info = bad.step(jax.random.key(0), bad.init(jnp.ones(2)))
    assert not info.accepted
    np.testing.assert_allclose([state.step_size, state.average], [1e6 * 0.98, 0.9 * 0.65], rtol=1e-12)
    np.testing.assert_array_equal(state.position, np.ones(2))


@pytest.mark.parametrize("first", [0.01, 10.0])
def test_adaptation_reaches_its_target(first: float) -> None:
    # 64 chains x 500 steps: the mean acceptance's own error is below 0.005; 0.05 off is the rule, not chance.
    kernel = adaptive(lambda size: hmc(normal, size, 5, 0.2), first)

    def chain(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 1000)
        infos = jax.lax.scan(lambda s, k: kernel.step(k, s), kernel.init(jnp.zeros(20)), keys)[1]
        return infos.accepted[500:].mean()

    rate = float(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(5), 64)).mean())
    assert abs(rate - 0.65) < 0.05
