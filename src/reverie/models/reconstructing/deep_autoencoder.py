r"""Deep autoencoder: a row through a narrow code and back, its layers learnt one by one first.

.. math:: a^0 = x, \qquad a^l = \sigma(a^{l-1} W_l + c_l), \qquad z = a^{L-1} W_L + c_L, \qquad
          \tilde a^L = z, \quad \tilde a^{l-1} = \sigma(\tilde a^l V_l + b_{l-1}), \qquad \hat x = \tilde a^0,

the code z being linear and, for rows of real values, :math:`\hat x` too.  It is learnt by the cross-entropy of the
pixels, :math:`-\sum_i x_i \log \hat x_i + (1 - x_i) \log (1 - \hat x_i)`, grey ones as they are, or by half the squared
error of real values.

From random weights a deep narrow net used to learn the mean of the data.  So each pair of layers is first a restricted
Boltzmann machine of its own, on what the layers below make of the data (their means); the top one has real hidden
units of variance one, :math:`z \mid a \sim \mathcal N(a W + c, 1)`.  Unrolled, :math:`V_l = W_l^\top` to begin with,
and both then go their own ways (Hinton & Salakhutdinov 2006).  ``pretrain=ae`` learns each pair of layers as a shallow
autoencoder instead (Bengio et al. 2007); ``pretrain=none`` is the control, which with today's initial weights and Adam
is hard to beat.

It is no model of the rows: it is judged by the squared error of what it gives back, beside principal components as many
as the code has numbers.

Traps: a linear layer needs a rate a hundred times smaller, or it runs away; the squared error of rows that were
binarised is not that of grey ones; a mean over pixels is not a sum.

References: Hinton & Salakhutdinov, *Reducing the Dimensionality of Data with Neural Networks*, 2006; Bengio, Lamblin,
Popovici & Larochelle, *Greedy Layer-Wise Training of Deep Networks*, 2007.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.task import validator
from reverie.models.reconstructing import _stack as layerwise
from reverie.models.reconstructing._stack import How, Stack
from reverie.nn.blocks import glorot_uniform, host_random
from reverie.nn.units import Binary
from reverie.prob.contracts import Given, Judged
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Brief, Player, Recipe

PAPER = Paper(
    title="Reducing the Dimensionality of Data with Neural Networks",
    authors="Geoffrey E. Hinton and Ruslan R. Salakhutdinov",
    year=2006,
    venue="Science 313",
    bibtex="""@article{hinton2006reducing,
  title = {Reducing the Dimensionality of Data with Neural Networks},
  author = {Hinton, Geoffrey E. and Salakhutdinov, Ruslan R.},
  journal = {Science},
  volume = {313},
  number = {5786},
  pages = {504--507},
  year = {2006}
}""",
)

PRESETS = {
    "fast": {"epochs": 30},
    "paper": {"hidden": (1000, 500, 250), "code": 30, "stack": {"epochs": 50}, "epochs": 200, "batch": 100},
    "digits": {"batch": 50, "stack": {"epochs": 50}, "epochs": 200},
}

TINY = {"hidden": (24,), "code": 6, "stack": {"epochs": 2}, "batch": 50, "epochs": 30, "rate": 5e-3}


def _error(column: str, published: float, **more: Any) -> Claim:
    """Return a row of the lecture's tables: layers learnt as shallow autoencoders, then taught the classes."""
    stack = {"hidden": (500, 500), "code": 30, "pretrain": "ae", "select": "last"}
    return Claim(
        table="recognition", row="deep autoencoder", column=column, published=published, source="deck", data=column,
        metric="classification_error", settings={**stack, "stack": {"epochs": 50}}, epochs=None,
        binarisation="means" if column == "mnist" else None, evaluation={"epochs": 30},
        budgets={
            "smoke": {"hidden": (30, 30), "code": 5, "stack": {"epochs": 0.1}, "epochs": 0.2, "valid_every": 100.0,
                      "evaluation": {"epochs": 5, "labels": 300}},
            "cpu": {"stack": {"epochs": 10}, "epochs": 20},
            "paper": {"epochs": 100},
        },
        **more,
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    _error("mnist", 0.0140),
    _error("ocr-letters", 0.1005, split_rule="shuffled", notes=("ocr-size",)),
)


class DeepAutoencoder(Judged):
    """Layers up to a code and down again; see the module's page.

    Attributes:
        up, up_biases: :math:`W_l` and :math:`c_l`, from the data upwards.
        down, down_biases: :math:`V_l` and :math:`b_{l-1}`, from the data upwards too.
        real: whether rows are real values rather than means of pixels.
    """

    up: tuple[Float[Array, "_ _"], ...]
    up_biases: tuple[Float[Array, " _"], ...]
    down: tuple[Float[Array, "_ _"], ...]
    down_biases: tuple[Float[Array, " _"], ...]
    real: bool = eqx.field(static=True)

    @property
    def depth(self) -> int:
        """L, the number of layers above the data, the code among them."""
        return len(self.up)

    @property
    def metrics(self) -> dict[str, str]:
        # Of a row, summed over its cells: pixels are in [0, 1], columns scaled to variance one.
        return {"squared_error": "squares"}

    @property
    def supervised(self) -> bool:
        return False

    @property
    def components(self) -> int:
        """Numbers of a code."""
        return self.up_biases[-1].size

    def lifted(self, a: Float[Array, " n"], layer: int) -> Float[Array, " m"]:
        """Return layer `layer` + 1 from layer `layer`; the code is linear."""
        field = a @ self.up[layer] + self.up_biases[layer]
        return field if layer + 1 == self.depth else jax.nn.sigmoid(field)

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " k"]:
        """Return the code."""
        a = jnp.where(jnp.isnan(x), 0.0, x)
        for layer in range(self.depth):
            a = self.lifted(a, layer)
        return a

    def fields(self, code: Float[Array, " k"]) -> Float[Array, " D"]:
        r"""Return what :math:`\hat x` is the sigmoid of; of real values, itself."""
        a = code
        for layer in reversed(range(1, self.depth)):
            a = jax.nn.sigmoid(a @ self.down[layer] + self.down_biases[layer])
        return a @ self.down[0] + self.down_biases[0]

    def decode(self, code: Float[Array, " k"]) -> Float[Array, " D"]:
        r"""Return :math:`\hat x` of a code."""
        fields = self.fields(code)
        return fields if self.real else jax.nn.sigmoid(fields)

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        r"""Return :math:`\hat x`; nothing is drawn."""
        return self.decode(self.encode(x))

    def judge(self, x: Float[Array, " D"], given: Given = None) -> dict[str, Float[Array, ""]]:
        gap = jnp.where(jnp.isnan(x), 0.0, x - self.decode(self.encode(x)))
        return {"squared_error": (gap**2).sum()}

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return the layers of sigmoids below the code."""
        return tuple(zip(self.up[:-1], self.up_biases[:-1], strict=True))

    def unrolled(self) -> DeepAutoencoder:
        """Return the net whose way down has the weights of the way up."""
        return replace(self, down=tuple(w.T for w in self.up))


def fine_tuning(
    model: DeepAutoencoder, batch: dict[str, Any], carry: Any, key: PRNGKeyArray
) -> tuple[Array, Any, dict[str, Array]]:
    """Return the loss of rows given back by the whole net."""
    rows = batch["x"]
    fields = jax.vmap(lambda x: model.fields(model.encode(x)))(rows)
    back = fields if model.real else jax.nn.sigmoid(fields)
    wrong = jnp.where(jnp.isnan(rows), 0.0, rows - back) ** 2
    return layerwise.loss_of(rows, fields, model.real), carry, {"squared_error": wrong.sum(axis=1).mean()}


def untrained(brief: Brief, widths: tuple[int, ...], how: How) -> DeepAutoencoder:
    """Return random weights: those of machines small and normal, those of nets by Glorot; the lowest bias at the data's
    means."""
    data, real = brief.data, brief.data.likelihood == "gaussian"
    keys = jax.random.split(brief.key, 2 * len(widths))

    def drawn(key: PRNGKeyArray, a: int, b: int) -> Array:
        if how == "rbm":
            return jnp.asarray(0.1 * host_random(key).standard_normal((a, b)), jnp.float32)
        return glorot_uniform(key, a, b)

    shapes = list(pairwise(widths))
    up = tuple(drawn(key, a, b) for key, (a, b) in zip(keys[::2], shapes, strict=False))
    down = tuple(drawn(key, b, a) for key, (a, b) in zip(keys[1::2], shapes, strict=False))
    start = jnp.zeros(data.width) if real else jnp.asarray(Binary().fitted_field(data.mean, data.size("train")))
    return DeepAutoencoder(
        up, tuple(jnp.zeros(n) for n in widths[1:]), down, (start, *(jnp.zeros(n) for n in widths[1:-1])), real
    )


def recipe(
    brief: Brief,
    *,
    hidden: tuple[int, ...] = (128, 64),
    code: int = 10,
    pretrain: How = "rbm",
    stack: Stack = Stack(),
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
) -> tuple[DeepAutoencoder, Recipe]:
    """Return an untrained autoencoder and how to train it.

    Args:
        hidden: widths of the layers of sigmoids, from the data upwards.
        code: numbers in the code, which is linear.
        pretrain: layers first learnt one by one, as restricted Boltzmann machines or as shallow autoencoders; or not.
        stack: how they are learnt.
        batch: rows per step.
        rate: learning rate of Adam, of the whole net and of shallow autoencoders.
        schedule: how it falls over the planned epochs.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a thirtieth of the plan).
    """
    data = brief.data
    _check(data, (*hidden, code))
    stack.check()
    for name, value in (("batch", batch), ("rate", rate)):
        if not value > 0:
            raise ReverieError(f"{name}: {value} must be positive")
    model = untrained(brief, (data.width, *hidden, code), pretrain)

    def main() -> Recipe:
        optimiser = Adam()(falling(schedule, rate, brief.steps(batch)))
        return Recipe(
            draw=minibatch(data, batch), players=(Player(optimiser, fine_tuning),), batch=batch, select=select,
            validate=validator(), valid_every=valid_every or brief.epochs / 30,
        )  # fmt: skip

    return model, main() if pretrain == "none" else layerwise.stage_of(
        model, data, pretrain, stack, rate, batch, 0, main
    )


def _check(data: Dataset, widths: tuple[int, ...]) -> None:
    if data.likelihood not in ("bernoulli", "gaussian"):
        raise ReverieError(
            f"likelihood: a deep-autoencoder gives back pixels or real values, not {data.likelihood}; "
            "give --likelihood gaussian"
        )
    if data.missing and not data.whole:
        raise ReverieError(f"{data.name}: a deep-autoencoder takes no missing cells; fill them in, or train a vae")
    if len(widths) < 2 or min(widths) < 1:
        raise ReverieError(f"hidden, code: {widths} are no widths; give hidden one or more, such as 128,64, and a code")
