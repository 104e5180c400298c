r"""Generative adversarial network: a generator learns to fool a discriminator that learns not to be fooled.

.. math:: \min_G \max_D V(D, G), \qquad
          V = \mathbb E_{x \sim p_d} \log D(x) + \mathbb E_z \log(1 - D(G(z))).

For a generator whose draws have law :math:`p_g` the best discriminator is :math:`D^* = p_d / (p_d + p_g)`, and
:math:`V(D^*, G) = -\log 4 + 2\,\mathrm{JSD}(p_d \| p_g)`: least, -log 4, where :math:`p_g = p_d` and
D = 1/2 everywhere.  Two players take turns: `discriminator_steps` of ascent of V, then one of the generator, which
descends V as printed (``minimax``) or ascends :math:`\mathbb E \log D(G(z))` (``non-saturating``), whose gradient is
:math:`(1 - D)/D` times as large where D is sure; the MNIST numbers were made with the latter.  Rows are real values:
grey pixels as they are, in [0, 1], or standardised columns.

z is standard normal, or uniform on :math:`[-\sqrt 3, \sqrt 3]`, which has the same variance: then it is
:math:`\sqrt 3\,(2\Phi(\epsilon) - 1)` of normal noise, so that latents are always normal noise.  With `conditional`
both networks are told the class.

There is no likelihood.  What is printed of a GAN comes from Parzen windows around its draws, which rank models badly
and do not see modes that are missing.

Traps: the minimax generator learns nothing while the discriminator wins; the losses say nothing of the quality of the
draws; binarised draws are not what the windows were fitted to; the discriminator's own dropout is on in both turns.

References: Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville & Bengio, *Generative Adversarial
Nets*, 2014; Mirza & Osindero, *Conditional Generative Adversarial Nets*, 2014; Goodfellow et al., *Maxout Networks*,
2013; Salimans et al., *Improved Techniques for Training GANs*, 2016 (smoothing); Mescheder, Geiger & Nowozin, *Which
Training Methods for GANs do actually Converge?*, 2018 (R1); Miyato et al., *Spectral Normalization for Generative
Adversarial Networks*, 2018.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper, on_frey_faces, on_toronto_faces
from reverie.evaluate.parzen import validator
from reverie.models.implicit import _play as play
from reverie.models.implicit._nets import Critic, Generator, Rows, check, classes_of, seen, uniform_weights
from reverie.models.implicit._play import Descent
from reverie.models.implicit._priors import Prior
from reverie.prob.contracts import Given
from reverie.train.draws import minibatch
from reverie.train.recipe import Brief, Player, Recipe

PAPER = Paper(
    title="Generative Adversarial Nets",
    authors="Ian J. Goodfellow, Jean Pouget-Abadie, Mehdi Mirza, Bing Xu, David Warde-Farley, Sherjil Ozair, "
    "Aaron Courville and Yoshua Bengio",
    year=2014,
    venue="NeurIPS",
    bibtex="""@inproceedings{goodfellow2014generative,
  title = {Generative Adversarial Nets},
  author = {Goodfellow, Ian J. and Pouget-Abadie, Jean and Mirza, Mehdi and Xu, Bing and Warde-Farley, David and
            Ozair, Sherjil and Courville, Aaron and Bengio, Yoshua},
  booktitle = {Advances in Neural Information Processing Systems 27},
  year = {2014}
}""",
)

#: The released configuration for MNIST.  It leaves the noise at the code's default, which is normal.
_PAPER: dict[str, Any] = {
    "latent": 100, "prior": "normal", "hidden": (1200, 1200), "discriminator_hidden": (240, 240), "units": "maxout",
    "pieces": 5, "input_dropout": 0.2, "dropout": 0.5, "weights": (0.05, 0.005), "optimiser": "sgd", "rate": 0.1,
    "schedule": "constant", "descent": {"start": 0.5, "end": 0.7, "epochs": 250, "decay": 1.000004}, "batch": 100,
    "select": "last", "penalty": 0.0, "epochs": 500,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 300},
    "paper": _PAPER,
}

TINY = {"latent": 8, "hidden": (32,), "discriminator_hidden": (32,), "batch": 50, "epochs": 20}

#: What a core can do in a quarter of an hour: smaller rectified networks, held by the slope penalty.  Averaged weights:
#: the few windows that could choose others prefer the blur of the first epochs, and 10,000 do not.
_CPU: dict[str, Any] = {
    "latent": 32, "hidden": (500, 500), "discriminator_hidden": (500, 500), "units": "relu", "input_dropout": 0.0,
    "dropout": 0.0, "penalty": 2.0, "weights": (), "optimiser": "adam", "rate": 1e-3, "schedule": "cosine",
    "select": "average", "epochs": 120,
}  # fmt: skip

_DIGITS = Claim(
    table="parzen", row="GAN", column="mnist", published=225.0, source="deck", metric="parzen", data="mnist",
    binarisation="means", settings={name: value for name, value in _PAPER.items() if name != "epochs"},
    epochs=None, evaluation={"estimator": "parzen", "samples": 10_000}, kind="estimate",
    budgets={
        "smoke": {**_CPU, "hidden": (50,), "discriminator_hidden": (50,), "epochs": 0.2, "valid_every": 100.0,
                  "evaluation": {"estimator": "parzen", "samples": 500, "rows": 200}},
        "cpu": _CPU,
        "paper": {"epochs": _PAPER["epochs"]},
    },
    notes=("gan-million", "windows"),
)  # fmt: skip
CLAIMS: tuple[Claim, ...] = (
    _DIGITS,
    on_toronto_faces(_DIGITS, 2057.0, "deck"),
    on_frey_faces(_DIGITS, epochs=600),
)


class GAN(Generator):
    """A generator and its discriminator; see the module's page.

    Attributes:
        generator: gives rows of z (and the class).
        discriminator: gives the log-odds that a row (with its class) is one of the data's.
    """

    generator: Rows
    discriminator: Critic

    def mean(self, z: Float[Array, " n"], given: Given = None) -> Float[Array, " D"]:
        """Return G of the noise."""
        return self.generator(self.joined(self.prior(z, given), given))

    def draws(self, key: PRNGKeyArray, rows: int, given: Given = None) -> Float[Array, "rows D"]:
        """Draw so many rows, of the classes `given` (rows, C)."""
        return self.generator(self.joined(self.latents(key, rows, given), given))


def discriminating(smoothing: float, penalty: float, spectral: bool) -> Any:
    """Return the discriminator's objective: minus half of V, with what is asked for besides.

    Of a model that has a `discriminator`, is `joined` with classes and `draws` rows.
    """

    def objective(model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        drawn, *dropped = jax.random.split(key, 3)
        critic, carry = play.normalised(model.discriminator, carry) if spectral else (model.discriminator, carry)
        rows, there = seen(batch["x"])
        real = model.joined(rows, batch["given"])
        fake = model.joined(model.draws(drawn, len(rows), batch["given"]) * there, batch["given"])
        a, b = critic(real, dropped[0]), critic(fake, dropped[1])
        loss = play.discriminator_loss(a, b, smoothing)
        if penalty:
            loss += penalty * play.slope_penalty(lambda x: critic(model.joined(x, batch["given"])), rows, there)
        info = {"value": play.value(a, b), "real": jax.nn.sigmoid(a).mean(), "fake": jax.nn.sigmoid(b).mean()}
        return loss, carry, info

    return objective


def generating(loss: play.Loss, spectral: bool) -> Any:
    """Return the generator's objective, of such a model."""

    def objective(model: Any, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        drawn, dropped = jax.random.split(key)
        critic = play.normalised(model.discriminator, carry)[0] if spectral else model.discriminator
        rows, there = seen(batch["x"])
        fake = model.draws(drawn, len(rows), batch["given"]) * there
        return play.generator_loss(critic(model.joined(fake, batch["given"]), dropped), loss), carry, {}

    return objective


def recipe(
    brief: Brief,
    *,
    latent: int = 16,
    prior: Literal["normal", "uniform"] = "normal",
    hidden: tuple[int, ...] = (256, 256),
    discriminator_hidden: tuple[int, ...] = (256, 256),
    units: Literal["relu", "maxout"] = "relu",
    pieces: int = 5,
    input_dropout: float = 0.0,
    dropout: float = 0.0,
    conv: tuple[int, ...] = (),
    conditional: bool = False,
    loss: play.Loss = "non-saturating",
    discriminator_steps: int = 1,
    smoothing: float = 0.0,
    penalty: float = 0.3,
    spectral: bool = False,
    weights: tuple[float, ...] = (),
    optimiser: play.Optimiser = "adam",
    rate: float = 1e-3,
    discriminator_rate: float | None = None,
    momentum: float = 0.5,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    descent: Descent = Descent(),
    batch: int = 100,
    select: Literal["best", "last", "average"] = "average",
    average: float | None = None,
    valid_every: float | None = None,
) -> tuple[GAN, Recipe]:
    """Return an untrained generator with its discriminator, and how they play.

    Args:
        latent: numbers in z.
        prior: their law.
        hidden: widths of the generator's rectified layers, from z on.
        discriminator_hidden: widths of the discriminator's layers, from the data on.
        units: what these are made of.
        pieces: linear units in a maxout unit.
        input_dropout: share of its inputs that the discriminator is not shown at a step.
        dropout: share of its features that are left out.
        conv: channels of convolutions next to the image in both networks, from the image upwards; each halves its sides
            (default: none, all layers are fully connected).
        conditional: model p(x | class); the data must have classes.
        loss: what the generator minimises.
        discriminator_steps: k, turns of the discriminator before one of the generator; epochs count rows of one turn.
        smoothing: tell the discriminator 1 - `smoothing` for the data's rows rather than 1.
        penalty: weight of half the squared slope of the discriminator at the data (R1).
        spectral: divide each matrix of the discriminator by its largest singular value.
        weights: initial ones of generator and discriminator uniform within these, biases 0 (default: by Glorot).
        optimiser: Adam, or gradient descent with momentum.
        rate: learning rate.
        discriminator_rate: of the discriminator, where it is another.
        momentum: beta_1 of Adam.
        schedule: how rates fall over the planned epochs.
        descent: momentum and decay of gradient descent.
        batch: rows per turn.
        select: which weights count: best on validation, last, or an exponential average.
        average: decay of that average, by step (default: it spans a twentieth of the plan).
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    check(brief.data, "a gan", batch, {"hidden": hidden, "discriminator_hidden": discriminator_hidden},
          pieces=pieces, discriminator_steps=discriminator_steps, rate=rate)  # fmt: skip
    play.check_shares(input_dropout=input_dropout, dropout=dropout, smoothing=smoothing, momentum=momentum)
    descent.check("descent")
    if conv and (len(brief.data.shape) < 2 or min(conv) < 1):
        raise ReverieError(f"conv: {conv} of rows of shape {brief.data.shape}; convolutions want images, and channels")
    data, classes = brief.data, classes_of(brief.data, conditional)
    reach = math.sqrt(3.0) if prior == "uniform" else 1.0
    first, second, third = jax.random.split(brief.key, 3)
    model = GAN(
        Prior(prior, latent, reach), classes,
        Rows.init(first, latent + classes, hidden, "relu", data.likelihood == "gaussian", data.mean, conv, data.shape),
        Critic.init(second, data.width + classes, discriminator_hidden, pieces if units == "maxout" else 1,
                    (input_dropout, dropout), conv, data.shape),
    )  # fmt: skip
    model = _published_start(model, third, weights)
    steps, per_epoch = brief.steps(batch), data.size("train") / batch
    rates = (discriminator_rate or rate, rate)
    theirs, mine = (
        play.optimiser(optimiser, r, schedule, steps * k, per_epoch * k, descent, momentum)
        for r, k in zip(rates, (discriminator_steps, 1), strict=True)
    )
    return model, Recipe(
        draw=minibatch(data, batch, conditional),
        players=(
            Player(theirs, discriminating(smoothing, penalty, spectral), repeats=discriminator_steps,
                   moves=lambda path: path.startswith("discriminator.")),
            Player(mine, generating(loss, spectral), moves=lambda path: path.startswith("generator.")),
        ),
        batch=batch, carry=play.powers(model.discriminator) if spectral else None, select=select,
            average=play.span(average, steps),
        validate=validator(), valid_every=brief.valid_every(valid_every),
    )  # fmt: skip


def _published_start(model: GAN, key: PRNGKeyArray, weights: tuple[float, ...]) -> GAN:
    if not weights:
        return model
    if len(weights) != 2 or min(weights) <= 0:
        raise ReverieError(f"weights: {weights} must be two positive numbers, of generator and discriminator, or none")
    first, second = jax.random.split(key)
    model = uniform_weights(first, model, weights[0], lambda m: m.generator.matrices)
    return uniform_weights(second, model, weights[1], lambda m: m.discriminator.matrices)
