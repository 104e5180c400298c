"""Settings: what a signature says can be set, and that every way of saying it means the same."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie import models, settings, values
from reverie.errors import ReverieError


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Args:
        epochs: how long.
        rate: how fast,
            per step.
    """

    epochs: int = 3
    rate: float = 1e-3


def recipe(
    brief: Any,
    *,
    latent: tuple[int, ...] = (50,),
    hidden: tuple[tuple[int, ...], ...] = ((200, 200),),
    activation: Literal["tanh", "relu"] = "tanh",
    norm: bool = False,
    k: int = 1,
    beta: float = 1.0,
    name: str = "x",
    every: float | None = None,
    pretrain: Stage = Stage(epochs=5),
    late: Stage | None = None,
) -> None:
    """Return nothing.

    Args:
        latent: widths of the layers,
            from the data upwards.
        hidden, activation: of both.
        every: epochs (default: none at all).

    Raises:
        k: is no argument's help here.
    """


def test_a_signature_is_described_with_its_docstring() -> None:
    found = settings.describe(recipe)
    assert list(found) == [
        "latent", "hidden", "activation", "norm", "k", "beta", "name", "every", "pretrain.epochs", "pretrain.rate",
        "late.epochs", "late.rate",
    ]  # fmt: skip
    assert found["latent"].help == "widths of the layers, from the data upwards."
    assert found["hidden"].help == found["activation"].help == "of both."
    assert found["k"].help == ""
    assert found["every"].help == "epochs (default: none at all)."
    assert found["pretrain.rate"].help == "how fast, per step."
    assert (found["pretrain.epochs"].default, found["late.epochs"].default) == (5, 3)
    assert found["pretrain.epochs"].flag == "--pretrain.epochs"
    assert [found[n].form for n in ("latent", "hidden", "activation", "norm", "every")] == [
        "int,...", "int,.../int,...", "tanh|relu", "bool", "float|none",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given_", "name", "value"),
    [
        ({"latent": "100,50"}, "latent", (100, 50)),
        ({"latent": "100"}, "latent", (100,)),
        ({"latent": 7}, "latent", (7,)),
        ({"latent": ""}, "latent", ()),
        ({"hidden": "200,200/100,100"}, "hidden", ((200, 200), (100, 100))),
        ({"hidden": "32,32"}, "hidden", ((32, 32),)),
        ({"hidden": [[1, 2], [3]]}, "hidden", ((1, 2), (3,))),
        ({"activation": "relu"}, "activation", "relu"),
        ({"norm": "yes"}, "norm", True),
        ({"norm": False}, "norm", False),
        ({"k": "1e3"}, "k", 1000),
        ({"k": 5.0}, "k", 5),
        ({"beta": 2}, "beta", 2.0),
        ({"beta": "inf"}, "beta", math.inf),
        ({"every": "none"}, "every", None),
        ({"every": "2.5"}, "every", 2.5),
        ({"pretrain.rate": "0.5"}, "pretrain", Stage(5, 0.5)),
        ({"pretrain": {"epochs": 1}}, "pretrain", Stage(1)),
        ({"pretrain": Stage(9)}, "pretrain", Stage(9)),
        ({"late.epochs": 1}, "late", Stage(1)),
        ({"late": "none"}, "late", None),
    ],
)
def test_each_way_of_saying_it(given_: dict[str, Any], name: str, value: Any) -> None:
    bound = settings.bind(recipe, given_)
    assert bound[name] == value and type(bound[name]) is type(value)
    others = settings.bind(recipe, {})
    assert {k: v for k, v in bound.items() if k != name} == {k: v for k, v in others.items() if k != name}


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"latnt": 1}, "latnt: no such argument; did you mean 'latent'"),
        ({"pretrain.epoch": 1}, "pretrain.epoch: no such argument; did you mean 'pretrain.epochs'"),
        ({"zzz": 1}, "zzz: no such argument; there is latent, hidden"),
        ({"activation": "rely"}, "activation: 'rely' is not one of tanh, relu; did you mean 'relu'"),
        ({"k": "many"}, "k: 'many' is not a whole number"),
        ({"k": 2.5}, "k: 2.5 is not"),
        ({"k": True}, "k: True is not"),
        ({"k": math.inf}, "k: inf is not"),
        ({"beta": "x"}, "beta: 'x' is not a number"),
        ({"beta": [1]}, "beta: "),
        ({"norm": 2}, "norm: 2 is not true or false"),
        ({"name": 3}, "name: 3 is not text"),
        ({"hidden": [3, 4]}, "hidden: .* is not a list of lists such as 200,200/100,100"),
        ({"latent": {"a": 1}}, "latent: .* is not a list such as 100,50"),
        ({"latent": "a,b"}, "latent: 'a,b' is not"),
        ({"late": 3}, "late: 3 is no table; set late.epochs, late.rate"),
        ({"every": "often"}, "every: 'often' is not a number, or none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ReverieError, match=words) as caught:
        settings.bind(recipe, given_)
    assert "\n" not in str(caught.value)


_STAGES = st.builds(Stage, st.integers(), st.floats(allow_nan=False))
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "latent": st.lists(st.integers(), max_size=4).map(tuple),
        "hidden": st.lists(st.lists(st.integers(), max_size=3).map(tuple), max_size=3).map(tuple),
        "activation": st.sampled_from(["tanh", "relu"]),
        "norm": st.booleans(),
        "k": st.integers(),
        "beta": st.floats(allow_nan=False),
        "name": st.text(),
        "every": st.none() | st.floats(allow_nan=False),
        "pretrain": _STAGES,
        "late": st.none() | _STAGES,
    },
)


@given(SETTINGS)
def test_json_and_back_is_the_same(given_: dict[str, Any]) -> None:
    bound = settings.bind(recipe, given_)
    through = json.loads(json.dumps(settings.to_json(bound), allow_nan=False))
    assert settings.bind(recipe, settings.from_json(through)) == bound


@given(SETTINGS)
def test_the_command_line_and_back_is_the_same(given_: dict[str, Any]) -> None:
    bound = settings.bind(recipe, given_)
    flags = {}
    for name in settings.describe(recipe):
        head, _, rest = name.partition(".")
        # A stage that is not there has nothing to write.
        if not rest or bound[head] is not None:
            flags[name.replace("_", "-")] = values.text(getattr(bound[head], rest) if rest else bound[head])
    assert settings.bind(recipe, flags) == bound


def test_toml_is_read_as_it_is_written() -> None:
    record = tomllib.loads(
        "latent = [100, 50]\nhidden = [[200, 200], [100, 100]]\npretrain.epochs = 2\n[late]\nrate = 1\n"
    )
    bound = settings.bind(recipe, record)
    assert (
        bound["hidden"] == ((200, 200), (100, 100)) and bound["pretrain"] == Stage(2) and bound["late"] == Stage(3, 1.0)
    )


def test_merging_is_key_by_key_and_an_empty_table_starts_afresh() -> None:
    base = {"k": 1, "pretrain": {"epochs": 1, "rate": 0.1}}
    assert settings.merge(base, {"pretrain.rate": 0.2}) == {"k": 1, "pretrain": {"epochs": 1, "rate": 0.2}}
    assert settings.merge(base, {"pretrain": {}}) == {"k": 1, "pretrain": {}}
    assert settings.merge({"pretrain": Stage(7)}, {"pretrain": {"rate": 0.5}})["pretrain"] == {"epochs": 7, "rate": 0.5}
    assert settings.merge({}, {"valid-every": 3}) == {"valid_every": 3}
    assert base == {"k": 1, "pretrain": {"epochs": 1, "rate": 0.1}}


def test_what_cannot_be_written_down_is_a_mistake_in_the_code() -> None:
    def odd(*, table: dict[str, int] = {}) -> None: ...  # noqa: B006

    def bare(*, n: int) -> None: ...

    for wrong in (odd, bare):
        with pytest.raises(TypeError):
            settings.describe(wrong)


def test_a_damaged_record_is_refused() -> None:
    with pytest.raises(ReverieError, match="no table"):
        settings.from_json([1, 2])


@pytest.mark.parametrize("name", models.discover())
def test_no_argument_of_a_model_is_a_verb_or_an_option_of_train(name: str) -> None:
    described = settings.describe(models.load_module(name).recipe)
    assert not {argument.split(".")[0] for argument in described} & settings.reserved()
    # What nobody explained nobody can set.
    assert [s.name for s in described.values() if not s.help] == []


def test_the_index_of_models_is_true() -> None:
    assert models.INDEX.read_text(encoding="utf-8") == models.index_text(), "run `make golden`"


def test_models_are_found_and_a_wrong_name_is_told_the_nearest() -> None:
    assert {"vae", "iwae", "mem-vae"} <= set(models.discover())
    with pytest.raises(ReverieError, match="did you mean 'mem-vae'"):
        models.load_module("mem_vae")
    assert "memory" in models.capabilities("mem-vae") and "memory" not in models.capabilities("vae")
    assert {"likelihood", "sample", "encode", "impute", "class-conditional"} <= set(models.capabilities("vae"))
