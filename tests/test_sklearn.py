"""The scikit-learn estimators: a run's own numbers, a row at a time, in pipelines, as bytes, in frames."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import reverie
from reverie import data as data_floor
from reverie import models, training
from reverie import sklearn as house
from reverie.errors import ReverieError
from reverie.train.optimise import Adam

VAE = {"latent": (2,), "hidden": ((8,),), "epochs": 5, "valid_samples": 2, "draws": 20, "random_state": 0}
NADE = {"hidden": 4, "epochs": 3, "random_state": 0}
RBM = {"hidden": 4, "epochs": 1, "random_state": 0}
#: Of columns unlike each other, so that a number in the model's units is not one in the file's.
SCALES = np.array([1.0, 10.0, 0.1, 1000.0])


def table(n: int = 60, seed: int = 0) -> np.ndarray:
    """Rows near a plane in four columns."""
    rng = np.random.default_rng(seed)
    plane = np.random.default_rng(9).normal(size=(2, 4))
    return 5.0 + SCALES * (rng.normal(size=(n, 2)) @ plane + 0.1 * rng.normal(size=(n, 4)))


@pytest.fixture(scope="module")
def vae() -> Any:
    return house.VAE(**VAE).fit(table())


def test_every_model_of_tables_has_an_estimator_and_no_other_has() -> None:
    kinds = {item["class"]: set(item["rows"]) for item in models.index()}
    tables = {name for name, rows in kinds.items() if rows & {"binary", "real"}}
    assert set(house.__all__) == tables | {"Imputer", "OutlierDetector"}
    assert kinds["ReplicatedSoftmax"] == {"counts"} and kinds["LAPGAN"] == {"images"}
    for name in house.__all__:
        made = getattr(house, name)
        assert made.__name__ == name and made is getattr(house, name), "one class for good, of whatever arguments"
    with pytest.raises(AttributeError, match="did you mean 'VAE'"):
        _ = house.VAEE


@pytest.mark.parametrize("name", models.discover())
def test_a_model_takes_the_rows_it_says_and_no_others(name: str) -> None:
    """`ROWS` is what decides how an estimator takes its table; it is built here, not trained."""
    x = np.random.default_rng(0).normal(size=(60, 4))
    y = np.arange(60) % 2
    for kind, law, rows in (("binary", "bernoulli", x > 0), ("real", "gaussian", x)):
        data = data_floor.load({"train": rows, "train_labels": y}, likelihood=law)
        plan = training.resolve(name, models.load_module(name).TINY, rows=data.size("train"))
        if "batch" in plan.settings:
            plan.settings["batch"] = min(plan.settings["batch"], data.size("train"))
        if kind in models.rows(name):
            plan.build(data)
        else:
            with pytest.raises(ReverieError, match=r"likelihood|images|sequences"):
                plan.build(data)


def test_importing_reverie_imports_no_scikit_learn() -> None:
    code = "import reverie, sys; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_recipe_is_the_constructor() -> None:
    told = house.VAE().get_params()
    assert told["latent"] == (50,) and told["rate"] == 1e-3, "the recipe's own defaults"
    assert told["adam"] is None, "a record's default is left to the recipe"
    assert "conditional" not in told, "it is asked per class"
    with pytest.raises(TypeError, match="latents"):
        house.VAE(latents=(2,))


def test_a_misspelt_value_is_refused_in_one_line_as_a_value_error() -> None:
    with pytest.raises(ValueError, match="did you mean 'cosine'") as refused:
        house.VAE(schedule="cosin").fit(table())
    assert isinstance(refused.value, ReverieError)


def test_records_survive_a_clone_and_reach_the_recipe() -> None:
    adam = Adam(momentum=0.5, epsilon=1e-3)
    copy = clone(house.NADE(adam=adam, **NADE))
    assert copy.get_params()["adam"] == adam
    assert copy.fit(table() > 5.0).run_.record["settings"]["adam"]["momentum"] == 0.5


def test_scores_are_those_of_a_run_with_the_same_rows_and_seed(vae: Any, tmp_path: Path) -> None:
    """Trained by hand on the same split: the estimator adds nothing of its own."""
    from reverie.data.splits import permutation

    x, order = table(), permutation(60, 0)
    arrays = {"train": x[np.sort(order[:54])], "valid": x[order[54:]], "test": x[order[54:]]}
    own = {key: value for key, value in VAE.items() if key not in ("draws", "random_state")}
    run = reverie.train("vae", arrays, run=tmp_path / "run", likelihood="gaussian", seed=0, batch=54, **own)
    rows = table(20, seed=1)
    np.testing.assert_array_equal(vae.score_samples(rows), run.score(rows, samples=20).values)
    np.testing.assert_array_equal(vae.transform(rows), run.encode(rows))
    assert vae.score(rows) == pytest.approx(run.score(rows, samples=20).record.value)
    np.testing.assert_array_equal(vae.sample(5), run.sample(5, seed=0))


@pytest.mark.parametrize("name", ["VAE", "RBM"])
def test_a_row_alone_scores_as_among_others(name: str) -> None:
    fitted = getattr(house, name)(**{"VAE": VAE, "RBM": RBM}[name]).fit(table())
    whole = fitted.score_samples(table())
    assert fitted.score_samples(table()[3:4]) == whole[3]
    np.testing.assert_array_equal(fitted.score_samples(table()[::-1]), whole[::-1])
    codes = fitted.transform(table())
    np.testing.assert_array_equal(fitted.transform(table()[3:4])[0], codes[3])
    np.testing.assert_array_equal(fitted.transform(table()[::-1]), codes[::-1])


def test_an_annealed_log_z_leans_on_no_row_that_is_scored_and_is_pickled() -> None:
    """Too many states to count: log Z is annealed by rows of the estimator's own, here asked first for one row."""
    x = np.random.default_rng(0).integers(0, 2, (40, 30)).astype(float)
    rbm = house.RBM(hidden=30, epochs=1, draws=16, random_state=0).fit(x)
    untouched = pickle.loads(pickle.dumps(rbm))
    alone = rbm.score_samples(x[3:4])
    assert not rbm.run_.log_z().exact
    whole = rbm.score_samples(x)
    assert alone == whole[3]
    np.testing.assert_array_equal(untouched.score_samples(x), whole)
    back = pickle.loads(pickle.dumps(rbm))
    assert back.run_.log_z() is not None, "it is not annealed again"
    np.testing.assert_array_equal(back.score_samples(x[::-1]), whole[::-1])


def test_a_clone_with_the_same_seed_scores_the_same_and_with_another_does_not(vae: Any) -> None:
    rows = table(10, seed=2)
    np.testing.assert_array_equal(clone(vae).fit(table()).score_samples(rows), vae.score_samples(rows))
    other = clone(vae).set_params(random_state=1).fit(table())
    assert (other.score_samples(rows) != vae.score_samples(rows)).all()


def test_a_pickle_holds_safetensors_and_no_rows_and_gives_the_same_bits(vae: Any) -> None:
    data = pickle.dumps(vae)
    back, rows = pickle.loads(data), table(10, seed=3)
    for verb in ("score_samples", "transform"):
        np.testing.assert_array_equal(getattr(back, verb)(rows), getattr(vae, verb)(rows))
    np.testing.assert_array_equal(back.sample(4), vae.sample(4))
    files = vae.__getstate__()["run_"]
    assert {name.rpartition(".")[2] for name in files} == {"json", "safetensors"}
    assert not (back.run_.path / "data.npz").exists()
    modules = _modules_of(data)
    assert not {name for name in modules if name.startswith(("jax", "equinox"))}, "arrays of JAX are not pickled"


def _modules_of(data: bytes) -> set[str]:
    """Return whose objects a pickle makes."""

    class Looking(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found.add(module)
            return super().find_class(module, name)

    found: set[str] = set()
    Looking(io.BytesIO(data)).load()
    return found


def test_the_temporary_folder_goes_with_the_estimator(vae: Any) -> None:
    fitted = pickle.loads(pickle.dumps(vae))
    place = fitted.run_.path
    assert place.is_dir()
    del fitted
    assert not place.exists()


def test_a_path_keeps_each_fit_as_a_whole_run(tmp_path: Path) -> None:
    made = house.NADE(path=tmp_path / "kept", **NADE)
    for number in (1, 2):
        made.fit(table() > 5.0)
        run = reverie.load(tmp_path / "kept" / f"nade-rows-{number}")
        assert run.record["status"] == "finished" and run.data.size("train") == 54
    rows = (table(5, seed=4) > 5.0).astype(float)
    np.testing.assert_array_equal(made.score_samples(rows), run.score(rows).values)


def test_samples_and_codes_are_in_the_units_they_should_be(vae: Any) -> None:
    drawn, x = vae.sample(400, random_state=1), table()
    assert drawn.shape == (400, 4)
    assert (np.abs(drawn.mean(axis=0) - x.mean(axis=0)) < x.std(axis=0)).all()
    assert (vae.sample(3, random_state=1) == drawn[:3]).all() and (vae.sample(3, random_state=2) != drawn[:3]).any()


def test_codes_of_an_autoencoder_are_decoded_into_the_rows_own_units() -> None:
    how: dict[str, Any] = {"code": 2, "units": "linear", "code_units": "linear", "rate": 0.02, "epochs": 400}
    x = table()
    net = house.Autoencoder(random_state=0, **how).fit(x)
    back = net.inverse_transform(net.transform(x))
    np.testing.assert_allclose(back, net.run_.reconstruct(x), rtol=1e-4, atol=1e-3)
    assert (np.abs(back - x).mean(axis=0) < 0.25 * x.std(axis=0)).all()
    assert net.score(x) == pytest.approx(-net.run_.reconstruction_errors(x).mean())


def test_binary_models_cut_real_columns_and_leave_binary_ones() -> None:
    x = np.column_stack([table()[:, 0], table()[:, 1] > 5.0, np.full(60, 3.0)])
    fitted = house.RBM(**RBM).fit(x)
    cells = fitted._cells(x)
    np.testing.assert_array_equal(cells, np.column_stack([x[:, 0] > x[:, 0].mean(), x[:, 1], np.zeros(60)]))
    np.testing.assert_array_equal(fitted.score_samples(x), fitted.run_.score(cells).values)
    assert set(np.unique(house.RBM(binarize=5.0, **RBM).fit(x)._cells(x)[:, 0])) == {0.0, 1.0}
    with pytest.raises(ValueError, match="bernoulli needs values"):
        house.RBM(binarize=None, **RBM).fit(x)


def test_rows_of_0_and_1_have_a_mass_and_others_a_density() -> None:
    binary = house.VAE(**VAE).fit(table() > 5.0)
    assert binary.run_.facts.likelihood == "bernoulli"
    assert set(np.unique(binary.sample(20))) <= {0.0, 1.0}
    assert house.VAE(**VAE).fit(table()).run_.facts.likelihood == "gaussian"


def test_classes_keep_their_names_and_rows_of_each_are_learnt() -> None:
    x, y = table(90), np.array(["low", "middle", "high"])[np.digitize(table(90)[:, 0], [4.0, 6.0])]
    net = house.Classifier(hidden=(16,), batch=20, rate=0.02, epochs=60, random_state=0).fit(x, y)
    assert net.classes_.tolist() == ["high", "low", "middle"]
    assert net.score(x, y) > 0.8
    np.testing.assert_allclose(net.predict_proba(x).sum(axis=1), 1.0)
    few = np.array(["a"] * 57 + ["b", "c", "d"])
    labels = house.Classifier(hidden=(4,), epochs=1, random_state=0, path="kept").fit(table(), few).run_.data
    assert set(labels.labels("train")) == {0, 1, 2, 3}, "of each class, however rare, a row is learnt from"


def test_a_joint_model_tells_classes_and_scores_rows() -> None:
    x = np.random.default_rng(0).integers(0, 2, (60, 6)).astype(float)
    joint = house.ClassRBM(hidden=8, epochs=100, batch=10, rate=0.2, random_state=0).fit(x, x[:, 0] > 0)
    assert joint.score(x, x[:, 0] > 0) > 0.9
    assert joint.score_samples(x).shape == (60,) and joint.transform(x).shape[0] == 60


def test_frames_go_in_and_come_out(vae: Any) -> None:
    frame = pd.DataFrame(table(), columns=["length", "width", "height", "weight"], index=np.arange(100, 160))
    fitted = house.VAE(**VAE).set_output(transform="pandas").fit(frame)
    codes = fitted.transform(frame)
    assert list(codes.columns) == ["vae0", "vae1"] and list(codes.index) == list(frame.index)
    np.testing.assert_array_equal(codes.to_numpy(), vae.transform(table()))
    assert list(fitted.feature_names_in_) == list(frame.columns) == list(fitted.run_.facts.columns)
    with pytest.raises(ValueError, match="feature names"):
        fitted.score_samples(frame[["width", "length", "height", "weight"]])
    holes = frame.mask(np.random.default_rng(0).random(frame.shape) < 0.1)
    filled = house.Imputer(house.VAE(**VAE)).set_output(transform="pandas").fit_transform(holes)
    assert list(filled.columns) == list(frame.columns) and not filled.isna().any().any()


def test_an_imputer_learns_from_holes_and_keeps_what_is_known() -> None:
    x = table(200)
    holes = np.where(np.random.default_rng(0).random(x.shape) < 0.2, np.nan, x)
    how = {**VAE, "epochs": 300, "rate": 0.01}
    imputer = house.Imputer(house.VAE(**how)).fit(holes)
    filled, gone = imputer.transform(holes), np.isnan(holes)
    np.testing.assert_array_equal(filled[~gone], x[~gone])
    np.testing.assert_array_equal(filled, imputer.estimator_.run_.impute(holes, seed=0))
    far = lambda rows: np.square((rows - x) / x.std(axis=0))[gone].mean()  # noqa: E731
    assert far(filled) < 0.7 * far(np.broadcast_to(np.nanmean(holes, axis=0), x.shape)), "better than the means"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(imputer)).transform(holes), filled)
    np.testing.assert_array_equal(imputer.transform(holes[4:5])[0], filled[4])


def test_a_model_that_takes_no_holes_says_who_does() -> None:
    holes = np.where(np.random.default_rng(0).random((60, 4)) < 0.2, np.nan, table())
    with pytest.raises(ValueError, match="takes no missing cells"):
        house.Imputer(house.Autoencoder(code=1, epochs=1)).fit(holes)
    with pytest.raises(ValueError, match="none of reverie"):
        house.Imputer(StandardScaler()).fit(holes)
    with pytest.raises(ValueError, match="NaN"):
        house.VAE(**VAE).fit(holes)


def test_odd_rows_are_found(vae: Any) -> None:
    found = house.OutlierDetector(house.VAE(**VAE), contamination=0.2).fit(table())
    assert (found.predict(table()) == -1).sum() == 12
    odd = table(1) + 100 * SCALES
    assert found.predict(odd) == [-1] and found.decision_function(odd) < 0
    np.testing.assert_array_equal(found.score_samples(odd), vae.score_samples(odd))
    with pytest.raises(ValueError, match="no likelihood"):
        house.OutlierDetector(house.Autoencoder(code=1, epochs=1)).fit(table())


def test_pipelines_searches_and_cross_validation() -> None:
    search = GridSearchCV(house.NADE(**NADE), {"hidden": [2, 4]}, cv=2).fit(table() > 5.0)
    assert set(search.cv_results_["param_hidden"]) == {2, 4} and np.isfinite(search.best_score_)
    x, y = table(), table()[:, 0] > 5.0
    line = make_pipeline(StandardScaler(), house.VAE(**VAE), LogisticRegression())
    assert cross_val_score(line, x, y, cv=2, error_score="raise").mean() > 0.6
    assert np.isfinite(cross_val_score(make_pipeline(StandardScaler(), house.VAE(**VAE)), x, cv=2)).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction: 1.0 is no share"),
        ({"epochs": 0}, "epochs: 0 is not a positive number"),
        ({"likelihood": "normal"}, "likelihood: 'normal' is not one of"),
        ({"preset": "quick"}, "preset: vae has no 'quick'"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        house.VAE(**{**VAE, **wrong}).fit(table())


def test_a_preset_gives_what_is_left_at_its_default() -> None:
    made = house.VAE(preset="digits", epochs=1, latent=(3,)).fit(table())
    settings = made.run_.record["settings"]
    assert settings["hidden"] == [[100, 100]] and settings["latent"] == [3] and settings["batch"] == 50


def test_refit_learns_from_all_rows(tmp_path: Path) -> None:
    made = house.NADE(refit=True, path=tmp_path, **NADE).fit(table() > 5.0)
    assert made.run_.data.size("train") == 60
