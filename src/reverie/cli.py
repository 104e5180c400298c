"""The command line: `reverie VERB`.  The verbs are in `verbs` and `using`; here they are joined, parsed and run.

Nothing heavy is imported to get this far: what a verb needs is imported when it runs, so that help is quick.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnknownOptionError, UnusedCliTokensError

from reverie import console, learning_verbs, reading_verbs, stopping, train_command, using, verbs
from reverie.console import Answer
from reverie.errors import ReverieError, nearest
from reverie.models import index
from reverie.settings import VERBS

HELP = """Train deep generative models on your own data, know how good they are, and use them.

A run is a folder; what uses a run takes its folder.  `reverie VERB --help` tells the options of a verb."""

GROUPS: dict[str, tuple[Callable[..., Answer], ...]] = {
    "Look around": (verbs.demo, verbs.models, verbs.data, verbs.runs),
    "Train": (verbs.train, verbs.resume),
    "Use and judge a run": (
        using.evaluate, using.sample, using.impute, using.reconstruct, using.encode, using.score, reading_verbs.ask,
        using.memory, learning_verbs.gradients, using.classify, reading_verbs.topics, reading_verbs.retrieve,
        using.report,
    ),
    "Compare and share": (verbs.compare, verbs.table, verbs.export, verbs.cite),
}  # fmt: skip

_JSON = Parameter(name="--json", negative="", help="Print exactly one JSON object on stdout; the rest goes to stderr.")


def with_json(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """Return a verb that takes `--json` besides its own options; `main` is who heeds it."""

    @functools.wraps(function)
    def call(*words: Any, json: bool = False, **options: Any) -> Answer:
        return function(*words, **options)

    # The further arguments of `train` are those of a model, put in by name once the model is known.
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    own = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flag = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, _JSON])
    call.__signature__ = inspect.Signature([*own, flag])  # type: ignore[attr-defined]
    call.__annotations__ = {}
    return call


COMMANDS = {f.__name__: with_json(f) for functions in GROUPS.values() for f in functions}


def application(model: str | None = None) -> App:
    """Return the parser; with `model`, `train` has the options of that model.

    Raises:
        ReverieError: for an unknown model.
    """
    app = App(
        name="reverie",
        help=HELP,
        help_format="plaintext",
        version=_version,
        default_parameter=Parameter(negative=()),
        group_arguments=Group("Arguments", sort_key=0),
        group_parameters=Group("Options", sort_key=5),
        print_error=False,
        exit_on_error=False,
        help_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    app["--help"].group = app["--version"].group = Group("This program", sort_key=9)
    for order, (title, functions) in enumerate(GROUPS.items()):
        group = Group(title, sort_key=order)
        for function in functions:
            name = function.__name__
            command = COMMANDS[name]
            if name == "train" and model is not None:
                command = train_command.with_arguments(command, model)
            app.command(command, name=name, group=group, sort_key=VERBS.index(name), help=_paragraphs(function.__doc__))
    return app


def _paragraphs(doc: str | None) -> str:
    """Return a docstring without its own line breaks: the terminal knows how wide it is."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(doc or "").split("\n\n"))


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line on `words` (default: what was typed) and return its exit code.

    0: done; 1: a bug of ours; 2: what the user can mend, in one line on stderr; 130: stopped, saved.
    """
    typed = list(sys.argv[1:] if words is None else words)
    if words is None:
        stopping.stop_at_once("--json" in typed)
    return console.run(lambda: _answer(typed), "--json" in typed)


def _answer(words: list[str]) -> Answer | None:
    if words[:1] == ["--json"]:
        words = [*words[1:], *words[:1]]
    model = None
    if words[:1] == ["train"]:
        model = train_command.model_of(words[1:], _valued())
    app = application(model)
    if model is not None and "--help" not in words:
        train_command.refuse_without_value(words, model)
    try:
        command, bound, _ = app.parse_args(words)
    except CycloptsError as error:
        raise ReverieError(_said(error, app, words)) from error
    answer = command(*bound.args, **bound.kwargs)
    return answer if isinstance(answer, Answer) else None


def _valued() -> frozenset[str]:
    """Return the options of `train` that take a value, whatever the model."""
    parameters = inspect.signature(COMMANDS["train"]).parameters.values()
    names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"json"}
    return frozenset("--" + name.replace("_", "-") for name in names)


def _said(error: CycloptsError, app: App, words: Sequence[str]) -> str:
    """Return one line that says what is wrong with the words typed, and the nearest right one."""
    if isinstance(error, UnknownCommandError):
        word = next((w for w in words if not w.startswith("-")), "")
        return f"{word}: no such verb{nearest(word, VERBS) or '; see `reverie --help`'}"
    verb = " ".join(words[:1])
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value or "").split("=", 1)[0]
        known = [name for argument in error.argument_collection if argument.parse for name in argument.names]
        instead = _elsewhere(option, words) or nearest(option, known) or f"; see `reverie {verb} --help`"
        return f"{option}: reverie {verb} has no such option{instead}"
    if isinstance(error, MissingArgumentError) and error.argument is not None and not error.argument.tokens:
        return f"{error.argument.name}: reverie {verb} needs it; see `reverie {verb} --help`"
    if isinstance(error, UnusedCliTokensError):
        return f"{(error.unused_tokens or [''])[0]}: one word too many; see `reverie {verb} --help`"
    said = re.sub(r"\s+", " ", str(error)).strip().rstrip(".")
    return f"{said}; see `reverie {verb} --help`"


def _elsewhere(option: str, words: Sequence[str]) -> str:
    """Return which other models have an option of `train`, if it is any's: a name near it would then mislead."""
    name = option.removeprefix("--").replace("-", "_")
    able = [entry["name"] for entry in index() if any(name == argument["name"] for argument in entry["arguments"])]
    if words[:1] != ["train"] or not able:
        return ""
    has = "has" if len(able) == 1 else "have"
    return f" for {train_command.model_of(words[1:], _valued())}; {', '.join(able)} {has} it"


def _version() -> str:
    from reverie import __version__

    return __version__


if __name__ == "__main__":
    sys.exit(main())
