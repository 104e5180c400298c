r"""Laplacian pyramid of adversarial networks: a small image, then what each doubling of its sides adds.

.. math:: \tilde I_K = G_K(z_K), \qquad \tilde I_k = u(\tilde I_{k+1}) + \tilde h_k, \qquad
          \tilde h_k = G_k(z_k, u(\tilde I_{k+1})),

where u doubles an image's sides and :math:`I_{k+1} = d(I_k)` halves them: the residual
:math:`h_k = I_k - u(I_{k+1})` of an image is what the doubling misses, and the image comes back from both.  Each
level is a game of its own between a generator and a discriminator: the coarsest is a plain GAN, and each finer one is
told :math:`u(I_{k+1})` of the *data*, whether the residual beside it is theirs or drawn.  The discriminator sees the
two added, as an image of that size.  So no level waits for another, and all of them learn at once: two players a
level, in turns.

The coarsest networks are fully connected.  A finer generator is of rectified convolutions that keep the size; its
noise is another plane beside the image, as large as it, and with `conditional` so is a rectified linear map of the
class.  All latents are standard normal noise, those of the coarsest image first.  Rows are images, grey or in colour,
whose sides halve at each level: pixels in [0, 1], where what lies beyond is cut off a draw, or real values.

There is no likelihood: rows are judged by Parzen windows, and by annealing through the generator.

Traps: errors of a coarse level are enlarged and never mended; a level that its residuals leave flat looks blurred,
and one that invents them looks noisy (``detail`` in the journal is the energy of the drawn residuals by that of the
data's: 1 is right); a window's number of images this large says little.

References: Denton, Chintala, Szlam & Fergus, *Deep Generative Image Models using a Laplacian Pyramid of Adversarial
Networks*, 2015; Burt & Adelson, *The Laplacian Pyramid as a Compact Image Code*, 1983; Goodfellow et al., *Generative
Adversarial Nets*, 2014; Mirza & Osindero, *Conditional Generative Adversarial Nets*, 2014.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.evaluate.parzen import validator
from reverie.models.implicit import _play as play
from reverie.models.implicit._nets import Critic, Generator, Rows, channels_of, check, classes_of, seen
from reverie.models.implicit._play import Descent
from reverie.models.implicit._priors import Prior
from reverie.models.implicit._pyramid import Level, Residual, expanded, pyramid
from reverie.models.implicit.gan import discriminating, generating
from reverie.nn.conv import Size
from reverie.prob.contracts import Given
from reverie.train.draws import minibatch
from reverie.train.recipe import Brief, Player, Recipe

PAPER = Paper(
    title="Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks",
    authors="Emily Denton, Soumith Chintala, Arthur Szlam and Rob Fergus",
    year=2015,
    venue="NeurIPS",
    bibtex="""@inproceedings{denton2015deep,
  title = {Deep Generative Image Models using a {L}aplacian Pyramid of Adversarial Networks},
  author = {Denton, Emily and Chintala, Soumith and Szlam, Arthur and Fergus, Rob},
  booktitle = {Advances in Neural Information Processing Systems 28},
  year = {2015}
}""",
)

#: The rows it takes, as not every table of numbers will do.
ROWS = ("images",)

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 100},
    # Real values lie ten times as far apart as pixels in [0, 1], and slopes between them weigh a hundredth, so that 0.3
    # holds no discriminator.  Of 720 pictures of 16 x 16 coloured shapes the discrepancy, by that of free columns,
    # is 3.57 by the defaults after 1,000 steps of 50 rows, 1.03 with a penalty of 10, and 0.09 with these after 582;
    # with a penalty of 50 samples are grey blots.
    "colour": {"penalty": 3.0, "rate": 3e-3, "batch": 50, "epochs": 100},
    # Near the released code for 32 x 32 pixels, as far as our layers go: its discriminators have strides of their own.
    "cifar": {"levels": 3, "latent": 100, "prior": "uniform", "residual": (64, 64), "sides": (7, 7, 5),
              "conv": (64, 64), "dropout": 0.5, "optimiser": "sgd", "rate": 0.02, "schedule": "constant",
              "descent": {"start": 0.0, "end": 0.0}, "penalty": 0.0, "batch": 128, "epochs": 100},
}  # fmt: skip

TINY = {"latent": 8, "hidden": (32,), "discriminator_hidden": (32,), "residual": (8,), "sides": (3, 3), "conv": (8,),
        "batch": 50, "epochs": 6}  # fmt: skip

CLAIMS: tuple[Claim, ...] = ()


class LAPGAN(Generator):
    """A pyramid of generators with their discriminators; see the module's page.

    Attributes:
        levels: from the coarsest on.
        real: whether values are real, rather than pixels in [0, 1].
    """

    levels: tuple[Level, ...]
    real: bool = eqx.field(static=True)

    def images(self, z: Float[Array, " n"], given: Given = None) -> list[Float[Array, " _"]]:
        """Return the image of each level."""
        given = self._told(given)
        parts = jnp.split(self.prior(z, given), np.cumsum([level.noises for level in self.levels[:-1]]))
        found: list[Array] = []
        for level, own in zip(self.levels, parts, strict=True):
            found.append(level.image(own, expanded(found[-1], level.size) if found else None, given))
        return found

    def mean(self, z: Float[Array, " n"], given: Given = None) -> Float[Array, " D"]:
        """Return the largest image of the noise."""
        found = self.images(z, given)[-1]
        return found if self.real else jnp.clip(found, 0.0, 1.0)

    def _told(self, given: Given) -> Given:
        if self.classes and given is None:
            raise ReverieError("given: this model is class-conditional; give it a one-hot class")
        return given if self.classes else None


class Turn(Generator):
    """One level's game, told the enlarged images of a batch; `gan` has the objectives."""

    level: Level
    low: Array | None

    @property
    def discriminator(self) -> Critic:
        """Who sees images of this level."""
        return self.level.discriminator

    def draws(self, key: PRNGKeyArray, rows: int, given: Given = None) -> Float[Array, "rows D"]:
        """Draw an image for each of the batch's enlarged ones."""
        return self.level.image(self.latents(key, rows, given), self.low, given)


def turn(number: int, objective: Any, detail: bool) -> Any:
    """Return an `objective` of `gan` as that of a level's player; `detail`: with what is drawn, by its energy."""

    def of_level(model: LAPGAN, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        level, sizes = model.levels[number], tuple(one.size for one in model.levels)
        images = pyramid(seen(batch["x"])[0], sizes)
        low = expanded(images[number - 1], level.size) if number else None
        prior = Prior(model.prior.law, level.noises, model.prior.reach)
        own = Turn(prior, model.classes, level, low)
        loss, carry, info = objective(own, {"x": images[number], "given": batch["given"]}, carry, key)
        if low is not None and detail:
            # The generator's own draws: it splits the same key.
            drawn = own.draws(jax.random.split(key)[0], len(low), batch["given"]) - low
            info = {**info, "detail": (drawn**2).mean() / ((images[number] - low) ** 2).mean()}
        return loss, carry, info

    return of_level


def recipe(
    brief: Brief,
    *,
    levels: int = 2,
    latent: int = 16,
    prior: Literal["normal", "uniform"] = "normal",
    hidden: tuple[int, ...] = (256, 256),
    discriminator_hidden: tuple[int, ...] = (256,),
    residual: tuple[int, ...] = (32, 32),
    sides: tuple[int, ...] = (3, 3, 3),
    conv: tuple[int, ...] = (32,),
    dropout: float = 0.0,
    conditional: bool = False,
    loss: play.Loss = "non-saturating",
    smoothing: float = 0.0,
    penalty: float = 0.3,
    optimiser: play.Optimiser = "adam",
    rate: float = 1e-3,
    momentum: float = 0.5,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    descent: Descent = Descent(),
    batch: int = 100,
    select: Literal["best", "last", "average"] = "average",
    average: float | None = None,
    valid_every: float | None = None,
) -> tuple[LAPGAN, Recipe]:
    """Return an untrained pyramid, and how its players take turns.

    Args:
        levels: sizes of images, each half of the next.
        latent: numbers in the coarsest level's z; a finer one has as many as pixels.
        prior: their law; the uniform one on [-1, 1].
        hidden: widths of the coarsest generator's rectified layers, from z on.
        discriminator_hidden: widths of every discriminator's fully connected layers.
        residual: channels of the finer generators' rectified convolutions, from the enlarged image on.
        sides: of the convolutions' patches, in pixels, one more than there are channels: the last makes the residual.
        conv: channels of the finer discriminators' convolutions, from the image upwards; each halves its sides.
        dropout: share of the discriminators' features that are left out.
        conditional: model p(x | class); the data must have classes.
        loss: what the generators minimise.
        smoothing: tell the discriminators 1 - `smoothing` for the data's rows rather than 1.
        penalty: weight of half the squared slope of the discriminators at the data (R1).
        optimiser: Adam, or gradient descent with momentum.
        rate: learning rate.
        momentum: beta_1 of Adam.
        schedule: how rates fall over the planned epochs.
        descent: momentum and decay of gradient descent.
        batch: rows per turn.
        select: which weights count: best on validation, last, or an exponential average.
        average: decay of that average, by step (default: it spans a twentieth of the plan).
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    data, classes = brief.data, classes_of(brief.data, conditional)
    check(data, "a lapgan", batch, {
        "hidden": hidden, "discriminator_hidden": discriminator_hidden, "residual": residual, "sides": sides,
        "conv": conv,
    }, rate=rate, latent=latent)  # fmt: skip
    play.check_shares(dropout=dropout, smoothing=smoothing, momentum=momentum)
    descent.check("descent")
    if len(sides) != len(residual) + 1:
        raise ReverieError(f"sides: {len(sides)} for {len(residual)} channels; give one more, of the residual itself")
    sizes, keys = _sizes(data, levels), jax.random.split(brief.key, levels)
    parts = [_coarsest(keys[0], data, classes, sizes, latent, hidden, discriminator_hidden, dropout)]
    for key, size in zip(keys[1:], sizes[1:], strict=True):
        parts.append(_finer(key, data, classes, size, residual, sides, conv, discriminator_hidden, dropout))
    law = Prior(prior, sum(level.noises for level in parts))
    model = LAPGAN(law, classes, tuple(parts), data.likelihood == "gaussian")
    steps, per_epoch = brief.steps(batch), data.size("train") / batch
    how = play.optimiser(optimiser, rate, schedule, steps, per_epoch, descent, momentum)
    tell, fool = discriminating(smoothing, penalty, False), generating(loss, False)

    def pair(number: int) -> tuple[Player, Player]:
        own = f"levels.{number}."
        return (
            Player(how, turn(number, tell, False), moves=lambda path: path.startswith(own + "discriminator.")),
            Player(how, turn(number, fool, True), moves=lambda path: path.startswith(own + "generator.")),
        )

    return model, Recipe(
        draw=minibatch(data, batch, conditional),
        players=tuple(player for number in range(levels) for player in pair(number)),
        batch=batch, select=select, average=play.span(average, steps), validate=validator(),
        valid_every=brief.valid_every(valid_every),
    )  # fmt: skip


def _sizes(data: Dataset, levels: int) -> tuple[Size, ...]:
    """Return the sizes of images, the smallest first."""
    if len(data.shape) < 2:
        raise ReverieError(
            f"data: a lapgan makes images, and {data.name} has rows of {data.width} columns; give a folder of images "
            "or an array (n, height, width), or train a gan"
        )
    height, width = data.shape[:2]
    if levels < 2:
        raise ReverieError(f"levels: {levels} is no pyramid; give 2 or more, or train a gan")
    if height % 2 ** (levels - 1) or width % 2 ** (levels - 1):
        raise ReverieError(
            f"levels: images of {height} x {width} pixels do not halve {levels - 1} times; give fewer levels, or crop "
            f"them to multiples of {2 ** (levels - 1)}"
        )
    return tuple((height >> k, width >> k) for k in range(levels - 1, -1, -1))


def _coarsest(
    key: PRNGKeyArray, data: Dataset, classes: int, sizes: tuple[Size, ...], latent: int, hidden: tuple[int, ...],
    told: tuple[int, ...], dropout: float,
) -> Level:  # fmt: skip
    first, second = jax.random.split(key)
    means = pyramid(jnp.asarray(data.mean, jnp.float32), sizes)[0]
    return Level(
        Rows.init(first, latent + classes, hidden, "relu", data.likelihood == "gaussian", means),
        Critic.init(second, means.size + classes, told, dropout=(0.0, dropout)), sizes[0], latent,
    )  # fmt: skip


def _finer(
    key: PRNGKeyArray, data: Dataset, classes: int, size: Size, residual: tuple[int, ...], sides: tuple[int, ...],
    conv: tuple[int, ...], told: tuple[int, ...], dropout: float,
) -> Level:  # fmt: skip
    first, second = jax.random.split(key)
    channels, pixels = channels_of(data.shape), math.prod(size)
    shape = (*size, channels)
    critic = Critic.init(second, pixels * channels + classes, told, dropout=(0.0, dropout), conv=conv, shape=shape)
    return Level(Residual.init(first, size, channels, classes, residual, sides), critic, size, pixels)
