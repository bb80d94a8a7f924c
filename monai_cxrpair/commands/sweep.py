import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, progress_bar
from monai_cxrpair.errors import CxrPairError

if TYPE_CHECKING:
    from monai_cxrpair.experiments.estimate import Estimate
    from monai_cxrpair.experiments.experiment import Experiment
    from monai_cxrpair.experiments.plan import Job
    from monai_cxrpair.experiments.runner import Failure


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An experiment file, configs/experiments/table1.yaml.")],
    cohort: Annotated[Path, typer.Option(help="A cohort file with labels, written by `cxrpair index`.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of all runs; the same one goes on where it was.")],
    seeds: Annotated[int, typer.Option(min=1, help="Pre-training seeds of each row: 0, 1, ...")] = 3,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of training; evaluate#KEY=VALUE: of evaluating."),
    ] = None,
    overlay: Annotated[list[Path] | None, typer.Option(help="A further config of all trainings.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = 1,
    torchrun: Annotated[int, typer.Option(min=0, help="Train each row on so many processes (GPUs).")] = 0,
    tidy: Annotated[
        bool, typer.Option("--tidy", help="Delete checkpoints of finished runs; they cannot get more epochs then.")
    ] = False,
    bundle: Annotated[Path | None, typer.Option(help="The bundle, where it is not beside the file's folders.")] = None,
    trust_config: Annotated[
        bool, typer.Option("--trust-config", help="Run what the file and its overlays hold beside settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is done and what is left, its commands, time and disk.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a table of the paper: pre-train every row with every seed, evaluate, compare.

    Start it again with the same command: what is done is skipped, what was stopped goes on. Ctrl-C stops after the
    running step is saved. DIR/NAME gets table.md, table.csv and table.json.
    """
    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.cohort.files import check_folder
    from monai_cxrpair.commands.common import name_pairs
    from monai_cxrpair.experiments.checks import parse_yaml
    from monai_cxrpair.experiments.estimate import check_disk, estimate
    from monai_cxrpair.experiments.experiment import read_experiment
    from monai_cxrpair.experiments.plan import hash_of, training_job
    from monai_cxrpair.experiments.runner import StoppedError, as_json_list, only_one

    given = name_pairs("--set", settings or [])
    try:
        asked = {key: parse_yaml(value) for key, value in given.items()}
    except ValueError as error:
        raise typer.BadParameter(f"a value is not YAML: {' '.join(str(error).split())}", param_hint="--set") from error
    experiment = read_experiment(file, bundle=bundle, overlays=overlay or [], asked=asked, trust=trust_config)
    cohort, out = cohort.absolute(), out.absolute()
    cohort_hash = hash_of(cohort)
    table = Cohort.read(cohort)
    for finding in experiment.findings:
        table.labels(finding)  # now, not after days of training
    rounds = {
        seed: [
            training_job(experiment, row, seed, cohort=cohort, cohort_hash=cohort_hash, out=out, processes=torchrun)
            for row in experiment.rows
            if row.baseline is None
        ]
        for seed in range(seeds)
    }
    trainings = [job for each in rounds.values() for job in each]
    guess = estimate(trainings, radiographs=len(table), out=out, bundle=experiment.bundle, at_once=jobs, tidy=tidy)
    if dry_run:
        _show(trainings, guess, as_json=as_json)
        return
    check_folder(out, what=f"to {out}")
    check_disk(guess, out)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    with only_one(out) as lock:
        try:
            failures, files = _work(
                experiment, rounds, cohort=cohort, cohort_hash=cohort_hash, out=out, lock=lock, at_once=jobs, tidy=tidy
            )
        except StoppedError as stop:
            typer.echo("stopped; the same command goes on", err=True)
            raise typer.Exit(stop.code) from None
    if as_json:
        print_json(
            {
                "table": experiment.name,
                "runs": len(trainings),
                "failed": as_json_list(failures),
                "files": {ending: str(path) for ending, path in files.items()},
            }
        )
    else:
        typer.echo(files["md"].read_text(encoding="utf-8"))
        typer.echo(f"table: {files['md']}")
    if failures:
        listed = "; ".join(f"{each.title} ({each.line}; log: {each.log})" for each in failures)
        raise CxrPairError(f"{len(failures)} runs failed: {listed}")


def _work(
    experiment: "Experiment",
    rounds: dict[int, list["Job"]],
    *,
    cohort: Path,
    cohort_hash: str,
    out: Path,
    lock: int,
    at_once: int,
    tidy: bool,
) -> tuple[list["Failure"], dict[str, Path]]:
    """Train and evaluate seed by seed, so that there is a table after the first one already."""
    from monai_cxrpair.experiments.plan import DONE, evaluation_jobs
    from monai_cxrpair.experiments.runner import Runner

    trainings = [job for each in rounds.values() for job in each]
    files: dict[str, Path] = {}
    with progress_bar("Training, epochs") as progress:
        runner = Runner(
            bundle=experiment.bundle,
            at_once=at_once,
            lock=lock,
            tidy=tidy,
            total=sum(job.state() != DONE for job in trainings),
            progress=progress,
            epochs=sum(job.epochs for job in trainings),
        )
        for seed, jobs in rounds.items():
            runner.run(jobs)
            encoders = {job.row: job.folder / "encoder.pt" for job in jobs if job.state() == DONE}
            if encoders:
                runner.run(evaluation_jobs(experiment, encoders, seed, cohort=cohort, cohort_hash=cohort_hash, out=out))
            files = _write(experiment, out, list(rounds))
    return runner.failures, files


def _write(experiment: "Experiment", out: Path, seeds: list[int]) -> dict[str, Path]:
    from monai_cxrpair.experiments.collect import collect
    from monai_cxrpair.experiments.figures import table_figures
    from monai_cxrpair.experiments.write import write_table

    blocks = table_figures(experiment, collect(experiment, out, seeds))
    return write_table(experiment, blocks, out / experiment.name)


def _show(trainings: list["Job"], guess: "Estimate", *, as_json: bool) -> None:
    from monai_cxrpair.experiments.estimate import size_text
    from monai_cxrpair.experiments.runner import duration

    runs: list[dict[str, Any]] = [
        {
            "run": job.title,
            "state": job.state(),
            "epochs": job.epochs,
            "epochs_done": job.epochs_done(),
            "folder": str(job.folder),
            "command": shlex.join(job.command),
        }
        for job in trainings
    ]
    found = {
        "seconds": guess.seconds,
        "seconds_from": guess.seconds_from,
        "bytes": guess.bytes,
        "bytes_from": guess.bytes_from,
    }
    if as_json:
        print_json({"runs": runs, "estimate": found})
        return
    for run in runs:
        typer.echo(f"{run['run']}: {run['state']}, {run['epochs_done']} of {run['epochs']} epochs")
        if run["state"] != "done":
            typer.echo(f"  {run['command']}")
    left = sum(run["state"] != "done" for run in runs)
    time = "unknown" if guess.seconds is None else f"about {duration(guess.seconds)}"
    size = "unknown" if guess.bytes is None else f"about {size_text(guess.bytes)}"
    typer.echo(f"\n{left} of {len(runs)} runs left, run inside the bundle's folder; then an evaluation of each seed")
    typer.echo(f"time: {time} ({guess.seconds_from})")
    typer.echo(f"disk: {size} ({guess.bytes_from})")
