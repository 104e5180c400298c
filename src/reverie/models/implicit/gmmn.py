r"""Generative moment matching network: a generator whose draws have the data's moments, all of them.

.. math:: \mathcal L = \sqrt{\mathrm{MMD}^2}, \qquad
          \mathrm{MMD}^2 = \frac1{N^2}\sum_{i,j} k(x_i, x_j) - \frac2{NM}\sum_{i,j} k(x_i, y_j)
          + \frac1{M^2}\sum_{i,j} k(y_i, y_j), \qquad k(x, y) = \sum_s e^{-\|x - y\|^2/(2s)},

the maximum mean discrepancy of a batch of rows x and as many draws y, zero in expectation of large batches only where
the laws agree.  There is no adversary: one player descends it by gradient.  Batches must be large, since the error
couples all of a batch and a small one sees few of the data's modes.

Rows lie near a surface of few dimensions, where distances between codes say more than distances between pixels.  With
`code` an autoencoder is learnt first (each layer alone if wanted, then all together, with shares of the encoder's
inputs left out), and the generator matches the law of its codes; a draw is decoded.  The codes lie in [0, 1], as all
layers are of sigmoids.

The published widths s are *squared* lengths ("sigma" in the code).  What suits the pixels of one data set suits no
other, so by default they are multiples of the batch's own mean squared distance (`relative`).

There is no likelihood: rows are judged by Parzen windows, and by annealing through the generator.

Traps: the square root has no slope at zero, so its gradient is that of MMD² over :math:`2\sqrt{\cdot} + 10^{-10}`;
with widths far from the data's distances every kernel is 0 or 1 and nothing is learnt; a batch of 1,000 rows is a
matrix of 1,000 x 1,000 per width.

References: Li, Swersky & Zemel, *Generative Moment Matching Networks*, 2015; Dziugaite, Roy & Ghahramani, *Training
Generative Neural Networks via Maximum Mean Discrepancy Optimization*, 2015; Gretton et al., *A Kernel Two-Sample
Test*, 2012.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from reverie.evaluate.claims import Claim, Paper, on_frey_faces, on_toronto_faces
from reverie.evaluate.mmd import mmd2, squared_distances
from reverie.evaluate.parzen import validator
from reverie.models.implicit import _codes as codes
from reverie.models.implicit import _play as play
from reverie.models.implicit._codes import Autoencoder, Coder
from reverie.models.implicit._nets import Generator, Rows, check, classes_of, seen
from reverie.models.implicit._priors import Prior
from reverie.prob.contracts import Given
from reverie.train.draws import minibatch
from reverie.train.optimise import Adam, steepest
from reverie.train.optimise import schedule as falling
from reverie.train.recipe import Brief, Player, Recipe

PAPER = Paper(
    title="Generative Moment Matching Networks",
    authors="Yujia Li, Kevin Swersky and Richard Zemel",
    year=2015,
    venue="ICML",
    bibtex="""@inproceedings{li2015generative,
  title = {Generative Moment Matching Networks},
  author = {Li, Yujia and Swersky, Kevin and Zemel, Richard},
  booktitle = {International Conference on Machine Learning},
  year = {2015}
}""",
)

#: The released configurations for MNIST: 40,000 steps of 1,000 rows of 50,000, on pixels and on codes.
_PAPER: dict[str, Any] = {
    "latent": 10, "hidden": (64, 256, 256, 1024), "optimiser": "sgd", "rate": 2.0, "batch": 1000, "select": "last",
    "relative": False, "widths": (2.0, 5.0, 10.0, 20.0, 40.0, 80.0), "epochs": 800,
}  # fmt: skip
_PAPER_CODE: dict[str, Any] = {
    **_PAPER, "code": (1024, 32), "widths": (1.0,),
    "autoencoder": {"epochs": 6, "greedy": 6, "rate": 0.1, "optimiser": "sgd", "dropout": (0.2, 0.5), "batch": 100},
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 600},
    "pixels": {"code": ()},
    "paper": _PAPER_CODE,
    "paper-pixels": _PAPER,
}

TINY = {"latent": 5, "hidden": (32,), "code": (32, 6), "autoencoder": {"epochs": 60, "rate": 0.01}, "batch": 100,
        "epochs": 30}  # fmt: skip

#: What a core can do in a quarter of an hour.  Smaller batches, of which it takes ten times as many; with the
#: published dropout, without which windows around the decoded codes lose 70 nats.
_CPU: dict[str, Any] = {
    "widths": (0.05, 0.1, 0.25, 0.5, 1.0), "relative": True, "optimiser": "adam", "rate": 1e-3, "schedule": "cosine",
    "batch": 300, "select": "average",
    "autoencoder": {"epochs": 30, "greedy": 0, "rate": 1e-3, "optimiser": "adam", "dropout": (0.2, 0.5)},
    "epochs": 200,
}  # fmt: skip

_DIGITS = Claim(
    table="parzen", row="GMMN+AE", column="mnist", published=282.0, source="text", metric="parzen", data="mnist",
    binarisation="means", settings={name: value for name, value in _PAPER_CODE.items() if name != "epochs"},
    epochs=_PAPER["epochs"], evaluation={"estimator": "parzen", "samples": 10_000}, kind="estimate",
    budgets={
        "smoke": {**_CPU, "hidden": (20,), "code": (20, 5), "batch": 100, "epochs": 0.2, "valid_every": 100.0,
                  "autoencoder": {"epochs": 0.1, "greedy": 0, "rate": 1e-3, "optimiser": "adam"},
                  "evaluation": {"estimator": "parzen", "samples": 500, "rows": 200}},
        "cpu": _CPU,
        "paper": {},
    },
    notes=("windows",),
)  # fmt: skip
CLAIMS: tuple[Claim, ...] = (
    _DIGITS,
    on_toronto_faces(_DIGITS, 2204.0, "text", "tfd-transposed"),
    on_frey_faces(_DIGITS, batch=200, epochs=1000, autoencoder={**_CPU["autoencoder"], "epochs": 300}),
)


class GMMN(Generator):
    """A generator of rows, or of codes that are decoded; see the module's page.

    Attributes:
        generator: of z (and the class).
        coder: the autoencoder; None where rows are matched themselves.
    """

    generator: Rows
    coder: Coder | None

    def mean(self, z: Float[Array, " n"], given: Given = None) -> Float[Array, " D"]:
        """Return the generator's row of the noise, or its code's decoded."""
        found = self.generator(self.joined(self.prior(z, given), given))
        return found if self.coder is None else self.coder.decode(found)


class CodedGMMN(GMMN):
    """A generator of codes, which rows have too: those of the autoencoder."""

    coder: Coder

    def code_of(self, z: Float[Array, " n"], given: Given = None) -> Float[Array, " d"]:
        """Return the code that noise stands for."""
        return self.generator(self.joined(self.prior(z, given), given))

    def decode(self, code: Float[Array, " d"], given: Given = None) -> Float[Array, " D"]:
        """Return the autoencoder's row of a code."""
        return self.coder.decode(code)

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " d"]:
        """Return the autoencoder's code of a row."""
        return self.coder.encode(jnp.where(jnp.isnan(x), 0.0, x))


def matching(widths: tuple[float, ...], relative: bool) -> Any:
    """Return the objective: the root of the discrepancy between a batch of rows (or codes) and as many draws."""

    def objective(model: GMMN, batch: dict[str, Any], carry: Any, key: PRNGKeyArray) -> tuple[Array, Any, dict]:
        (rows, there), given = seen(batch["x"]), batch["given"]
        drawn = model.generator(model.joined(model.latents(key, len(rows), given), given))
        if model.coder is None:
            drawn = drawn * there
        else:
            rows = model.coder.encode(rows)
        scale = jax.lax.stop_gradient(squared_distances(rows, rows).mean()) if relative else 1.0
        squares = mmd2(rows, drawn, scale * jnp.asarray(widths), "biased", None if given is None else (given, given))
        return root(squares), carry, {"mmd2": squares}

    return objective


@jax.custom_jvp
def root(squares: Float[Array, ""]) -> Float[Array, ""]:
    r"""Return :math:`\sqrt{\max(m, 0)}`, with the slope :math:`1/(2\sqrt m + 10^{-10})`, finite at zero."""
    return jnp.sqrt(jnp.maximum(squares, 0.0))


@root.defjvp
def _root_slope(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    value = root(at[0])
    return value, along[0] / (2.0 * value + 1e-10)


def _published(rate: float, steps: int) -> optax.GradientTransformation:
    """Return gradient descent at a tenth of the rate, with a tenth of the friction, after a quarter of the plan."""
    late = lambda step: step >= steps / 4  # noqa: E731
    plan = lambda step: jnp.where(late(step), 0.1 * rate, rate)  # noqa: E731
    return steepest(plan, lambda step: jnp.where(late(step), 0.99, 0.9), 1.0)


def recipe(
    brief: Brief,
    *,
    latent: int = 10,
    hidden: tuple[int, ...] = (64, 256, 256),
    code: tuple[int, ...] = (256, 24),
    autoencoder: Autoencoder = Autoencoder(),
    conditional: bool = False,
    widths: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0),
    relative: bool = True,
    optimiser: play.Optimiser = "adam",
    rate: float = 1e-3,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    batch: int = 300,
    select: Literal["best", "last", "average"] = "average",
    average: float | None = None,
    valid_every: float | None = None,
) -> tuple[GMMN, Recipe]:
    """Return an untrained moment matching network and how to train it.

    Args:
        latent: numbers in z, each uniform on [-1, 1].
        hidden: widths of the generator's rectified layers, from z on.
        code: widths of an autoencoder's layers, from the data upwards, the code last; none matches rows themselves.
        autoencoder: how it is learnt, before the generator.
        conditional: model p(x | class), by the discrepancy of rows and classes; the data must have classes.
        widths: of the kernel's terms, squared lengths.
        relative: they are multiples of a batch's mean squared distance.
        optimiser: Adam, or the published descent, which slows down after a quarter of the plan.
        rate: learning rate.
        schedule: how Adam's falls over the planned epochs.
        batch: rows per step, and draws.
        select: which weights count: best on validation, last, or an exponential average.
        average: decay of that average, by step (default: it spans a twentieth of the plan).
        valid_every: epochs between validations (default: a tenth of the plan).
    """
    data, classes = brief.data, classes_of(brief.data, conditional)
    batch = min(batch, data.size("train"))
    check(data, "a gmmn", batch, {"hidden": hidden}, rate=rate, widths=min(widths, default=0.0))
    codes.check(autoencoder, code, data)
    first, second = jax.random.split(brief.key)
    real = data.likelihood == "gaussian"
    coder = Coder.init(second, (data.width, *code), real, data.mean) if code else None
    out, bias = (real, data.mean) if coder is None else (False, jnp.full(code[-1], 0.5))
    generator = Rows.init(first, latent + classes, hidden, "relu", out, bias)
    law = Prior("uniform", latent)
    model = GMMN(law, classes, generator, None) if coder is None else CodedGMMN(law, classes, generator, coder)
    steps = brief.steps(batch)
    keep = play.span(average, steps)
    how = Adam()(falling(schedule, rate, steps)) if optimiser == "adam" else _published(rate, steps)

    def main() -> Recipe:
        player = Player(how, matching(widths, relative), moves=lambda path: path.startswith("generator."))
        return Recipe(
            draw=minibatch(data, batch, conditional), players=(player,), batch=batch, select=select, average=keep,
            validate=validator(), valid_every=brief.valid_every(valid_every),
        )  # fmt: skip

    return model, main() if coder is None else codes.stages(model, data, autoencoder, main)
