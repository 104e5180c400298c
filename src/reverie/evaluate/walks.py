r"""Walks through a code: what a model makes of codes that no row has, and where its prior's draws lie.

A code is what `encode` gives, of a model with several stochastic layers its top one; of a generator that does not
encode, the noise that it hears.

References: Kim, Kim & Hwang, *Generative Auto Encoder*, slides, 2018 (density of the prior beside codes by class).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.evaluate.mapped import over_rows
from reverie.evaluate.tasks import Given, encode
from reverie.prob.abilities import Decodes, Encodes
from reverie.prob.contracts import Implicit, Latent

#: Draws of the prior, as many as the slides' density is of.
DRAWS = 1000
#: Units walked along, rows of a walk, and pairs walked between.
UNITS, STEPS, PAIRS = 8, 9, 6
#: Standard deviations to either side.
_REACH = 2.0


def walkable(model: Any) -> bool:
    """Say whether codes of one's own choice can be decoded: a `Decodes`, or a latent that is one vector on top."""
    if isinstance(model, Decodes):
        return True
    if not isinstance(model, Latent | Implicit):
        return False
    classes = getattr(model, "classes", 0)
    h = _latent(model, jnp.zeros(classes) if classes else None)
    parts = h if isinstance(h, tuple) else (h,)
    vectors = all(getattr(part, "ndim", 0) == 1 for part in parts)
    return vectors and (len(parts) == 1 or callable(getattr(model, "prior", None)))


def prior_codes(model: Any, n: int = DRAWS, *, seed: int = 0, given: Given = None) -> Float[np.ndarray, "n d"]:
    """Return codes that the model's own prior draws; draw i depends on (seed, i) alone."""
    counters = np.arange(n, dtype=np.float32)[:, None]
    return np.asarray(over_rows(_prior_code, model, counters, given, seed))


def _prior_code(model: Any, key: PRNGKeyArray, counter: Array, given: Array | None) -> Array:
    h = model.draw_prior(key, given)
    if isinstance(h, tuple):
        return h[-1]
    return model.code_of(h, given) if isinstance(model, Decodes) and hasattr(model, "code_of") else h


def codes(model: Any, rows: Float[np.ndarray, "n D"], *, given: Given = None) -> Float[np.ndarray, "n d"]:
    """Return the code of each row, of several stochastic layers the top one's."""
    found = encode(model, rows, given=given)
    return found[:, -_width(model, given) :] if isinstance(model, Latent) else found


def drawn_codes(
    model: Any, rows: Float[np.ndarray, "n D"], *, seed: int = 0, given: Given = None
) -> Float[np.ndarray, "n d"]:
    """Return a draw of each row's code, for a model that shows the mean and scale of its law (`posterior`)."""
    return np.asarray(over_rows(_drawn_code, model, rows, given, seed))


def _drawn_code(model: Any, key: PRNGKeyArray, x: Array, given: Array | None) -> Array:
    below, own = jax.random.split(key)
    mean, scale = model.posterior(below, x, given)[-1]
    return mean + scale * jax.random.normal(own, mean.shape)


def decoded(model: Any, codes: Float[np.ndarray, "n d"], *, given: Given = None) -> Float[np.ndarray, "n D"]:
    """Return the mean of x at each code; layers below the top are at the means of their priors."""
    return np.asarray(over_rows(_decoded, model, np.asarray(codes, np.float32), given))


def _decoded(model: Any, key: PRNGKeyArray, code: Array, given: Array | None) -> Array:
    if isinstance(model, Decodes):
        return model.decode(code, given)
    h = _latent(model, given)
    if not isinstance(h, tuple):
        return model.mean(code, given)
    h = (*(jnp.zeros(part.shape, part.dtype) for part in h[:-1]), code)
    for layer in reversed(range(len(h) - 1)):
        mean, _ = model.prior(h, given)[layer]
        h = (*h[:layer], mean, *h[layer + 1 :])
    return model.mean(h, given)


def _latent(model: Any, given: Any) -> Any:
    """Return the shapes of the latent."""
    return jax.eval_shape(lambda key: model.draw_prior(key, given), jax.random.key(0))


def _width(model: Any, given: Given) -> int:
    h = _latent(model, None if given is None else jnp.asarray(given[0]))
    return (h[-1] if isinstance(h, tuple) else h).shape[0]


def along(
    codes: Float[np.ndarray, "n d"], *, units: int = UNITS, ranked: bool = True
) -> tuple[Float[np.ndarray, "u steps d"], Int[np.ndarray, " u"], int]:
    """Return codes along one unit at a time, which units these are, and the number of the code they go out from.

    That one is nearest to the mean, in standard deviations.  A unit goes from -2 to 2 standard deviations around its
    mean, no further than any of the codes; one that never varies is left out.

    Args:
        ranked: the units that vary most, rather than the first.
    """
    codes = np.asarray(codes, np.float64)
    mean, spread = codes.mean(axis=0), codes.std(axis=0)
    far = (codes - mean) / np.where(spread > 0, spread, 1.0)
    start = int(np.argmin((far**2).sum(axis=1)))
    order = np.argsort(-spread, kind="stable") if ranked else np.arange(len(spread))
    order = order[spread[order] > 1e-6][:units]
    low = np.maximum(mean - _REACH * spread, codes.min(axis=0))
    high = np.minimum(mean + _REACH * spread, codes.max(axis=0))
    walk = np.tile(codes[start], (len(order), STEPS, 1))
    for place, unit in enumerate(order):
        walk[place, :, unit] = np.linspace(low[unit], high[unit], STEPS)
    return walk, order, start


def pairs_of(labels: np.ndarray | None, n: int, *, alike: bool, pairs: int = PAIRS) -> Int[np.ndarray, "p 2"]:
    """Return numbers of rows to walk between, no row twice: of one class where `alike`, of two where there are any."""
    groups = np.zeros(n) if labels is None else np.asarray(labels)[:n]
    free = list(range(n))
    found: list[tuple[int, int]] = []
    while len(found) < pairs and len(free) > 1:
        first = free.pop(0)
        fit = [i for i in free if labels is None or (groups[i] == groups[first]) == alike]
        if fit:
            free.remove(fit[0])
            found.append((first, fit[0]))
    return np.asarray(found, int).reshape(-1, 2)


def between(codes: Float[np.ndarray, "n d"], pairs: Int[np.ndarray, "p 2"]) -> Float[np.ndarray, "p steps d"]:
    """Return codes along the straight line from the first to the second of each pair, the ends among them."""
    share = np.linspace(0.0, 1.0, STEPS)[:, None]
    first, second = (np.asarray(codes, np.float64)[pairs[:, end], None] for end in (0, 1))
    return (1.0 - share) * first + share * second


def look(
    model: Any, rows: Float[np.ndarray, "n D"], *, given: Given = None, labels: np.ndarray | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return what a report shows of the code.

    Returns:
        ``walks`` (u, steps, D), the means along each of ``units`` (u,), which go over ``reach`` (u, 2), and ``lines``
        (p, steps, D) along straight lines; ``ends`` (p, 2, D), the rows between whose codes these lie, where the
        model encodes (they lie between draws of the prior else).  Of a code of two numbers ``prior`` (1000, 2), where
        there is one; and where the model encodes ``points`` (n, 2) of the rows, and ``drawn``, whether these are draws
        rather than means.
    """
    own = isinstance(model, Encodes)
    told = given if given is None else np.resize(given, (DRAWS, given.shape[1]))
    prior = prior_codes(model, seed=seed, given=told) if hasattr(model, "draw_prior") else None
    if own or prior is None:
        here = codes(model, rows, given=given)
    else:
        here, given, labels = prior, told, None
    found: dict[str, np.ndarray] = {}
    walk, units, start = along(here, ranked=own)
    if len(units):
        found["walks"] = _means(model, walk, None if given is None else np.tile(given[start], (len(walk), 1)))
        reach = np.stack([walk[range(len(units)), end, units] for end in (0, -1)], axis=1)
        found |= {"units": units, "reach": reach}
    classes = labels if given is None else given.argmax(axis=1)
    pairs = pairs_of(classes, len(here), alike=given is not None)
    if len(pairs):
        found["lines"] = _means(model, between(here, pairs), None if given is None else given[pairs[:, 0]])
    if own and len(pairs):
        found["ends"] = rows[pairs]
    if here.shape[1] == 2 and prior is not None:
        found |= {"prior": prior, **(_points(model, rows, here, seed, given) if own else {})}
    return found


def _means(model: Any, walks: Float[np.ndarray, "w steps d"], given: Given) -> Float[np.ndarray, "w steps D"]:
    flat = walks.reshape(-1, walks.shape[-1])
    each = None if given is None else np.repeat(given, walks.shape[1], axis=0)
    return decoded(model, flat, given=each).reshape(*walks.shape[:2], -1)


def _points(model: Any, rows: np.ndarray, found: np.ndarray, seed: int, given: Given) -> dict[str, np.ndarray]:
    """Return where rows lie: draws of their codes, where these have a law that the model shows."""
    drawn = hasattr(model, "posterior")
    points = drawn_codes(model, rows, seed=seed, given=given) if drawn else found
    return {"points": points, "drawn": np.asarray(drawn)}
