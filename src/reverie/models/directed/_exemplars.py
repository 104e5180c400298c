r"""A mixture with a component for every training row, and how much of it is summed at a step.

.. math:: p(z) = \frac1n \sum_{j=1}^n \mathcal N\big(z; \mu_j, \mathrm{diag}\,\sigma_j^2\big), \qquad
          (\mu_j, \sigma_j) = \text{encoder}(x_j).

While the encoder learns, components move; a step can encode all rows again, or some.  With C those that are encoded
at the step (`candidates`) and M rows drawn from all, whose components are those of the last refresh:

=========  =============================================================================================
name       what stands for the sum
=========  =============================================================================================
exact      all n
subset     the row's own, and :math:`\frac{n-1}{|C'|}\sum_{j \in C'}` for all others, C the batch and rows drawn at
           random, C' without the row itself: unbiased for p(z), so below log p(z) in the mean
knn        :math:`\sum_{j \in C}`, C the batch and its nearest neighbours: below p(z) by the mass it misses
strat      :math:`\sum_{j \in C} + \frac nM \sum_{m : j_m \notin C}`: unbiased but for the age of the M components
=========  =============================================================================================

The logarithm of each is, in the mean, at most log p(z).

References: Kim, Kim & Hwang, *Generative Auto Encoder*, 2018 (slides); Norouzi, Fleet & Norouzi, *Exemplar VAE*, 2020.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from reverie.data.dataset import Prepare
from reverie.data.order import row_index
from reverie.train.draws import Feed
from reverie.train.recipe import Draw

Sum = Literal["exact", "subset", "knn", "strat"]
#: Rows encoded at once where all are.
BLOCK = 500


def log_normals(
    z: Float[Array, "... d"], means: Float[Array, "n d"], log_scales: Float[Array, "n d"]
) -> Float[Array, "... n"]:
    r"""Return :math:`\log \mathcal N(z; \mu_j, \mathrm{diag}\,\sigma_j^2)` of every component, as matrix products.

    Everything is moved to the components' mean first, so that what cancels in the squares is small.
    """
    centre = jax.lax.stop_gradient(means.mean(axis=0))
    z, means = z - centre, means - centre
    precision = jnp.exp(-2.0 * log_scales)
    square = (z**2) @ precision.T - 2.0 * (z @ (precision * means).T) + (precision * means**2).sum(axis=1)
    constant = log_scales.sum(axis=1) + 0.5 * z.shape[-1] * math.log(2.0 * math.pi)
    return -0.5 * jnp.maximum(square, 0.0) - constant


def log_normal(
    z: Float[Array, "... d"], mean: Float[Array, "... d"], log_scale: Float[Array, "... d"]
) -> Float[Array, "..."]:
    r"""Return :math:`\log \mathcal N(z; \mu, \mathrm{diag}\,\sigma^2)` along the last axis."""
    cells = ((z - mean) * jnp.exp(-log_scale)) ** 2 + 2.0 * log_scale + math.log(2.0 * math.pi)
    return -0.5 * cells.sum(axis=-1)


class Near(NamedTuple):
    r"""What a search among components needs of them, found once for many searches.

    Attributes:
        means: of the components.
        metric: :math:`\Lambda`, their mean precision.
        squares: :math:`\mu_j^\top \Lambda \mu_j`.
    """

    means: Float[Array, "n d"]
    metric: Float[Array, " d"]
    squares: Float[Array, " n"]

    @staticmethod
    def of(means: Float[Array, "n d"], log_scales: Float[Array, "n d"]) -> Near:
        metric = jnp.exp(-2.0 * log_scales).mean(axis=0)
        return Near(means, metric, (means**2) @ metric)

    def distances(self, code: Float[Array, "B d"]) -> Float[Array, "B n"]:
        r"""Return :math:`(\mu_j - c)^\top \Lambda (\mu_j - c)` but for a constant of each c."""
        return self.squares - 2.0 * (code * self.metric) @ self.means.T


class Exemplars(eqx.Module):
    """The mixture as it is kept with the model: components of all training rows, by the weights it was closed with."""

    means: Float[Array, "n d"]
    log_scales: Float[Array, "n d"]

    @property
    def size(self) -> int:
        return int(self.means.shape[0])

    def log_components(self, z: Float[Array, " d"]) -> Float[Array, " n"]:
        return log_normals(z, self.means, self.log_scales)

    def log_prob(self, z: Float[Array, " d"], without: Int[Array, ""] | None = None) -> Float[Array, ""]:
        """Return log p(z), the component of row `without` left out if one is named."""
        each, count = self.log_components(z), self.size
        if without is not None:
            each, count = jnp.where(jnp.arange(count) == without, -jnp.inf, each), count - 1
        return jax.nn.logsumexp(each) - math.log(count)

    def draw(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """Draw a row, and z of its component."""
        first, second = jax.random.split(key)
        row = jax.random.randint(first, (), 0, self.size)
        return self.means[row] + jnp.exp(self.log_scales[row]) * jax.random.normal(second, self.means.shape[1:])

    def nearest(self, code: Float[Array, " d"], count: int) -> Int[Array, " K"]:
        """Return the rows whose means lie nearest to a code."""
        far = Near.of(self.means, self.log_scales).distances(code[None])[0]
        return jax.lax.top_k(-far, min(count, self.size))[1]


class Candidates(eqx.Module):
    """The components that are encoded at a step.

    Attributes:
        index: rows they belong to, and `once`: False where a row stands there a second time.
        means, log_scales: of the components.
    """

    index: Int[Array, " C"]
    once: Bool[Array, " C"]
    means: Float[Array, "C d"]
    log_scales: Float[Array, "C d"]

    def nearest(
        self, code: Float[Array, "B d"], own: Int[Array, " B"], count: int
    ) -> tuple[Float[Array, "B K d"], Float[Array, "B K d"]]:
        """Return means and scales of the components nearest to each code, those of the row itself left out."""
        still = jax.lax.stop_gradient
        far = Near.of(still(self.means), still(self.log_scales)).distances(still(code))
        mine = own[:, None] == self.index[None, :]
        chosen = jax.lax.top_k(-jnp.where(mine | ~self.once[None, :], jnp.inf, far), count)[1]
        return self.means[chosen], self.log_scales[chosen]


def once(index: Int[Array, " C"]) -> Bool[Array, " C"]:
    """Return True where a number stands for the first time."""
    order = jnp.argsort(index, stable=True)
    placed = index[order]
    first = jnp.concatenate([jnp.ones(1, bool), placed[1:] != placed[:-1]])
    return jnp.zeros(index.shape, bool).at[order].set(first)


def log_mixture(
    how: Sum,
    z: Float[Array, "S B d"],
    own: Int[Array, " B"],
    candidates: Candidates,
    size: int,
    left_out: bool,
    tail: tuple[Int[Array, " M"], Float[Array, "M d"], Float[Array, "M d"]] | None = None,
) -> Float[Array, "S B"]:
    r"""Return the logarithm of what stands for p(z) at a step; see the module's page.

    Args:
        own: the rows of the batch, of which each one's component is `left_out` of its mixture or not.
        size: n.
        tail: rows drawn from all, and their components (``strat``).
    """
    each = log_normals(z, candidates.means, candidates.log_scales)
    mine = own[:, None] == candidates.index[None, :]
    kept = candidates.once[None, :] & ~(mine & (left_out or how == "subset"))
    total = jax.nn.logsumexp(jnp.where(kept, each, -jnp.inf), axis=-1)
    if how == "subset":
        total += math.log(size - 1) - jnp.log(kept.sum(axis=-1))
        if not left_out:
            total = jnp.logaddexp(total, jnp.where(mine, each, -jnp.inf).max(axis=-1))
    if how == "strat":
        assert tail is not None
        rows, means, log_scales = tail
        new = ~jnp.isin(rows, candidates.index)
        rest = jnp.where(new, log_normals(z, means, log_scales), -jnp.inf)
        total = jnp.logaddexp(total, jax.nn.logsumexp(rest, axis=-1) + math.log(size / len(rows)))
    return total - math.log(size - left_out)


def encoded(model: Any, rows: Float[Array, "C D"]) -> tuple[Float[Array, "C d"], Float[Array, "C d"]]:
    """Return the components of rows."""
    return jax.vmap(model.component)(rows)


def kept(means: Float[Array, "n d"], log_scales: Float[Array, "n d"]) -> dict[str, Array]:
    """Return the components of all rows as steps carry them, with what their searches need."""
    near = Near.of(means, log_scales)
    return {"means": means, "log_scales": log_scales, "metric": near.metric, "squares": near.squares}


def refresher(prepare: Prepare) -> Any:
    """Return ``refresh(model, feed, carry, key)``: the components of all rows by the present weights."""

    def refresh(model: Any, feed: Feed, carry: Any, key: PRNGKeyArray) -> Any:
        n = feed.source.size
        blocks = -(-n // BLOCK)
        # The last block repeats the last row; what is past n is cut off below.
        index = jnp.minimum(jnp.arange(blocks * BLOCK), n - 1).reshape(blocks, BLOCK)

        def one(at: tuple[Array, Array]) -> Any:
            number, rows = at
            return encoded(model, prepare(jax.random.fold_in(key, number), feed.source.take(rows)[0]))

        means, log_scales = jax.lax.map(one, (jnp.arange(blocks), index))
        return kept(means.reshape(-1, means.shape[-1])[:n], log_scales.reshape(-1, means.shape[-1])[:n])

    return refresh


def drawn(prepare: Prepare, how: Sum, batch: int, size: int, neighbours: int, count: int) -> Draw:
    """Return the draw of a batch with its candidates: ``x``, ``index``, ``candidates``, ``rows``, ``tail``.

    Args:
        how: see the module's page.
        batch: rows per step.
        size: n.
        neighbours: of each row, among the candidates (``knn``, ``strat``).
        count: rows drawn from all (``subset``, ``strat``).
    """

    def draw(key: PRNGKeyArray, step: Array, feed: Feed, model: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        first, second, third = jax.random.split(key, 3)
        stored, _, index = feed.rows(step, batch)
        tail = None
        if how == "exact":
            chosen = jnp.arange(size)
        elif how == "subset":
            # Rows of a permutation, as numbers drawn without putting them back would need all rows sorted.
            some = row_index(jax.random.bits(third), 0, jnp.arange(count), size)
            chosen = jnp.concatenate([index, some])
        else:
            search = Near(carry["means"], carry["metric"], carry["squares"])
            far = search.distances(carry["means"][index])
            near = jax.lax.top_k(-far, neighbours + 1)[1]
            chosen = jnp.concatenate([index, near.ravel()])
        if how == "strat":
            some = jax.random.randint(third, (count,), 0, size)
            tail = (some, carry["means"][some], carry["log_scales"][some])
        # The batch's own rows come first in the others: they are encoded anyway.
        more = chosen if how == "exact" else chosen[batch:]
        rows = prepare(second, feed.source.take(more)[0])
        found = {"x": prepare(first, stored), "index": index, "candidates": chosen, "rows": rows, "tail": tail}
        return found, carry

    return draw
