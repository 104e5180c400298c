r"""VAE whose decoder reads an external memory (MEM-VAE; with k samples, MEM-IWAE).

Abstract features good for inference lose the detail that generation needs; here the P-net recovers detail from a
memory that is trained by gradient, while the Q-net stays an ordinary encoder.  After a deterministic layer of the
decoder with output :math:`h_g`,

.. math:: h_a = f(A^\top h_g + b_A),\qquad h_m = M h_a,\qquad h_{out} = \mathrm{ReLU}(\mathrm{combine}(h_g, h_m)),

f a sigmoid or a softmax over slots, *combine* a sum or the element-wise gate
:math:`a + b_1\sigma(c)` with :math:`a = a_1 + a_2 h_m + a_3 h_g + a_4 h_g h_m` and c alike (nine coefficients a unit;
the block starts as the identity on :math:`h_g`).  Layers are batch-normalised.  A local reconstruction term ties
each decoder layer to the encoder layer of the same width,

.. math:: \text{loss} = -\mathcal L_k + \sum_l \lambda\,\overline{(e_l - d_l)^2},

:math:`e_l` the normalised pre-activation of the encoder layer and :math:`d_l` the normalised output of the decoder
layer, averaged over the k samples; no gradient is stopped.

With ``slots=(0, 0)`` this is the plain batch-normalised VAE that the paper compares with.

References: Li, Zhu & Zhang, *Learning to Generate with Memory*, ICML 2016 (the published slides print the gate with
a_2 and a_3 as here; the authors' code has them the other way round).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.evaluate.claims import Claim, Paper
from reverie.models.directed._gaussian import LayeredGaussian, build
from reverie.models.directed._training import Penalty, directed_recipe
from reverie.models.directed.vae import Schedule, Surrogate
from reverie.nn.blocks import Trace, standardise
from reverie.nn.laws import expectation
from reverie.nn.memory import MemoryBlock
from reverie.prob.contracts import Given
from reverie.train.optimise import Adam
from reverie.train.recipe import Brief, Recipe

PAPER = Paper(
    title="Learning to Generate with Memory",
    authors="Chongxuan Li, Jun Zhu and Bo Zhang",
    year=2016,
    venue="ICML",
    bibtex="""@inproceedings{li2016learning,
  title = {Learning to Generate with Memory},
  author = {Li, Chongxuan and Zhu, Jun and Zhang, Bo},
  booktitle = {International Conference on Machine Learning},
  year = {2016},
  note = {arXiv:1602.07416}
}""",
)

_PAPER_ADAM = {"epsilon": 1e-4, "clip_norm": 5.0, "clip_element": 1.0}

PRESETS = {
    "fast": {"epochs": 100},
    "paper": {"epochs": 3000, "batch": 100, "schedule": "mem", "select": "last", "adam": _PAPER_ADAM},
    "slots": {"attention": "softmax", "combination": "sum"},
    "letters": {"latent": (50,), "hidden": ((200, 200),)},
    "digits": {"latent": (16,), "hidden": ((100, 100),), "slots": (20, 10), "batch": 50, "schedule": "steps",
               "epochs": 200},
}  # fmt: skip

TINY = {"latent": (4,), "hidden": ((16, 16),), "slots": (5, 3), "batch": 20, "epochs": 30, "rate": 5e-3,
        "valid_samples": 10}  # fmt: skip


def _claim(column: str, row: str, published: float, k: int, memory: bool) -> Claim:
    letters = column == "ocr-letters"
    size = (
        {"latent": (50,), "hidden": ((200, 200),)}
        if letters
        else {"latent": (100,), "hidden": ((500, 500),) if memory else ((530, 530),)}
    )
    settings = {
        **size,
        "slots": (70, 30) if memory else (0, 0),
        "local": 0.1 if memory else 0.0,
        "k": k,
        "surrogate": "iwae",
        "batch": 100,
        "schedule": "mem",
        "select": "last",
        "adam": _PAPER_ADAM,
    }
    samples = 100_000 if letters else 5000
    # A fraction of the paper's updates: larger steps, averaged weights, the quieter gradient of the same bound.
    fast = {"rate": 3e-3, "schedule": "cosine", "select": "average", "adam": {}, "valid_every": 20.0,
            "surrogate": "stl" if k == 1 else "dreg"}  # fmt: skip
    return Claim(
        table="density",
        row=row,
        column=column,
        published=published,
        source="deck",
        data=column,
        split_rule="file" if letters else "mem",
        binarisation="as-is" if letters else "dynamic",
        settings=settings,
        epochs=3000,
        evaluation={"estimator": "importance", "samples": samples},
        budgets={
            "smoke": {"epochs": 1, "evaluation": {"estimator": "importance", "samples": 50, "rows": 200}},
            "cpu": {
                **fast,
                "epochs": 1000 if letters else 60,
                "evaluation": {"estimator": "importance", "samples": 5000},
            },
            "paper": {},
        },
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    _claim("ocr-letters", "VAE", -30.09, 1, False),
    _claim("ocr-letters", "MEM-VAE", -29.09, 1, True),
    _claim("mnist", "VAE", -85.69, 1, False),
    _claim("mnist", "MEM-VAE", -84.41, 1, True),
    _claim("ocr-letters", "IWAE-5", -28.69, 5, False),
    _claim("ocr-letters", "MEM-IWAE-5", -27.65, 5, True),
    _claim("mnist", "IWAE-5", -84.43, 5, False),
    _claim("mnist", "MEM-IWAE-5", -83.26, 5, True),
    _claim("ocr-letters", "IWAE-50", -27.60, 50, False),
    _claim("ocr-letters", "MEM-IWAE-50", -26.90, 50, True),
    _claim("mnist", "IWAE-50", -83.58, 50, False),
    _claim("mnist", "MEM-IWAE-50", -82.84, 50, True),
)


class MemVAE(LayeredGaussian):
    """A chain of Gaussian layers whose data net reads memories; see the module's page."""

    @property
    def memories(self) -> dict[str, MemoryBlock]:
        """The memory blocks by path, from the top down."""
        blocks = enumerate(self.p[0].trunk)
        return {f"p.0.trunk.{i}": block for i, block in blocks if isinstance(block, MemoryBlock)}

    def memory_trace(
        self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None
    ) -> dict[str, dict[str, Array]]:
        """Return ``attention`` (slots,) and ``read`` (width,) of each memory layer for one row."""
        inside = self.trace(key, x, given)
        return {name: {part: inside[name][part] for part in ("attention", "read")} for name in self.memories}

    def slot_image(self, layer: str, slot: int | Int[Array, ""]) -> Float[Array, " D"]:
        """Return E[x] when `slot` alone is read at `layer` and the layer itself is silent (h_g = 0)."""
        at = int(layer.rsplit(".", 1)[1])
        block = self.p[0].trunk[at]
        alone = jnp.zeros(block.slots.shape[0]).at[slot].set(1.0)
        x, _ = block.combine(jnp.zeros(block.slots.shape[1]), alone)
        for above in self.p[0].trunk[at + 1 :]:
            x, _ = above(x)
        return expectation(self.p[0].head(x))

    def silence(self, layer: str, slot: int) -> MemVAE:
        """Return the model with one slot of `layer` emptied, so that reading it adds nothing."""
        return self._with(layer, lambda block: replace(block, slots=block.slots.at[slot].set(0.0)))

    def disable(self, layer: str, read: float) -> MemVAE:
        """Return the model whose `layer` reads the constant `read` (the paper: 1, or 0) whatever it attends to."""
        return self._with(layer, lambda block: replace(block, read_as=read))

    def _with(self, layer: str, change: Any) -> MemVAE:
        at = int(layer.rsplit(".", 1)[1])
        return eqx.tree_at(lambda m: m.p[0].trunk[at], self, change(self.p[0].trunk[at]))


def recipe(
    brief: Brief,
    *,
    latent: tuple[int, ...] = (100,),
    hidden: tuple[tuple[int, ...], ...] = ((500, 500),),
    slots: tuple[int, ...] = (70, 30),
    attention: Literal["sigmoid", "softmax"] = "sigmoid",
    combination: Literal["gate", "sum"] = "gate",
    local: float = 0.1,
    conditional: bool = False,
    surrogate: Surrogate = "iwae",
    k: int = 1,
    warmup: float = 0.0,
    batch: int = 100,
    rate: float = 1e-3,
    schedule: Schedule = "cosine",
    adam: Adam = Adam(),
    select: Literal["best", "last", "average"] = "best",
    valid_every: float | None = None,
    valid_samples: int = 100,
) -> tuple[MemVAE, Recipe]:
    """Return an untrained MEM-VAE and how to train it.

    Args:
        latent: widths of the stochastic layers, from the data upwards.
        hidden: widths of the deterministic layers below each stochastic one (mirrored in the decoder).
        slots: memory slots of each decoder layer, the one nearest the data first; 0 is no memory.
        attention: independent sigmoids, or a softmax over slots (for looking at slots).
        combination: how the read joins the layer: the nine-coefficient gate, or a sum.
        local: weight of the local reconstruction terms; 0 is none.
        conditional: model p(x | class); the data must have classes.
        surrogate: what is ascended (iwae with k=1 is the ELBO).
        k: samples of h per row; with more than one this is a MEM-IWAE.
        warmup: epochs over which the KL term's weight grows from 0.
        batch: rows per step.
        rate: learning rate.
        schedule: how it falls over the planned epochs.
        adam: the optimiser's further numbers.
        select: which weights count: best on validation, last, or an exponential average.
        valid_every: epochs between validations (default: a fiftieth of the plan).
        valid_samples: importance samples of the validation log-likelihood.
    """
    model = assemble(brief.key, brief.data, latent, hidden, slots, attention, combination, conditional)
    weights = [local] * len(hidden[0]) if local else []
    return model, directed_recipe(
        brief, conditional=conditional, surrogate=surrogate, k=k, beta=1.0, warmup=warmup, batch=batch, rate=rate,
        schedule_name=schedule, adam=adam, select=select, valid_every=valid_every, valid_samples=valid_samples,
        norm=True, penalty=local_reconstruction(weights) if weights else None,
    )  # fmt: skip


def assemble(
    key: PRNGKeyArray,
    data: Dataset,
    latent: tuple[int, ...],
    hidden: tuple[tuple[int, ...], ...],
    slots: tuple[int, ...],
    attention: str,
    combination: str,
    conditional: bool = False,
) -> MemVAE:
    """Return an untrained model.

    Raises:
        ReverieError: when `slots` does not give one number per decoder layer.
    """
    first, second = jax.random.split(key)
    model = build(MemVAE, first, data, latent, hidden, "relu", True, 0.5, conditional)
    trunk = model.p[0].trunk
    if len(slots) != len(trunk):
        raise ReverieError(f"slots: {len(slots)} numbers for {len(trunk)} decoder layers; give one each, 0 for none")
    if min(slots) < 0:
        raise ReverieError("slots: a number of slots cannot be negative; 0 is no memory")
    keys = jax.random.split(second, len(trunk))
    blocks = tuple(
        MemoryBlock.init(k, dense, n, attention, combination) if n else dense
        for k, dense, n in zip(keys, trunk, reversed(slots), strict=True)
    )
    return eqx.tree_at(lambda m: m.p[0].trunk, model, blocks)  # type: ignore[no-any-return]


def local_reconstruction(weights: list[float]) -> Penalty:
    r"""Return the penalty :math:`\sum_l \lambda_l\,\overline{(e_l - d_l)^2}` of one sample's trace, layer 0 nearest
    the data; to be called under the mapped axes ``batch`` and ``samples``."""

    def penalty(inside: dict[str, Trace]) -> Float[Array, ""]:
        top, total = len(weights) - 1, jnp.zeros(())
        for layer, weight in enumerate(weights):
            up = inside[f"q.0.trunk.{layer}"]["normal"]
            down = standardise(inside[f"p.0.trunk.{top - layer}"]["out"], ("batch", "samples"), 1e-10)
            # Averaged over the samples first: the term asks for the mean read-back, not for each sample's.
            total += weight * jnp.mean((up - jax.lax.pmean(down, "samples")) ** 2)
        return total

    return penalty
