"""The page of each model, made from its file when the docs are built: theory, arguments, presets, published numbers."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from reverie import models, settings, values
from reverie.evaluate.claims import NOTES, is_share
from reverie.report.tables import figure

#: How the sources of published numbers are called where the name does not tell.
SOURCES = {"quoted": "another source that quotes it"}


def write(folder: Path) -> None:
    """Write ``<name>.md`` for every discovered model, and an index, afresh."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    titles = {}
    for name in models.discover():
        module = models.load_module(name)
        titles[name] = title(module)
        (folder / f"{name}.md").write_text("\n".join(page(name, module)), encoding="utf-8")
    (folder / "index.md").write_text("\n".join(index(titles)), encoding="utf-8")


def title(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0].rstrip(".")


def index(titles: Mapping[str, str]) -> Iterator[str]:
    yield "# The models\n"
    yield "Each page is made from the model's own file: its theory, its arguments, and what its paper reports.\n"
    yield from (f"- [{name}]({name}.md): {text}" for name, text in titles.items())
    yield "\n```{toctree}\n:hidden:\n"
    yield from titles
    yield "```\n"


def page(name: str, module: ModuleType) -> Iterator[str]:
    """Yield the lines of a model's page."""
    yield f"# {name}\n\n*{title(module)}*\n"
    # What the model is tested on is what it can learn from.
    data = getattr(module, "BATTERY", {}).get("data", "digits")
    yield f"```console\n$ reverie train {name} --data {data}\n```\n"
    # The theory is reStructuredText, as docstrings are: its equations are `.. math::`.
    theory = inspect.cleandoc(module.__doc__ or "").split("\n", 1)[-1].strip()
    yield f"## Theory\n\n````{{eval-rst}}\n{theory}\n````\n"
    yield from _arguments(name, module)
    yield from _presets(module)
    yield from _paper(name, module)
    yield from _claims(module)


def _arguments(name: str, module: ModuleType) -> Iterator[str]:
    yield f"## Arguments\n\n`reverie train {name} --help` prints these; from Python they are keywords of `train`.\n"
    yield "| argument | default | what |\n|---|---|---|"
    for setting in settings.describe(module.recipe).values():
        yield f"| `--{setting.name.replace('_', '-')}` | {_code(setting.default)} | {_cell(setting.help)} |"
    yield ""


def _presets(module: ModuleType) -> Iterator[str]:
    if not getattr(module, "PRESETS", None):
        return
    yield "## Presets\n\n`--preset NAME`; `fast` unless you name another.\n"
    yield "| preset | arguments |\n|---|---|"
    for preset, arguments in module.PRESETS.items():
        yield f"| `{preset}` | {_code(arguments)} |"
    yield ""


def _paper(name: str, module: ModuleType) -> Iterator[str]:
    paper = module.PAPER
    yield f"## Paper\n\n{paper.authors}, *{paper.title}*, {paper.venue} {paper.year} (`reverie cite {name}`):\n"
    yield f"```bibtex\n{paper.bibtex}\n```\n"


def _claims(module: ModuleType) -> Iterator[str]:
    if not module.CLAIMS:
        return
    yield "## Published numbers\n\n`reverie table` sets ours beside them.\n"
    yield "| table | row | data | published | epochs in the paper | read from |\n|---|---|---|---|---|---|"
    numbers = {name: i for i, name in enumerate(dict.fromkeys(n for c in module.CLAIMS for n in c.notes), 1)}
    for claim in module.CLAIMS:
        epochs = "–" if claim.epochs is None else f"{claim.epochs:g}"
        said = {"lower_bound": "bound", None: ""}.get(claim.kind, claim.kind)
        unit = " %" if is_share(claim.metric) else ""
        marks = "".join(f" [{numbers[name]}]" for name in claim.notes)
        yield (
            f"| {claim.table} | {_cell(claim.row)} | {claim.column} | {figure(claim.published, claim.metric)}{unit} "
            f"{said}{marks} | {epochs} | {SOURCES.get(claim.source or '', claim.source or '–')} |"
        )
    yield ""
    yield from (f"[{number}] {_cell(NOTES[name])}\n" for name, number in numbers.items())


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _code(value: Any) -> str:
    """Return a value as one writes it on the command line; a nested one as in a config file."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_code(part)}" for key, part in value.items())
    return f"`{_cell(values.text(value))}`"
