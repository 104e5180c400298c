r"""Hidden units of a product of experts as words, and a mixture of topics to be set beside it.

A unit that is on multiplies every word's odds by :math:`e^{W_{kj}}`; units of a set S that are on together give
:math:`p(\text{word} = k) \propto e^{b_k + \sum_{j \in S} W_{kj}}`.  So several units that each favour a word a little
can make it very likely together, which a mixture, that averages, cannot.

Coherence of a unit is the mean normalised pointwise mutual information of pairs of its top words over documents,

.. math:: \frac{\log p(a, b) / p(a) p(b)}{-\log p(a, b)}, \quad -1 \text{ where no document has both.}

References: Salakhutdinov & Hinton 2009; Bouma, *Normalized (Pointwise) Mutual Information in Collocation Extraction*,
2009; Blei, Ng & Jordan, *Latent Dirichlet Allocation*, 2003; Hoffman, Blei & Bach 2010 (how it is fitted here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import digamma, gammaln, logsumexp

from reverie.errors import ReverieError, nearest
from reverie.estimate import Estimate

#: Units among which sets are searched.
AMONG = 30


@dataclass(frozen=True)
class Experts:
    """A product of experts over named words.

    Attributes:
        weights: of each unit, shape (F, K).
        biases: of the words, shape (K,).
        words: K names.
    """

    weights: Float[np.ndarray, "F K"]
    biases: Float[np.ndarray, " K"]
    words: Sequence[str]

    def log_law(self, units: Sequence[int] = ()) -> Float[np.ndarray, " K"]:
        """Return the words' log-probabilities where these units are on and no other."""
        field = np.asarray(self.biases, np.float64) + np.asarray(self.weights, np.float64)[list(units)].sum(axis=0)
        return field - logsumexp(field)

    def word(self, name: str) -> int:
        """Return the column of a word.

        Raises:
            ReverieError: naming the nearest.
        """
        if name not in self.words:
            raise ReverieError(f"raise: {name!r} is not a word of the model{nearest(name, self.words)}")
        return list(self.words).index(name)

    def check(self, units: Sequence[int]) -> None:
        """Refuse units that are not there, or twice."""
        for unit in units:
            if not 0 <= unit < len(self.weights):
                raise ReverieError(f"compose: there is no unit {unit}; units are 0 to {len(self.weights) - 1}")
        if len(set(units)) < len(units):
            raise ReverieError("compose: a unit is given twice; it is on once or not at all")

    def top(self, count: int) -> Int[np.ndarray, "F n"]:
        """Return the columns of each unit's largest weights, the largest first."""
        return np.argsort(-np.asarray(self.weights), axis=1, kind="stable")[:, :count]


def composed(experts: Experts, units: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Return the likeliest words where `units` are on together, with what each unit alone makes of them.

    Returns:
        Records ``word``, ``probability``, ``without`` (no unit on), ``alone`` (each unit's) and ``shift`` (nats).
    """
    experts.check(units)
    none, both = experts.log_law(), experts.log_law(units)
    each = [np.exp(experts.log_law([unit])) for unit in units]
    return [
        {
            "word": experts.words[k],
            "probability": float(np.exp(both[k])),
            "without": float(np.exp(none[k])),
            "alone": [float(p[k]) for p in each],
            "shift": float(both[k] - none[k]),
        }
        for k in np.argsort(-both, kind="stable")[:count].tolist()
    ]


def raised(experts: Experts, word: str, size: int = 3) -> dict[str, Any]:
    """Return which units together, `size` at most, make a word likeliest, among those that raise it most alone.

    Returns:
        ``word``, ``without`` (no unit on), ``units`` and ``probability``, ``alone`` (of those units), ``mixture``
        (their average, which is what a mixture would reach), and ``singles``, the units that raise it most alone.

    Raises:
        ReverieError: for a word the model does not know, or a size that makes no sense.
    """
    k = experts.word(word)
    if not 1 <= size <= len(experts.weights):
        raise ReverieError(f"units: {size} is no number of units to be on; give 1 to {len(experts.weights)}")
    every = np.asarray([experts.log_law([unit])[k] for unit in range(len(experts.weights))])
    order = np.argsort(-every, kind="stable")
    # Fewer where one more would take away.
    first = order[: max(AMONG, size)].tolist()
    sets = (units for n in range(1, size + 1) for units in combinations(first, n))
    best = max(sets, key=lambda units: experts.log_law(units)[k])
    alone = [float(np.exp(every[unit])) for unit in best]
    return {
        "word": word,
        "without": float(np.exp(experts.log_law()[k])),
        "units": [int(unit) for unit in best],
        "probability": float(np.exp(experts.log_law(best)[k])),
        "alone": alone,
        "mixture": float(np.mean(alone)),
        "singles": [{"unit": int(u), "probability": float(np.exp(every[u]))} for u in order[:5]],
    }


def coherence(rows: Float[np.ndarray, "n K"], tops: Int[np.ndarray, "F n"]) -> Float[np.ndarray, " F"]:
    """Return the mean NPMI of the pairs of each unit's top words over documents; NaN with fewer than two words."""
    there = np.asarray(rows) > 0
    found = []
    for top in tops:
        mine = there[:, top].astype(np.float64)
        both = mine.T @ mine / len(mine)
        first, second = np.triu_indices(len(top), 1)
        p, a, b = both[first, second], np.diag(both)[first], np.diag(both)[second]
        with np.errstate(divide="ignore", invalid="ignore"):
            npmi = np.where(p > 0, np.where(p < 1, np.log(p / (a * b)) / -np.log(p), 1.0), -1.0)
        found.append(npmi.mean() if npmi.size else np.nan)
    return np.asarray(found)


def lda(
    train: Float[np.ndarray, "n K"], test: Float[np.ndarray, "m K"], topics: int, *, seed: int = 0, passes: int = 10
) -> Estimate:
    r"""Return the perplexity of latent Dirichlet allocation, as that of the product of experts is scored.

    scikit-learn fits as many topics to the training documents by online variational Bayes.  With the topics at their
    posterior means :math:`\phi`, a document's words in their order have at least

    .. math:: \sum_k n_k \log \sum_t \phi_{tk} e^{\mathbb E_q \log\theta_t}
              + \mathbb E_q\log\frac{p(\theta)}{q(\theta)},

    so that the perplexity, the exponential of minus its mean over documents and a word, is an upper bound.
    """
    from sklearn.decomposition import LatentDirichletAllocation

    made = LatentDirichletAllocation(
        topics, learning_method="online", batch_size=256, max_iter=passes, random_state=seed, n_jobs=1
    ).fit(train)
    x, alpha = np.asarray(test, np.float64), made.doc_topic_prior_
    words = x.sum(axis=1)
    # Every pseudo-count of a posterior is a prior's or a word's.
    gamma = made.transform(x) * (alpha * topics + words)[:, None]
    phi = made.components_ / made.components_.sum(axis=1, keepdims=True)
    bound = _lda_bound(x, gamma, phi, alpha)
    per_word = bound / words
    value = float(np.exp(-per_word.mean()))
    return Estimate(
        value, value * float(per_word.std(ddof=1) / np.sqrt(len(words))), 0.0, len(words), "upper_bound",
        f"lda-{topics}", unit="perplexity", split="test", seed=seed,
        note=f"scikit-learn's online LDA, {passes} passes, topics at their means; a variational bound a document",
    )  # fmt: skip


def _lda_bound(
    x: Float[np.ndarray, "m K"], gamma: Float[np.ndarray, "m T"], phi: Float[np.ndarray, "T K"], alpha: float
) -> Float[np.ndarray, " m"]:
    topics, total = gamma.shape[1], gamma.sum(axis=1)
    log_theta = digamma(gamma) - digamma(total)[:, None]
    words = np.concatenate(
        [(a * np.log(np.exp(t) @ phi)).sum(axis=1) for a, t in zip(_blocks(x), _blocks(log_theta), strict=True)]
    )
    prior = gammaln(topics * alpha) - topics * gammaln(alpha) + (alpha - 1.0) * log_theta.sum(axis=1)
    own = gammaln(total) - gammaln(gamma).sum(axis=1) + ((gamma - 1.0) * log_theta).sum(axis=1)
    return words + prior - own


def _blocks(x: np.ndarray, size: int = 1000) -> list[np.ndarray]:
    return [x[i : i + size] for i in range(0, len(x), size)]
