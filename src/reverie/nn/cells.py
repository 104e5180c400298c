r"""The cells of a row as an autoregressive network meets them: what it sees of each, and the law that it says of each.

A cell is binary, a number (standardised) or one of L categories.  The network sees of it its value, or a category as
L indicators of which one is 1; and where cells may be missing, of a binary one or a number whether it is (of a missing
category no indicator is 1).  It says, as real outputs,

.. math::

    p(x = 1) = \sigma(a), \qquad
    p(x) = \sum_{c=1}^C \mathrm{softmax}(\alpha)_c\, \mathcal N(x; \mu_c, \sigma_c^2), \qquad
    p(x = l) = \mathrm{softmax}(a)_l,

of a number a mixture of C Gaussians in the log domain, with :math:`\log \sigma_c = \log s_0 + \mathrm{softplus}(r_c -
\log s_0)`: no component is narrower than `floor` :math:`s_0` standard deviations of its column.  Without that bound a
component would fall onto a value that repeats (whole numbers, a zero that stands for nothing) and its density would
grow without end.

Cells of one row have different numbers of features and outputs.  Weights have a row for each of them, one after the
other (`features`, `outputs`); where cells are gone through one by one, they are padded to the most that any has.

References: Uria, Murray & Larochelle, *RNADE: The real-valued neural autoregressive density-estimator*, NIPS 2013.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import ndtri

from reverie.errors import ReverieError
from reverie.nn.laws import Columns, base_logits, bernoulli_log_prob

#: Kinds of cells besides L > 0 categories: a number, a binary one, and one that is always the same and never seen.
NUMBER, BINARY, CONSTANT = 0, -1, -2
#: What a feature is besides the indicator of category l >= 0: the value, whether it is missing, nothing (padding).
_VALUE, _FLAG, _NOTHING = -1, -2, -3
_LOG_2PI = float(np.log(2.0 * np.pi))


class Counted(Columns, Protocol):
    """What must be known of the data besides."""

    @property
    def column_levels(self) -> tuple[int, ...]: ...

    @property
    def level_counts(self) -> np.ndarray: ...

    @property
    def constant(self) -> np.ndarray: ...

    @property
    def missing(self) -> bool: ...

    @property
    def whole(self) -> bool: ...


class _Layout(NamedTuple):
    """Where features and outputs stand: flat, `cell` and `role` of each feature; padded, rows (D, most) of each cell.

    `roles` (D, most) are those of padded features, `says` the cell of each output.
    """

    cell: np.ndarray
    role: np.ndarray
    rows: np.ndarray
    roles: np.ndarray
    says: np.ndarray
    spread: np.ndarray


@lru_cache(maxsize=64)
def _layout(kinds: tuple[int, ...], components: int, flagged: bool) -> _Layout:
    flag = [_FLAG] * flagged
    roles = [[] if k == CONSTANT else list(range(k)) if k > 0 else [_VALUE, *flag] for k in kinds]
    counts = [{NUMBER: 3 * components, BINARY: 1, CONSTANT: 0}.get(k, k) for k in kinds]
    padded = np.full((len(kinds), max(map(len, roles))), _NOTHING)
    for column, own in enumerate(roles):
        padded[column, : len(own)] = own
    places = np.arange(len(kinds))
    found = (
        np.repeat(places, [len(own) for own in roles]), list(chain(*roles)), _numbered([len(own) for own in roles]),
        padded, np.repeat(places, counts), _numbered(counts),
    )  # fmt: skip
    # Of 32 bits whatever the process computes in.
    return _Layout(*(np.asarray(part, np.int32) for part in found))


def _numbered(counts: list[int]) -> np.ndarray:
    """Return the places of each cell's items where they stand one after the other, padded with 0."""
    inside = np.arange(max(counts))
    starts = np.cumsum([0, *counts])[:-1, None]
    return np.where(inside < np.asarray(counts)[:, None], starts + inside, 0)


@dataclass(frozen=True)
class Cells:
    """The kinds of a row's cells, and with it the forms of weights and laws; see the module's page.

    Attributes:
        kinds: of each cell L > 0 categories, `NUMBER`, `BINARY` or `CONSTANT`.
        components: C, Gaussians of a number's mixture.
        floor: their least standard deviation, in standard deviations of the column.
        flagged: whether a network is shown which binary cells and numbers are missing.
    """

    kinds: tuple[int, ...]
    components: int = 1
    floor: float = 0.01
    flagged: bool = False

    @staticmethod
    def binary(width: int) -> Cells:
        return Cells((BINARY,) * width)

    @staticmethod
    def of(data: Counted, components: int, floor: float, *, flagged: bool | None = None) -> Cells:
        """Return the cells of a data set; `flagged` unless told otherwise where rows lack some.

        Raises:
            ReverieError: for numbers that make no sense, or word counts.
        """
        if components < 1:
            raise ReverieError(f"components: {components} is not a number of Gaussians; give 1 or more")
        if not 0 < floor < 1:
            raise ReverieError(f"floor: {floor} is not between 0 and 1 standard deviation of a column")
        if data.likelihood == "counts":
            raise ReverieError(
                "likelihood: word counts have no order in which to say them; use replicated-softmax, or give "
                "--likelihood bernoulli to model which words occur"
            )
        plain = BINARY if data.likelihood == "bernoulli" else NUMBER
        kinds = [CONSTANT if never else levels or plain
                 for never, levels in zip(data.constant, data.column_levels, strict=True)]  # fmt: skip
        lacking = data.missing and not data.whole if flagged is None else flagged
        return Cells(tuple(kinds), components, floor, lacking)

    @property
    def width(self) -> int:
        """D."""
        return len(self.kinds)

    @property
    def layout(self) -> _Layout:
        return _layout(self.kinds, self.components, self.flagged)

    @property
    def features(self) -> int:
        """How many numbers a network sees of a row."""
        return len(self.layout.cell)

    @property
    def outputs(self) -> int:
        """How many numbers a network says of a row."""
        return len(self.layout.says)

    @property
    def _plain(self) -> bool:
        return not self.flagged and all(kind == BINARY for kind in self.kinds)

    def seen(self, x: Float[Array, "*B D"]) -> Float[Array, "*B F"]:
        """Return what a network sees of rows; of a missing cell (NaN) nothing but that it is."""
        return _known(x) if self._plain else _features(x[..., self.layout.cell], jnp.asarray(self.layout.role))

    def seen_of(self, x: Float[Array, "*B"], cell: Int[Array, "..."]) -> Float[Array, "*B _"]:
        """Return what a network sees of single cells, padded with noughts."""
        return _known(x)[..., None] if self._plain else _features(x[..., None], jnp.asarray(self.layout.roles)[cell])

    def rows_of(self, weight: Float[Array, "F H"], cell: Int[Array, "..."]) -> Float[Array, "... _ H"]:
        """Return the rows of a weight that meet `seen_of`."""
        return weight[jnp.asarray(self.layout.rows)[cell]]

    def strongest(self, weight: Float[Array, "F H"]) -> Float[Array, "D H"]:
        """Return the weight of each cell's value, of categories that of the one that counts most."""
        mine = jnp.asarray(self.layout.roles >= _VALUE)[..., None]
        found = jnp.where(mine, self.rows_of(weight, jnp.arange(self.width)), 0.0)
        return jnp.take_along_axis(found, jnp.abs(found).argmax(axis=1, keepdims=True), axis=1)[:, 0]

    def spread(self, said: Float[Array, "*B P"]) -> Float[Array, "*B D _"]:
        """Return a network's outputs cell by cell; what pads them means nothing, and the laws leave it out."""
        return said[..., None] if self._plain else said[..., self.layout.spread]

    def spread_of(self, said: Float[Array, "_ ..."], cell: Int[Array, "..."]) -> Float[Array, "..."]:
        """Return the outputs (or their rows of a weight) of single cells."""
        return said[jnp.asarray(self.layout.spread)[cell]]

    def log_prob(
        self, said: Float[Array, "*B most"], x: Float[Array, "*B"], cell: Int[Array, "..."] | None = None
    ) -> Float[Array, "*B"]:
        """Return the log-law of cells, all of a row in their places or those numbered `cell`; 0 for missing ones."""
        kinds = self._kinds(cell)
        there = ~jnp.isnan(x) & (kinds != CONSTANT)
        value = jnp.where(there, x, 0.0)
        found = jnp.zeros_like(value)
        if BINARY in self.kinds:
            found = bernoulli_log_prob(value, said[..., 0])
        if NUMBER in self.kinds:
            found = jnp.where(kinds == NUMBER, self._log_density(said, value), found)
        if max(self.kinds) > 0:
            places = jnp.where(kinds > 0, value, 0.0).astype(jnp.int32)
            log_p = jax.nn.log_softmax(_within(said, kinds))
            found = jnp.where(kinds > 0, jnp.take_along_axis(log_p, places[..., None], axis=-1)[..., 0], found)
        return jnp.where(there, found, 0.0)

    def mean(self, said: Float[Array, "*B most"], cell: Int[Array, "..."] | None = None) -> Float[Array, "*B"]:
        """Return the mean of cells, of categories the most probable one."""
        kinds = self._kinds(cell)
        found = jnp.zeros(said.shape[:-1], said.dtype)
        if BINARY in self.kinds:
            found = jnp.where(kinds == BINARY, jax.nn.sigmoid(said[..., 0]), found)
        if NUMBER in self.kinds:
            share, centre, _ = self._mixture(said)
            found = jnp.where(kinds == NUMBER, (jax.nn.softmax(share) * centre).sum(-1), found)
        if max(self.kinds) > 0:
            found = jnp.where(kinds > 0, _within(said, kinds).argmax(-1).astype(said.dtype), found)
        return found

    def draw(self, key: PRNGKeyArray, said: Float[Array, " most"], cell: Int[Array, ""]) -> Float[Array, ""]:
        """Draw one cell."""
        if self._plain:
            return jax.random.bernoulli(key, jax.nn.sigmoid(said[0])).astype(said.dtype)
        kind, found = self._kinds(cell), jnp.zeros((), said.dtype)
        which, where = jax.random.split(key)
        if BINARY in self.kinds:
            coin = jax.random.bernoulli(which, jax.nn.sigmoid(said[0]))
            found = jnp.where(kind == BINARY, coin, found)
        if NUMBER in self.kinds:
            share, centre, log_scale = self._mixture(said)
            one = jax.random.categorical(which, share)
            drawn = centre[one] + jnp.exp(log_scale[one]) * jax.random.normal(where, (), said.dtype)
            found = jnp.where(kind == NUMBER, drawn, found)
        if max(self.kinds) > 0:
            found = jnp.where(kind > 0, jax.random.categorical(which, _within(said, kind)), found)
        return found.astype(said.dtype)

    def base(self, data: Counted) -> Float[Array, " P"]:
        """Return outputs at which cells are independent columns: training means, normal laws, training frequencies."""
        logits, counts = base_logits(data.mean), data.level_counts
        parts = []
        for column, kind in enumerate(self.kinds):
            if kind == NUMBER:
                parts.append(self._normal())
            elif kind == BINARY:
                parts.append(logits[column : column + 1])
            elif kind > 0:
                own = counts[column, :kind] + 1.0
                parts.append(jnp.asarray(np.log(own / own.sum()), jnp.float32))
        return jnp.concatenate(parts)

    def _normal(self) -> Float[Array, " _"]:
        """Return a mixture spread over N(0, 1), with its mean and variance."""
        centre = ndtri((np.arange(self.components) + 0.5) / self.components)
        scale = np.sqrt(1.0 - centre.var())
        # The inverse of what keeps scales above the floor.
        raw = np.log(self.floor) + np.log(np.expm1(np.log(scale / self.floor)))
        parts = np.zeros(self.components), centre, np.full(self.components, raw)
        return jnp.asarray(np.concatenate(parts), jnp.float32)

    def _kinds(self, cell: Int[Array, "..."] | None) -> Int[Array, "..."]:
        kinds = jnp.asarray(self.kinds)
        return kinds if cell is None else kinds[cell]

    def _mixture(self, said: Float[Array, "*B most"]) -> tuple[Array, Array, Array]:
        """Return logits, means and log-scales of the components."""
        share, centre, raw = jnp.split(said[..., : 3 * self.components], 3, axis=-1)
        least = float(np.log(self.floor))
        return share, centre, least + jax.nn.softplus(raw - least)

    def _log_density(self, said: Float[Array, "*B most"], x: Float[Array, "*B"]) -> Float[Array, "*B"]:
        share, centre, log_scale = self._mixture(said)
        far = (x[..., None] - centre) * jnp.exp(-log_scale)
        return jax.nn.logsumexp(jax.nn.log_softmax(share) - 0.5 * (far**2 + _LOG_2PI) - log_scale, axis=-1)


def _known(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(jnp.isnan(x), 0.0, x)


def _features(x: Float[Array, "..."], role: Int[Array, "..."]) -> Float[Array, "..."]:
    there, value = ~jnp.isnan(x), _known(x)
    indicator = (role >= 0) & there & (value == role)
    rest = jnp.where(role == _FLAG, ~there, indicator)
    return jnp.where(role == _VALUE, value, rest.astype(value.dtype))


def _within(said: Float[Array, "*B most"], kinds: Any) -> Float[Array, "*B most"]:
    """Return the logits of a cell's categories, with a probability of nought for what pads them."""
    return jnp.where(jnp.arange(said.shape[-1]) < jnp.asarray(kinds)[..., None], said, -1e30)
