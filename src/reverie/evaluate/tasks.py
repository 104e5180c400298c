r"""What a trained model can do and what its code is made of: units, codes, reconstructions, samples.

References: Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, 2016 (active units).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from reverie.errors import ReverieError, an
from reverie.estimate import Estimate
from reverie.evaluate.likelihood import importance
from reverie.evaluate.mapped import PerRow, over_rows

#: A unit is active when the variance of its posterior mean over rows is larger than this.
ACTIVE = 1e-2
Given = Float[np.ndarray, "n C"] | None


def activity(
    model: Any, rows: Float[np.ndarray, "n D"], *, samples: int = 1, seed: int = 0, given: Given = None
) -> list[Float[np.ndarray, " d"]]:
    r"""Return :math:`A_u = \mathrm{Var}_x\big(\mathbb E_{q(u \mid x)}[u]\big)` of each unit, layer by layer.

    The inner mean of the first layer is exact.  Above, it averages the mean of :math:`q(h^l \mid h^{l-1})` over
    `samples` draws of the layers below.  One draw is the authors' code, which counts the spread within a row too;
    with more, what that spread adds to the variance of the average is taken off, so that the result is unbiased.

    Args:
        model: has ``posterior(key, x, given) -> ((mean, scale), ...)``, a pair per layer.
        rows: some hundreds are enough, shape ``(n, D)``.
        samples: S.

    Raises:
        ReverieError: when the model shows no posterior, or for fewer than two rows.
    """
    _need(model, "posterior", "active units")
    if len(rows) < 2:
        raise ReverieError("rows: active units are a variance over rows; give 2 or more")
    if samples < 1:
        raise ReverieError(f"samples: {samples} is not a number of samples; give 1 or more")
    means = over_rows(_posterior_means(samples), model, rows, given, seed)
    found = []
    for mean, within in means:
        between = mean.var(axis=0, dtype=np.float64)
        surplus = within.mean(axis=0, dtype=np.float64) / samples if samples > 1 else 0.0
        found.append(np.maximum(between - surplus, 0.0))
    return found


@lru_cache
def _posterior_means(samples: int) -> PerRow:
    def means(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> list[tuple[Array, Array]]:
        drawn = jax.vmap(lambda k: [mean for mean, _ in model.posterior(k, x, given)])(jax.random.split(key, samples))
        return [(m.mean(axis=0), m.var(axis=0) * samples / max(samples - 1, 1)) for m in drawn]

    return means


def active(activities: list[Float[np.ndarray, " d"]], threshold: float = ACTIVE) -> list[int]:
    """Return how many units of each layer are active."""
    return [int((a > threshold).sum()) for a in activities]


def unit_kl(
    model: Any, rows: Float[np.ndarray, "n D"], *, seed: int = 0, given: Given = None
) -> list[Float[np.ndarray, " d"]]:
    r"""Return each unit's :math:`\mathbb E_x\,\mathrm{KL}(q(u \mid \cdot)\,\|\,p(u \mid \cdot))`, by layer, in nats.

    The top layer's prior is N(0, I).  A lower layer's is a network of the layer above: it needs
    ``prior(h, given) -> ((mean, scale), ...)``, one pair per layer, and one draw of all layers per row; layers whose
    prior the model does not show are empty arrays.

    Raises:
        ReverieError: when the model shows no posterior.
    """
    _need(model, "posterior", "the KL of units")
    return [a.mean(axis=0, dtype=np.float64) for a in over_rows(_kl, model, rows, given, seed)]


def _kl(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> list[Array]:
    # The same key draws the same h in both.
    q = model.posterior(key, x, given)
    if len(q) > 1 and hasattr(model, "prior"):
        p = model.prior(model.infer(key, x, given), given)
        return [_gaussian_kl(m, s, pm, ps) for (m, s), (pm, ps) in zip(q, p, strict=True)]
    mean, scale = q[-1]
    return [*(jnp.zeros(0) for _ in q[:-1]), _gaussian_kl(mean, scale, 0.0, 1.0)]


def _gaussian_kl(mean: Array, scale: Array, prior_mean: Array | float, prior_scale: Array | float) -> Array:
    ratio = (scale / prior_scale) ** 2
    return 0.5 * (ratio + ((mean - prior_mean) / prior_scale) ** 2 - 1.0 - jnp.log(ratio))


def deletion_check(
    model: Any,
    without: Callable[[Any, Bool[Array, " d"]], Any],
    rows: Float[np.ndarray, "n D"],
    *,
    samples: int = 100,
    seed: int = 0,
    given: Given = None,
    threshold: float = ACTIVE,
) -> Estimate:
    r"""Return what deleting the inactive units of the first layer costs: mean of log p(x) before minus after.

    It should be within 0.1 nats of zero; else units that look inactive are not.

    Args:
        without: ``without(model, keep) -> model`` with only the units of the boolean array `keep`.
    """
    keep = activity(model, rows, seed=seed, given=given)[0] > threshold
    if not keep.any():
        raise ReverieError("units: none is active, and nothing is left when they are deleted; train longer or smaller")
    return fall(model, without(model, jnp.asarray(keep)), rows, samples=samples, seed=seed, given=given)


def fall(
    model: Any,
    other: Any,
    rows: Float[np.ndarray, "n D"],
    *,
    samples: int = 100,
    seed: int = 0,
    given: Given = None,
    before: np.ndarray | None = None,
) -> Estimate:
    """Return how much lower `other` scores the rows than `model`: the paired mean difference, in nats.

    Both use the same random numbers.  `before` are the values of `model`, where they are known already.
    """
    if before is None:
        before = importance(model, rows, samples=samples, seed=seed, given=given).values
    after = importance(other, rows, samples=samples, seed=seed, given=given).values
    return Estimate.of_rows(
        before - after, kind="estimate", estimator=f"paired-importance-{samples}", seed=seed,
        note="log-likelihood before minus after, on the same rows with the same random numbers",
    )  # fmt: skip


def reconstructions(
    model: Any, rows: Float[np.ndarray, "n D"], *, seed: int = 0, given: Given = None
) -> Float[np.ndarray, "n D"]:
    """Return E[x | h] at one draw of h given each row.

    Raises:
        ReverieError: when the model does not reconstruct.
    """
    _need(model, "reconstruct", "reconstructions")
    return np.asarray(over_rows(_reconstruct, model, rows, given, seed))


def _reconstruct(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> Array:
    return model.reconstruct(key, x, given)


def samples(
    model: Any, n: int, *, seed: int = 0, given: Given = None, start: int = 0
) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "n D"]]:
    """Return (E[x | h], x) of draws `start` to `start` + n from the model; draw i depends on (seed, i) alone.

    Raises:
        ReverieError: for no draw at all.
    """
    if n < 1:
        raise ReverieError(f"n: {n} is not a number of samples; give 1 or more")
    # A counter stands for the row: its "content" is the number of the draw.
    counters = np.arange(start, start + n, dtype=np.float32)[:, None]
    means, draws = over_rows(_sample, model, counters, given, seed)
    return means, draws


def _sample(model: Any, key: PRNGKeyArray, counter: Array, given: Array | None) -> tuple[Array, Array]:
    x, h = model.sample(key, given)
    return model.mean(h, given), x


def codes(
    model: Any, rows: Float[np.ndarray, "n D"], *, given: Given = None
) -> tuple[Float[np.ndarray, "n 2"], Literal["latent", "pca"]]:
    """Return two numbers a row to draw its code by: the code itself if it has two or one, else its principal axes.

    Raises:
        ReverieError: when the model does not encode.
    """
    found = encode(model, rows, given=given)
    if found.shape[1] == 1:
        found = np.concatenate([found, np.zeros_like(found)], axis=1)
    if found.shape[1] == 2:
        return found, "latent"
    if len(found) < 2:
        return np.zeros((1, 2)), "pca"
    from sklearn.decomposition import PCA

    return PCA(n_components=2, random_state=0).fit_transform(np.asarray(found, np.float64)), "pca"


def encode(model: Any, rows: Float[np.ndarray, "n D"], *, given: Given = None) -> Float[np.ndarray, "n d"]:
    """Return the code of each row.

    Raises:
        ReverieError: when the model does not encode.
    """
    _need(model, "encode", "codes")
    return np.asarray(over_rows(_encode, model, rows, given, fixed=True))


def _encode(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> Array:
    return model.encode(x, given)


def _need(model: Any, verb: str, what: str) -> None:
    if not callable(getattr(model, verb, None)):
        raise ReverieError(f"{what}: {an(type(model).__name__)} has no `{verb}`; leave them out for this model")
