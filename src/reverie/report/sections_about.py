"""Where a run came from: its settings, its data, its provenance, and the command that makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from reverie.files import spoken
from reverie.report import blocks
from reverie.report.blocks import Block, Section
from reverie.report.reading import RunView


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings with those of a stage dotted, as the command line writes them: ``adam.epsilon``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def spelled(value: Any) -> str:
    """Return a setting's value as the command line reads it: ``100,50`` and ``200,200/100,100``."""
    if isinstance(value, list | tuple):
        nested = any(isinstance(part, list | tuple) for part in value)
        return ("/" if nested else ",").join(spelled(part) for part in value)
    return str(value)


def command(run: RunView) -> str:
    """Return the command line that trains the same run again."""
    record = run.record
    asked = dict(record.get("data_arguments") or {})
    source = asked.get("source", run.data.get("source", run.data.get("name", "")))
    where = spoken(run.path / source) if asked.get("in_folder") else str(source)
    words = ["reverie", "train", run.model, "--data", where]
    for key in ("binarisation", "split_rule", "likelihood"):
        if asked.get(key) is not None:
            words += [f"--{key.replace('_', '-')}", str(asked[key])]
    if asked.get("seed"):
        words += ["--data-seed", str(asked["seed"])]
    words += ["--categories", ",".join(asked["categories"])] if asked.get("categories") else []
    words += ["--drop", ",".join(asked["drop"])] if asked.get("drop") else []
    words += ["--refit"] if asked.get("refit") else []
    words += ["--seed", str(record.get("seed", 0))]
    plan = record.get("plan") or {}
    if plan.get("asked_steps"):
        words += ["--steps", str(plan["asked_steps"])]
    elif plan.get("epochs"):
        words += ["--epochs", f"{plan['epochs']:g}"]
    for name, value in flat(record.get("settings") or {}):
        words += _flag(name.replace("_", "-"), value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", spelled(value)]


def settings(run: RunView) -> Section | None:
    found = list(flat(run.record.get("settings") or {}))
    if not found:
        return None
    presets = ", ".join(map(str, run.record.get("presets") or ()))
    section = Section("settings", "Settings", f"Presets: {presets}." if presets else "")
    rows = [[Markup("<code>{}</code>").format(name), "–" if value is None else spelled(value)] for name, value in found]
    half = -(-len(rows) // 2) if len(rows) > 10 else len(rows)
    parts = [rows[:half], rows[half:]]
    section.add(*(blocks.table(["setting", "value"], part) for part in parts if part))
    return section


def about_data(run: RunView) -> Section:
    data = run.data
    rows = ", ".join(f"{split} {count:,}" for split, count in (data.get("rows") or {}).items())
    section = Section("data", "Data")
    classes = run.class_names
    shown = ", ".join(classes[:30]) + (f" and {len(classes) - 30} more" if len(classes) > 30 else "")
    section.add(
        blocks.facts(
            [
                ("name", data.get("name")),
                ("source", data.get("source")),
                ("rows", rows),
                ("shape of a row", " × ".join(map(str, run.shape))),
                ("law", data.get("likelihood")),
                ("binarisation", data.get("binarisation")),
                ("split rule", data.get("split_rule")),
                ("missing cells", "some" if data.get("missing") else None),
                ("classes", shown),
                ("SHA-256", Markup("<code>{}</code>").format(data["hash"]) if data.get("hash") else None),
            ]
        )
    )
    notes = [("plain", str(note)) for note in data.get("notes") or ()]
    section.add(Block("notes", notes) if notes else None)
    return section


def provenance(run: RunView) -> Section:
    record = run.record
    section = Section("provenance", "Provenance")
    origin = record.get("init_from")
    section.add(
        blocks.facts(
            [
                ("run", run.name),
                ("status", _status(record)),
                ("parameters", f"{record['parameters']:,}" if isinstance(record.get("parameters"), int) else None),
                ("seed", record.get("seed")),
                ("weights that count", record.get("select")),
                ("started from", _words(origin) if origin else None),
                ("commit", record.get("commit")),
                ("hardware", _words(record.get("hardware"))),
                ("versions", _words(record.get("versions"))),
                ("repeatable", _exact(record.get("exact"))),
            ]
        )
    )
    section.add(_segments(record))
    section.add(Block("command", command(run), "The same run again:"))
    return section


def _status(record: Mapping[str, Any]) -> str | None:
    reason = record.get("reason")
    return f"{record.get('status', 'unknown')}{f': {reason}' if reason else ''}"


def _exact(exact: Any) -> str | None:
    if exact is None:
        return None
    return "bit for bit, on this kind of machine" if exact else "not bit for bit"


def _words(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
    return None if value is None else str(value)


def _segments(record: Mapping[str, Any]) -> Block | None:
    segments = record.get("segments") or []
    rows = [
        [s.get("from_step", "–"), s.get("to_step", "–"), s.get("started", "–"), _duration(s.get("seconds")),
         s.get("device") or "–"]
        for s in segments
    ]  # fmt: skip
    head = ["from step", "to step", "started", "took", "device"]
    return blocks.table(head, rows, "Stretches of training.", numeric=(0, 1, 3)) if rows else None


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def seconds_of(run: RunView) -> float:
    """Return how long the run has trained, over all its segments."""
    return sum(float(s.get("seconds") or 0.0) for s in run.record.get("segments") or [])


def planned(run: RunView) -> float | None:
    """Return how many epochs the run was to train for, by its plan."""
    plan = run.record.get("plan") or {}
    if plan.get("asked_steps") and plan.get("steps_per_epoch"):
        return float(plan["asked_steps"] / plan["steps_per_epoch"])
    return plan.get("epochs")


def took(run: RunView) -> str:
    return _duration(seconds_of(run))
