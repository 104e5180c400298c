"""The sections of a model that answers questions: what its hops read, and its errors task by task."""

from __future__ import annotations

from reverie.report import blocks, hops
from reverie.report.blocks import Section
from reverie.report.reading import RunView


def read_in_hops(run: RunView) -> Section | None:
    """Return the section, None of a run that answers no questions."""
    found = run.arrays("memory")
    if not {"questions", "told", "right", "chances", "attention", "sentences"} <= set(found):
        return None
    lead = "The story is read once a hop; what a hop reads changes what the next one looks for."
    section = Section("memory", "What it reads", lead)
    wrong = int((found["told"] != found["right"]).sum())
    caption = (
        f"{len(found['told'])} test questions, {wrong} of them answered wrongly, with the probability of the answer. "
        "A row is a sentence, the oldest first, a column a hop; of long stories those that are attended to most. "
        "What is missing to 1 in a column reads none of them: an empty place of the memory."
    )
    section.add(blocks.figure(hops.attention(found), "Attention to sentences by hop, for some questions", caption))
    return section
