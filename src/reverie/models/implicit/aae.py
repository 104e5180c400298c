r"""Adversarial autoencoder: an autoencoder whose codes are made to look like draws of a law of one's choosing.

.. math:: z = q(x), \qquad \hat x = p(z), \qquad D(z) \text{ tells } z \sim p(z) \text{ from } z = q(x).

Three players take turns on the rows of a step.  The encoder and the decoder descend the error of :math:`\hat x`.  The
discriminator ascends :math:`\mathbb E_{p(z)} \log D(z) + \mathbb E_x \log(1 - D(q(x)))`.  The encoder then ascends
:math:`\mathbb E_x \log D(q(x))`.  Where nothing can be told apart the aggregated code law
:math:`\int q(z \mid x)\, p_d(x)\,dx` is p(z), and decoding draws of p(z) makes rows like the data's.

The encoder is a map (``deterministic``), or gives a normal law per row, :math:`z = \mu(x) + \sigma(x)\,\epsilon`
(``gaussian``).  p(z) is :math:`\mathcal N(0, s^2 I)`, or of another shape, for a code of few numbers: a ring of normal
laws or a swiss roll.  Draws start at standard normal noise, which is mapped to p(z).  With `conditional` the
discriminator is told the class, so that each class's codes fill p(z) (or a normal law of the ring of its own), and the
decoder is told it, too: the code is then what a class leaves open.

There is no likelihood: rows are judged by Parzen windows, and by annealing through the decoder.

Traps: a step of the encoder against the discriminator must leave the decoder where it was; codes on a scale that p(z)
has not are told apart at once, so a prior with a large spread needs a linear code and time; a decoder with much
capacity makes sharp rows out of codes that do not fill p(z).

References: Makhzani, Shlens, Jaitly, Goodfellow & Frey, *Adversarial Autoencoders*, 2015.
"""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper, on_frey_faces, on_toronto_faces
from reverie.evaluate.parzen import validator
from reverie.models.implicit import _play as play
from reverie.models.implicit._nets import Critic, Generator, Rows, check, classes_of, error, seen
from reverie.models.implicit._play import Descent
from reverie.models.implicit._priors import Law, Prior
from reverie.prob.contracts import Given
from reverie.train.draws import minibatch
from reverie.train.recipe import Brief, Player, Recipe

PAPER = Paper(
    title="Adversarial Autoencoders",
    authors="Alireza Makhzani, Jonathon Shlens, Navdeep Jaitly, Ian Goodfellow and Brendan Frey",
    year=2015,
    venue="arXiv:1511.05644",
    bibtex="""@article{makhzani2015adversarial,
  title = {Adversarial Autoencoders},
  author = {Makhzani, Alireza and Shlens, Jonathon and Jaitly, Navdeep and Goodfellow, Ian and Frey, Brendan},
  journal = {arXiv preprint arXiv:1511.05644},
  year = {2015}
}""",
)

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 300},
    "paper": {"code": 8, "spread": 5.0, "hidden": (1000, 1000), "discriminator_hidden": (1000, 1000),
              "optimiser": "sgd", "rate": 0.01, "adversarial_rate": 0.1, "descent": {"start": 0.9, "end": 0.9},
              "adversarial_descent": {"start": 0.1, "end": 0.1}, "reconstruction": "squared", "batch": 100,
              "schedule": "constant", "select": "last", "epochs": 1000},
    "picture": {"code": 2, "prior": "mixture", "spread": 5.0},
}  # fmt: skip

TINY = {"code": 3, "hidden": (32,), "discriminator_hidden": (32,), "batch": 50, "epochs": 20}

#: Half the squared error is what windows measure, too.
_CPU: dict[str, Any] = {
    "hidden": (1000, 1000), "discriminator_hidden": (500, 500), "spread": 1.0, "optimiser": "adam", "rate": 1e-3,
    "adversarial_rate": None, "reconstruction": "squared", "schedule": "cosine", "select": "average",
    "epochs": 100,
}  # fmt: skip

_DIGITS = Claim(
    table="parzen", row="AAE", column="mnist", published=340.0, source="text", metric="parzen", data="mnist",
    binarisation="means", settings={name: value for name, value in PRESETS["paper"].items() if name != "epochs"},
    epochs=None, evaluation={"estimator": "parzen", "samples": 10_000}, kind="estimate",
    budgets={
        "smoke": {**_CPU, "hidden": (50,), "discriminator_hidden": (50,), "epochs": 0.2, "valid_every": 100.0,
                  "evaluation": {"estimator": "parzen", "samples": 500, "rows": 200}},
        "cpu": _CPU,
        "paper": {"epochs": PRESETS["paper"]["epochs"]},
    },
    notes=("windows",),
)  # fmt: skip
CLAIMS: tuple[Claim, ...] = (
    _DIGITS,
    on_toronto_faces(_DIGITS, 2252.0, "text"),
    on_frey_faces(_DIGITS, epochs=600),
)


class AAE(Generator):
    """An autoencoder and the discriminator of its codes; see the module's page.

    Attributes:
        encoder: gives the code, or the means and log-scales of a normal law of it.
        decoder: gives rows of codes (and the class).
        discriminator: gives the log-odds that a code (with its class) is a draw of p(z).
        gaussian: whether the encoder gives a law.
    """

    encoder: Rows
    decoder: Rows
    discriminator: Critic
    gaussian: bool = eqx.field(static=True)

    def mean(self, z: Float[Array, " n"], given: Given = None) -> Float[Array, " D"]:
        """Return the decoder's row of the noise, mapped to p(z)."""
        return self.decode(self.code_of(z, given), given)

    def code_of(self, z: Float[Array, " n"], given: Given = None) -> Float[Array, " d"]:
        """Return the code that noise stands for."""
        return self.prior(z, given)

    def decode(self, code: Float[Array, " d"], given: Given = None) -> Float[Array, " D"]:
        """Return the decoder's row of a code."""
        return self.decoder(self.joined(code, given))

    def coded(self, rows: Float[Array, "*B D"], key: PRNGKeyArray | None = None) -> Float[Array, "*B d"]:
        """Return the codes of rows without holes: draws, where the encoder gives a law and a key is given."""
        found = self.encoder(rows)
        if not self.gaussian:
            return found
        mean, log_scale = jnp.split(found, 2, axis=-1)
        return mean if key is None else mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " d"]:
        """Return the code, the mean of its law where it has one."""
        return self.coded(jnp.where(jnp.isnan(x), 0.0, x))

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        """Return the decoder's row of a draw of the code."""
        return self.decoder(self.joined(self.coded(jnp.where(jnp.isnan(x), 0.0, x), key), given))


def reconstructing(squared: bool) -> Any:
    """Return the objective of encoder and decoder together: the error of what is given back."""

    def objective(model: AAE, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        rows, there = seen(batch["x"])
        fields = model.decoder.fields(model.joined(model.coded(rows, key), batch["given"]))
        loss, squares = error(rows, fields, there, model.decoder.real, squared)
        return loss, carry, {"squared_error": squares}

    return objective


def discriminating(model: AAE, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
    """Return the discriminator's objective: minus half of V of draws of p(z) and of codes."""
    drawn, coded, *dropped = jax.random.split(key, 4)
    rows, _ = seen(batch["x"])
    wanted = model.latents(drawn, len(rows), batch["given"])
    a = model.discriminator(model.joined(wanted, batch["given"]), dropped[0])
    b = model.discriminator(model.joined(model.coded(rows, coded), batch["given"]), dropped[1])
    info = {"value": play.value(a, b), "prior": jax.nn.sigmoid(a).mean(), "codes": jax.nn.sigmoid(b).mean()}
    return play.discriminator_loss(a, b), carry, info


def deceiving(model: AAE, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
    """Return the encoder's objective against the discriminator."""
    coded, dropped = jax.random.split(key)
    codes = model.coded(seen(batch["x"])[0], coded)
    b = model.discriminator(model.joined(codes, batch["given"]), dropped)
    return play.generator_loss(b, "non-saturating"), carry, {}


def recipe(
    brief: Brief,
    *,
    code: int = 8,
    hidden: tuple[int, ...] = (256, 256),
    discriminator_hidden: tuple[int, ...] = (256, 256),
    encoder: Literal["deterministic", "gaussian"] = "deterministic",
    prior: Law = "normal",
    spread: float = 1.0,
    components: int | None = None,
    conditional: bool = False,
    reconstruction: Literal["cross-entropy", "squared"] = "cross-entropy",
    dropout: float = 0.0,
    optimiser: play.Optimiser = "adam",
    rate: float = 1e-3,
    adversarial_rate: float | None = None,
    momentum: float = 0.5,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    descent: Descent = Descent(0.9, 0.9),
    adversarial_descent: Descent = Descent(0.1, 0.1),
    batch: int = 100,
    select: Literal["best", "last", "average"] = "average",
    average: float | None = None,
    valid_every: float | None = None,
) -> tuple[AAE, Recipe]:
    """Return an untrained adversarial autoencoder and how its players take turns.

    Args:
        code: numbers in a code.
        hidden: widths of the encoder's rectified layers, from the data upwards, mirrored in the decoder.
        discriminator_hidden: widths of the discriminator's, from the code on.
        encoder: a map, or a normal law of the code.
        prior: p(z).
        spread: its standard deviation, its half-width, or its radius.
        components: of a mixture (default: the number of classes, or 10).
        conditional: tell discriminator and decoder the class; the data must have classes.
        reconstruction: what is minimised of pixels; real values always have half the squared error.
        dropout: share of the discriminator's features left out at a step.
        optimiser: Adam, or gradient descent with momentum.
        rate: learning rate of the reconstruction.
        adversarial_rate: of the discriminator and of the encoder against it, where it is another.
        momentum: beta_1 of the adversaries' Adam.
        schedule: how rates fall over the planned epochs.
        descent: momentum and decay of the reconstruction's gradient descent.
        adversarial_descent: of the adversaries'.
        batch: rows per turn.
        select: which weights count: best on validation, last, or an exponential average.
        average: decay of that average, by step (default: it spans a twentieth of the plan).
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    theirs = rate if adversarial_rate is None else adversarial_rate
    data, classes = brief.data, classes_of(brief.data, conditional)
    check(data, "an aae", batch, {"hidden": hidden, "discriminator_hidden": discriminator_hidden},
          code=code, rate=rate, adversarial_rate=theirs)  # fmt: skip
    play.check_shares(dropout=dropout, momentum=momentum)
    descent.check("descent")
    adversarial_descent.check("adversarial_descent")
    law = _law(prior, code, spread, components, data.classes, conditional)
    model = _untrained(brief, law, classes, hidden, discriminator_hidden, encoder == "gaussian", dropout)
    steps, per_epoch = brief.steps(batch), data.size("train") / batch
    plan = (schedule, steps, per_epoch)
    adversary = lambda: play.optimiser(optimiser, theirs, *plan, adversarial_descent, momentum)  # noqa: E731
    return model, Recipe(
        draw=minibatch(data, batch, conditional),
        players=(
            Player(play.optimiser(optimiser, rate, *plan, descent, 0.9), reconstructing(reconstruction == "squared"),
                   moves=lambda path: path.startswith(("encoder.", "decoder."))),
            Player(adversary(), discriminating, moves=lambda path: path.startswith("discriminator.")),
            Player(adversary(), deceiving, moves=lambda path: path.startswith("encoder.")),
        ),
        batch=batch, select=select,
            average=play.span(average, steps), validate=validator(),
        valid_every=brief.valid_every(valid_every),
    )  # fmt: skip


def _law(law: Law, code: int, spread: float, components: int | None, classes: int, conditional: bool) -> Prior:
    count = components or classes or 10
    if law == "mixture" and conditional and count != classes:
        raise ReverieError(f"components: {count} for {classes} classes; leave it out, and each class has one")
    return Prior(law, code, spread, count if law == "mixture" else 0)


def _untrained(
    brief: Brief, law: Prior, classes: int, hidden: tuple[int, ...], theirs: tuple[int, ...], gaussian: bool,
    dropout: float,
) -> AAE:  # fmt: skip
    data, (first, second, third) = brief.data, jax.random.split(brief.key, 3)
    outputs = jnp.zeros(law.width * (2 if gaussian else 1))
    encoder = Rows.init(first, data.width, hidden, "relu", True, outputs)
    decoder = Rows.init(
        second, law.width + classes, hidden[::-1], "relu", data.likelihood == "gaussian", data.mean
    )  # fmt: skip
    critic = Critic.init(third, law.width + classes, theirs, dropout=(0.0, dropout))
    return AAE(law, classes, encoder, decoder, critic, gaussian)
