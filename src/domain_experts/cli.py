"""The command line: one sub-command a rule. Heavy imports stay inside the commands."""

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domain_experts.errors import UserError
from domain_experts.files import write_text
from domain_experts.forks import hand_over
from domain_experts.plain_text import visible
from domain_experts.suggest import unknown

if TYPE_CHECKING:
    from domain_experts.runs import Job, Run

app = typer.Typer(
    help="Reproduce MoE-MLoRA and M3oE. Usually called by Snakemake or DVC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


TierOption = Annotated[str, typer.Option(help="a tier of params.yaml: smoke, quick or paper")]
TierOrDefault = Annotated[str | None, typer.Option(help="by default that of params.yaml")]
Names = Annotated[list[str] | None, typer.Argument(help="all, if none is named")]
Check = Annotated[bool, typer.Option("--check", help="only say whether the file is up to date")]


def _refuse_unknown(what: str, name: str, known: Iterable[str]) -> None:
    names = tuple(known)
    if name not in names:
        raise UserError(unknown(what, name, names))


@app.command()
def fetch(source: str) -> None:
    """Download a source's raw files, or copy them from `data.local`, and verify them."""
    from domain_experts.data.fetch import fetch as fetch_source
    from domain_experts.params import load

    fetch_source(source, load().data.local)


@app.command()
def init(
    files: Annotated[list[str], typer.Argument(help="Parquet or CSV files of a log, or patterns")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="else it is printed")] = None,
) -> None:
    """Look at a click log and write a first study file, with comments, to be looked through."""
    from domain_experts.data.log.guess import guess

    text = guess(files)
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists():
        raise UserError(f"{out} is there already; name another file, or remove it first")
    write_text(out, text)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="YAML: a log, and what is to be tried on it")],
    cores: Annotated[int | None, typer.Option(min=1, help="else all")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="only list the jobs")] = False,
    dvc: Annotated[bool, typer.Option("--dvc", help="write dvc.yaml there, too")] = False,
) -> None:
    """Try methods on a click log of your own, in a folder beside the file, and give the answer.

    Run again, it makes only what changed.
    """
    from domain_experts.study_folder import run, write_dvc

    if dvc:
        write_dvc(file)
    folder = run(file, cores, dry_run)
    if not dry_run:
        _print_answer(folder)


@app.command()
def answer(
    path: Annotated[Path, typer.Argument(help="a study's file, or the folder beside it")],
) -> None:
    """What to take of a study of your own log, what it gains and costs, and how sure that is."""
    from domain_experts.study_folder import existing

    _print_answer(existing(path))


def _print_answer(folder: Path) -> None:
    from domain_experts.presence import load_study
    from domain_experts.reporting.advice import print_recommendation

    # results lie where the working directory says
    with contextlib.chdir(folder):
        study = load_study()
        print_recommendation(study, folder)


@app.command()
def prepare(dataset: str) -> None:
    """Raw files to Interactions (or generate them)."""
    from domain_experts.data.prepare import prepare as prepare_dataset
    from domain_experts.params import load

    datasets = load().data.datasets
    _refuse_unknown("data set", dataset, datasets)
    prepare_dataset(dataset, datasets[dataset])


@app.command()
def split(dataset: str, tier: TierOption) -> None:
    """Draw the train/validation/test splits of all seeds of a tier."""
    from domain_experts.data.cut import write_splits
    from domain_experts.presence import load_study

    study = load_study(tier)
    _refuse_unknown(f"data set of tier {tier}", dataset, study.datasets)
    write_splits(study.params.data.split_rule(dataset), tier, dataset, study.seeds(dataset))


@app.command()
def train(
    phase: str,
    dataset: str,
    backbone: str,
    arm: str,
    tier: TierOption,
    threads: Annotated[int, typer.Option(min=1, help="threads, of all processes together")] = 1,
) -> None:
    """Train all runs of one job; finished ones come from the run store.

    Where params.yaml asks for several `processes`, it starts them, or is one that torchrun started.
    """
    from domain_experts.training.launch import launch, launched, share_of

    _set_threads(own := share_of(threads))
    from domain_experts.presence import load_study
    from domain_experts.runs import Job
    from domain_experts.training.job import execute

    study = load_study(tier)
    job = Job(phase, dataset, backbone, arm)
    study.require_chosen(job)
    if launched() == 1 and (processes := study.processes(arm)) > 1:
        launch(processes)
    else:
        execute(study, job, study.params.device, own, launched())


@app.command()
def search(
    experiment: str,
    dataset: str,
    backbone: str,
    arm: str,
    tier: TierOption,
    threads: Annotated[int, typer.Option(min=1, help="threads of this process")] = 1,
) -> None:
    """Choose an arm's settings by trials on validation rows; finished ones come from the store."""
    _set_threads(threads)
    from domain_experts.presence import load_study
    from domain_experts.runs import Search
    from domain_experts.training.search import execute

    study, wanted = load_study(tier), Search(experiment, dataset, backbone, arm)
    _refuse_unknown(f"search of tier {tier}", str(wanted), map(str, study.searches))
    execute(study, wanted, device=study.params.device, threads=threads)


def _set_threads(threads: int) -> None:
    """Fix thread counts before numpy and torch load: they are part of a result's identity."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # without it torch refuses deterministic matrix products on a GPU
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


@app.command()
def evaluate(dataset: str, tier: TierOption) -> None:
    """Logits and labels of a data set's finished runs to numbers."""
    _set_threads(1)
    from domain_experts.evaluation.evaluate import evaluate_dataset
    from domain_experts.presence import load_study

    evaluate_dataset(load_study(tier), dataset)


@app.command()
def results(tier: TierOption) -> None:
    """What is evaluated, and what was known of other runs, as one table with each run's status."""
    from domain_experts.evaluation.evaluate import merge
    from domain_experts.presence import load_study

    merge(load_study(tier))


@app.command()
def tables(tier: TierOption, names: Names = None) -> None:
    """Tables as CSV, Markdown and LaTeX, and what `dvc metrics` and `dvc plots` show."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.catalog import table_names
    from domain_experts.reporting.frame import frames
    from domain_experts.reporting.summary import write_summary
    from domain_experts.reporting.tables import write_tables

    study = load_study(tier)
    asked = _asked("table", names, table_names(study))
    of = frames(study)
    write_tables(of, asked)
    write_summary(of)


@app.command()
def figures(tier: TierOption, names: Names = None) -> None:
    """Figures as PDF and PNG, each with its caption, from the results alone."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.catalog import figure_names
    from domain_experts.reporting.figures import write_figures

    study = load_study(tier)
    write_figures(study, _asked("figure", names, figure_names(study)))


def _asked(what: str, names: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    for name in names or ():
        _refuse_unknown(what, name, known)
    return tuple(names or known)


@app.command()
def report(tier: TierOption) -> None:
    """One HTML page with the answer, all tables and all figures."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.report import write_report

    write_report(load_study(tier))


@app.command()
def paper(tier: TierOption) -> None:
    """Four pages in two columns: LaTeX, and a PDF where tectonic or pdflatex is there."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.latex import write_paper

    typer.echo(write_paper(load_study(tier)))


@app.command()
def status(tier: TierOption) -> None:
    """Count the runs of each experiment that are current, stale, not run, or without data."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.terminal import print_status

    print_status(load_study(tier))


@app.command()
def plan(
    tier: TierOption,
    budget: Annotated[str | None, typer.Option(help="a time such as 90m or 2h")] = None,
    profile: Annotated[
        str | None, typer.Option(help="on a cluster, by a profile of the workflow: slurm")
    ] = None,
    node_cores: Annotated[int, typer.Option(min=1, help="of the cluster's nodes")] = 32,
) -> None:
    """What is still to train: runs, time and memory; what fits into a budget, or a cluster's part.

    With a profile: jobs, submissions, core hours, memory, transfers, hours on n nodes, and what
    would saturate first with more rows and domains.
    """
    from domain_experts.presence import load_study
    from domain_experts.reporting.cluster_plan import print_cluster_plan
    from domain_experts.reporting.plan import print_plan

    if profile is None:
        print_plan(load_study(tier), budget)
    elif budget is not None:
        raise UserError("--budget is one machine's and --profile a cluster's; give one of them")
    else:
        print_cluster_plan(load_study(tier), profile, node_cores)


@app.command()
def explain(
    cell: Annotated[
        str,
        typer.Argument(
            help="EXPERIMENT/DATASET/BACKBONE/ARM[/VARIANT] or a run's path, then [:METRIC] or "
            "[:gain over REFERENCE]"
        ),
    ],
    tier: TierOption,
) -> None:
    """A number's road back to runs, settings, code, data and raw files, from the results alone."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.explain import print_explained

    print_explained(load_study(tier), cell)


@app.command()
def verify(
    tier: TierOption,
    sample: Annotated[int, typer.Option(min=1, help="how many numbers")] = 20,
    seed: Annotated[int, typer.Option(help="of the choice")] = 0,
) -> None:
    """Make a random sample of the numbers again, by scikit-learn, from the stored logits.

    Exit status 1 if a number or a file's checksum differs.
    """
    from domain_experts.evaluation.verify import print_verification
    from domain_experts.presence import load_study

    if not print_verification(load_study(tier), sample, seed):
        raise typer.Exit(1)


@app.command()
def check(tier: TierOrDefault = None) -> None:
    """Hold every stored file to its checksum: what is sound, damaged, missing, and what mends it.

    Exit status 1 if a file is damaged.
    """
    from domain_experts.presence import load_study
    from domain_experts.soundness import print_soundness

    if not print_soundness(load_study(tier)):
        raise typer.Exit(1)


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="remove it, too")] = False,
) -> None:
    """Show what lies here that no tier of params.yaml needs, with its size."""
    from domain_experts.leftovers import print_leftovers
    from domain_experts.params import load

    print_leftovers(load(), delete)


@app.command()
def crate(tier: TierOption) -> None:
    """Write ro-crate-metadata.json: what a tier's results are, who made them, how and of what."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.crate import write_crate

    write_crate(load_study(tier))


@app.command()
def simulate() -> None:
    """Simulated studies with and without an effect: how often verdicts find one (`power`)."""
    _set_threads(1)
    from domain_experts.params import load
    from domain_experts.reporting.simulation import write_simulation

    write_simulation(load().statistics.margin)


@app.command()
def headline(tier: TierOption) -> None:
    """Print the answer, and where everything else is."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.terminal import print_headline

    print_headline(load_study(tier))


@app.command()
def claims(
    tier: TierOption,
    name: Annotated[str | None, typer.Argument(help="of one claim; all, if none is named")] = None,
) -> None:
    """Which claims of the papers hold: verdicts, or one claim with its rule and evidence."""
    from domain_experts.presence import load_study
    from domain_experts.reporting.terminal import print_claims

    print_claims(load_study(tier), name)


@app.command()
def runs(tier: TierOption) -> None:
    """List the runs of a tier, one job a line: the target that makes it, then its runs.

    A job is one arm on one data set and backbone. `snakemake --config tier=TIER -- TARGET` makes
    it, with all that it starts from.
    """
    from domain_experts import layout
    from domain_experts.presence import load_study

    study = load_study(tier)
    found: dict[Job, list[Run]] = {}
    for run in study.expected_runs:
        found.setdefault(run.job, []).append(run)
    for job, its_runs in found.items():
        names = " ".join(run.path.relative_to(job.path).as_posix() for run in its_runs)
        typer.echo(f"{layout.job_index(tier, job)}  {names}")


@app.command()
def schema(check: Check = False) -> None:
    """Write docs/params.schema.json, the JSON schema of params.yaml."""
    from domain_experts.params import json_schema

    _generated(Path("docs/params.schema.json"), json_schema(), check, "schema")


@app.command()
def checklist(check: Check = False) -> None:
    """Write docs/checklist.md, the reproducibility checklist of Dagstuhl 24211, answered."""
    from domain_experts.reporting.checklist import PAGE, page

    _generated(PAGE, page(), check, "checklist")


@app.command("dvc-yaml")
def dvc_yaml(
    tier: Annotated[str | None, typer.Option(help="only this tier's file")] = None,
    check: Check = False,
) -> None:
    """Write dvc.yaml (quick) and workflow/paper/dvc.yaml (paper) from the table of phases."""
    from domain_experts.dvc_pipeline import dvc_files
    from domain_experts.params import load

    for path, text in dvc_files(load(), tier).items():
        _generated(path, text, check, "dvc-yaml")


def _generated(path: Path, text: str, check: bool, command: str) -> None:
    """Write a generated file if it changed, or with `check` refuse one that is out of step."""
    if path.is_file() and path.read_text() == text:
        return
    if check:
        raise UserError(f"{path} is out of step; run `domain-experts {command}`")
    write_text(path, text)


@app.command()
def pull(tier: TierOption = "quick", remote: str | None = None) -> None:
    """Fetch a tier's data, models and results with DVC, so that nothing is left to do."""
    from domain_experts.dvc_pipeline import pull as pull_tier
    from domain_experts.params import load
    from domain_experts.study import Study

    pull_tier(Study(load(), tier), remote)


ModelFolder = Annotated[Path, typer.Argument(help="folder of a saved model")]
Delimiter = Annotated[str, typer.Option(help="of CSV files")]


@app.command()
def save(
    what: Annotated[
        str, typer.Argument(help="a run's path, as `runs` prints it; or a study's file or folder")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="folder of the model")],
    tier: TierOrDefault = None,
) -> None:
    """Keep a run's model as a folder; of a study, that of the arm best on validation rows.

    Of a study the answer is said, too: the best arm may not be worth its cost.
    """
    _set_threads(1)
    from domain_experts.layout import PARAMS
    from domain_experts.presence import load_study
    from domain_experts.reporting.advice import sentences
    from domain_experts.reporting.frame import frames
    from domain_experts.serving.keep import best_run, run_at, saved_model
    from domain_experts.study_folder import folder_of

    out = out.absolute()
    folder = folder_of(Path(what))
    whole = (folder / PARAMS).is_file()
    if not whole and not PARAMS.is_file():
        raise UserError(
            f"{what} is no study's file or folder, and {PARAMS}, which runs are looked up by, is "
            f"not here; `domain-experts study {folder}.yaml` makes a study"
        )
    with contextlib.chdir(folder if whole else "."):
        study = load_study(tier)
        run = best_run(study) if whole else run_at(study, what)
        saved_model(study, run).save(out)
        if whole:
            typer.echo(visible(sentences(frames(study))[0]))
    typer.echo(f"{run.path} is kept in {out}")


@app.command()
def score(
    model: ModelFolder,
    files: Annotated[list[str], typer.Argument(help="Parquet or CSV files, or patterns")],
    out: Annotated[Path, typer.Option("--output", "-o", help="*.parquet or *.csv")],
    keep: Annotated[str, typer.Option(help="columns to keep beside the scores: id,ts")] = "",
    delimiter: Delimiter = ",",
) -> None:
    """Write a saved model's probabilities for new rows, in columns p_<task>."""
    _set_threads(1)
    from domain_experts.data.log.files import LogFiles
    from domain_experts.data.log.spec import Csv
    from domain_experts.serving.model import SavedModel
    from domain_experts.serving.score import score as score_files

    loaded = SavedModel.load(model)
    columns = [name.strip() for name in keep.split(",") if name.strip()]
    rows = score_files(loaded, LogFiles(files, Csv(delimiter=delimiter)), out, columns)
    typer.echo(f"{rows:,} rows are scored in {out}")


@app.command()
def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option("--output", "-o", help="*.onnx or *.pt2")],
    to: Annotated[str, typer.Option(help="onnx, or torch (torch.export)")] = "onnx",
) -> None:
    """Write a saved model as one file that other programs run, for batches of any size."""
    _set_threads(1)
    from domain_experts.serving.export import export as export_model
    from domain_experts.serving.model import SavedModel

    export_model(SavedModel.load(model), to, out)
    typer.echo(f"{model} is exported to {out}: fields, dense and domain to logits")


@app.command()
def adapt(
    model: ModelFolder,
    files: Annotated[list[str], typer.Argument(help="rows of one new domain, with labels")],
    out: Annotated[Path, typer.Option("--output", "-o", help="folder of the new model")],
    all_weights: Annotated[
        bool, typer.Option("--all-weights", help="train all weights, not the new adapter alone")
    ] = False,
    delimiter: Delimiter = ",",
) -> None:
    """Give a saved model a new domain, and say whether it pays."""
    _set_threads(1)
    from domain_experts.data.log.files import LogFiles
    from domain_experts.data.log.spec import Csv
    from domain_experts.serving.adapt import adapt as adapt_model
    from domain_experts.serving.model import SavedModel

    made = adapt_model(
        SavedModel.load(model), LogFiles(files, Csv(delimiter=delimiter)), all_weights
    )
    made.model.save(out)
    rows = ", ".join(f"{number:,} {split}" for split, number in made.rows.items())
    typer.echo(f"domain {visible(made.model.schema.domains[-1])} is added in {out} (rows: {rows})")
    for gain in made.gains:
        typer.echo(visible(gain.verdict))


@app.command()
def methods() -> None:
    """List all methods: whose they are, what they need, and where they are proved."""
    from domain_experts.reporting.terminal import print_methods

    print_methods()


@app.command()
def unlock() -> None:
    """Clear Snakemake's lock after a crash, if no training process is still alive."""
    from domain_experts.training.store import unlock as unlock_workflow

    unlock_workflow()


def main() -> None:
    """Entry point: what a user can mend is one message, not a traceback."""
    if (status := hand_over(sys.argv[1:])) is not None:
        sys.exit(status)
    try:
        app()
    except UserError as error:
        # a name from a file may hold what steers a terminal
        sys.exit(f"error: {visible(str(error), lines=True)}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(
            f"error: {where}{error.strerror or error}. Mend it (free space, permissions) and run "
            "again: what was finished is kept."
        )
