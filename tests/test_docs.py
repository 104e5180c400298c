"""What the README and the docs promise is run; and what the repository may not contain is looked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from reverie import data as data_floor

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: ``<!-- run -->`` before a fenced block marks it; ``<!-- run: table.csv -->`` asks for a file to be there.
BLOCK = re.compile(r"^<!-- run(?:: (?P<file>[\w.]+))? -->\n```(?P<kind>bash|python)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block to be executed."""

    kind: str
    text: str
    file: str | None


def blocks(page: str) -> list[Block]:
    return [Block(m["kind"], m["text"], m["file"]) for m in BLOCK.finditer(page)]


def table(path: Path) -> None:
    """Write a CSV with a header, real columns and two missing cells."""
    x = np.random.default_rng(0).normal(size=(300, 4)) @ [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0.1]]
    lines = ["length,width,height,weight", *(",".join(f"{v:.4f}" for v in row) for row in x)]
    lines[7] = "0.1,,0.3,0.4"
    lines[9] = ",0.2,0.3,0.4"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def letters(folder: Path) -> None:
    """Write the first documents of tiny-text as files, in a folder for each class."""
    data = data_floor.load("tiny-text")
    rows, classes = data.rows("train", 0, 200), data.labels("train", 0, 200)
    for number, (row, label) in enumerate(zip(rows, classes, strict=True)):
        place = folder / data.class_names[int(label)]
        place.mkdir(parents=True, exist_ok=True)
        text = " ".join(np.repeat(data.columns, row.astype(int)))
        (place / f"{number}.txt").write_text(text, encoding="utf-8")


FILES = {"table.csv": table, "letters": letters}


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has `reverie` on the path (installed here or not)."""
    command = folder / "bin" / "reverie"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reverie "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}


def execute(block: Block, folder: Path, env: dict[str, str]) -> None:
    program = ["bash", "-euo", "pipefail", "-c"] if block.kind == "bash" else [sys.executable, "-c"]
    # The limit only ends what hangs.
    done = subprocess.run([*program, block.text], cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p.read_text(encoding="utf-8"))], ids=lambda p: p.name)
def test_commands_of_the_page_run(page: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.file:
            FILES[block.file](tmp_path / block.file)
        execute(block, tmp_path, env)


def test_the_readme_shows_what_it_says() -> None:
    """Without these the test above would pass on an empty page."""
    kinds = [block.kind for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert kinds == ["bash", "bash", "bash", "python"]


def test_a_failing_command_fails(tmp_path: Path) -> None:
    (block,) = blocks("<!-- run -->\n```bash\nfalse\ntrue\n```\n")
    with pytest.raises(AssertionError):
        execute(block, tmp_path, dict(os.environ))


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    # What is measured grows by itself between its markers.
    by_hand = re.sub(r"<!-- (table|speed) -->.*?<!-- /\1 -->", "", text, flags=re.S)
    assert len(by_hand.splitlines()) < 120
    assert len(text.splitlines()) < 180


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    # What is generated (models/, gallery/) exists only when the docs are built.
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto", "models/", "gallery/")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def tracked() -> list[Path]:
    """Return the repository's files, or in a source archive every file that could be one."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    found = [ROOT / name for name in names if name]
    if not found:
        found = [p for d in ("src", "tests", "docs", ".ci") for p in (ROOT / d).rglob("*")]
    return [p for p in found if p.is_file() and p.suffix not in {".png", ".npz", ".npy", ".safetensors", ".gz"}]


#: Written so that this file does not contain what it looks for.
MACHINE = re.compile(r"(?<![\w.:/-])/(?:work|root|tmp|home|Users)/" + r"\w")
REGISTRY = re.compile("|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "index" + "-url", "find" + "-links"]))


@pytest.mark.parametrize("pattern", [MACHINE, REGISTRY], ids=["machine", "registry"])
def test_nothing_of_one_machine_or_one_registry(pattern: re.Pattern[str]) -> None:
    found = [
        f"{p.relative_to(ROOT)}: {m[0]}" for p in tracked() if (m := pattern.search(p.read_text("utf-8", "ignore")))
    ]
    assert found == []


def test_the_patterns_find_what_they_look_for() -> None:
    assert MACHINE.search("open('/" + "tmp/x')")
    assert MACHINE.search("see /" + "home/someone")
    assert not MACHINE.search("https://example.net/" + "home/page")
    assert REGISTRY.search("https://" + "py" + "pi.org/simple")


UNSAFE = re.compile(
    r"\bimport pickle\b|\bpickle\.loads?\b|\bcloudpickle\b|allow_pickle\s*=\s*True|\btorch\.load\b|\bjoblib\.load\b"
    r"|\byaml\.load\b|(?<![.\w])eval\(|(?<![.\w])exec\(|\bshelve\b|\bmarshal\b"
)


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_nothing_read_back_can_run_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not UNSAFE.search(text)
    # A .npy or .npz of somebody else: said, not left to the default of a version.
    calls = re.findall(r"np\.load\((?:[^()]|\([^()]*\))*\)", text)
    assert all("allow_pickle=False" in call for call in calls), f"{path.name}: {calls}"


def test_constraints_are_exact_and_of_no_machine() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [p for p in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", p)] == []
