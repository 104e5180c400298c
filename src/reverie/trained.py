"""A trained model in its folder, as everything that asks something of it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie import run_data, training
from reverie.data.dataset import Dataset
from reverie.errors import ReverieError
from reverie.train import checkpoint
from reverie.train.engine import moved
from reverie.train.folder import RunFolder
from reverie.train.journal import Journal
from reverie.train.optimise import going_on
from reverie.train.recipe import Recipe


class Trained:
    """A trained (or half trained) model in its folder."""

    def __init__(self, folder: RunFolder, *, data: Dataset | None = None) -> None:
        self.folder = folder
        self.record: Mapping[str, Any] = folder.read()
        if data is not None:
            self.data = data

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r}: {self.record['model']} on {self.record['data']['name']})"

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def data(self) -> Dataset:
        """The data the run was trained on, insisted to be the same."""
        return run_data.read_data(self.folder, self.record)

    @cached_property
    def facts(self) -> Dataset:
        """What the model needs to know of the data (shape, law, scaling) without the rows."""
        return self.__dict__.get("data") or Dataset.from_json(self.record["data"])

    @cached_property
    def _trained(self) -> tuple[Any, Recipe]:
        """The model with the weights that count, and the recipe of its stage."""
        meta = checkpoint.peek(self.path)
        if meta is None:
            raise ReverieError(f"{self.path}: no checkpoint; train it with `reverie train`")
        model, recipe = training.read_plan(self.record).build(self.facts)
        for _ in range(meta["stage"]):
            model, recipe = recipe.next(model, self.facts, recipe.carry)  # type: ignore[misc]
        arrays, rest = eqx.partition(model, eqx.is_array)
        if meta["kept_step"] >= 0:
            return eqx.combine(checkpoint.load_part(self.path, "kept", arrays), rest), recipe
        name = "state.average" if recipe.select == "average" else "state.model"
        model = eqx.combine(checkpoint.load_part(self.path, name, arrays), rest)
        if recipe.finish is not None:
            key = jax.random.fold_in(jax.random.key(self.record["seed"]), 3)
            model = recipe.finish(model, self.data, key)
        return model, recipe

    @property
    def model(self) -> Any:
        """The trained model, an `equinox.Module` fulfilling one of `prob.contracts`."""
        return self._trained[0]

    def journal(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return Journal(self.folder.metrics).read()

    def going_on(self, model: Any, recipe: Recipe) -> tuple[Any, Any, dict[str, Any]]:
        """Return (`model` with this run's weights, its optimiser states if they fit, where they came from)."""
        arrays, rest = eqx.partition(model, eqx.is_array)
        mine = eqx.filter(self.model, eqx.is_array)
        training.check_same(self.path, mine, arrays)
        weights = eqx.combine(mine, rest)
        fresh = tuple(p.optimiser.init(eqx.filter(model, moved(p, model))) for p in recipe.players)
        theirs = checkpoint.load_part(self.path, "state.optimisers", fresh, missing_ok=True)
        states = None if theirs is None else going_on(theirs, fresh)
        meta = checkpoint.peek(self.path) or {}
        origin = {"run": self.path.name, "model": self.record["model"], "step": meta.get("total_step"),
                  "sha256": meta.get("sha256"), "optimiser": states is not None}  # fmt: skip
        return jax.tree.map(lambda a: jnp.array(a) if eqx.is_array(a) else a, weights), states, origin
