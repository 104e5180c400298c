"""The journal: lines that count are whole, and a resumed run's journal is cut back to its checkpoint."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.errors import ReverieError
from reverie.train.journal import Journal

values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
records = st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=records, torn=st.binary(max_size=9).filter(lambda b: b"\n" not in b), at=st.integers(-1, 9))
def test_what_is_appended_is_read_and_cut(tmp_path: Path, lines: list[dict[str, Any]], torn: bytes, at: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.unlink(missing_ok=True)
    journal = Journal(path)
    lines = [{**line, "step": step} for step, line in enumerate(lines)]
    for line in lines:
        journal.append(line)
    with path.open("ab") as file:
        file.write(torn)
    assert journal.read() == lines
    journal.cut(at)
    assert journal.read() == lines[: at + 1]
    assert path.read_bytes().count(b"\n") == len(lines[: at + 1])


def test_a_torn_line_is_written_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append({"step": 1})
    with journal.path.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    journal.append({"step": 3})
    assert journal.path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append({"step": np.int32(1), "loss": float("nan"), "rows": np.array([1.0, np.inf], np.float32)})
    assert journal.path.read_text() == '{"step": 1, "loss": null, "rows": [1.0, null]}\n'


def test_nothing_to_cut_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.cut(0)
    assert not journal.path.exists()
    assert journal.read() == []
    journal.append({"step": 1})
    before = journal.path.stat()
    journal.cut(1)
    assert journal.path.stat() == before


def test_a_full_disk_leaves_the_lines_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append({"step": 1})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    try:
        with pytest.raises(ReverieError, match=r"metrics\.jsonl: the disk is full[^\n]*$"):
            journal.append({"step": 2, "note": "x" * 200})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert journal.path.read_bytes() == b'{"step": 1}\n'


@pytest.mark.parametrize("line", ["nonsense", "[1]", '"text"', '{"step": "one"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.path.write_text(json.dumps({"step": 1}) + f"\n{line}\n" + json.dumps({"step": 3}) + "\n")
    for verb in (journal.read, lambda: journal.cut(5)):
        with pytest.raises(ReverieError, match=r"metrics\.jsonl: line 2 is damaged[^\n]*$"):
            verb()
