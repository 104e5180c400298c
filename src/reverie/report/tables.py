"""Published against ours, row by row: the same table for the terminal, the README and a page.

A row is a mapping with ``table``, ``row``, ``column``, ``published``, ``source``, ``ours`` (an Estimate's record, or
None where nothing was run), ``seeds``, ``epochs``, ``paper_epochs``, ``commit``, ``protocol``, ``hardware`` and
``beside`` (other published values of the row, by name), ``kind`` and ``source`` of the published number, ``metric``,
``missing`` (why there is no ``ours``) and ``notes`` (footnotes by name); all but the first four may be missing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from reverie.errors import ReverieError
from reverie.estimate import Estimate
from reverie.evaluate.claims import is_share

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Row = Mapping[str, Any]
#: Titles of the columns, and whether their cells are numbers.
HEAD: Mapping[str, bool] = {
    "row": False, "column": False, "published": True, "ours": True, "difference": True, "epochs of the paper's": True,
    "seeds": True, "protocol": False, "hardware": False, "commit": False,
}  # fmt: skip
#: Columns that give way on a narrow terminal, in that order, and the width to which a long cell is folded there.
_SPARE, _FOLDED = ("commit", "hardware", "protocol", "seeds", "epochs of the paper's"), 28
#: Letters of a commit that tell it from all others.
_COMMIT = 9
_SIGNS = {"exact": "=", "lower_bound": "≥", "upper_bound": "≤", "bracket": "∈", "estimate": "≈"}


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the rows as text, a cell for each title of `HEAD`, in the order given.

    Raises:
        ReverieError: when a row lacks its place or its published number, or `ours` is no certified number.
    """
    numbers = {name: i for i, name in enumerate(notes(rows), 1)}
    return [_cells(row, numbers) for row in rows]


def notes(rows: Sequence[Row]) -> dict[str, str]:
    """Return the footnotes of the rows by name, in order of first appearance."""
    found: dict[str, str] = {}
    for row in rows:
        found |= {name: text for name, text in (row.get("notes") or {}).items() if name not in found}
    return found


def legend(rows: Sequence[Row]) -> list[str]:
    """Return the lines below a table: what its numbers are, then its footnotes by number."""
    lines = []
    if any(is_share(row.get("metric")) for row in rows):
        lines.append("Errors in per cent, less is better; ours in their 95 % Wilson intervals.")
    if any(row.get("source") == "quoted" for row in rows):
        lines.append("Quoted: read at second hand, in another source than the paper.")
    return lines + [f"[{number}] {text}" for number, text in enumerate(notes(rows).values(), 1)]


def figure(value: float | None, metric: str | None = None, *, plus: bool = False) -> str:
    """Return a number of a metric as it is printed, to two decimals; shares per cent."""
    return _number(100 * value if value is not None and is_share(metric) else value, plus=plus)


def _cells(row: Row, numbers: Mapping[str, int]) -> list[str]:
    for key in ("table", "row", "column", "published"):
        if key not in row:
            raise ReverieError(f"table: a row has no {key!r} ({row}); mend the model's CLAIMS or the result file")
    ours = _estimate(row)
    marks = "".join(f" [{numbers[name]}]" for name in row.get("notes") or ())
    return [
        str(row["row"]), str(row["column"]), published(row) + marks, reached(row, ours), _difference(row, ours),
        _epochs(row), _seeds(row.get("seeds")), _text(row.get("protocol")), _text(row.get("hardware")),
        _text(row.get("commit"))[:_COMMIT],
    ]  # fmt: skip


def _estimate(row: Row) -> Estimate | None:
    ours = row.get("ours")
    if ours is None or isinstance(ours, Estimate):
        return ours
    try:
        return Estimate.from_json(dict(ours))
    except (TypeError, ValueError):
        place = f"{row['table']}, {row['row']}, {row['column']}"
        raise ReverieError(f"{place}: `ours` is no certified number; delete the result file and run it again") from None


def published(row: Row) -> str:
    """Return the published number of a row with what it is, what stands beside it, and whether it was quoted."""
    beside = [f"{name} {value}" for name, value in (row.get("beside") or {}).items() if value]
    said = ", ".join([*beside, *(["quoted"] if row.get("source") == "quoted" else [])])
    sign = f"{_SIGNS[row['kind']]} " if row.get("kind") and row["published"] is not None else ""
    return sign + figure(row["published"], row.get("metric")) + (f" ({said})" if said else "")


def reached(row: Row, ours: Estimate | None) -> str:
    """Return our number of a row with its sign and its error or interval, or why there is none."""
    if ours is None:
        return row.get("missing") or "–"
    metric, sign = row.get("metric"), _SIGNS.get(ours.kind, "≈")
    part = f", {ours.n:,} of {ours.rows_of:,} rows" if ours.rows_of else ""
    whole = ours.low is None or ours.high is None
    ends = None if whole else f"[{figure(ours.low, metric)}, {figure(ours.high, metric)}]"
    if is_share(metric) and ends:
        # Of a share the ends are those of its interval, and the share is known.
        return f"{sign} {figure(ours.value, metric)} {ends}{part}"
    more = (row.get("ours_beside") or {}).get("importance")
    return f"{sign} {ends or figure(ours.value, metric)} ± {figure(ours.standard_error, metric)}{part}" + (
        f" ({more})" if more else ""
    )


def _difference(row: Row, ours: Estimate | None) -> str:
    paper, metric = row["published"], row.get("metric")
    if ours is None or paper is None:
        return "–"
    if is_share(metric) or ours.low is None or ours.high is None:
        return figure(ours.value - paper, metric, plus=True)
    return f"[{figure(ours.low - paper, plus=True)}, {figure(ours.high - paper, plus=True)}]"


def _epochs(row: Row) -> str:
    done, paper = row.get("epochs"), row.get("paper_epochs")
    # A last step that falls short of a whole epoch is no news.
    shown = "–" if done is None else f"{done:,.4g}" if done < 1 else f"{round(done, 2):,.6g}"
    return shown if paper is None else f"{shown} / {paper:,.6g}"


def _seeds(seeds: Any) -> str:
    if seeds is None:
        return "–"
    return str(len(seeds)) if isinstance(seeds, list | tuple) else str(seeds)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
    return "–" if value in (None, "") else str(value)


def _number(value: float | None, *, plus: bool = False) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:{'+' if plus else ''}.2f}".replace("-", "−")


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows by table, tables in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row.get("table")), []).append(row)
    return groups


def _worth(body: Sequence[Sequence[str]]) -> list[int]:
    """Return which columns say something; one that is empty in every row is left out."""
    return [i for i, _ in enumerate(HEAD) if any(line[i] != "–" for line in body) or i < 4]


def _tables(rows: Sequence[Row]) -> list[tuple[str, list[str], list[bool], list[list[str]], list[str]]]:
    """Return (name, titles, which are numbers, cells, lines below) of every table."""
    made = []
    for name, group in _grouped(rows).items():
        body = cells(group)
        kept = _worth(body)
        titles, numeric = list(HEAD), list(HEAD.values())
        some = [[line[i] for i in kept] for line in body]
        made.append((name, [titles[i] for i in kept], [numeric[i] for i in kept], some, legend(group)))
    return made


def plain(rows: Sequence[Row]) -> str:
    """Return the tables as text in columns, for any terminal or file."""
    parts = []
    for name, titles, numeric, body, below in _tables(rows):
        lines = [titles, *body]
        widths = [max(_width(line[i]) for line in lines) for i in range(len(titles))]
        pad = [[_pad(cell, widths[i], right=numeric[i]) for i, cell in enumerate(line)] for line in lines]
        rule = ["─" * width for width in widths]
        parts.append("\n".join([name, *("  ".join(line).rstrip() for line in (pad[0], rule, *pad[1:])), *below]))
    return "\n\n".join(parts) + ("\n" if parts else "")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def markdown(rows: Sequence[Row]) -> str:
    """Return the tables as GitHub's Markdown, each under its name in bold."""
    parts = []
    for name, titles, numeric, body, below in _tables(rows):
        rule = ["---:" if number else "---" for number in numeric]
        lines = [titles, rule, *([_markdown_cell(cell) for cell in line] for line in body)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append("\n\n".join([f"**{_markdown_cell(name)}**", table, *map(_markdown_cell, below)]))
    return "\n\n".join(parts) + ("\n" if parts else "")


def _markdown_cell(text: str) -> str:
    one_line = " ".join(text.split())
    for letter in "\\|*_`<":
        one_line = one_line.replace(letter, "\\" + letter)
    return one_line


def html(rows: Sequence[Row]) -> Markup:
    """Return the tables as HTML, everything escaped."""
    parts = []
    for name, titles, numeric, body, below in _tables(rows):
        marks = [Markup(' class="number"') if number else Markup("") for number in numeric]
        head = Markup("").join(Markup("<th{}>{}</th>").format(m, t) for m, t in zip(marks, titles, strict=True))
        lines = [
            Markup("<tr>{}</tr>").format(
                Markup("").join(Markup("<td{}>{}</td>").format(m, c) for m, c in zip(marks, line, strict=True))
            )
            for line in body
        ]
        table = Markup("<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>")
        parts.append(table.format(escape(name), head, Markup("\n").join(lines)))
        parts += [Markup("<p>{}</p>").format(line) for line in below]
    return Markup("\n").join(parts)


def rich_tables(rows: Sequence[Row], width: int) -> list[Table | Text]:
    """Return the tables for a terminal of `width` columns; nothing in a cell is read as markup.

    What says how a number was made gives way where there is no room, and a line says so; the rest is folded.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made: list[Table | Text] = []
    for name, titles, numeric, body, below in _tables(rows):
        kept = _fitting(titles, body, width)
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
        for i in kept:
            table.add_column(titles[i], justify="right" if numeric[i] else "left", overflow="fold")
        for line in body:
            table.add_row(*(Text(line[i]) for i in kept))
        gone = ", ".join(title for i, title in enumerate(titles) if i not in kept)
        room = (
            [f"Without {gone}, for which there is no room here: a wider window, or a pipe, has them."] if gone else []
        )
        made += [Text(name), table, *map(Text, [*below, *room]), Text("")]
    return made


def _fitting(titles: Sequence[str], body: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return which columns fit into `width`, long cells folded, without those that can be spared first."""
    kept = list(range(len(titles)))
    widths = [min(_FOLDED, max(_width(line[i]) for line in (titles, *body))) for i in kept]
    for spare in _SPARE:
        if sum(widths[i] + 3 for i in kept) - 3 <= width:
            break
        kept = [i for i in kept if titles[i] != spare]
    return kept
