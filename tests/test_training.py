"""From a request to a run and back: what a run records of its data is enough to go on with it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import cli, data
from reverie.errors import Interrupted, NonFinite, ReverieError
from reverie.evaluate.certify import log_scales
from reverie.train import fit

TINY: dict[str, Any] = {"hidden": ((8,),), "latent": (2,), "batch": 10}


def drawings(n: int = 60) -> np.ndarray:
    """Greys in [0, 1], mostly black and white, as scanned digits are."""
    x = np.random.default_rng(0).random((n, 8, 8)).astype(np.float32)
    return np.where(x < 0.45, 0.0, np.where(x > 0.55, 1.0, x)).astype(np.float32)


def classes(n: int = 60) -> np.ndarray:
    return np.asarray(["cat", "dog", "owl"])[np.arange(n) % 3]


@pytest.mark.parametrize(
    "wish", [{"split_rule": "random"}, {"binarisation": "sampled-fixed"}, {"likelihood": "gaussian", "data_seed": 3}]
)
def test_a_run_on_arrays_resumes_to_the_weights_of_a_whole_one(wish: dict[str, Any], tmp_path: Path) -> None:
    whole = reverie.train("vae", drawings(), run=tmp_path / "whole", steps=8, **wish, **TINY)
    with pytest.raises(Interrupted):
        reverie.train("vae", drawings(), run=tmp_path / "cut", steps=8, minutes=0.0, **wish, **TINY)
    cut = reverie.load(tmp_path / "cut").resume()
    assert cut.data.hash == whole.data.hash and cut.data.split_rule == whole.data.split_rule
    assert cut.folder.read()["status"] == "finished"
    weights = [(tmp_path / name / "checkpoint-8.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    told = [[{k: v for k, v in line.items() if k != "seconds"} for line in run.journal()] for run in (whole, cut)]
    assert told[0] == told[1] and told[0]
    if whole.data.measure == "density":
        # A line and the validation beside it are in one unit: a few nats apart after a few steps, not dozens.
        assert fit.mean_log_scale(whole.data) < -30 and abs(told[0][-1]["elbo"] - told[0][-1]["valid"]["value"]) < 20


@pytest.mark.parametrize("missing", [False, True])
def test_the_journal_tells_densities_in_the_units_of_the_file_as_validation_does(missing: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)) * [0.1, 10.0, 1000.0]
    rows[np.random.default_rng(1).random(rows.shape) < 0.3 * missing] = np.nan
    found, part = data.load(rows), fit.Fit.__new__(fit.Fit)
    shift = log_scales(found, found.rows("train")).mean()
    assert abs(shift) > 1 and fit.mean_log_scale(found) == pytest.approx(shift)
    assert fit.mean_log_scale(data.load((rows > 0).astype(np.float32))) == 0
    part._log_scale = shift
    part.state = SimpleNamespace(count=2, sums={"elbo": 8.0, "bound": 6.0, "objective": 4.0, "loss": 2.0})
    assert part._means() == {"elbo": 4 - shift, "bound": 3 - shift, "objective": 2 - shift, "loss": 1.0}
    part.state.count = 0
    assert part._means() == {}


def test_a_run_on_arrays_keeps_the_names_of_classes_and_columns(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    spec = {"x": rows, "y": classes(), "columns": np.asarray(["a", "b", "c"])}
    run = reverie.train("vae", spec, run=tmp_path / "run", steps=2, **TINY)
    assert run.data.columns == ("a", "b", "c") and run.data.class_names == ("cat", "dog", "owl")
    for back in (reverie.load(run.path).data, data.load(run.path / "data.npz")):
        assert back.columns == run.data.columns and back.class_names == run.data.class_names
        assert back.hash == run.data.hash
        np.testing.assert_array_equal(back.labels("test"), run.data.labels("test"))


def test_kept_arrays_that_are_gone_or_altered_are_one_line(tmp_path: Path) -> None:
    run = reverie.train("vae", drawings(), run=tmp_path / "run", steps=2, **TINY)
    kept = run.path / "data.npz"
    with np.load(kept, allow_pickle=False) as file:
        arrays = dict(file)
    for spoil, words in (
        (lambda: np.savez(kept, **{**arrays, "train": 1.0 - arrays["train"]}), "have changed since"),
        (lambda: np.savez(kept, train=arrays["train"]), "other arrays than the run stored"),
        (lambda: kept.write_bytes(kept.read_bytes()[:200]), "damaged"),
        (kept.unlink, "is missing"),
    ):
        spoil()
        with pytest.raises(ReverieError, match=words) as caught:
            reverie.load(run.path).evaluate(samples=2)
        assert "\n" not in str(caught.value) and "data.npz" in str(caught.value)


#: Adam at this rate overflows within some steps, not at once, so that there is a good checkpoint on the way.
EXPLODES: dict[str, Any] = {**TINY, "rate": 3.0, "schedule": "constant"}


def test_a_run_that_explodes_names_step_and_leaf_and_keeps_its_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "SAVE_SECONDS", 0.0)
    said = r"^step \d+: (weight|value|gradient) \S+ is not finite; .* smaller --rate, .* --init-from"
    with pytest.raises(NonFinite, match=said) as caught:
        reverie.train("vae", drawings(), run=tmp_path / "run", steps=60, valid_every=0.2, **EXPLODES)
    assert "\n" not in str(caught.value)
    run = reverie.load(tmp_path / "run")
    kept, bad = json.loads(run.folder.checkpoint_json.read_text()), int(str(caught.value).split()[1].rstrip(":"))
    assert 0 < kept["step"] <= bad and 0 < kept["kept_step"] <= kept["step"]
    assert run.record["status"] == "failed" and run.record["reason"] == str(caught.value)
    assert np.isfinite(run.evaluate(samples=3)["log_likelihood"].value)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(NonFinite, match="resuming would stop again at step") as again:
        run.resume()
    assert "\n" not in str(again.value) and "--init-from" in str(again.value)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    # From the best weights, not the last ones, which are finite and about to explode whatever the rate.
    better = {**TINY, "rate": 1e-4}
    on = reverie.train("vae", drawings(), run=tmp_path / "on", steps=10, init_from=run.path, **better)
    assert on.record["status"] == "finished" and on.record["init_from"]["step"] == kept["step"]


@pytest.mark.parametrize("steps", [1, 40], ids=["found while judging the last step", "found while training"])
def test_an_absurd_rate_is_one_line_and_exit_2(steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "drawings.npy", drawings())
    words = f"train vae --data drawings.npy --steps {steps} --hidden 8 --latent 2 --batch 10 --rate 1e6 --run run"
    assert cli.main(words.split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("reverie: step 1: value elbo is not finite"), line
    assert cli.main(["resume", "run"]) == 2
    assert "resuming would stop again at step 1" in capsys.readouterr().err
    assert cli.main(["evaluate", "run", "--samples", "3"]) == 0


def test_what_else_is_wrong_while_judging_is_not_called_a_bad_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ReverieError("valid_samples: something else")

    monkeypatch.setattr("reverie.evaluate.likelihood.importance", refuse)
    with pytest.raises(ReverieError, match="something else") as caught:
        reverie.train("vae", drawings(), run=tmp_path / "run", steps=4, **TINY)
    assert not isinstance(caught.value, NonFinite)
    assert "non_finite" not in reverie.load(tmp_path / "run").record


def test_a_later_stage_that_explodes_before_it_wrote_anything_is_one_line(tmp_path: Path) -> None:
    first = {"epochs": 0.5, "greedy": 0, "rate": 1e-3}
    how = {"code": (8, 3), "hidden": (8,), "latent": 3, "batch": 10, "autoencoder": first, "rate": 1e38}
    with pytest.raises(NonFinite, match=r"^step \d+: \S+ \S+ is not finite; the last good checkpoint is kept") as said:
        reverie.train("gmmn", drawings(), run=tmp_path / "run", epochs=2, **how)
    assert "\n" not in str(said.value)
    assert reverie.load(tmp_path / "run").record["reason"] == str(said.value)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_what_is_no_seed_is_refused_before_a_folder_is_made(seed: int, tmp_path: Path) -> None:
    with pytest.raises(ReverieError, match=f"seed: {seed} is not a seed"):
        reverie.train("vae", "digits", seed=seed, run=tmp_path / "run", steps=1)
    assert not (tmp_path / "run").exists()
