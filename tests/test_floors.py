"""The house's floors, read from the imports: who may stand on whom (docs/design.md), and how big a room may be."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "reverie"
FILES = sorted(SOURCE.rglob("*.py"))

#: Folders of docs/design.md by floor; a file directly in `reverie` is a door unless it is of the ground.
FLOORS = {"data": 1, "nn": 1, "prob": 2, "train": 3, "evaluate": 3, "models": 4, "report": 5}
GROUND = {"arrays", "errors", "estimate", "files", "progress", "settings", "values"}
DOORS = 6


def name_of(path: Path, root: Path = SOURCE) -> tuple[str, ...]:
    """Return a file's module name below `reverie`, as parts: ``("train", "engine")``, ``()`` for the package."""
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def room(module: tuple[str, ...]) -> str:
    """Return the folder a module lives in; the ground and the doors are rooms too."""
    if module and module[0] in FLOORS:
        return module[0]
    return "ground" if len(module) == 1 and module[0] in GROUND else "doors"


def floor(module: tuple[str, ...]) -> int:
    return {"ground": 0, "doors": DOORS}.get(room(module), FLOORS.get(room(module), DOORS))


def imports(tree: ast.AST, module: tuple[str, ...], known: set[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Yield every module of reverie that a file imports, wherever it stands: in a function, under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "reverie":
                    yield tuple(alias.name.split(".")[1:])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{'.'.join(module)}: imports are written out in full here"
            if node.module and node.module.split(".")[0] == "reverie":
                base = tuple(node.module.split(".")[1:])
                for alias in node.names:
                    yield (*base, alias.name) if (*base, alias.name) in known else base


def graph(root: Path = SOURCE) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Return who imports whom, by module."""
    files = {name_of(path, root): path for path in sorted(root.rglob("*.py"))}
    return {
        name: set(imports(ast.parse(path.read_text(encoding="utf-8")), name, set(files))) - {name}
        for name, path in files.items()
    }


def misplaced(edges: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[str]:
    """Return a line for each import that goes up, or sideways into another folder."""
    return [
        f"{'.'.join(a) or 'reverie'} (floor {floor(a)}) imports {'.'.join(b) or 'reverie'} (floor {floor(b)})"
        for a, targets in edges.items()
        for b in targets
        if not (floor(b) < floor(a) or room(a) == room(b))
    ]


def test_a_file_imports_from_floors_below_or_its_own_folder() -> None:
    assert misplaced(graph()) == []


def test_no_folder_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(".".join(m) for m in error.args[1]))


def test_these_tests_would_notice(tmp_path: Path) -> None:
    """A mutant: an import upwards inside a function, one sideways, and a circle."""
    for folder in ("prob", "data", "nn"):
        (tmp_path / folder).mkdir()
    (tmp_path / "arrays.py").write_text("def f():\n    from reverie.prob import bounds\n")
    (tmp_path / "prob" / "bounds.py").write_text("import reverie.arrays\n")
    (tmp_path / "data" / "own.py").write_text("from reverie.nn import laws\n")
    (tmp_path / "nn" / "laws.py").write_text("")
    edges = graph(tmp_path)
    assert len(misplaced(edges)) == 2
    with pytest.raises(CycleError):
        TopologicalSorter(edges).prepare()


def test_models_are_not_named_outside_their_folder() -> None:
    """Discovered, never registered: nobody imports one model by name, so that adding one touches one file."""
    models = {m for m in graph() if m[:1] == ("models",) and len(m) == 3}
    named = [(a, b) for a, targets in graph().items() for b in targets & models if room(a) != "models"]
    assert named == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: ".".join(name_of(p)) or "reverie")
def test_a_file_is_at_most_350_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, f"{path.name}: is it two rooms?"


def lengths() -> dict[str, int]:
    """Return every function's number of lines of code, its docstring and signature apart."""
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                size = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                found[f"{path.relative_to(SOURCE)}:{node.name}"] = size
    return found


def test_functions_are_short() -> None:
    sizes = lengths()
    long = {name: size for name, size in sizes.items() if size > 50}
    assert not long, "a function past 50 lines does more than one thing"
    assert sum(size > 25 for size in sizes.values()) <= 0.05 * len(sizes), "functions are mostly under 25 lines"
    assert statistics.median(sizes.values()) <= 8
