r"""The net of all autoencoders: layers up to a code and down again, and what is wanted of the code besides.

.. math:: a^0 = x, \qquad a^l = s(a^{l-1} W_l + c_l), \qquad z = s_z(a^{L-1} W_L + c_L), \qquad
          \tilde a^L = z, \quad \tilde a^{l-1} = s(\tilde a^l V_l + b_{l-1}),

:math:`V_l = W_l^\top` throughout where the weights are tied.  The squared Frobenius norm of the code's Jacobian is
:math:`\lVert D_L W_L^\top \cdots D_1 W_1^\top\rVert_F^2`, D the diagonal of the units' slopes: for one layer
:math:`\sum_j s'^2_j \sum_i W_{ij}^2`, and for several the product is taken from the code downwards, whose last factor
:math:`W_1^\top W_1` no row changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.nn.blocks import ACTIVATIONS, glorot_uniform, host_random
from reverie.nn.units import Binary
from reverie.prob.contracts import Given, Judged
from reverie.train.recipe import Brief

UnitsName = Literal["sigmoid", "relu", "tanh", "linear"]
N = TypeVar("N", bound="Net")
#: The derivative of each kind of unit, from its output.
SLOPES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda h: h * (1.0 - h),
    "tanh": lambda h: 1.0 - h**2,
    "relu": lambda h: (h > 0).astype(h.dtype),
    "linear": jnp.ones_like,
}
#: The least and the greatest value of a kind of unit, where there are such.
ENDS: dict[str, tuple[float, float]] = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


@dataclass(frozen=True)
class Corruption:
    """What is done to rows that are to be given back clean.

    Args:
        kind: ``masking`` sets cells to 0 (of real columns the mean), ``salt-and-pepper`` to their least or greatest
            value, ``gaussian`` adds normal noise to all.
        level: share of the cells, or the noise's standard deviation.
    """

    kind: Literal["none", "masking", "salt-and-pepper", "gaussian"] = "none"
    level: float = 0.3

    def check(self) -> None:
        """Refuse numbers that make no sense."""
        if self.kind != "none" and not 0 < self.level < (float("inf") if self.kind == "gaussian" else 1):
            wants = "a positive standard deviation" if self.kind == "gaussian" else "a share between 0 and 1"
            raise ReverieError(f"corruption.level: {self.level:g} does not do for {self.kind}; give {wants}")

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "*n"], ends: tuple[float, float] = (0.0, 1.0)
    ) -> Float[Array, "*n"]:
        """Return x corrupted; `ends` are a cell's least and greatest value."""
        if self.kind == "none":
            return x
        if self.kind == "gaussian":
            return x + self.level * jax.random.normal(key, x.shape, x.dtype)
        # One number says whether a cell is hit and by what.
        u = jax.random.uniform(key, x.shape, x.dtype)
        low, high = (0.0, 0.0) if self.kind == "masking" else ends
        return jnp.where(u < 0.5 * self.level, low, jnp.where(u < self.level, high, x))


def strongest(z: Float[Array, " n"], keep: int | Int[Array, ""], most: int | None = None) -> Float[Array, " n"]:
    """Return z with its `keep` largest numbers as they are and 0 for the others; of equal ones the first stay.

    Gradients go through those that are kept alone.

    Args:
        most: the largest `keep` there may be, where that is traced.
    """
    most = int(keep) if most is None else most
    _, order = jax.lax.top_k(z, most)
    on = (jnp.arange(most) < keep).astype(z.dtype)
    return z * jax.lax.stop_gradient(jnp.zeros_like(z).at[order].set(on))


class Net(Judged):
    """An autoencoder's layers; see the file's page.

    Attributes:
        up, up_biases: :math:`W_l` and :math:`c_l`, from the data upwards.
        down, down_biases: :math:`V_l` and :math:`b_{l-1}`, from the data upwards too; no `down` where tied.
        real: whether rows come back linear, by their squared error, rather than as means of pixels.
        units, code_units: what the hidden layers and the code are made of.
        keep: numbers of the code that are not 0, the largest; 0 keeps all.
        wide: `encode` keeps so many times more.
        corruption: what rows are given back from, clean.
    """

    up: tuple[Float[Array, "_ _"], ...]
    up_biases: tuple[Float[Array, " _"], ...]
    down: tuple[Float[Array, "_ _"], ...]
    down_biases: tuple[Float[Array, " _"], ...]
    real: bool = eqx.field(static=True)
    units: str = eqx.field(static=True, default="sigmoid")
    code_units: str = eqx.field(static=True, default="linear")
    keep: int = eqx.field(static=True, default=0)
    wide: float = eqx.field(static=True, default=1.0)
    corruption: Corruption = eqx.field(static=True, default=Corruption())

    @property
    def depth(self) -> int:
        """L, the number of layers above the data, the code among them."""
        return len(self.up)

    @property
    def code_width(self) -> int:
        """Numbers of a code."""
        return self.up_biases[-1].size

    @property
    def components(self) -> int:
        """Principal components to stand beside it; there is no such attribute where they would lose nothing."""
        if self.code_width >= self.down_biases[0].size:
            raise AttributeError("components: a code as wide as a row")
        return self.code_width

    @property
    def decoder(self) -> tuple[Float[Array, "_ _"], ...]:
        """The weights downwards, tied or not."""
        return self.down or tuple(w.T for w in self.up)

    @property
    def metrics(self) -> dict[str, str]:
        # Of a row, summed over its cells: pixels are in [0, 1], columns scaled to variance one.
        plain = {"squared_error": "squares"}
        noisy = {"denoising_error": "squares", **plain, "corrupted_error": "squares"}
        return plain if self.corruption.kind == "none" else noisy

    @property
    def drawn(self) -> tuple[str, ...]:
        return () if self.corruption.kind == "none" else ("denoising_error", "corrupted_error")

    @property
    def supervised(self) -> bool:
        return False

    def units_at(self, layer: int) -> str:
        """Return what layer `layer` is made of; the data's is 0."""
        return self.code_units if layer == self.depth else self.units

    def lifted(
        self, a: Float[Array, " n"], layer: int, keep: tuple[Int[Array, ""], int] | int | None = None
    ) -> Float[Array, " m"]:
        """Return layer `layer` + 1 from layer `layer`.

        Args:
            keep: numbers of the code to keep (default: the net's own), or how many now and the most there ever are.
        """
        field = a @ self.up[layer] + self.up_biases[layer]
        out = ACTIVATIONS[self.units_at(layer + 1)](field)
        if not self.keep or layer + 1 < self.depth:
            return out
        return strongest(out, *keep) if isinstance(keep, tuple) else strongest(out, keep or self.keep)

    def layers(self, x: Float[Array, " D"], keep: Any = None) -> list[Float[Array, " _"]]:
        """Return the layers above a row, the code last."""
        a, found = jnp.where(jnp.isnan(x), 0.0, x), []
        for layer in range(self.depth):
            a = self.lifted(a, layer, keep)
            found.append(a)
        return found

    def encode(self, x: Float[Array, " D"], given: Given = None) -> Float[Array, " k"]:
        """Return the code."""
        return self.layers(x, min(self.code_width, round(self.wide * self.keep)))[-1]

    def fields(self, code: Float[Array, " k"]) -> Float[Array, " D"]:
        r"""Return what :math:`\hat x` is the sigmoid of; where it is linear, itself."""
        a, down = code, self.decoder
        for layer in reversed(range(1, self.depth)):
            a = ACTIVATIONS[self.units](a @ down[layer] + self.down_biases[layer])
        return a @ down[0] + self.down_biases[0]

    def decode(self, code: Float[Array, " k"], given: Given = None) -> Float[Array, " D"]:
        r"""Return :math:`\hat x` of a code."""
        fields = self.fields(code)
        return fields if self.real else jax.nn.sigmoid(fields)

    def reconstruct(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> Float[Array, " D"]:
        r"""Return :math:`\hat x`; nothing is drawn, and a noisy row comes back without its noise."""
        return self.decode(self.layers(x)[-1])

    def judge(self, x: Float[Array, " D"], given: Given = None) -> dict[str, Float[Array, ""]]:
        return {"squared_error": _squares(x, self.decode(self.layers(x)[-1]))}

    def judge_drawn(self, key: PRNGKeyArray, x: Float[Array, " D"], given: Given = None) -> dict[str, Array]:
        if not self.drawn:
            return {}
        noisy = self.corruption(key, x)
        back = self.decode(self.layers(noisy)[-1])
        return {"denoising_error": _squares(x, back), "corrupted_error": _squares(x, noisy)}

    @property
    def activation(self) -> str:
        """What the layers of `feed_forward` are made of; a code of few strong numbers is taken for rectified units."""
        top = "relu" if self.keep else self.code_units
        return top if self.depth == 1 else self.units

    def feed_forward(self) -> tuple[tuple[Array, Array], ...]:
        """Return the layers of features: those below the code, and it too where it is made of the same units.

        Raises:
            ReverieError: where all are linear.
        """
        same = ("relu" if self.keep else self.code_units) == self.activation
        found = tuple(zip(self.up, self.up_biases, strict=True))
        found = found if same else found[:-1]
        if self.activation == "linear":
            raise ReverieError("classify: this autoencoder's layers are linear; train one with --code-units sigmoid")
        return found

    def filters(self) -> Float[Array, "F D"]:
        """Return what each unit of the first hidden layer adds to a row's fields where it is on."""
        return self.decoder[0]

    def layer_filters(self) -> list[Float[Array, "_ D"]]:
        """Return the filters of every layer, those below weighted by what a unit sends to them."""
        found = [self.decoder[0]]
        for weights in self.decoder[1:]:
            found.append(weights @ found[-1])
        return found

    def unrolled(self: N) -> N:
        """Return the net whose way down has the weights of the way up."""
        return self if not self.down else replace(self, down=tuple(w.T for w in self.up))


def _squares(x: Float[Array, " D"], back: Float[Array, " D"]) -> Float[Array, ""]:
    return (jnp.where(jnp.isnan(x), 0.0, x - back) ** 2).sum()


def contraction(
    weights: list[Float[Array, "_ _"]], slopes: list[Float[Array, " _"]], key: PRNGKeyArray | None = None
) -> Float[Array, ""]:
    r"""Return :math:`\lVert J\rVert_F^2` of layers at one row, or without bias an estimate of it.

    Args:
        weights, slopes: of the layers, from the data upwards: (n_{l-1}, n_l) and (n_l,).
        key: draws v ~ N(0, I), and :math:`\lVert J^\top v\rVert^2` is returned (Hutchinson).
    """
    if key is not None:
        pulled = jax.random.normal(key, slopes[-1].shape, slopes[-1].dtype)
        for w, s in zip(reversed(weights), reversed(slopes), strict=True):
            pulled = w @ (s * pulled)
        return (pulled**2).sum()
    if len(weights) == 1:
        return slopes[0] ** 2 @ (weights[0] ** 2).sum(axis=0)
    rows = jnp.diag(slopes[-1])
    for w, s in zip(reversed(weights[1:]), reversed(slopes[:-1]), strict=True):
        rows = (rows @ w.T) * s
    return ((rows @ (weights[0].T @ weights[0])) * rows).sum()


def slopes_of(model: Net, layers: list[Float[Array, " _"]]) -> list[Float[Array, " _"]]:
    """Return the slopes of the units of each layer of one row, from what they are."""
    return [SLOPES[model.units_at(number)](a) for number, a in enumerate(layers, 1)]


def untrained(
    brief: Brief, kind: type[N], widths: tuple[int, ...], *, small: bool = False, tied: bool = False,
    real: bool | None = None, **more: Any,
) -> N:  # fmt: skip
    """Return random weights, the lowest bias at the data's means.

    Args:
        widths: of all layers, the data's first.
        small: normal weights as machines begin with, not Glorot's.
        real: rows come back linear (default: those of real values do).
        more: of the net.
    """
    data = brief.data
    gaussian = data.likelihood == "gaussian"
    real = gaussian if real is None else real
    keys = jax.random.split(brief.key, 2 * len(widths))

    def drawn(key: PRNGKeyArray, a: int, b: int) -> Array:
        if small:
            return jnp.asarray(0.1 * host_random(key).standard_normal((a, b)), jnp.float32)
        return glorot_uniform(key, a, b)

    shapes = list(pairwise(widths))
    up = tuple(drawn(key, a, b) for key, (a, b) in zip(keys[::2], shapes, strict=False))
    down = () if tied else tuple(drawn(key, b, a) for key, (a, b) in zip(keys[1::2], shapes, strict=False))
    start = np.zeros(data.width) if gaussian else data.mean
    lowest = jnp.asarray(start, jnp.float32) if real else jnp.asarray(Binary().fitted_field(start, data.size("train")))
    return kind(
        up, tuple(jnp.zeros(n) for n in widths[1:]), down, (lowest, *(jnp.zeros(n) for n in widths[1:-1])), real, **more
    )  # fmt: skip


def check_rows(data: Dataset, name: str) -> None:
    """Refuse data that an autoencoder cannot give back; `name` is the model's."""
    if data.likelihood not in ("bernoulli", "gaussian"):
        raise ReverieError(
            f"likelihood: {'an' if name[0] == 'a' else 'a'} {name} gives back pixels or real values, not "
            f"{data.likelihood}; give --likelihood gaussian"
        )
    if data.missing and not data.whole:
        raise ReverieError(f"{data.name}: an autoencoder takes no missing cells; fill them in, or train a vae")


def check_widths(widths: tuple[int, ...], least: int) -> None:
    """Refuse widths that are none, the code's the last."""
    if len(widths) < least or min(widths) < 1:
        words = "one or more, such as 128,64, " if least > 1 else "positive widths or none "
        raise ReverieError(f"hidden, code: {widths} are no widths; give hidden {words}and a code")
