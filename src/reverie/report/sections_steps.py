"""The section of a machine that writes its memory: what it hears, writes, reads and answers at each step."""

from __future__ import annotations

from reverie.report import blocks, steps
from reverie.report.blocks import Section
from reverie.report.reading import RunView


def over_time(run: RunView) -> Section | None:
    """Return the section, None of a run without such a memory."""
    found = run.arrays("memory")
    if not {"heard", "adds", "writes", "got", "reads", "answers", "targets"} <= set(found):
        return None
    lead = "The machine goes through a sequence step by step. This is what it writes, where, and what it reads again."
    section = Section("memory", "Memory", lead)
    wrong = int(((found["answers"] > 0.5) != (found["targets"] > 0.5))[found["targets"] == found["targets"]].sum())
    start, count = steps.used(found)
    slots = found["writes"].shape[2]
    caption = (
        f"The longest test sequence, {len(found['heard'])} steps, {wrong} bits of its answer wrong. Time goes to the "
        f"right; from the dashed line on, answers are asked for. Of {slots} slots (a ring) the {count} from {start} on "
        "are drawn, in which the heads' weights are seen; several heads stand one under the other."
    )
    alt = "Inputs, adds and write weightings beside outputs, reads and read weightings, by step"
    section.add(blocks.figure(steps.memory_over_time(found), alt, caption))
    return section
