r"""Feed-forward classifier: layers of features and a softmax, from random weights or from a stack that was pretrained.

.. math:: h^1 = f(x W_1 + q A + c_1), \qquad h^l = f(h^{l-1} W_l + c_l), \qquad
          p(y \mid x) = \mathrm{softmax}(h^L U + d)

learnt by the cross-entropy of the classes.  Where the weights come from a deep Boltzmann machine, whose first layer
hears the layer above it as well as the data, :math:`q = q(h^2 \mid x)` is what mean field in the machine says of that
layer; A begins as :math:`W_2^\top` and is then a weight of its own (Salakhutdinov & Hinton 2009).  The machine that
gives q stays as it was and is a part of the model: rows need nothing else to be told apart.

Traps: an error read off the test rows after each epoch is a best of many, so weights are chosen on validation rows;
with pretrained features and a large rate the random label layer undoes them first, so it may learn alone for a while.

References: Salakhutdinov & Hinton, *Deep Boltzmann Machines*, 2009; Hinton & Salakhutdinov, *Reducing the
Dimensionality of Data with Neural Networks*, 2006; Srivastava et al., *Dropout*, 2014; Rumelhart, Hinton & Williams
1986.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset, Source
from reverie.data.order import batch_indices
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim
from reverie.evaluate.classification import balanced
from reverie.evaluate.task import validator
from reverie.models.conditional._waiting import waiting
from reverie.models.undirected import dbm
from reverie.nn.blocks import ACTIVATIONS, glorot_uniform
from reverie.nn.units import Binary
from reverie.prob.abilities import Stacks
from reverie.prob.contracts import Classifying
from reverie.train.draws import Feed, minibatch
from reverie.train.optimise import Adam
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Brief, Draw, Player, Recipe

PAPER = dbm.PAPER

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": (500, 1000), "epochs": 100},
    "dropout": {"units": "relu", "dropout": 0.5, "input_dropout": 0.2},
}

TINY = {"hidden": (30,), "batch": 50, "epochs": 20, "rate": 5e-3}

#: Methods of `evaluate.baselines` in the lecture's tables: its name for them, and their errors by data set.
_BASELINES = {
    "logistic": ("logistic regression", {"mnist": 0.120, "ocr-letters": 0.2214, "norb-small": 0.225}),
    "knn": ("k nearest neighbours", {"mnist": 0.0309, "ocr-letters": 0.1892, "norb-small": 0.1892}),
    "mlp": ("neural net", {"mnist": 0.0153, "ocr-letters": 0.1462}),
    "svm": ("SVM", {"mnist": 0.0140, "ocr-letters": 0.0970, "norb-small": 0.116}),
}
_OF_COLUMN: dict[str, tuple[str, ...]] = {"mnist": (), "ocr-letters": ("ocr-size",), "norb-small": ("norb-size",)}
_OF_CELL: dict[tuple[str, str], tuple[str, ...]] = {
    ("mlp", "mnist"): ("net-attribution",),
    ("knn", "ocr-letters"): ("norb-copied",),
    ("knn", "norb-small"): ("norb-copied",),
}


def _baseline(method: str, row: str, column: str, published: float) -> Claim:
    widths = (500, 1000) if column == "mnist" else (500, 500)
    return Claim(
        table="recognition", row=row, column=column, published=published, metric="classification_error",
        source="deck", data=column, split_rule="shuffled" if column == "ocr-letters" else None,
        settings={"hidden": widths} if method == "mlp" else {}, epochs=None, baseline=method,
        evaluation={"refit": True},
        budgets={
            "smoke": {"evaluation": {"labels": 300}, **({"hidden": (20,)} if method == "mlp" else {})},
            "cpu": {},
            "paper": {},
        },
        notes=_OF_COLUMN[column] + _OF_CELL.get((method, column), ()), at_hand_only=column == "norb-small",
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = tuple(
    _baseline(method, row, column, published)
    for method, (row, by_column) in _BASELINES.items()
    for column, published in by_column.items()
)

#: Rounds of mean field, and the largest move of a mean at which it ends: in training, and where rows are judged.
_LEARNING, _JUDGING = (5, 1e-3), (50, 1e-5)


class Classifier(Classifying):
    """Layers of features and a softmax; see the module's page.

    Attributes:
        weights, biases: of the layers of features, from the data upwards.
        top, offset: U and d of the softmax.
        above: A, what the first layer hears of q; None without.
        machine: which gives q, never moved; None without.
        units: what the layers of features are made of.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    top: Float[Array, "_ C"]
    offset: Float[Array, " C"]
    above: Float[Array, "_ _"] | None
    machine: dbm.DBM | None
    units: str = eqx.field(static=True)

    def heard(self, x: Float[Array, " D"], rounds: tuple[int, float] = _JUDGING) -> Float[Array, " k"] | None:
        """Return q(h2 | x) of the machine, None without one."""
        return None if self.machine is None else self.machine.mean_field(_seen(x), *rounds)[2]

    def layers(
        self, x: Float[Array, " D"], q: Float[Array, " k"] | None = None, keep: tuple[Array, ...] = ()
    ) -> list[Float[Array, " _"]]:
        """Return the layers of features; `keep` are factors on the inputs and on each layer (dropout)."""
        h, found = _seen(x) * (keep[0] if keep else 1.0), []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            field = h @ weight + bias
            if layer == 0 and self.above is not None and q is not None:
                field = field + q @ self.above
            h = ACTIVATIONS[self.units](field)
            h = h * keep[layer + 1] if keep else h
            found.append(h)
        return found

    def logits(self, x: Float[Array, " D"], q: Float[Array, " k"] | None = None, keep: Any = ()) -> Float[Array, " C"]:
        """Return the logarithms of p(class | x), up to a constant."""
        return self.layers(x, q, keep)[-1] @ self.top + self.offset

    def log_classes(self, x: Float[Array, " D"]) -> Float[Array, " C"]:
        return jax.nn.log_softmax(self.logits(x, self.heard(x)))

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return weights and biases of the layers of features."""
        return tuple(zip(self.weights, self.biases, strict=True))

    def on(self, stack: Stacks) -> Classifier:
        """Return this classifier with the weights of a stack under its own label layer.

        Raises:
            ReverieError: for a stack of other widths.
        """
        layers = stack.feed_forward()
        have, want = [w.shape for w, _ in layers], [w.shape for w in self.weights]
        if have != want:
            raise ReverieError(f"hidden: the stack has layers {have}, the classifier {want}; give it the same widths")
        weights, biases = (tuple(jnp.array(a) for a in part) for part in zip(*layers, strict=True))
        above = None if self.above is None else jnp.array(weights[1].T)
        machine = None if self.machine is None else _machine(weights, biases)
        return Classifier(weights, biases, self.top, self.offset, above, machine, self.units)


def _seen(x: Float[Array, " D"]) -> Float[Array, " D"]:
    # A column that never changes is a missing cell to a model, and tells nothing.
    return jnp.where(jnp.isnan(x), 0.0, x)


def _machine(weights: tuple[Array, ...], biases: tuple[Array, ...]) -> dbm.DBM:
    """Return the machine above rows that are given: its visible biases have no say."""
    still = jnp.zeros(weights[0].shape[0])
    return dbm.DBM(
        tuple(jnp.array(w) for w in weights), (still, *(jnp.array(b) for b in biases)), Binary(), jnp.array(still)
    )


def untrained(
    key: PRNGKeyArray, widths: tuple[int, ...], classes: int, units: str, augmented: bool, scale: float
) -> Classifier:
    """Return random weights; `scale` is what the data's numbers are multiplied by first."""
    *keys, last = jax.random.split(key, len(widths))
    weights = tuple(glorot_uniform(k, a, b) for k, (a, b) in zip(keys, pairwise(widths), strict=True))
    weights = (weights[0] * scale, *weights[1:])
    biases = tuple(jnp.zeros(n) for n in widths[1:])
    above = weights[1].T if augmented else None
    machine = _machine(weights, biases) if augmented else None
    return Classifier(
        weights, biases, glorot_uniform(last, widths[-1], classes), jnp.zeros(classes), above, machine, units
    )


def _few(data: Dataset, batch: int, labels: int, seed: int) -> Draw:
    """Return the draw of batches from so many rows, as many of each class as there are."""
    y = data.labels("train")
    # A model that is opened without its data draws nothing.
    rows = jnp.arange(labels) if y is None else jnp.asarray(balanced(np.asarray(y), labels, seed), jnp.int32)
    every = minibatch(data, batch, True)

    def draw(key: PRNGKeyArray, step: Array, feed: Feed, model: Any, carry: Any) -> tuple[dict[str, Any], Any]:
        return every(key, step, _Part(feed, rows), model, carry)

    return draw


class _Part(eqx.Module):
    """A feed of some of the rows, in a shuffled order of their own."""

    feed: Feed
    chosen: Array

    @property
    def source(self) -> Source:
        return self.feed.source

    def rows(self, step: Array, batch: int) -> tuple[Array, Array | None, Array]:
        indices = self.chosen[batch_indices(self.feed.seed, step, batch, len(self.chosen))]
        stored, labels = self.feed.source.take(indices)
        return stored, labels, indices


def objective(dropout: float, input_dropout: float, decay: float) -> Any:
    """Return the cross-entropy plus half of `decay` times the squares of the weights that move."""

    def loss_of(model: Classifier, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        rows, given = batch["x"], batch["given"]
        q = None if model.machine is None else jax.vmap(lambda x: model.heard(x, _LEARNING))(rows)
        q = None if q is None else jax.lax.stop_gradient(q)
        sizes = [rows.shape[1], *(b.size for b in model.biases)]
        rates = [input_dropout, *(dropout for _ in model.biases)]
        keep = () if not (dropout or input_dropout) else tuple(
            jax.random.bernoulli(k, 1.0 - p, (len(rows), n)) / (1.0 - p)
            for k, n, p in zip(jax.random.split(key, len(sizes)), sizes, rates, strict=True)
        )  # fmt: skip
        logits = jax.vmap(model.logits)(rows, q, keep)
        loss = -(jax.nn.log_softmax(logits) * given).sum(axis=1).mean()
        right = (logits.argmax(axis=1) == given.argmax(axis=1)).mean()
        own = [*model.weights, model.top, *([] if model.above is None else [model.above])]
        penalty = 0.5 * decay * sum(((w**2).sum() for w in own), start=jnp.zeros(())) if decay else 0.0
        return loss + penalty, carry, {"accuracy": right}

    return loss_of


def _optimiser(rate: float, name: str, steps: int, alone: int) -> optax.GradientTransformation:
    """Return Adam, which for the first `alone` steps moves the label layer alone."""
    adam = Adam()
    if not alone:
        return adam(falling(name, rate, steps))
    label = lambda path, _: path[0].name in ("top", "offset")  # noqa: E731
    names = lambda tree: jax.tree_util.tree_map_with_path(  # noqa: E731
        lambda p, a: "label" if label(p, a) else "features", tree
    )
    rest = waiting(adam(falling(name, rate, max(1, steps - alone))), alone)
    return optax.multi_transform({"label": adam(falling(name, rate, steps)), "features": rest}, names)


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (500, 1000),
    units: Literal["sigmoid", "relu", "tanh"] = "sigmoid",
    augmented: bool = False,
    labels: int | None = None,
    labels_seed: int = 0,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    decay: float = 0.0,
    warmup: float = 0.0,
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
) -> tuple[Classifier, Recipe]:
    """Return an untrained classifier and how to train it.

    Args:
        hidden: widths of the layers of features, from the data upwards.
        units: what they are made of.
        augmented: the first layer also hears q(h2 | x) of a frozen machine of the same widths (`reverie classify` of a
            deep Boltzmann machine asks for it).
        labels: train on so many rows alone, as many of each class (default: all).
        labels_seed: of which these are.
        dropout: share of the features left out at a step.
        input_dropout: share of the inputs left out at a step.
        decay: of the weights, not the biases.
        warmup: epochs in which the label layer alone learns.
        batch: rows per step.
        rate: learning rate of Adam.
        schedule: how it falls over the planned epochs.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a thirtieth of the plan).
    """
    data = brief.data
    _check(data, hidden, augmented, {"dropout": dropout, "input_dropout": input_dropout})
    for name, value in (("batch", batch), ("rate", rate)):
        if not value > 0:
            raise ReverieError(f"{name}: {value} must be positive")
    steps = brief.steps(batch)
    scale = 1.0 / max(data.levels - 1, 1)
    model = untrained(brief.key, (data.width, *hidden), data.classes, units, augmented, scale)
    alone = round(warmup * data.size("train") / batch)
    return model, Recipe(
        draw=minibatch(data, batch, True) if labels is None else _few(data, batch, labels, labels_seed),
        players=(
            Player(
                _optimiser(rate, schedule, steps, alone), objective(dropout, input_dropout, decay),
                moves=lambda path: not path.startswith("machine"),
            ),
        ),
        batch=batch,
        select=select,
        validate=validator(),
        valid_every=valid_every or brief.epochs / 30,
    )  # fmt: skip


def _check(data: Dataset, hidden: tuple[int, ...], augmented: bool, shares: dict[str, float]) -> None:
    if not data.classes:
        raise ReverieError(f"{data.name}: has no classes to be told apart; give data with labels (`reverie data`)")
    if data.missing and not data.whole:
        raise ReverieError(f"{data.name}: a classifier takes no missing cells; fill them in first (`reverie impute`)")
    if not hidden or min(hidden) < 1:
        raise ReverieError(f"hidden: {hidden} are no widths; give one or more, such as 500,1000")
    if augmented and len(hidden) < 2:
        raise ReverieError("augmented: the second layer is heard, and there is one; give hidden two widths or more")
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ReverieError(f"{name}: {value} is no share; give 0 or more and less than 1")
