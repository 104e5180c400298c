"""Put what was measured into the README: the tables of results/ and the last benchmark (`make readme`).

    python docs/readme.py [--check]

With ``--check`` nothing is written, and the exit status says whether the README is as it would be written.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "results" / "bench" / "steps.json"
DIGITS = ROOT / "results" / "digits.json"


def fill(text: str, marker: str, content: str) -> str:
    """Return `text` with what stands between ``<!-- marker -->`` and ``<!-- /marker -->`` replaced.

    Raises:
        ValueError: when the markers are not there exactly once.
    """
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.S)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"README.md: the markers <!-- {marker} --> and <!-- /{marker} --> must stand there once")
    return pattern.sub(lambda m: f"{m[1]}{content.rstrip()}\n{m[2]}", text)


def speed(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of a benchmark's report."""
    clock = "one thread, processor time" if report["clock"] == "processor" else f"{report['threads']} threads"
    how = "; ".join(filter(None, ("`make bench`", report.get("note"), (report.get("commit") or "")[:9])))
    yield f"Milliseconds a step, {clock} ({how}); ratios hold on other machines, milliseconds do not:"
    yield ""
    yield "| job | ours | matrix products alone | bare loop | pythae |\n|---|---|---|---|---|"
    for job in report["jobs"]:
        if "ms_per_step" in job:
            times = [job["ms_per_step"].get(who) for who in ("ours", "products", "bare loop", "pythae")]
            yield "| " + " | ".join([job["job"], *(f"{t:.2f}" if t is not None else "-" for t in times)]) + " |"


def results(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of one compact table: a line for each row of a paper's table, its data sets side by side."""
    # Of the twenty tasks of bAbI their means are here.
    reached = [row for row in rows if row["ours"] and row["table"] != "babi-tasks"]
    columns = list(dict.fromkeys(row["column"] for row in reached))
    numbers = _numbers(reached)
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in reached:
        cells.setdefault((row["model"] or "–", row["table"], row["row"]), {})[row["column"]] = _cell(row, numbers)
    if cells:
        heads = [f"{column}: paper, ours" for column in columns]
        yield "| model | table: row | " + " | ".join(heads) + " |\n|---|---|" + "---|" * len(columns)
        for (model, table, name), by_column in cells.items():
            yield f"| {model} | {table}: {name} | " + " | ".join(by_column.get(c, "") for c in columns) + " |"
        yield ""
    yield f"Log-likelihoods in nats, errors in per cent; {len(reached)} of {len(rows)} rows were run (`reverie table`)."
    from reverie.report.tables import notes

    # One line, as the page is short.
    if below := notes(reached):
        yield ""
        yield " ".join(f"[{number}] {text}" for number, text in enumerate(below.values(), 1))


def targets() -> Iterator[str]:
    """Yield a line on the targets on digits, if they were measured."""
    if not DIGITS.exists():
        return
    report = json.loads(DIGITS.read_text(encoding="utf-8"))
    parts = [
        f"{r['model']} **{r['mean']:.2f}** ± {r['standard_error_over_seeds']:.2f} (aim {r['target']})"
        for r in report["rows"]
    ]
    yield ""
    made = f"`{report['command']}`, {report['commit'][:9]}"
    yield f"Digits, five seeds, chosen on validation: {', '.join(parts)} ({made})."


def _numbers(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return the numbers of the footnotes of the rows, by name."""
    from reverie.report.tables import notes

    return {name: number for number, name in enumerate(notes(rows), 1)}


def _cell(row: dict[str, Any], numbers: dict[str, int]) -> str:
    from reverie.estimate import Estimate
    from reverie.report.tables import figure, published, reached

    ours = Estimate.from_json(row["ours"])
    done = f"budget {row['budget']}, {(row['commit'] or 'no commit')[:9]}"
    if row["epochs"] is not None:
        of = "" if row["paper_epochs"] is None else f" of {row['paper_epochs']:g}"
        done = f"{row['epochs']:.4g}{of} epochs, {done}"
    marks = "".join(f" [{numbers[name]}]" for name in row["notes"])
    # A bound or an interval is shown as one; a plain number stands out.
    shown = reached(row, ours) if ours.low is not None else (
        f"**{figure(ours.value, row['metric'])}** ± {figure(ours.standard_error, row['metric'])}"
    )  # fmt: skip
    return f"{published(row)}{marks}, {shown} ({done})"


def updated(text: str) -> str:
    """Return the README with tables and speed as they stand in results/."""
    from reverie import tabling

    text = fill(text, "table", "\n".join([*results(tabling.collect()), *targets()]))
    if BENCH.exists():
        text = fill(text, "speed", "\n".join(speed(json.loads(BENCH.read_text(encoding="utf-8")))))
    return text


def main(arguments: list[str]) -> int:
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = updated(before)
    if "--check" in arguments:
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
