"""The bAbI tasks (Weston et al. 2015), from their published archive: one task, several, or all of them together.

`babi` is all 20 with 1,000 training questions each, `babi:3` one task, `babi:1-5` several; `babi-10k` has ten times as
many.  Of the training questions of each task the last tenth chooses.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping

import numpy as np

from reverie.data import stories
from reverie.data.rows import Raw
from reverie.data.stories import Asked
from reverie.errors import ReverieError

#: The tasks by number, as the paper calls them.
TASKS = (
    "one supporting fact", "two supporting facts", "three supporting facts", "two-argument relations",
    "three-argument relations", "yes/no questions", "counting", "lists and sets", "simple negation",
    "indefinite knowledge", "basic coreference", "conjunction", "compound coreference", "time reasoning",
    "basic deduction", "basic induction", "positional reasoning", "size reasoning", "path finding",
    "agent's motivations",
)  # fmt: skip
#: Each set's folder in the archive, and its training questions a task; 1,000 test questions a task in both.
SETS = {"babi": ("en", 1000), "babi-10k": ("en-10k", 10_000)}
_TEST = 1000
_THIRD = (3, "train")


def parse(content: bytes, folder: str) -> dict[str, np.ndarray]:
    """Return the files of a folder of the archive, ``texts``: task by task training and test, a 0 between files.

    The larger set's training file of task 3, which not every copy has, is apart, ``third``; empty where it is not.
    """
    pattern = re.compile(rf"(?:.*/)?{folder}/qa(\d+)_[a-z-]+_(train|test)\.txt")
    found: dict[tuple[int, str], bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            match = pattern.fullmatch(member.name)
            opened = archive.extractfile(member) if match else None
            if match and opened is not None:
                found[int(match[1]), match[2]] = opened.read()
    third = {"third": np.frombuffer(found.pop(_THIRD, b""), np.uint8)} if folder == "en-10k" else {}
    every = [found.get((task, part), b"") for task in range(1, 21) for part in ("train", "test")]
    return {"texts": np.frombuffer(b"\0".join(every), np.uint8), **third}


def texts_of(found: Mapping[str, np.ndarray]) -> dict[tuple[int, str], str]:
    """Return the files by task and part; those that are not here are empty."""
    files = bytes(found["texts"]).decode().split("\0")
    texts = {(i // 2 + 1, ("train", "test")[i % 2]): text for i, text in enumerate(files)}
    return texts | ({_THIRD: bytes(found["third"]).decode()} if "third" in found else {})


def tasks_of(name: str) -> tuple[str, tuple[int, ...]] | None:
    """Return the set and the numbers of the tasks that a name asks for, None where it names no set.

    Raises:
        ReverieError: for tasks that there are not.
    """
    base, _, asked = name.partition(":")
    if base not in SETS:
        return None
    if not asked:
        return base, tuple(range(1, 21))
    match = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", asked)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= len(TASKS):
        raise ReverieError(f"data: {name} is no task of {base}; give {base}:1 to {base}:20, or such as {base}:1-5")
    return base, tuple(range(low, high + 1))


def parts(name: str, split: str, rows: int) -> dict[str, slice]:
    """Return where the rows of each task stand in a split of several tasks, by name; nothing of one task.

    Args:
        rows: of the split, by which one knows whether the task is among them whose file not every copy has; of other
            numbers (training rows with those that chose) nothing is known.
    """
    asked = tasks_of(name)
    if asked is None or len(asked[1]) == 1:
        return {}
    base, tasks = asked
    held = SETS[base][1] // 10
    size = {"train": SETS[base][1] - held, "valid": held, "test": _TEST}[split]
    if rows != size * len(tasks):
        tasks = tuple(task for task in tasks if task != _THIRD[0])
    if rows != size * len(tasks):
        return {}
    return {f"task {task}": slice(i * size, (i + 1) * size) for i, task in enumerate(tasks)}


def raw(name: str, texts: Mapping[tuple[int, str], str]) -> tuple[Raw, str]:
    """Return the questions of a name in their splits, and a sentence about them, from the texts of the archive.

    Raises:
        ReverieError: for a task whose files the archive has not.
    """
    asked = tasks_of(name)
    assert asked is not None
    base, tasks = asked
    lacking = []
    splits: dict[str, list[Asked]] = {"train": [], "valid": [], "test": []}
    for task in tasks:
        parts_of = {part: texts[task, part] for part in ("train", "test")}
        if not all(parts_of.values()):
            lacking.append(task)
            continue
        _add(splits, task, parts_of, SETS[base][1] // 10)
    if not splits["train"]:
        raise ReverieError(f"data: {name}: the archive here lacks a file of task {tasks[0]}; take the published one")
    every = [one for some in splits.values() for one in some]
    sizes = " / ".join(f"{len(some):,}" for some in splits.values())
    text = f"Split as published, the last tenth of each task's training questions held out to choose: {sizes}."
    gone = f" Not in the archive here, and left out: task {', '.join(map(str, lacking))}." if lacking else ""
    return stories.encoded(splits, stories.vocabulary_of(every)), text + gone


def _add(splits: dict[str, list[Asked]], task: int, texts: Mapping[str, str], held: int) -> None:
    train, test = (stories.from_text(texts[part], f"qa{task}_{part}") for part in ("train", "test"))
    splits["train"] += train[:-held]
    splits["valid"] += train[-held:]
    splits["test"] += test
