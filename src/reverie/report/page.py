"""One self-contained page of a run, or of several compared, that opens without a network.

Nothing is fetched: styles, drawings and pictures are inside, and there is no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reverie.errors import ReverieError
from reverie.files import write_atomic
from reverie.report import arena, sections, sections_about
from reverie.report.blocks import SIGNS, Section, data
from reverie.report.reading import RunView
from reverie.report.sections_classify import classify
from reverie.report.sections_health import health
from reverie.report.sections_hops import read_in_hops
from reverie.report.sections_memory import memory
from reverie.report.sections_steps import over_time
from reverie.report.sections_topics import documents, retrieval, topics
from reverie.report.style import css_variables


def write(folder: Path) -> Path:
    """Write `report.html` of the run in `folder` from what the folder holds, and return its path.

    A missing file of arrays is a missing section.

    Raises:
        ReverieError: where there is no run, where one of its files is damaged, or where the page cannot be written.
    """
    run = RunView.read(Path(folder))
    about = (sections_about.settings, sections_about.about_data, sections_about.provenance)
    makers = (*sections.SEEING, health, memory, over_time, read_in_hops, topics, documents, retrieval, classify, *about)
    found = [section for section in (make(run) for make in makers) if section is not None]
    html = _render(f"{run.model} on {run.data.get('name', 'data')}", _subtitle(run), found)
    return _save(html, run.path / "report.html")


def write_comparison(folders: Sequence[Path], differences: Mapping[str, Any], path: Path) -> Path:
    """Write one page that compares runs, and return its path.

    Args:
        folders: of the runs, two or more, in the order of the page.
        differences: paired differences as `estimate.paired_difference` gives them (``difference``,
            ``standard_error``, ``low``, ``high``, ``level``), each under the name ``"<run a> - <run b>"`` or with the
            runs as ``a`` and ``b`` in it; a run is named by its folder's name or path.  They may lie deeper in
            mappings and lists; what is no difference is passed over.
        path: where to write.

    Raises:
        ReverieError: with fewer than two runs, a folder that is no run, a damaged file, a difference that lacks a
            number, or a page that cannot be written.
    """
    if len(folders) < 2:
        raise ReverieError(f"compare: {len(folders)} run given; name two or more folders")
    runs = arena.read(folders)
    title = " against ".join(dict.fromkeys(run.model for run in runs))
    names = ", ".join(dict.fromkeys(str(run.data.get("name", "data")) for run in runs))
    subtitle = f"{len(runs)} runs on the same rows of {names}"
    return _save(_render(f"{title} on {names}", subtitle, arena.sections(runs, differences)), Path(path))


def _subtitle(run: RunView) -> str:
    parameters, plan = run.record.get("parameters"), run.record.get("plan") or {}
    told = [m for m in run.metrics if m.get("epoch") is not None]
    # Every stage counts its own epochs, and the plan is the last one's.
    last = [m for m in told if m.get("stage", 0) == told[-1].get("stage", 0)]
    done = max((float(m["epoch"]) for m in last), default=None)
    parts = [
        f"{parameters:,} parameters" if isinstance(parameters, int) else None,
        # Whole steps make whole epochs only nearly.
        None
        if done is None
        else f"{round(done, 1):g}" + (f" of {plan['epochs']:g}" if plan.get("epochs") else "") + " epochs",
        f"trained in {sections_about.took(run)}" if sections_about.seconds_of(run) else None,
        str(run.record["status"]) if run.record.get("status") not in (None, "finished") else None,
    ]
    return " · ".join(part for part in parts if part)


def _render(title: str, subtitle: str, found: Sequence[Section]) -> str:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.globals.update(data=data, signs=SIGNS)
    template = environment.get_template("page.html.j2")
    return template.render(
        title=title, subtitle=subtitle, sections=found, light=css_variables(dark=False), dark=css_variables(dark=True)
    )


def _save(html: str, path: Path) -> Path:
    # Half of a pair of surrogates, as a file's name may hold, has no UTF-8.
    write_atomic(path, html.encode("utf-8", errors="replace"))
    return path
