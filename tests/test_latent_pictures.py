"""Walks through codes and where the prior lies: against what the decoder gives, and what the page says of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.games import engine, pixels

from reverie import picturing
from reverie.evaluate import walks
from reverie.prob.contracts import Latent
from reverie.report import figures, sections_latent
from reverie.report.reading import RunView
from reverie.train.folder import RunFolder

SMALL: dict[str, Any] = {
    "vae": {"hidden": ((7,), (5,)), "latent": (3, 2), "batch": 10},
    "aae": {"code": 2, "spread": 5.0, "hidden": (5,), "discriminator_hidden": (6,), "batch": 10},
    "gan": {"latent": 3, "hidden": (5,), "discriminator_hidden": (6,), "batch": 10},
    "gmmn": {"latent": 3, "hidden": (5,), "code": (4, 2), "batch": 10},
    "autoencoder": {"code": 4, "batch": 10},
}


class Plain(Latent):
    """A code of two numbers that is the row's first two; the mean tells the code and the class."""

    classes: int = eqx.field(static=True, default=0)

    @property
    def conditional(self) -> bool:
        return self.classes > 0

    def draw_prior(self, key: Any, given: Any = None) -> Any:
        return 3.0 + 2.0 * jax.random.normal(key, (2,))

    def encode(self, x: Any, given: Any = None) -> Any:
        return x[:2]

    def posterior(self, key: Any, x: Any, given: Any = None) -> Any:
        return ((x[:2], jnp.asarray([0.0, 0.5])),)

    def mean(self, h: Any, given: Any = None) -> Any:
        return h if given is None else jnp.concatenate([h, given])


def untrained(name: str, **more: Any) -> Any:
    return engine(name, pixels(classes=3), **{**SMALL[name], **more}).init().model


def rows(n: int = 300) -> np.ndarray:
    rng = np.random.default_rng(2)
    return (np.array([1.0, -4.0, 0.0]) + np.array([0.5, 3.0, 1.0]) * rng.normal(size=(n, 3))).astype(np.float32)


def test_a_walk_moves_one_unit_two_deviations_to_either_side_of_a_row_in_the_middle() -> None:
    x = rows()
    found = walks.look(Plain(), x)
    codes = x[:, :2].astype(np.float64)
    mean, spread = codes.mean(axis=0), codes.std(axis=0)
    assert found["units"].tolist() == [1, 0], "the one that varies most first"
    middle = codes[np.argmin((((codes - mean) / spread) ** 2).sum(axis=1))]
    for unit, walk, reach in zip(found["units"], found["walks"], found["reach"], strict=True):
        ends = mean[unit] + np.array([-2, 2]) * spread[unit]
        np.testing.assert_allclose(walk[:, unit], np.linspace(*ends, walks.STEPS), rtol=1e-4)
        np.testing.assert_allclose(walk[:, 1 - unit], middle[1 - unit], rtol=1e-6)
        np.testing.assert_allclose(reach, ends, rtol=1e-6)


def test_a_walk_goes_no_further_than_codes_do_and_leaves_out_what_never_varies() -> None:
    codes = np.stack([np.tile([0.0, 1.0], 50), np.full(100, 7.0)], axis=1)
    walk, units, _ = walks.along(codes)
    assert units.tolist() == [0] and walk[0, 0, 0] == 0.0 and walk[0, -1, 0] == 1.0
    assert walks.along(codes[:, ::-1], ranked=False)[1].tolist() == [1]


def test_lines_are_straight_from_the_code_of_one_row_to_that_of_another_class() -> None:
    x, labels = rows(), np.arange(300) // 2 % 3
    found = walks.look(Plain(), x, labels=labels)
    np.testing.assert_allclose(found["lines"][:, [0, -1]], found["ends"][:, :, :2], rtol=1e-5)
    np.testing.assert_allclose(found["lines"][:, walks.STEPS // 2], found["ends"][:, :, :2].mean(axis=1), rtol=1e-4)
    pairs = walks.pairs_of(labels, 300, alike=False)
    assert (labels[pairs[:, 0]] != labels[pairs[:, 1]]).all() and len(set(pairs.ravel())) == 2 * walks.PAIRS
    assert len(walks.pairs_of(np.zeros(9), 9, alike=False)) == 0
    assert walks.pairs_of(None, 3, alike=True).tolist() == [[0, 1]]


def test_a_model_that_is_told_classes_walks_within_one() -> None:
    labels = np.arange(300) % 3
    found = walks.look(Plain(3), rows(), given=np.eye(3, dtype=np.float32)[labels], labels=labels)
    told = found["lines"][..., 2:]
    assert set(np.unique(told)) == {0.0, 1.0} and (told == told[:, :1]).all()
    assert (found["walks"][..., 2:] == found["walks"][0, 0, 2:]).all()
    ends = [np.flatnonzero((rows() == end).all(axis=1))[0] for end in found["ends"].reshape(-1, 3)]
    assert (labels[ends].reshape(-1, 2) == told[:, 0].argmax(axis=1)[:, None]).all()


def test_the_plane_has_draws_of_the_code_and_of_the_prior() -> None:
    x = rows()
    found = walks.look(Plain(), x, seed=4)
    assert found["prior"].shape == (1000, 2) and bool(found["drawn"])
    # 1,000 draws of N(3, 4) and 300 of noise 0.5: |z| < 4.5.
    assert (np.abs(found["prior"].mean(axis=0) - 3.0) < 4.5 * 2 / 1000**0.5).all()
    noise = found["points"] - x[:, :2]
    assert (noise[:, 0] == 0).all() and abs(noise[:, 1].std() - 0.5) < 4.5 * 0.5 / 600**0.5


def test_the_top_layer_is_walked_and_those_below_are_where_their_priors_say() -> None:
    model, x = untrained("vae"), np.asarray(pixels().rows("train"), np.float32)
    codes = walks.codes(model, x)
    both = np.stack([model.encode(jnp.asarray(row)) for row in x[:4]])
    np.testing.assert_allclose(codes[:4], both[:, 3:], rtol=1e-5)
    top = jnp.asarray(codes[0])
    below = model.prior((jnp.zeros(3), top))[0][0]
    np.testing.assert_allclose(walks.decoded(model, codes[:1])[0], model.mean((below, top)), rtol=1e-5)
    assert walks.prior_codes(model, 5).shape == (5, 2)


def test_draws_of_an_adversarial_autoencoder_are_codes_not_noise() -> None:
    model = untrained("aae")
    codes = walks.prior_codes(model, 400)
    assert (np.abs(codes.std(axis=0) / 5.0 - 1.0) < 4.5 / 800**0.5).all(), "r = 5, by a normal law's own error"
    noise = jax.random.normal(jax.random.key(0), (2,))
    np.testing.assert_allclose(model.decode(model.code_of(noise)), model.mean(noise), rtol=1e-6)
    x = jnp.asarray(pixels().rows("train")[0])
    np.testing.assert_allclose(
        walks.decoded(model, np.asarray(model.encode(x))[None])[0], model.decode(model.encode(x)), rtol=1e-5
    )


def test_codes_that_moments_are_matched_on_are_the_code_and_their_draws_its_prior() -> None:
    model, x = untrained("gmmn"), np.asarray(pixels().rows("test"), np.float32)
    found = walks.look(model, x)
    assert found["prior"].shape == (walks.DRAWS, 2) and found["walks"].shape[0] == 2 and not found["drawn"]
    np.testing.assert_allclose(found["points"], model.coder.encode(jnp.asarray(x)), rtol=1e-5)
    first = model.decode(model.encode(jnp.asarray(found["ends"][0, 0])))
    np.testing.assert_allclose(found["lines"][0, 0], first, rtol=1e-5)
    noise = jax.random.normal(jax.random.key(3), (1000, 3))
    np.testing.assert_allclose(model.decode(model.code_of(noise[0])), model.mean(noise[0]), rtol=1e-6)
    # Three numbers of noise have become a code of two, of another law: means of 1,000 of each, |z| < 4.5.
    wanted, drawn = np.asarray(jax.vmap(model.code_of)(noise)), found["prior"]
    error = np.sqrt((wanted.var(axis=0) + drawn.var(axis=0)) / 1000)
    assert (np.abs(wanted.mean(axis=0) - drawn.mean(axis=0)) < 4.5 * error).all() and (error < 0.02).all()


def test_noise_of_two_numbers_that_no_row_has_is_shown_by_its_density_alone(tmp_path: Path) -> None:
    found = walks.look(untrained("gan", latent=2), np.asarray(pixels().rows("test"), np.float32))
    assert found["prior"].shape == (walks.DRAWS, 2) and "points" not in found
    section = sections_latent.latent(view_of(tmp_path, (2, 3), **found))
    assert section is not None and len(section.rows) == 3
    (density,) = section.rows[2]
    assert "Density of 1000 draws" in density.body and "1,000 of its draws" in density.caption


@pytest.mark.parametrize("name", ["gan", "autoencoder"])
def test_who_encodes_walks_between_rows_and_who_does_not_between_draws(name: str) -> None:
    model, x = untrained(name), np.asarray(pixels().rows("train"), np.float32)
    found = walks.look(model, x)
    assert walks.walkable(model) and found["lines"].shape == (6, walks.STEPS, 6) and "prior" not in found
    if name == "gan":
        prior = walks.prior_codes(model)
        np.testing.assert_allclose(found["lines"][0, 0], model.mean(jnp.asarray(prior[0])), rtol=1e-4, atol=1e-6)
        assert "ends" not in found and found["units"].tolist() == [0, 1, 2], "in their own order"
    else:
        back = model.reconstruct(jax.random.key(0), jnp.asarray(found["ends"][0, 0]))
        np.testing.assert_allclose(found["lines"][0, 0], back, rtol=1e-4)


def test_what_has_no_code_of_its_own_is_left_out() -> None:
    class Ragged(Plain):
        def draw_prior(self, key: Any, given: Any = None) -> Any:
            return {"a": jnp.zeros(2), "b": jnp.zeros(3)}

    class Stacked(Plain):
        def draw_prior(self, key: Any, given: Any = None) -> Any:
            return jnp.zeros(2), jnp.zeros(3)

    assert walks.walkable(Plain()) and walks.walkable(Plain(3))
    assert not walks.walkable(Ragged()) and not walks.walkable(Stacked()) and not walks.walkable(object())


def view_of(tmp_path: Path, shape: tuple[int, ...], **arrays: Any) -> RunView:
    folder = RunFolder.create("vae", "toy", path=tmp_path / "run")
    folder.save_arrays("latent", **arrays)
    data = {"shape": list(shape), "likelihood": "bernoulli", "class_names": ["a", "b"]}
    return RunView(folder, {"model": "vae", "data": data}, "run")


def test_the_page_shows_codes_beside_the_density_in_one_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    prior, points = rng.normal(size=(1000, 2)), 4.0 + rng.normal(size=(50, 2))
    how: dict[str, Any] = {"points": points, "labels": np.arange(50) % 2, "drawn": np.asarray(True)}
    scatter, density = sections_latent.plane(view_of(tmp_path / "a", (2, 3), prior=prior, **how))
    assert "A draw of each test row's code, by class." in scatter.caption and "1,000" in density.caption
    assert "Density of 1000 draws" in density.body
    assert sections_latent.plane(view_of(tmp_path / "b", (2, 3), prior=np.repeat(prior[:, :1], 2, 1), **how)) == []


def test_the_density_is_highest_where_most_draws_are() -> None:
    rng = np.random.default_rng(0)
    draws = np.concatenate([rng.normal(size=(900, 2)), 8.0 + rng.normal(size=(100, 2))])
    (bands,) = figures.code_density(draws, np.array([[-4.0, 12.0], [-4.0, 12.0]])).axes[0].collections
    paths = bands.get_paths()  # type: ignore[attr-defined]
    assert len(paths) == len(figures.BANDS) - 1
    assert np.abs(paths[-1].vertices).max() < 2.0, "the fullest band lies around the many"
    assert paths[0].vertices.max() > 8.0, "the palest around the few, too"


def test_the_page_names_units_and_ends(tmp_path: Path) -> None:
    walk = np.zeros((2, 9, 6))
    arrays = {"walks": walk, "units": np.array([2, 0]), "reach": np.array([[-1.0, 1.5], [0.0, 2.0]])}
    own = sections_latent.latent(view_of(tmp_path / "a", (2, 3), lines=walk, ends=np.ones((2, 2, 6)), **arrays))
    assert own is not None
    films = [row[0] for row in own.rows]
    assert [part["label"] for part in films[0].body] == ["unit 3: −1.0 to 1.5", "unit 1: 0.0 to 2.0"]
    assert films[1].body[0]["width"] > films[0].body[0]["width"] * 0.9 and "two test rows" in films[1].caption
    drawn = sections_latent.latent(view_of(tmp_path / "b", (6,), lines=walk, **arrays))
    assert drawn is not None and "two draws of the prior" in drawn.rows[1][0].caption
    assert all(row[0].kind == "figure" and row[0].caption for row in drawn.rows), "a table's are strips of heat"
    assert sections_latent.latent(view_of(tmp_path / "c", (6,), units=np.zeros(0))) is None


def test_the_door_keeps_pictures_as_greys_with_the_classes(tmp_path: Path) -> None:
    data = pixels(classes=3, shape=(2, 3))
    run: Any = SimpleNamespace(
        model=engine("aae", data, **SMALL["aae"]).init().model, data=data, facts=data,
        folder=RunFolder.create("aae", "toy", path=tmp_path / "run"),
    )  # fmt: skip
    picturing.latent(run, seed=1)
    kept = run.folder.load_arrays("latent")
    assert kept["walks"].shape == (2, walks.STEPS, 6) and kept["ends"].shape == (walks.PAIRS, 2, 6)
    assert kept["labels"].tolist() == data.labels("test").tolist() and not kept["drawn"]
    assert min(kept["walks"].min(), kept["lines"].min()) >= 0.0 and kept["walks"].max() <= 1.0
