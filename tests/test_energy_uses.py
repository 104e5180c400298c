"""What a person does with a trained energy: draws, completion, log Z that is kept, both sides in the report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.test_energy import bits, machine, spurious, table

import reverie
from reverie import picturing
from reverie.errors import ReverieError
from reverie.evaluate import chains, energy, filling, impute, log_z
from reverie.evaluate.diagnose import diagnose
from reverie.models.undirected._layered import Boltzmann
from reverie.models.undirected.dbm import DBM
from reverie.models.undirected.rbm import RBM
from reverie.prob import partition
from reverie.progress import Quiet

PLAN: dict[str, Any] = {"temperatures": 20, "tolerance": 50.0, "rows": 40, "estimator": "ais"}


class Heard(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine on digits, hardly trained."""
    root = tmp_path_factory.mktemp("runs")
    return reverie.train("dbm", "digits", run=root / "dbm", hidden=(6, 4), batch=100, epochs=2).path


# Completion


@pytest.mark.parametrize(("kind", "widths"), [(RBM, (6, 4)), (DBM, (6, 3, 3))])
def test_completion_is_the_conditional_mean(kind: type[Boltzmann], widths: tuple[int, ...]) -> None:
    """Within 0.05 of E[x_missing | x_known] by counting all states; 2,000 correlated draws stray by 0.02 at most."""
    with jax.enable_x64(True):
        model = machine(widths, seed=2, kind=kind)
        rows = bits(6)[::9]
        known = np.tile([True, False, True, True, False, False], (len(rows), 1))
        found = impute.impute(model, rows, known, iterations=4000)
        states, log_f = table(model)
    v, p = np.array([x[0] for x in states]), np.exp(log_f - log_f.max())
    wrong = 0.0
    for i, row in enumerate(rows):
        same = (v[:, known[i]] == row[known[i]]).all(axis=1)
        exact = p[same] @ v[same] / p[same].sum()
        np.testing.assert_allclose(found.filled[i][~known[i]], exact[~known[i]], atol=0.05)
        wrong = max(wrong, np.abs(p @ v / p.sum() - exact).max())
    assert wrong > 0.2, "rows whose known cells say nothing would prove nothing"
    np.testing.assert_array_equal(found.filled[known], rows[known].astype(np.float32))
    assert found.errors.shape == (4000,) and np.isfinite(found.errors).all()


def test_filling_is_judged_on_the_hidden_cells_alone() -> None:
    train = np.array([[0, 0, 1.0], [0, 0, 1], [1, 1, 0], [1, 1, 0]])
    rows, known = np.array([[0, 0, 1.0], [1, 1, 0]]), np.array([[True, True, False]] * 2)
    np.testing.assert_allclose(filling.nearest_rows(train, rows, known, 2), rows)
    np.testing.assert_allclose(filling.base_rates(train, rows, known)[:, 2], 0.5)
    good = filling.quality(rows, known, filling.nearest_rows(train, rows, known, 2), True)
    poor = filling.quality(rows, known, filling.base_rates(train, rows, known), True)
    assert good.mse == 0 and good.log_loss == pytest.approx(-np.log(1 - filling.SURE))
    assert poor.mse == 0.25 and poor.psnr == pytest.approx(6.0206, abs=1e-4)
    assert poor.log_loss == pytest.approx(np.log(2))


# Chains


def test_the_autocorrelation_time_is_that_of_an_autoregression() -> None:
    """tau = (1 + a) / (1 - a) for a first-order one: within a fifth of it; and chains that stay apart never mix."""
    rng = np.random.default_rng(0)
    for a in (0.0, 0.8):
        trace = np.zeros((50, 2000))
        for t in range(1, 2000):
            trace[:, t] = a * trace[:, t - 1] + rng.normal(size=50)
        assert chains.autocorrelation_time(trace) == pytest.approx((1 + a) / (1 - a), rel=0.2)
    apart = rng.normal(size=(50, 2000)) * 0.1 + np.sign(rng.normal(size=(50, 1)))
    assert chains.autocorrelation_time(apart) > 200
    slow = chains.Mixing(chains.autocorrelation_time(apart), 2000, np.zeros(0))
    assert not slow.forgets and "do not mix" in str(slow)


def test_samples_take_a_chain_and_draw_it(trained: Path, tmp_path: Path) -> None:
    run, heard = reverie.load(trained), Heard()
    how: dict[str, Any] = {"sweeps": 30, "start": "data", "tempered": 3}
    drawn = run.sample(4, **how, picture=tmp_path / "p.png", progress=heard)
    assert drawn.shape == (4, 8, 8) and set(np.unique(drawn)) <= {0.0, 16.0, 1.0}
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert len(heard.said) == 1 and "autocorrelation time" in heard.said[0] and "swapped" in heard.said[0]
    np.testing.assert_array_equal(drawn[:3], run.sample(3, **how))
    for wrong, said in (({"sweeps": 0}, "sweeps: 0"), ({"tempered": 1}, "tempered: 1"), ({"start": "x"}, "start: 'x'")):
        with pytest.raises(ReverieError, match=said):
            run.sample(2, **wrong)


def test_a_model_without_chains_refuses_their_options(tmp_path: Path) -> None:
    run = reverie.train("vae", "digits", run=tmp_path / "vae", hidden=((8,),), latent=(2,), batch=100, steps=5)
    for name, value in (("sweeps", 5), ("start", "base"), ("tempered", 4), ("picture", tmp_path / "p.png")):
        with pytest.raises(ReverieError, match=f"^{name}: a vae draws rows without such a chain; leave it out$"):
            run.sample(2, **{name: value})


# log Z


def test_log_z_is_annealed_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = log_z.Annealing.forwards
    monkeypatch.setattr(log_z.Annealing, "forwards", lambda self, t: (calls.append(t), real(self, t))[1])
    run, heard = reverie.load(trained), Heard()
    first = run.evaluate(**PLAN, progress=heard)["log_likelihood"]
    assert calls == [20] and not heard.said
    again = run.evaluate(**{**PLAN, "rows": 30}, progress=heard)["log_likelihood"]
    assert calls == [20] and again.n == 30 and again.low is not None and "log_z.json" in heard.said[0]
    assert run.evaluate(**PLAN)["log_likelihood"] == first
    record = json.loads((trained / "log_z.json").read_text())
    sides = {end["name"]: end["kind"] for end in record["log_z"]["rounds"][0]["ends"]}
    assert sides == {"forward": "lower_bound", "reverse": "upper_bound"} and record["log_z"]["truth"] is not None
    found = run.log_z()
    assert found is not None and found.ess > 1 and found.temperatures == 20 and 0 < found.worst < 1
    # What asks for more than is known anneals anew: a longer path, another seed, other weights.
    run.evaluate(**{**PLAN, "temperatures": 40})
    run.evaluate(**{**PLAN, "temperatures": 40}, seed=3)
    assert calls == [20, 40, 40]
    (trained / "log_z.json").write_text(json.dumps({**record, "weights": "others"}))
    assert run.log_z() is None
    (trained / "log_z.json").write_text("{torn")
    run.evaluate(**PLAN)
    assert calls == [20, 40, 40, 20] and run.log_z() is not None


def test_a_kept_log_z_comes_back_as_it_was() -> None:
    ends = (log_z.End("forward", "lower_bound", 1.0, 0.1), log_z.End("raise", "upper_bound", 1.5, 0.1))
    known = log_z.LogZ(
        1.25, 1.0, 1.5, 0.07, 30.0, 0.1, "ais-100x400", None, (log_z.Round(400, ends),), 100, 2.0, "late"
    )
    assert log_z.LogZ.from_json(json.loads(json.dumps(known.to_json()))) == known
    exact = log_z.LogZ(1.0, 1.0, 1.0, 0.0, np.inf, 0.0, "enumerated")
    assert log_z.LogZ.from_json(json.loads(json.dumps(exact.to_json()))) == exact
    plan = log_z.Plan(temperatures=200, most=1600, tolerance=0.5)
    assert log_z._enough(known, plan)
    for other in ({"tolerance": 0.4}, {"temperatures": 800, "tolerance": 0.5}, {"chains": 50, "tolerance": 0.5}):
        assert not log_z._enough(known, log_z.Plan(**{"temperatures": 200, "most": 1600, **other}))
    assert log_z._enough(known, log_z.Plan(temperatures=200, most=400, tolerance=0.1)), "no longer path is allowed"


def test_validation_is_not_won_by_a_forward_end_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine on which annealing forwards from a poor base is nats too good is judged below its likelihood."""
    monkeypatch.setattr(energy, "TOLD", 0)
    with jax.enable_x64(True):
        model, rows = spurious("uniform")
        data = SimpleNamespace(rows=lambda *_: rows, size=lambda _: len(rows), measure="mass", binarisation="as-is",
                               hash="h", missing=False)  # fmt: skip
        monkeypatch.setattr(energy, "certify", lambda result, *_, **more: energy.Estimate.of_rows(
            result.values, kind=result.kind, estimator=result.estimator, note=more.get("note")))  # fmt: skip
        found = energy.validator(temperatures=100)(model, data)  # type: ignore[arg-type]
        free = float(np.mean(jax.vmap(model.log_unnormalised)(jnp.asarray(rows))))
        truth = free - partition.enumerated(model)
    assert found.high is not None and found.high > truth + 3, "the forward end"
    assert found.value == found.low < truth + 0.1
    assert found.to_json()["log_z_low"] == pytest.approx(free - found.high, abs=1e-3)


# The report


def test_the_report_shows_both_sides_units_and_chains(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picturing, "_SWEEPS", (0, 1, 10))
    run = reverie.load(trained)
    run.evaluate(**PLAN)
    page = run.report().read_text(encoding="utf-8")
    for part in ("Partition function", "forwards (AIS)", "backwards (AIS)", "effective chains", "Mean activations",
                 "autocorrelation time", "10 nearest rows", "base rates", "PSNR", "filters of layer 2"):  # fmt: skip
        assert part in page, part
    assert "minus the loss" not in page, "a difference of energies is no likelihood"
    means = run.folder.load_arrays("activations")
    assert {name: a.shape for name, a in means.items()} == {"mean_1": (6,), "mean_2": (4,)}
    assert any("hidden units" in finding["text"] for finding in json.loads((trained / "diagnoses.json").read_text()))


def test_idle_units_and_slow_chains_are_flagged() -> None:
    facts = {"activations": {"mean_1": np.array([0.001, 0.5, 0.4, 0.999])},
             "chains": {"mixing": np.asarray(str(chains.Mixing(900.0, 1000, np.zeros(0))))}}  # fmt: skip
    found = [finding["text"] for finding in diagnose(facts) if finding["level"] == "warning"]
    assert any("of 4 hidden units 1 are never on and 1 always" in text for text in found)
    assert any("do not mix" in text for text in found)
