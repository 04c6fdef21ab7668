"""What DVC shows of a tier: a short summary for `dvc metrics`, learning curves for `dvc plots`."""

from domain_experts import layout
from domain_experts.files import write_json
from domain_experts.reporting.answer import answer
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.frame import Frames, status_counts
from domain_experts.reporting.render import write_csv


def write_summary(of: Frames) -> None:
    """Write results/<tier>/metrics.json and curves.csv.

    The first holds how many runs have which status, and the answer of the first experiment: data
    set -> reference -> gain of the best of the others on validation rows, with interval and
    status. The second has the curves of the first experiment's runs, a row a run, leg, lane and
    epoch.
    """
    study, folder = of.study, layout.results(of.study.tier)
    found = answer(of).numbers
    gains: dict[str, dict[str, dict[str, float | str]]] = {}
    for row in found[found["experiment"] == experiments(study)[0]].to_dict("records"):
        known = {key: round(row[key], 6) for key in ("gain", "low", "high") if row[key] == row[key]}
        known["status"] = row["status"]
        gains.setdefault(row["dataset"], {})[row["reference"]] = known
    runs = {status: n for status, n in status_counts(of.about["status"]).items() if n}
    write_json(folder / "metrics.json", {"runs": runs, "gain": gains})
    first = set(of.of(experiments(study)[0])["run"])
    curves = of.curves[of.curves["run"].isin(first)]
    names = ["dataset", "backbone", "arm", "seed", "status", "phase", "lane", "epoch"]
    write_csv(folder / "curves.csv", curves[[*names, "train_loss", "validation_auc", "best"]])
