r"""Laws of the latent, each a map of standard normal noise.

Every latent is standard normal noise :math:`\epsilon`, mapped to the law that the generator hears: annealing through
the generator then moves in one smooth space, whatever that law is.

References: Makhzani, Shlens, Jaitly, Goodfellow & Frey, *Adversarial Autoencoders*, 2015.
"""

from __future__ import annotations

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reverie.errors import ReverieError
from reverie.prob.contracts import Given

Law = Literal["normal", "uniform", "mixture", "swiss-roll"]
#: Between a mixture's centres and the origin, and the spread of each component along its ray and across it.
_RING, _ALONG, _ACROSS = 1.0, 0.25, 0.05
#: The swiss roll: turns where it begins and ends (radii in units of the reach), and its thickness.
_INNER, _OUTER, _THICK = 0.25, 1.0, 0.02


class Prior(eqx.Module):
    r"""The law of z, as a map of standard normal noise.

    - ``normal``: :math:`z = r \epsilon`.
    - ``uniform``: :math:`z = r\,(2\Phi(\epsilon) - 1)` on :math:`[-r, r]`.
    - ``mixture``: `components` normal laws on a ring of radius r in the first two dimensions, each long towards the
      centre and thin across, the other dimensions normal; which one is the class where it is told, else another
      uniform number decides (Makhzani et al. 2015).
    - ``swiss-roll``: a spiral in the plane, from its middle out to r.

    Attributes:
        width: numbers in z.
        reach: r.
    """

    law: Law = eqx.field(static=True)
    width: int = eqx.field(static=True)
    reach: float = eqx.field(static=True, default=1.0)
    components: int = eqx.field(static=True, default=0)

    def __post_init__(self) -> None:
        if self.width < 1 or not self.reach > 0:
            raise ReverieError(f"latent, spread: {self.width} and {self.reach} must be positive")
        if self.law == "swiss-roll" and self.width != 2:
            raise ReverieError(f"prior: a swiss-roll lies in the plane, and the code has {self.width} numbers; give 2")
        if self.law == "mixture" and (self.width < 2 or self.components < 1):
            raise ReverieError("prior: a mixture lies on a ring; give a code of 2 numbers or more, and a component")

    @property
    def noises(self) -> int:
        """Standard normal numbers that a z is made of."""
        return self.width + (self.law in ("mixture", "swiss-roll"))

    def __call__(self, e: Float[Array, " n"], given: Given = None) -> Float[Array, " d"]:
        """Return z of the noise."""
        if self.law == "normal":
            return self.reach * e
        if self.law == "uniform":
            return self.reach * _symmetric(e)
        if self.law == "swiss-roll":
            return self.reach * _roll(e)
        return self.reach * jnp.concatenate([_petal(e, self._component(e[-1], given)), e[2:-1]])

    def _component(self, e: Float[Array, ""], given: Given) -> Float[Array, ""]:
        """Return the angle of the component of a class, or of the one that the noise decides on."""
        if given is None:
            number = jnp.minimum(jnp.floor((0.5 + 0.5 * _symmetric(e)) * self.components), self.components - 1)
        else:
            number = jnp.argmax(given).astype(e.dtype)
        return 2.0 * math.pi * number / self.components


def _symmetric(e: Float[Array, "*n"]) -> Float[Array, "*n"]:
    # 2 Phi(e) - 1 by the error function, which keeps its digits in both tails.
    return jax.scipy.special.erf(e / math.sqrt(2.0))


def _petal(e: Float[Array, " n"], angle: Float[Array, ""]) -> Float[Array, " 2"]:
    ray = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    across = jnp.stack([-ray[1], ray[0]])
    return (_RING + _ALONG * e[0]) * ray + _ACROSS * e[1] * across


def _roll(e: Float[Array, " 3"]) -> Float[Array, " 2"]:
    # Evenly along the spiral, whose length grows with the square of the radius.
    u = 0.5 + 0.5 * _symmetric(e[2])
    radius = jnp.sqrt(_INNER**2 + (_OUTER**2 - _INNER**2) * u)
    angle = 4.0 * math.pi * radius
    return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)]) + _THICK * e[:2]
