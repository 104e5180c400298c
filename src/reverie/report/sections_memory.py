"""The memory microscope's section: for each layer what classes prefer, what slots hold, and what they are worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from markupsafe import Markup

from reverie.report import blocks, microscope, tiles
from reverie.report.blocks import Block, Section
from reverie.report.reading import RunView

_SLOTS = 80
#: Images of slots that differ by less, where black is 0 and white 1, look the same.
_SEEN = 0.05
#: More classes than this cannot be told apart in a graph.
_CLASSES = 40
_Layer = dict[str, np.ndarray]


def layers_of(run: RunView) -> dict[str, _Layer]:
    """Return the arrays of `memory.npz` by layer and kind."""
    arrays = run.arrays("memory")
    names = [str(name) for name in np.atleast_1d(arrays["layers"])] if "layers" in arrays else []
    kinds = ("preference", "profile", "usage", "entropy", "images", "knockout")
    return {n: {k: arrays[f"{k}_{n}"] for k in kinds if f"{k}_{n}" in arrays} for n in names}


def memory(run: RunView) -> Section | None:
    """Return the section of a model with a memory, None for others."""
    layers = layers_of(run)
    if not any(layers.values()):
        return None
    lead = "The decoder looks details up in a memory. This is what it attends to, what is stored, and what it is worth."
    section = Section("memory", "Memory", lead)
    for name, layer in layers.items():
        section.add(Block("heading", f"Layer {name}"))
        section.add(_preference(run, layer, name))
        section.add(_top(run, layer, name))
        section.add(_classes(run, layer, name))
        section.add(_usage(layer, name), _entropy(layer, name))
        section.add(_knockout(layer, name))
        section.add(_slots(run, layer, name))
    return section


def _preference(run: RunView, layer: _Layer, name: str) -> Block | None:
    if "preference" not in layer or not layer["preference"].size:
        return None
    classes, slots = layer["preference"].shape
    drawing = microscope.preference_map(layer["preference"], run.class_names)
    return blocks.figure(drawing, f"Layer {name}: mean attention of {classes} classes to {slots} slots",
                         "Mean attention of each class to each slot.")  # fmt: skip


def _top(run: RunView, layer: _Layer, name: str) -> Block | None:
    if "preference" not in layer or not layer["preference"].size:
        return None
    apart = _apart(run, name)
    # Pictures that are all but the same, or strips of a table a few pixels wide, tell nothing beside a number.
    seen = len(run.shape) > 1 and apart is not None and apart >= _SEEN
    thumbnails = _thumbnails(run, name, 28) if seen else {}
    names = run.class_names
    rows = [
        [names[c] if c < len(names) else str(c), *(_slot_cell(slot, value, thumbnails) for slot, value in best)]
        for c, best in enumerate(microscope.top_slots(layer["preference"]))
    ]
    head = ["class", "first", "second", "third"][: len(rows[0])]
    shown = "the slot's number and image" if thumbnails else "the slot's number"
    return blocks.table(head, rows, f"The three slots each class prefers: mean attention, and {shown}.")


def _classes(run: RunView, layer: _Layer, name: str) -> Block | None:
    profile = layer.get("profile", np.zeros((0, 0)))
    if not 3 <= len(profile) <= _CLASSES:
        return None
    alike = microscope.similarity(profile)
    first, second = np.unravel_index(int(np.argmax(alike - 2 * np.eye(len(alike)))), alike.shape)
    names = [run.class_names[c] if c < len(run.class_names) else str(c) for c in (first, second)]
    most = f"{names[0]} and {names[1]} are most alike, correlation {blocks.signed(float(alike[first, second]))}"
    caption = f"Classes that attend to the same slots, joined to the two they resemble most: {most}."
    return blocks.figure(microscope.class_graph(profile, run.class_names), f"Layer {name}: {most}", caption)


def _slot_cell(slot: int, value: float, thumbnails: dict[int, str]) -> Markup:
    image = (
        Markup('<img class="thumb" src="{}" alt="slot {}">').format(thumbnails[slot], slot)
        if slot in thumbnails
        else ""
    )
    return Markup("{}<b>{}</b> <small>slot {}</small>").format(image, blocks.data(value), slot)


def _thumbnails(run: RunView, name: str, size: int) -> dict[int, str]:
    images = run.pictures("memory", f"images_{name}")
    if images is None:
        return {}
    zoom = tiles.zoom_for(images, size)
    return {slot: tiles.data_uri(tiles.sheet(image[None], 1, zoom=zoom)) for slot, image in enumerate(images)}


def _apart(run: RunView, name: str) -> float | None:
    """Return the largest difference between two slots' images in any cell, None without images."""
    images = run.pictures("memory", f"images_{name}")
    return None if images is None else float(np.ptp(images, axis=0).max())


def _one_picture(run: RunView, name: str) -> str:
    """Say what it means that the images of a layer's slots are all but the same; nothing where they are not."""
    apart = _apart(run, name)
    if apart is None or apart >= _SEEN:
        return ""
    softmax = (run.record.get("settings") or {}).get("attention") == "softmax"
    hint = "" if softmax else (
        " For a memory whose slots can be told apart, train with --preset slots (softmax attention with sum)."
    )  # fmt: skip
    return (
        f" These pictures are all but the same: where black is 0 and white 1, they differ by {apart:.1g} at most. No "
        f"slot stands for something alone; the memory is read as a whole.{hint}"
    )


def _usage(layer: _Layer, name: str) -> Block | None:
    if "usage" not in layer or not layer["usage"].size:
        return None
    usage = layer["usage"]
    idle = int((usage < 0.1 * usage.mean()).sum())
    caption = f"Mean attention over test rows. {idle} of {usage.size} slots get less than a tenth of the mean."
    return blocks.figure(microscope.usage_bars(usage), f"Layer {name}: usage of {usage.size} slots", caption)


def _entropy(layer: _Layer, name: str) -> Block | None:
    if "entropy" not in layer or not layer["entropy"].size:
        return None
    entropy, slots = layer["entropy"], len(layer.get("usage", np.zeros(0))) or layer["preference"].shape[1]
    caption = "How spread attention is: on the left one slot answers, on the right all do alike."
    alt = f"Layer {name}: entropy of attention, mean {entropy.mean():.2f} of at most {np.log(slots):.2f} nats"
    return blocks.figure(microscope.entropy_histogram(entropy, slots), alt, caption)


def _knockout(layer: _Layer, name: str) -> Block | None:
    if "knockout" not in layer or not layer["knockout"].size:
        return None
    fall = layer["knockout"][:, 0]
    worst = int(np.nanargmax(fall))
    alt = f"Layer {name}: silencing slot {worst} costs most, {fall[worst]:.3f} nats"
    return blocks.figure(
        microscope.knockout_bars(layer["knockout"]),
        alt,
        "What the test log-likelihood loses when a slot is silenced, with two standard errors.",
    )


def _slots(run: RunView, layer: _Layer, name: str) -> Block | None:
    thumbnails = _thumbnails(run, name, 60)
    if not thumbnails or len(run.shape) == 1:
        return None
    usage = layer.get("usage", np.ones(len(thumbnails)))
    order = np.argsort(-usage, kind="stable")[:_SLOTS].tolist()
    most = max(float(usage.max()), 1e-12)
    fall = layer.get("knockout")
    body = [
        {"slot": slot, "uri": thumbnails[slot], "usage": float(usage[slot]) / most,
         "fall": None if fall is None else blocks.signed(float(fall[slot, 0]), 3)}
        for slot in order
    ]  # fmt: skip
    more = len(thumbnails) - len(order)
    worth = "" if fall is None else ", the number what it is worth in nats"
    caption = "What each slot draws alone, the most used first; the bar is its usage" + worth
    return Block("slots", body, caption + (f"; {more} more." if more else ".") + _one_picture(run, name))


def prefixed(section: Section, run: RunView, place: int) -> Section:
    """Return a run's section for a page of several runs: its own anchor, the run's name in its title."""
    return replace(section, id=f"{section.id}-{place}", title=f"{section.title}: {run.name}")
