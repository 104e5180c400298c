"""What a model may be able to do besides its contract (`contracts`): small protocols, one example at a time."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from reverie.prob.contracts import Given, Pass, Row
from reverie.prob.relaxed_surrogates import Relaxation


@runtime_checkable
class Tells(Protocol):
    """A joint model of rows and their classes: it tells classes too, and is judged by that as well."""

    def log_classes(self, x: Row) -> Float[Array, " C"]:
        r"""Return :math:`\log p(y \mid x)` of every class y."""
        ...

    def of_class(self, number: int) -> Any:
        r"""Return the model of the rows of one class, :math:`p(x \mid y)`."""
        ...


@runtime_checkable
class Relaxes(Protocol):
    """A directed model of binary units that can also be drawn so that gradients go back through them."""

    def relaxed(self, key: PRNGKeyArray, x: Row, given: Given, way: Relaxation) -> Pass:
        """Draw h as `way` relaxes binary units and score it; h is of numbers."""
        ...


@runtime_checkable
class Stacks(Protocol):
    """Is a stack of features that a feed-forward network computes: `reverie classify`.

    Of sigmoids, unless an attribute `activation` names other units.
    """

    def feed_forward(self) -> tuple[tuple[Float[Array, "_ _"], Float[Array, " _"]], ...]:
        """Return weights (n_l, n_{l+1}) and biases (n_{l+1},) of the layers, from the data upwards."""
        ...


@runtime_checkable
class Augments(Protocol):
    """A stack whose first layer also hears the second: what it says is given to the network as further inputs."""

    def posterior_above(self, x: Row) -> Float[Array, " k"]:
        """Return q(h2 | x), the means of the second layer, by mean field in the weights of `feed_forward`."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Gives a row a code: `reverie encode`."""

    def encode(self, x: Row, given: Given = None) -> Float[Array, " d"]: ...


@runtime_checkable
class Reconstructs(Protocol):
    """Gives back a row from itself, which `reverie impute` iterates."""

    def reconstruct(self, key: PRNGKeyArray, x: Row, given: Given = None) -> Row: ...


@runtime_checkable
class Completes(Protocol):
    """Gives missing cells their law given any known ones: `reverie impute` needs no guess."""

    def complete(self, key: PRNGKeyArray, x: Row, known: Bool[Array, " D"], given: Given = None) -> Row:
        """Return x with E[cell | known cells], or the most probable category, in place of what is not known.

        A model that has that mean as a formula does not use `key`.
        """
        ...

    def draw_missing(self, key: PRNGKeyArray, x: Row, known: Bool[Array, " D"], given: Given = None) -> Row:
        """Return x with a draw from p(missing cells | known cells), of all of them together."""
        ...


@runtime_checkable
class Blames(Protocol):
    """Says how likely each cell is beside the others: `reverie score` tells which columns make a row odd."""

    def cell_log_probs(self, x: Row, given: Given = None) -> Float[Array, " D"]:
        """Return log p(cell | other cells) of each cell, others being all of them or those before it in an order; 0
        where the cell is missing."""
        ...


@runtime_checkable
class Ensembles(Protocol):
    """An explicit model that is a mixture of as many laws as one asks for, all of them of the same weights."""

    @property
    def members(self) -> int:
        """How many laws it mixes where nobody asks."""
        ...

    def ensemble(self, n: int) -> Any:
        """Return the equal mixture of n of the laws; the first ones are those of a smaller n."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Gives the row of any code in the space of `encode`, those in between included.

    A directed model needs none of this: its latent is its code, and `mean` decodes it.  Where draws of the prior are
    noise that stands for a code, `code_of` says which.
    """

    def decode(self, code: Float[Array, " d"], given: Given = None) -> Row: ...


@runtime_checkable
class OfExemplars(Protocol):
    """A model whose prior is a mixture with a component for every training row."""

    def log_prior_without(self, h: PyTree, row: Int[Array, ""]) -> Float[Array, ""]:
        """Return log p(h) with the component of one training row left out."""
        ...


@runtime_checkable
class Filters(Protocol):
    """Has units with a picture each: what a unit adds to the data when it is on."""

    def filters(self) -> Float[Array, "F D"]: ...


@runtime_checkable
class Remembers(Protocol):
    """Has a memory to look into: `reverie memory`."""

    def memory_trace(self, key: PRNGKeyArray, x: Row, given: Given = None) -> dict[str, Any]:
        """Return, per memory layer by name, ``attention`` (slots) and ``read`` (width) of one row."""
        ...

    def slot_image(self, layer: str, slot: int | Int[Array, ""]) -> Row:
        """Return the mean of x when `slot` of `layer` alone speaks."""
        ...

    def silence(self, layer: str, slot: int) -> Any:
        """Return the model with one slot of one layer silenced."""
        ...


@runtime_checkable
class Writes(Protocol):
    """Answers sequences with a memory that it reads and writes itself: `reverie memory` shows it step by step.

    What `step` tells of its inside has ``adds``, ``erases`` and ``got``, a row a head, and ``writes`` and ``reads``
    (heads, N).
    """

    def told(self, h: Float[Array, " C"]) -> tuple[Any, Array, Array]:
        """Return where the heads are told to go, and what those that write erase and add."""
        ...

    def step(self, state: Any, x: Float[Array, " I"]) -> tuple[Any, Float[Array, " O"], dict[str, Array]]: ...


@runtime_checkable
class OfWords(Protocol):
    """A product of experts over words, each hidden unit one: `reverie topics`."""

    def topic_weights(self) -> Float[Array, "F K"]:
        """Return what each unit adds to the words' log-odds where it is on."""
        ...

    def word_biases(self) -> Float[Array, " K"]:
        """Return the words' log-odds with no unit on."""
        ...
