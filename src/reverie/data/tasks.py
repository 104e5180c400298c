"""Tasks on sequences that are drawn by a seed: what each is called, how long it is, what a step of it holds.

Nothing here needs JAX: `drawn` draws them.  A row is a sequence, flat: for each of T steps the channels that are heard,
then those that are to be answered.  NaN is what is not there: channels that nobody asks for, and steps after the end.

`copy:120` is the task at another size; `copy:1-10` a range, `repeat-copy:20x10` two sizes.

References: Graves, Wayne & Danihelka, *Neural Turing Machines*, 2014.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from reverie.errors import ReverieError

#: Sequences that judge a model: of training (an epoch is as many fresh ones), to choose, to test.
SIZES = (1000, 200, 500)
#: Longer than this a sequence is refused: memory and time are in proportion.
MOST_STEPS = 5000


@dataclass(frozen=True)
class Task:
    """A task on sequences.

    Attributes:
        name: as `--data` takes it.
        what: one line.
        inputs, outputs: channels of a step that are heard, and that are answered.
        sizes: what varies from sequence to sequence, each with its least and its largest value in training.
        steps: how many steps a sequence of these sizes has.
        fewest: the least each size can be.
    """

    name: str
    what: str
    inputs: int
    outputs: int
    sizes: tuple[tuple[str, int, int], ...]
    steps: Callable[..., int]
    fewest: int = 1

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return self.steps(*(high for _, _, high in self.sizes))

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and channels of a row."""
        return self.longest, self.inputs + self.outputs

    @property
    def text(self) -> str:
        """The sizes, in words."""
        said = [f"{name} {low}" if low == high else f"{name} {low} to {high}" for name, low, high in self.sizes]
        return ", ".join(said)


TASKS = (
    Task("copy", "8-bit vectors, to be given back", 9, 8, (("length", 1, 20),), lambda n: 2 * n + 1),
    Task(
        "repeat-copy", "8-bit vectors, to be given back so often, then an end mark", 10, 9,
        (("length", 1, 10), ("repeats", 1, 10)), lambda n, repeats: n + 2 + n * repeats + 1,
    ),
    Task(
        "associative-recall", "items of 3 vectors; one is shown again, the next is to be given", 8, 6,
        (("items", 2, 6),), lambda items: 4 * items + 8, 2,
    ),
    Task("dynamic-ngrams", "bits by a table of 6-grams drawn anew, to be foretold", 1, 1, (), lambda: 199),
    Task("priority-sort", "20 vectors with priorities; the 16 highest in order", 9, 8, (), lambda: 36),
)  # fmt: skip


def of(source: str) -> Task | None:
    """Return the task that a data set's source names, its sizes as asked after a colon; None for no task.

    Raises:
        ReverieError: for sizes that make no sense.
    """
    name, _, asked = source.partition(":")
    task = next((task for task in TASKS if task.name == name), None)
    if task is None or source == name:
        return task
    sized = replace(task, name=source, sizes=_sizes(task, source, asked))
    if sized.longest > MOST_STEPS:
        raise ReverieError(f"data: {source} has up to {sized.longest:,} steps; give sizes of {MOST_STEPS:,} at most")
    return sized


def _sizes(task: Task, source: str, asked: str) -> tuple[tuple[str, int, int], ...]:
    found = [re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part) for part in asked.split("x")]
    names = " x ".join(name for name, _, _ in task.sizes)
    if not task.sizes:
        raise ReverieError(f"data: {task.name} has one size; leave out ':{asked}'")
    if len(found) != len(task.sizes) or not all(found):
        raise ReverieError(f"data: {source} is no size of {task.name}; give its {names}, such as {_example(task)}")
    pairs = [(int(m[1]), int(m[2] or m[1])) for m in found if m]
    if any(not task.fewest <= low <= high for low, high in pairs):
        raise ReverieError(f"data: {source}: sizes go from {task.fewest} up, the smaller one first")
    return tuple((name, *pair) for (name, _, _), pair in zip(task.sizes, pairs, strict=True))


def _example(task: Task) -> str:
    return f"{task.name}:{'x'.join(str(high) for _, _, high in task.sizes)}"
