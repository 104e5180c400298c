"""What can be asked of a trained model: samples, codes, filled-in cells, scores, pictures.  Functions of a `Run`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import numpy as np

from reverie import run_data, sampling
from reverie.arrays import named_leaves
from reverie.class_told import asked_of, given_of, told_class
from reverie.data.dataset import Dataset, Rows
from reverie.errors import Interrupted, ReverieError, an
from reverie.estimate import Estimate
from reverie.evaluate import annealed, measure, observed, parzen, tasks
from reverie.evaluate.certify import in_file_units
from reverie.evaluate.chains import BLOCK
from reverie.evaluate.log_z import LogZ
from reverie.evaluate.measure import view
from reverie.evaluate.rows import Watch
from reverie.files import npz_bytes, write_atomic
from reverie.prob.abilities import Completes, Encodes, OfWords, Reconstructs, Remembers, Writes
from reverie.prob.contracts import Coloured, Energy, Implicit, Judged, Latent
from reverie.prob.replying import Replying
from reverie.progress import Progress, Quiet
from reverie.train.signals import Stop
from reverie.trained import Trained

#: What a model must be to do what a verb asks for.
WHAT: dict[str, Any] = {
    "encode": Encodes, "impute": Reconstructs | Coloured | Completes, "reconstruct": Reconstructs,
    "memory": Remembers | Writes | Replying, "ask": Replying,
}  # fmt: skip


class Scores(NamedTuple):
    """A certified log-likelihood for each row: `values` (n,), and the `record` that says what they are."""

    values: np.ndarray
    record: Estimate


def need(run: Trained, verb: str) -> Any:
    """Return the run's model, insisting that it can do `verb`.

    Raises:
        ReverieError: naming what the model can do instead.
    """
    model = run.model
    if isinstance(model, WHAT[verb]):
        return model
    able = [name for name, protocol in WHAT.items() if isinstance(model, protocol)]
    able += ["topics"] if isinstance(model, OfWords) else []
    able += ["retrieve"] if isinstance(model, Encodes) and run.facts.likelihood == "counts" else []
    also = ["evaluate"] if isinstance(model, Judged) else ["evaluate", "sample", "score"]
    can = ", ".join([*also, *able])
    raise ReverieError(f"{verb}: {an(run.record['model'])} cannot; it can: {can}")


def need_likelihood(run: Trained, verb: str) -> None:
    """Insist that the run's model is one of the rows, rather than one that does a task.

    Raises:
        ReverieError: naming what to use instead.
    """
    if isinstance(run.model, Judged):
        use = ", `reverie encode` uses it" if isinstance(run.model, Encodes) else ""
        use += ", `reverie reconstruct --errors` finds its odd rows" if isinstance(run.model, Reconstructs) else ""
        instead = f"`reverie evaluate` judges it{use}"
        raise ReverieError(f"{verb}: {run.record['model']} is no model of the rows; {instead}")


def sample(
    run: Trained,
    n: int,
    *,
    seed: int = 0,
    label: str | int | None = None,
    mean: bool = False,
    sweeps: int | None = None,
    start: Literal["base", "data"] | None = None,
    tempered: int | None = None,
    picture: str | Path | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Draw n rows from the model.

    Args:
        n: how many.
        seed: of the draws; row i depends on (seed, i) alone.
        label: class to draw from (models that know classes; None cycles through them, or draws from all at once).
        mean: return E[x | h] of each draw rather than x, as pictures usually show.
        sweeps: of the chain that ends at a draw of an energy; 1000 without.
        start: where chains begin: at the ``base`` law of annealing, or at ``data``, the test rows in turn.
        tempered: replicas between the base law and the model that swap places (parallel tempering).
        picture: a .png of the first chains over time, a row each.
        progress: where it is told how far the chains are, and whether they mix.

    Returns:
        Rows in the file's own units, shape (n, *shape).
    """
    need_likelihood(run, "sample")
    model, label = asked_of(run, label)
    given = given_of(run, n, label)
    chain = sampling.chain_of(run, {"sweeps": sweeps, "start": start, "tempered": tempered, "picture": picture})
    if chain is None:
        means, draws = tasks.samples(run.model, n, seed=seed, given=given)
        return shaped(run.facts, means if mean else draws)
    work = chain.sweeps * -(-n // BLOCK)
    with Stop() as stop, (progress or Quiet()).task(f"chains of {run.path.name}", work) as task:
        watch = until_stopped(task, stop, "sample: stopped after {:,} sweeps; the same command begins again")
        found = sampling.by_chains(run, n, chain, seed=seed, picture=picture is not None, watch=watch, model=model)
    if progress is not None:
        progress.say(str(found.mixing))
    if picture is not None:
        frames = run.facts.restore(found.frames.reshape(-1, found.frames.shape[-1]))
        sampling.save_picture(picture, frames.reshape(found.frames.shape), run.facts.shape)
    return shaped(run.facts, found.means if mean else found.draws)


def shaped(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return model rows in the file's own units and shape."""
    return data.restore(rows).reshape(-1, *data.shape)


def encode(run: Trained, x: Any, *, label: str | int | None = None) -> np.ndarray:
    """Return the code of each row, shape (n, d): the posterior means of all layers.

    Args:
        x: a file or array of rows in the file's own units; cells may be missing where those of training were.
        label: class of the rows (class-conditional models, which need it).
    """
    need(run, "encode")
    (model, label), rows = asked_of(run, label), view(run.facts, new_rows(run, x))
    return tasks.encode(model, rows, given=told_class(run, len(rows), label, "encode"))


def new_rows(run: Trained, x: Any) -> np.ndarray:
    """Return rows to be scored or encoded, in the file's units; a model that never saw a missing cell takes none."""
    return run.facts.like(x, missing=run.facts.missing and not run.facts.whole)


def evaluate(
    run: Trained,
    split: str = "test",
    *,
    data: Any = None,
    estimator: str | None = None,
    samples: int | None = None,
    rows: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **more: Any,
) -> dict[str, Estimate]:
    """Return the certified numbers of the run on a split, or on `data` (a path or array of one's own).

    Rows that are done are kept in the run folder; an evaluation that was stopped goes on where it was.
    With ``estimator="ais"`` of a model with latents, the two-sided gap on rows simulated from it stands beside the
    number.  A generator without a likelihood is judged by ``parzen`` windows, or by ``ais`` of its rows with noise.

    Args:
        split: ``train``, ``valid`` or ``test`` of the run's data.
        data: other rows, a path or an array, instead of a split.
        estimator: ``importance``, ``elbo`` or ``ais`` of a model with latents; ``exact`` or ``ais`` of an energy;
            ``exact`` of a formula; ``parzen`` of any model that generates rows.
        samples: draws a row; chains of ``ais``; windows of ``parzen``; orderings of an ensemble's ``exact``.
        rows: score so many rows, chosen at random by `seed`.
        minutes: stop after so long; the record then says how many rows were done.
        more: of the estimator: ``temperatures`` of ``ais``, its ``variance`` (of noise around what the model
            generates; chosen on validation rows where there must be one), ``sets``, ``draws`` or ``dequantise`` of
            ``parzen``.

    Raises:
        Interrupted: when asked to stop (Ctrl-C, SIGTERM), after the block of rows under way.
    """
    if data is None:
        need_unseen(run, split)
    dataset, split = (run.data, split) if data is None else own_data(run, data)
    estimator = measure.check(run.model, dataset, split, estimator, rows)
    model = observed.taken(run.model, dataset, estimator, more, seed)
    if isinstance(model, observed.Observed):
        (progress or Quiet()).say(model.rule)
    total = len(measure.judged_rows(dataset, split, rows, seed)[0])
    partial = run.folder.arrays / f"partial-{split}-{estimator}-{samples or measure.SAMPLES.get(estimator)}.npz"
    kept = "the rows done are kept; the same command goes on from there"
    said, work = f"evaluate: stopped after {{:,}} of {total:,} rows; {kept}", total
    if isinstance(run.model, Energy) and estimator != parzen.NAME:
        said, work = (
            "evaluate: stopped after {:,} temperatures; the same command anneals again",
            measure.most_work(run.model, more),
        )
        more["kept"] = sampling.kept_log_z(run, say=(progress or Quiet()).say)
    with Stop() as stop, (progress or Quiet()).task(f"{_judged_by(run)} of {run.path.name}", work) as task:
        watch = until_stopped(task, stop, said)
        found, result = measure.evaluate(
            model, dataset, split, estimator=estimator, samples=samples, rows=rows, minutes=minutes, seed=seed,
            resume=partial, progress=watch, **more,
        )  # fmt: skip
        if estimator == "ais" and isinstance(model, Latent):
            watch = until_stopped(Quiet(), stop, f"evaluate: stopped at the simulated rows; {kept}")
            found |= annealed.simulated_gap(model, seed=seed, progress=watch, **{"chains": samples or 16, **more})
    key = f"{split}/{result.estimator}" + (f"/{rows}" if rows else "")
    record = {name: estimate.to_json() for name, estimate in found.items()}
    run.folder.add_evaluation(key, record, certified_rows(result, dataset, split))
    if len(result.indices) >= total:
        partial.unlink(missing_ok=True)
    return found


def need_unseen(run: Trained, split: str) -> None:
    """Refuse to judge a run made with ``refit`` on its validation rows, which trained it.

    Raises:
        ReverieError: naming what may be judged.
    """
    if split == "valid" and run.facts.refit:
        raise ReverieError(
            f"split: {run.path} was trained with --refit, on its validation rows too, which judge nothing then; "
            "use --split test, or a run trained without --refit"
        )


def _judged_by(run: Trained) -> str:
    model = run.model
    if isinstance(model, Implicit):
        return "samples"
    return next(iter(model.metrics)).replace("_", " ") if isinstance(model, Judged) else "log-likelihood"


def until_stopped(task: Any, stop: Stop, said: str) -> Watch:
    """Return ``watch(done, **numbers)``, which tells `task` and raises once Ctrl-C or SIGTERM has asked to stop."""

    def watch(done: int, **numbers: float) -> None:
        task.update(done, **numbers)
        if stop.asked:
            raise Interrupted(said.format(done))

    return watch


def certified_rows(result: Any, data: Dataset, split: str) -> dict[str, np.ndarray]:
    """Return the per-row arrays of an evaluation, in the file's own units."""
    return dict(in_file_units(result, data, split).arrays())


def own_data(run: Trained, data: Any) -> tuple[Dataset, str]:
    """Return rows of one's own as a split of a data set that is taken as the run's was, and the split's name.

    It is ``own``, or of sequences, which may be of another length than the run's, and of stories the name of the data.
    """
    if run.facts.inputs:
        return run_data.other_sequences(run.facts, data)
    if isinstance(run.model, Replying):
        return run_data.other_stories(run.facts, data)
    stored = new_rows(run, data)
    base = run.data if getattr(run.model, "conditional", False) else run.facts
    splits = {**base.splits, "own": Rows(stored)}
    return dataclasses.replace(base, splits=splits, hash=Dataset.hash_of(stored)), "own"


def score(
    run: Trained, x: Any, *, samples: int | None = None, seed: int = 0, progress: Progress | None = None
) -> Scores:
    """Return a certified log-likelihood for each row of a file or array, in the file's own units.

    A row's score depends on the row, the seed and the number of samples alone.  Of a generator without a likelihood
    it is the log-density under Parzen windows, as the record says.

    Raises:
        Interrupted: when asked to stop (Ctrl-C, SIGTERM), after the block of rows under way.
    """
    need_likelihood(run, "score")
    stored = new_rows(run, x)
    # Classes are counted, and a bandwidth chosen, on rows of the run's data.
    with_rows = getattr(run.model, "conditional", False) or isinstance(run.model, Implicit)
    base = run.data if with_rows else run.facts
    with Stop() as stop, (progress or Quiet()).task(f"scores by {run.path.name}", len(stored)) as task:
        said = f"score: stopped after {{:,}} of {len(stored):,} rows; the same command does them from the first"
        watch = until_stopped(task, stop, said)
        more: dict[str, Any] = {}
        if isinstance(run.model, Energy):
            # Whatever is known of log Z is good for scores, unless other chains are asked for.
            more["kept"] = sampling.kept_log_z(run, any_plan=samples is None, say=(progress or Quiet()).say)
        values, record = measure.score(run.model, base, stored, samples=samples, seed=seed, progress=watch, **more)
    return Scores(values, record)


def log_z(run: Trained) -> LogZ | None:
    """Return what is known of log Z of the run's weights, from ``log_z.json``; None where nothing is."""
    return sampling.kept_log_z(run).read()


def export(run: Trained, path: str | Path) -> Path:
    """Write the weights as plain arrays, by name, to an .npz that numpy alone can read."""
    target = Path(path)
    if target.suffix != ".npz":
        raise ReverieError(f"out: {target} must end in .npz")
    write_atomic(target, npz_bytes({name: np.asarray(leaf) for name, leaf in named_leaves(run.model, eqx.is_array)}))
    return target
