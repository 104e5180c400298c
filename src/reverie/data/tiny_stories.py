"""Small stories made here, with questions that need one sentence or two: people move, and carry things with them."""

from __future__ import annotations

import numpy as np

from reverie.data.stories import Asked, Words

PEOPLE = ("anna", "boris", "carla", "david")
PLACES = ("attic", "cellar", "garden", "kitchen", "library")
THINGS = ("lamp", "book", "key")
MOVES = ("went to the", "walked to the", "moved to the")
#: Stories to train, choose and test, with one question each; sentences of a story.
SIZES, SHORTEST, LONGEST = (1000, 200, 500), 3, 8
#: How often a sentence is of something taken.
_TAKEN = 0.3


def stories(seed: int = 0) -> dict[str, list[Asked]]:
    """Return stories in their splits.

    A sentence says that somebody went somewhere or took a thing, which then goes where its carrier goes.  Half of the
    questions of stories in which a thing was taken are where it is, all others where somebody is.
    """
    rng = np.random.default_rng(seed)
    every = [_story(rng, number) for number in range(sum(SIZES))]
    ends = np.cumsum((0, *SIZES))
    names = ("train", "valid", "test")
    return {name: every[low:high] for name, low, high in zip(names, ends[:-1], ends[1:], strict=True)}


def _story(rng: np.random.Generator, number: int) -> Asked:
    told: list[Words] = []
    at: dict[str, str] = {}
    carried: dict[str, str] = {}
    for _ in range(int(rng.integers(SHORTEST, LONGEST + 1))):
        who = PEOPLE[rng.integers(len(PEOPLE))]
        free = [thing for thing in THINGS if thing not in carried]
        if who in at and free and rng.random() < _TAKEN:
            thing = free[rng.integers(len(free))]
            carried[thing] = who
            told.append((who, "took", "the", thing))
        else:
            at[who] = PLACES[rng.integers(len(PLACES))]
            told.append((who, *MOVES[rng.integers(len(MOVES))].split(), at[who]))
    if carried and rng.random() < 0.5:
        thing = sorted(carried)[rng.integers(len(carried))]
        return Asked(tuple(told), ("where", "is", "the", thing), at[carried[thing]], number)
    who = sorted(at)[rng.integers(len(at))]
    return Asked(tuple(told), ("where", "is", who), at[who], number)
