"""Rows given back, and how far off: in the file's units, ranked by their errors, and refused where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.games import engine

import reverie
from reverie import cli
from reverie.data import load
from reverie.errors import ReverieError
from reverie.prob.contracts import Implicit
from reverie.rebuilding import rebuilt, reconstruct

#: Columns of very different scales: in the file's units the last one would decide everything.
SCALES = np.array([1.0, 10.0, 0.1, 1000.0])
#: The row that was spoilt, in its column of the least scale.
ODD = 17


def table(n: int = 100) -> np.ndarray:
    """Rows near a plane in four columns."""
    rng = np.random.default_rng(0)
    return 5.0 + SCALES * (rng.normal(size=(n, 2)) @ rng.normal(size=(2, 4)) + 0.05 * rng.normal(size=(n, 4)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A linear autoencoder of two units: it finds the plane."""
    folder = tmp_path_factory.mktemp("runs") / "linear"
    how: dict[str, Any] = {"code": 2, "units": "linear", "code_units": "linear", "rate": 0.02, "steps": 400}
    return reverie.train("autoencoder", table(), run=folder, **how)


def test_rows_come_back_in_their_own_units_near_the_plane(run: Any) -> None:
    rows = table()[:30]
    back = run.reconstruct(rows)
    assert back.shape == rows.shape and back.dtype == np.float64
    spread = table().std(axis=0)
    assert (np.abs(back - rows).mean(axis=0) < 0.25 * spread).all(), "all columns, whatever their scale"
    assert np.abs(back - rows).max() > 1e-4 * SCALES.min(), "given back by the model, not the input itself"


def test_a_noisy_row_comes_back_nearer_to_the_truth(run: Any) -> None:
    clean = table()[:50]
    noisy = clean + 0.5 * SCALES * np.random.default_rng(3).normal(size=clean.shape)
    far = lambda rows: np.square((rows - clean) / SCALES).mean()  # noqa: E731
    assert far(run.reconstruct(noisy)) < 0.8 * far(noisy)


def test_errors_are_squares_in_the_models_units_and_rank_the_odd_row_first(run: Any) -> None:
    rows = table()[:40]
    rows[ODD, 2] += 6 * SCALES[2]
    back, errors = rebuilt(run, rows)
    assert np.array_equal(back, run.reconstruct(rows)) and np.array_equal(errors, run.reconstruction_errors(rows))
    scale = np.asarray(run.facts.scale)
    np.testing.assert_allclose(errors, (((rows - back) / scale) ** 2).sum(axis=1), rtol=1e-3)
    assert errors.argmax() == ODD


def test_of_an_autoencoder_they_average_to_what_evaluate_says(run: Any) -> None:
    stored = np.asarray(run.data.splits["test"].x)
    said = run.evaluate()["squared_error"].value
    assert abs(run.reconstruction_errors(stored).mean() - said) < 1e-4 * max(1.0, said)


def test_what_does_not_score_says_how_odd_rows_are_found(run: Any) -> None:
    with pytest.raises(
        ReverieError, match=r"no model of the rows; .*`reverie reconstruct --errors` finds its odd rows"
    ):
        run.score(table()[:3])


def test_a_draw_is_of_the_seed_and_the_row() -> None:
    data, rows = load(table()), table()[:6]
    model = engine("vae", data, hidden=((8,),), latent=(2,), batch=20).init().model
    run: Any = SimpleNamespace(model=model, facts=data, record={"model": "vae"})
    first = reconstruct(run, rows, seed=1)
    assert np.array_equal(first[::-1], reconstruct(run, rows[::-1], seed=1))
    assert not np.array_equal(first, reconstruct(run, rows, seed=2))
    rows[0, 0] = np.nan
    with pytest.raises(ReverieError, match="is missing; fill it first with `impute`"):
        reconstruct(run, rows)


def test_the_verb_writes_rows_and_errors(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table()[:20]
    rows[ODD, 2] += 6 * SCALES[2]
    np.save(tmp_path / "rows.npy", rows)
    words = ["reconstruct", str(run.path), "--input", str(tmp_path / "rows.npy")]
    out, errors = tmp_path / "back.npy", tmp_path / "errors.csv"
    assert cli.main([*words, "--out", str(out), "--errors", str(errors), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    np.testing.assert_array_equal(np.load(out), run.reconstruct(rows))
    lines = errors.read_text().splitlines()
    assert lines[0] == "row,squared_error" and len(lines) == 21 and lines[ODD + 1].startswith(f"{ODD + 1},")
    assert told["rows"] == 20 and told["worst"][0] == ODD + 1 and told["errors"] == str(errors)
    assert cli.main([*words, "--out", str(tmp_path / "x.csv"), "--errors", str(tmp_path / "x.csv")]) == 2
    assert "is where the rows go" in capsys.readouterr().err and not (tmp_path / "x.csv").exists()


def test_a_model_that_gives_nothing_back_says_what_it_can_do() -> None:
    facts = SimpleNamespace(likelihood="gaussian")
    run: Any = SimpleNamespace(model=Implicit(), record={"model": "gan"}, facts=facts)
    with pytest.raises(ReverieError, match=r"^reconstruct: a gan cannot; it can: evaluate, sample, score$"):
        reconstruct(run, table()[:3])
