r"""Helmholtz machine: layers of binary units that generate, and others that recognise, taught by wake and sleep.

Sigmoid belief nets in both directions, of any depth, above x = h^0:

.. math::

    p(x, h) = p(h^L)\,\prod_{l=1}^{L} p(h^{l-1} \mid h^l), \qquad
    p(h^{l-1}_j = 1 \mid h^l) = \sigma\big(W^l_j h^l + b^l_j\big), \quad p(h^L_j = 1) = \sigma(b_j), \qquad
    q(h \mid x) = \prod_{l=1}^{L} q(h^l \mid h^{l-1}), \qquad
    q(h^l_j = 1 \mid h^{l-1}) = \sigma\big(R^l_j h^{l-1} + c^l_j\big),

:math:`p(x \mid h^1)` being the law of the data (Bernoulli, categorical or Gaussian columns).  Its binary units can be
drawn but not differentiated, so each way to learn scores draws that it holds fixed (`prob.score_surrogates`):

``wake-sleep``
    Wake: x goes up through q, and p ascends :math:`\log p(x, h)`, by the delta rule
    :math:`(h^{l-1} - \sigma(W^l h^l + b^l))\,h^{l\top}`.  Sleep: p dreams (x, h), and q ascends
    :math:`\log q(h \mid x)`.
``rws``
    Reweighted wake-sleep: k draws of q, weighed by :math:`\tilde w_i \propto p(x, h_i)/q(h_i \mid x)`, teach p and
    (wake) q; dreams teach q too (sleep).  The bias to :math:`\nabla \log p(x)` falls as 1/k.
``vimco``
    p and q ascend the same k-sample bound, each draw praised by what it added to it: no bias, more variance.

Draws are boolean by type: nothing can go back through them, and Hamiltonian moves (`evaluate --estimator ais`) are
refused.  The likelihood is told as importance sampling's lower bound, for which the papers take 100,000 samples.

Traps: wake and sleep need not descend one function, and early on dreams look like no data; q learns from dreams, which
have no missing cells.  Published numbers are of Larochelle & Murray's fixed binarisation of MNIST, about 2 nats apart
from pixels drawn afresh.

References: Hinton, Dayan, Frey & Neal, *The "Wake-Sleep" Algorithm for Unsupervised Neural Networks*, Science 1995;
Dayan, Hinton, Neal & Zemel, *The Helmholtz Machine*, 1995; Bornschein & Bengio, *Reweighted Wake-Sleep*, ICLR 2015;
Mnih & Rezende, *Variational Inference for Monte Carlo Objectives*, ICML 2016.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.models.directed._gaussian import Sight
from reverie.models.directed._training import directed_recipe
from reverie.nn.blocks import Linear
from reverie.nn.laws import Law, bernoulli_log_prob, expectation, log_prob, output_head
from reverie.nn.units import uniform
from reverie.prob.contracts import Given, Latent, Pass
from reverie.prob.score_surrogates import SCORED, QUpdates, rws
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

Units = tuple[Bool[Array, " _"], ...]

PAPER = Paper(
    title="The ``Wake-Sleep'' Algorithm for Unsupervised Neural Networks",
    authors="Geoffrey E. Hinton, Peter Dayan, Brendan J. Frey and Radford M. Neal",
    year=1995,
    venue="Science",
    bibtex="""@article{hinton1995wakesleep,
  title = {The ``Wake-Sleep'' Algorithm for Unsupervised Neural Networks},
  author = {Hinton, Geoffrey E. and Dayan, Peter and Frey, Brendan J. and Neal, Radford M.},
  journal = {Science},
  year = {1995},
  volume = {268},
  number = {5214},
  pages = {1158--1161}
}""",
)

PRESETS = {
    "fast": {"epochs": 50},
    "digits": {"latent": (100, 50), "batch": 50, "rate": 2e-2, "schedule": "steps", "epochs": 200},
}  # fmt: skip

TINY = {"latent": (16, 8), "k": 5, "batch": 20, "epochs": 30, "rate": 1e-2, "valid_samples": 10}

#: Layers of the deck's row, from the data upwards.
_DEEP = (400, 300, 200, 100, 10)


def _claim(column: str, data: str, published: float, cpu: dict[str, Any]) -> Claim:
    letters = data == "ocr-letters"
    few = {"estimator": "importance", "samples": 50, "rows": 200}
    return Claim(
        table="density", row="RWS-SBN", column=column, published=published, source="deck", kind="estimate", data=data,
        split_rule="file" if letters else None, binarisation="as-is",
        settings={"latent": _DEEP, "surrogate": "rws", "k": 5 if letters else 10, "batch": 100}, epochs=None,
        evaluation={"estimator": "importance", "samples": 100_000},
        budgets={
            "smoke": {"latent": (30, 10), "epochs": 0.2, "valid_samples": 5, "evaluation": few},
            "cpu": {**cpu, "evaluation": {"estimator": "importance", "samples": 1000}},
            "paper": {"epochs": 500, "valid_every": 5.0},
        },
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    _claim("mnist", "binarized-mnist", -85.48, {"epochs": 20, "k": 5, "valid_every": 2.0}),
    _claim("ocr-letters", "ocr-letters", -29.99, {"epochs": 50, "valid_every": 2.0}),
)


class Helmholtz(Latent):
    """P-net and Q-net over binary layers.

    Attributes:
        q: ``q[l]`` gives the logits of h^{l+1} from h^l (h^0 = x).
        p: ``p[l]`` gives the logits of h^{l+1} from h^{l+2}.
        data: gives the law of x from h^1.
        top: logits of h^L.
        sight: how q sees a row.
    """

    q: tuple[Linear, ...]
    p: tuple[Linear, ...]
    data: Any
    top: Float[Array, " H"]
    sight: Sight

    def infer(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Units:
        """Draw h^1 .. h^L upwards."""
        below, h = self.sight(x), []
        for net, own in zip(self.q, jax.random.split(key, len(self.q)), strict=True):
            h.append(_draw(own, net(below)))
            below = self._numbers(h[-1])
        return tuple(h)

    def log_q(self, h: Units, x: Float[Array, " D"], given: Given = None) -> Float[Array, ""]:
        belows = (self.sight(x), *(self._numbers(own) for own in h[:-1]))
        return sum((self._score(own, net(below)) for own, net, below in zip(h, self.q, belows, strict=True)),
                   start=jnp.zeros(()))  # fmt: skip

    def log_prior(self, h: Units, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(h^L) + \sum_l \log p(h^l \mid h^{l+1})`."""
        total = self._score(h[-1], self.top)
        for own, net, above in zip(h[:-1], self.p, h[1:], strict=True):
            total += self._score(own, net(self._numbers(above)))
        return total

    def log_p(self, x: Float[Array, " D"], h: Units, given: Given = None) -> Float[Array, ""]:
        return self.log_prior(h, given) + log_prob(self.law(h, given), x, self.sight.missing)

    def law(self, h: tuple[Array, ...], given: Given = None) -> Law:
        """Return p(x | h), the law of the data."""
        return self.data(self._numbers(h[0]))

    def mean(self, h: tuple[Array, ...], given: Given = None) -> Float[Array, " D"]:
        return expectation(self.law(h, given))

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> Units:
        """Draw h^L and the layers below it in turn."""
        keys = jax.random.split(key, len(self.q))
        h = [_draw(keys[0], self.top)]
        for net, own in zip(self.p[::-1], keys[1:], strict=True):
            h.insert(0, _draw(own, net(self._numbers(h[0]))))
        return tuple(h)

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Float[Array, " D"], Units]:
        first, second = jax.random.split(key)
        h = self.draw_prior(first, given)
        return self.law(h, given).sample(second).astype(self.top.dtype), h

    def forward(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Pass:
        """Draw h and score it, going through every layer of q once."""
        below, h, log_q = self.sight(x), [], jnp.zeros(())
        for net, own in zip(self.q, jax.random.split(key, len(self.q)), strict=True):
            logits = net(below)
            h.append(_draw(own, logits))
            log_q += self._score(h[-1], logits)
            below = self._numbers(h[-1])
        units = tuple(h)
        likelihood = log_prob(self.law(units, given), x, self.sight.missing)
        return Pass(units, likelihood, self.log_prior(units, given), log_q, {})

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " d"]:
        """Return the means of q, layer by layer, upper ones at the means of the one below, concatenated."""
        below, codes = self.sight(x), []
        for net in self.q:
            below = jax.nn.sigmoid(net(below))
            codes.append(below)
        return jnp.concatenate(codes)

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return E[x | h] at one draw of h given x."""
        return self.mean(self.infer(key, x, given), given)

    def _numbers(self, h: Array) -> Float[Array, " n"]:
        return h.astype(self.top.dtype)

    def _score(self, h: Array, logits: Float[Array, " n"]) -> Float[Array, ""]:
        return bernoulli_log_prob(self._numbers(h), logits).sum()


def _draw(key: PRNGKeyArray, logits: Float[Array, " n"]) -> Bool[Array, " n"]:
    return uniform(key, logits) < jax.nn.sigmoid(logits)


def untrained(brief: Brief, latent: tuple[int, ...]) -> Helmholtz:
    """Return random weights; x starts at the data's means.

    Raises:
        ReverieError: for widths that are none.
    """
    if not latent or min(latent) < 1:
        raise ReverieError("latent: give the width of each layer, from the data upwards, each at least 1")
    sight = Sight.of(brief.data)
    sizes = (sight.width(brief.data.width), *latent)
    keys = iter(jax.random.split(brief.key, 2 * len(latent)))
    q = tuple(Linear.init(next(keys), below, above) for below, above in pairwise(sizes))
    p = tuple(Linear.init(next(keys), above, below) for below, above in pairwise(latent))
    return Helmholtz(q, p, output_head(next(keys), latent[0], brief.data), jnp.zeros(latent[-1]), sight)


def recipe(
    brief: Brief,
    *,
    latent: tuple[int, ...] = (200, 200),
    surrogate: Literal["wake-sleep", "rws", "vimco"] = "rws",
    k: int = 5,
    q_updates: QUpdates = "both",
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "inverse", "cosine", "steps"] = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
    valid_samples: int = 100,
) -> tuple[Helmholtz, Recipe]:
    """Return an untrained Helmholtz machine and how to train it.

    Args:
        latent: widths of the binary layers, from the data upwards.
        surrogate: how it learns.
        k: samples of h per row (vimco needs two or more).
        q_updates: of rws: whether q learns from its own weighed draws, from dreams, or from both.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_samples: importance samples of the validation log-likelihood.
    """
    if q_updates != "both" and surrogate != "rws":
        raise ReverieError(f"q-updates: {surrogate} has one way to update q; leave it out, or use --surrogate rws")
    model = untrained(brief, latent)
    return model, directed_recipe(
        brief, conditional=False, surrogate=surrogate, k=k, beta=1.0, warmup=0.0, batch=batch, rate=rate,
        schedule_name=schedule, adam=adam, select=select, valid_every=valid_every, valid_samples=valid_samples,
        norm=False, known={**SCORED, "rws": partial(rws, q_updates=q_updates)},
    )  # fmt: skip
