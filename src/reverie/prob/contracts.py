"""What a model promises: a few verbs each, one example at a time; every random verb takes a key.

A model is an `equinox.Module` that fulfils one contract of this page, plus any of the small protocols.
`given` is what the model is conditioned on (a one-hot class here), ``None`` when it is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Row = Float[Array, " D"]
Given = PyTree | None


class Pass(NamedTuple):
    r"""One way up and down: a draw of h, its scores, and what happened inside.

    ``log_w = log_likelihood + log_prior - log_q`` is :math:`\log p(x, h) - \log q(h \mid x)`.
    """

    h: PyTree
    log_likelihood: Float[Array, ""]
    log_prior: Float[Array, ""]
    log_q: Float[Array, ""]
    trace: dict[str, Any]

    @property
    def log_w(self) -> Float[Array, ""]:
        return self.log_likelihood + self.log_prior - self.log_q


class Latent(eqx.Module):
    r"""A directed model :math:`p(x, h)` with an inference net :math:`q(h \mid x)`; `h` is any pytree.

    k samples are a `vmap` over keys.  Scoring is apart from drawing: sticking-the-landing, DReG, the
    sleep phase and the one-backward-pass variant need it so.  Freezing is `stop_gradient` on the model.
    """

    def infer(self, key: PRNGKeyArray, x: Row, given: Given = None) -> PyTree:
        r"""Draw :math:`h \sim q(h \mid x)`, reparameterised where the law allows it."""
        raise NotImplementedError

    def log_q(self, h: PyTree, x: Row, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log q(h \mid x)`."""
        raise NotImplementedError

    def log_p(self, x: Row, h: PyTree, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(x, h)`."""
        raise NotImplementedError

    def log_prior(self, h: PyTree, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(h)`, a part of `log_p`: warm-up and annealing weigh the two apart."""
        raise NotImplementedError

    def forward(self, key: PRNGKeyArray, x: Row, given: Given = None) -> Pass:
        """Draw h and score it in one pass.

        Equal to `infer` followed by the scores; a model overrides it where sharing the networks' outputs saves
        work: drawing and scoring apart, automatic differentiation goes back through the encoder twice.
        """
        h = self.infer(key, x, given)
        prior = self.log_prior(h, given)
        return Pass(h, self.log_p(x, h, given) - prior, prior, self.log_q(h, x, given), {})

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Row, PyTree]:
        r"""Draw :math:`(x, h) \sim p`."""
        raise NotImplementedError

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> PyTree:
        r"""Draw :math:`h \sim p(h)`."""
        raise NotImplementedError

    def mean(self, h: PyTree, given: Given = None) -> Row:
        r"""Return :math:`\mathbb E[x \mid h]`, in the model's units."""
        raise NotImplementedError


class Energy(eqx.Module):
    r"""An undirected model :math:`p(v, h) = e^{-E(v, h)}/Z` whose layers fall into two colours.

    Units of one colour are independent given the other.  A `state` is the colour without the visible layer (the
    odd layers: h of a restricted Boltzmann machine, h1 and h3 of a deep one); the other colour is summed out of it in
    closed form.  `beta` leads from a base law that is known exactly (0) to the model (1).
    """

    def base_log_partition(self) -> Float[Array, ""]:
        r"""Return :math:`\log Z_0` of the base law, exactly."""
        raise NotImplementedError

    def draw_base(self, key: PRNGKeyArray) -> PyTree:
        """Draw a state from the base law, exactly."""
        raise NotImplementedError

    def log_marginal(self, state: PyTree, beta: float | Float[Array, ""] = 1.0) -> Float[Array, ""]:
        r"""Return :math:`\log f_\beta(\text{state})`, unnormalised, the other colour summed out."""
        raise NotImplementedError

    def log_ratio(
        self, state: PyTree, start: float | Float[Array, ""], stop: float | Float[Array, ""]
    ) -> Float[Array, ""]:
        r"""Return :math:`\log f_{stop} - \log f_{start}` at a state, what annealing adds up."""
        return self.log_marginal(state, stop) - self.log_marginal(state, start)

    def sweep(self, key: PRNGKeyArray, state: PyTree, beta: float | Float[Array, ""] = 1.0) -> PyTree:
        r"""Draw the other colour given the state, then a state given it.

        It leaves :math:`f_\beta` invariant, and is reversible.
        """
        raise NotImplementedError

    def draw_visible(self, key: PRNGKeyArray, state: PyTree) -> Row:
        """Draw v given a state."""
        raise NotImplementedError

    def mean(self, state: PyTree, given: Given = None) -> Row:
        """Return E[v | state]."""
        raise NotImplementedError


@runtime_checkable
class Marginal(Protocol):
    """An energy whose hidden layers can all be summed out, and drawn given v: restricted Boltzmann machines."""

    def log_unnormalised(self, x: Row) -> Float[Array, ""]:
        r"""Return :math:`\log \sum_h e^{-E(x, h)}`."""
        ...

    def draw_state(self, key: PRNGKeyArray, x: Row) -> PyTree:
        """Draw a state given v, exactly."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An energy whose posterior is approximated: a bound of a row's log p*, and the thing itself on small machines."""

    def log_bound(self, x: Row) -> Float[Array, ""]:
        r"""Return :math:`\mathbb E_q[-E(x, h)] + H(q) \le \log p^*(x)`."""
        ...

    def log_counted(self, x: Row) -> Float[Array, ""]:
        r"""Return :math:`\log p^*(x)` by counting states."""
        ...

    @property
    def countable_units(self) -> int:
        """How many units `log_counted` counts the states of."""
        ...


@runtime_checkable
class Topped(Protocol):
    """An energy of which only the top is undirected: its partition function is that part's alone.

    Below it are directed layers, and a law q of them given a row.
    """

    @property
    def annealed(self) -> Energy:
        """The part whose partition function is the model's; `Marginal`."""
        ...

    def lift(self, key: PRNGKeyArray, x: Row) -> Row:
        """Draw the annealed part's visible layer from q(h | x)."""
        ...

    def log_weight(self, key: PRNGKeyArray, x: Row) -> Float[Array, ""]:
        r"""Return :math:`\log p^*(x, h) - \log q(h \mid x)` at a draw of q."""
        ...


@runtime_checkable
class OfLengths(Protocol):
    """An energy of rows whose lengths N differ: for each N a machine, and a Z, of its own, with shared weights.

    Its states carry the length with them, ``(h, N)``, and sweeps keep it; `base_log_partition` and counting are
    those of one length's machine.
    """

    def of_length(self, length: float | Float[Array, ""]) -> Energy:
        """Return the machine of rows of one length."""
        ...

    def begin(self, key: PRNGKeyArray, length: float | Float[Array, ""]) -> PyTree:
        """Draw a state of a length from its base law, exactly."""
        ...

    def lengths_of(self, rows: Float[Any, "n D"]) -> Float[Any, " n"]:
        """Return the length of each row."""
        ...


@runtime_checkable
class Coloured(Protocol):
    """An energy whose layers, numbered from the visible one (0), can be drawn one colour at a time.

    What knows this can hold some cells of layer 0 fixed and draw the rest: pattern completion.
    """

    @property
    def odd(self) -> range:
        """Numbers of the layers that a state holds."""
        ...

    @property
    def even(self) -> range:
        """Numbers of the other layers, the visible one first."""
        ...

    def draw(self, key: PRNGKeyArray, wanted: range, layers: dict[int, Array]) -> dict[int, Array]:
        """Draw the layers of one colour given those of the other."""
        ...

    def means(self, wanted: range, layers: dict[int, Array]) -> dict[int, Array]:
        """Return E of the layers of one colour given those of the other."""
        ...

    def layers(self, state: PyTree) -> dict[int, Array]:
        """Return the layers of a state by number."""
        ...

    def state(self, layers: dict[int, Array]) -> PyTree:
        """Return the state that `layers` hold."""
        ...


class Implicit(eqx.Module):
    r"""A generator: draws of x there are, and no formula for their law (GAN, AAE, GMMN).

    The latent z has a density that is known, :math:`p(z)`; x is `mean` of z.  What needs a likelihood gives x a normal
    error around that mean (`evaluate`), and says so.
    """

    def draw_prior(self, key: PRNGKeyArray, given: Given = None) -> PyTree:
        r"""Draw :math:`z \sim p(z)`."""
        raise NotImplementedError

    def log_prior(self, z: PyTree, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(z)`."""
        raise NotImplementedError

    def mean(self, z: PyTree, given: Given = None) -> Row:
        """Return the generator's output at z, in the model's units."""
        raise NotImplementedError

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Row, PyTree]:
        """Draw z and return (x, z)."""
        z = self.draw_prior(key, given)
        return self.mean(z, given), z


class Explicit(eqx.Module):
    r"""A model whose :math:`\log p(x)` is a formula: autoregressive ones, which say a row's cells one by one.

    `Ensembles` (`abilities`) are mixtures of such laws.
    """

    def log_prob(self, x: Row, given: Given = None) -> Float[Array, ""]:
        r"""Return :math:`\log p(x)`, exactly; of the cells that are there, where a model takes missing ones (NaN)."""
        raise NotImplementedError

    def sample(self, key: PRNGKeyArray, given: Given = None) -> tuple[Row, PyTree]:
        """Draw x, and return it with what `mean` needs to know of how it was drawn."""
        raise NotImplementedError

    def mean(self, h: PyTree, given: Given = None) -> Row:
        r"""Return the mean that each cell was drawn with, :math:`\mathbb E[x_d \mid x_{<d}]`: `sample` gave it."""
        return h


class Judged(eqx.Module):
    """A model that is judged by its task's metrics; it has no likelihood of rows."""

    @property
    def metrics(self) -> dict[str, str]:
        """What `judge` returns, by name, with its unit; the first one chooses and is told, and less is better."""
        raise NotImplementedError

    @property
    def supervised(self) -> bool:
        """Whether `judge` must be told the row's class (one-hot, as `given`)."""
        raise NotImplementedError

    def judge(self, x: Row, given: Given = None) -> dict[str, Float[Array, ""]]:
        """Return the metrics of one row, in the model's units."""
        raise NotImplementedError

    @property
    def drawn(self) -> tuple[str, ...]:
        """Which of the metrics need a draw, such as of noise to be taken away again."""
        return ()

    def judge_drawn(self, key: PRNGKeyArray, x: Row, given: Given = None) -> dict[str, Float[Array, ""]]:
        """Return those metrics of one row; in evaluation the key is the row's content's."""
        return {}


def told_wrongly(log_p: Float[Array, " C"], given: Given) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return whether the likeliest class is another than the row's own (one-hot), as 0 or 1, and the cross-entropy."""
    wrong = (log_p.argmax() != jnp.argmax(given)).astype(log_p.dtype)  # type: ignore[arg-type]
    return wrong, -jnp.vdot(log_p, given)  # type: ignore[arg-type]


class Classifying(Judged):
    """A model that tells classes, judged by the share of rows it tells wrongly and by its cross-entropy."""

    @property
    def metrics(self) -> dict[str, str]:
        return {"classification_error": "fraction", "cross_entropy": "nats"}

    @property
    def supervised(self) -> bool:
        return True

    def log_classes(self, x: Row) -> Float[Array, " C"]:
        r"""Return :math:`\log p(y \mid x)` of every class y."""
        raise NotImplementedError

    def judge(self, x: Row, given: Given = None) -> dict[str, Float[Array, ""]]:
        wrong, cost = told_wrongly(self.log_classes(x), given)
        return {"classification_error": wrong, "cross_entropy": cost}

    def encode(self, x: Row, given: Given = None) -> Float[Array, " C"]:
        """Return p(class | x), the classes in their order."""
        return jnp.exp(self.log_classes(x))
