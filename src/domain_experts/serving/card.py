"""The model card (Mitchell et al. 2019), filled in from results."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from domain_experts import layout
from domain_experts.data.interactions import Interactions
from domain_experts.data.log.spec import OTHER_DOMAIN
from domain_experts.data.split import SPLITS
from domain_experts.plain_text import markdown
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.results import load
from domain_experts.runs import Run
from domain_experts.study import Study

NORMAL = 1.959963984540054
"""Of a 95 % interval, standard errors to each side."""
NOT_EVALUATED = (
    "The run is not evaluated: `snakemake -- evaluate` makes its numbers, and saving it again "
    "writes them here."
)


def card(study: Study, run: Run, data: Interactions, record: Mapping[str, Any]) -> str:
    """README.md of a run's model.

    Args:
        study: has the results.
        run: the run.
        data: what it was trained on.
        record: its record.json.
    """
    arm, schema = ARMS[run.arm], data.schema
    backbone = f" with backbone {BACKBONES[run.backbone].label}" if arm.backbone else ""
    provenance = data.card["provenance"]
    rule, split_seed = study.params.data.split_rule(run.dataset).rule, run.split_seed
    if provenance.get("source") == "log":
        # of which the rule is said with its files
        own = provenance["settings"]["split"]
        rule, split_seed = own["rule"], own["seed"]
    counts = {split: sum(record["rows"][split]) for split in SPLITS}
    lines = [
        f"# {arm.label}{backbone}, on {run.dataset}",
        "",
        f"Run `{run.path.as_posix()}` of tier {study.tier}: seed {run.seed}, "
        f"{record['parameters']['used']:,} parameters.",
        "",
        "## Data",
        "",
        f"Data set `{run.dataset}`, source `{provenance.get('source', run.dataset)}`: "
        f"{sum(counts.values()):,} rows, {len(schema.domains)} domains, "
        f"tasks {_named(schema.tasks)}.",
        f"Fields: {', '.join(f'{markdown(n)} ({size:,} codes)' for n, size in schema.fields)}.",
        f"Dense features: {_named(schema.dense) or 'none'}.",
        "",
        f"Split: {rule}, seed {split_seed}; "
        + ", ".join(f"{number:,} {split} rows" for split, number in counts.items())
        + ".",
        "",
        "## Metrics on test rows",
        "",
        *_metrics(study, run),
        "",
        "## Intended use",
        "",
        f"To score rows as those it was trained on, in the domains {_listed(schema.domains)}: "
        f"the probability of {_named(schema.tasks)}, to rank within a domain.",
        "",
        "## Limits",
        "",
        *_limits(run, data, record),
    ]
    return "\n".join(lines) + "\n"


def _metrics(study: Study, run: Run) -> Iterator[str]:
    if not layout.results_file(study.tier).is_file():
        yield NOT_EVALUATED
        return
    found = load(study).stored
    of_run = (found["run"] == run.path.as_posix()) & (found["against"] == "")
    own = found[of_run & (found["split"] == "test")]
    if own.empty or (own["metric"] == "").all():
        yield NOT_EVALUATED
        return
    value = own.set_index(["task", "domain", "metric"])["value"]
    yield "| Task | Domain | Rows | AUC | 95 % interval | Log loss | Calibration |"
    yield "| :-- | :-- | --: | --: | :-: | --: | --: |"
    for task in dict.fromkeys(own.loc[own["domain"] != "", "task"]):
        for domain in dict.fromkeys(
            own.loc[(own["task"] == task) & (own["domain"] != ""), "domain"]
        ):
            auc, error = (_number(value, (task, domain, m)) for m in ("auc", "auc_se"))
            yield (
                f"| {markdown(task)} | {markdown(domain)} | "
                f"{_shown(value, (task, domain, 'rows'), ',.0f')} | "
                f"{_shown(value, (task, domain, 'auc'), '.4f')} | {_interval(auc, error)} | "
                f"{_shown(value, (task, domain, 'log_loss'), '.4f')} | "
                f"{_shown(value, (task, domain, 'calibration'), '.3f')} |"
            )
    yield ""
    for task in dict.fromkeys(own.loc[own["metric"] == "wauc", "task"]):
        auc, error = (_number(value, (task, "", m)) for m in ("wauc", "wauc_user_se"))
        whose = "by user"
        if math.isnan(error):
            error, whose = _number(value, (task, "", "wauc_se")), "by row"
        interval = _interval(auc, error)
        said = f", 95 % interval {interval} ({whose})" if interval else ""
        of = markdown(task) or "all tasks"
        yield f"WAUC (the domains' AUC weighted by rows) of {of}: {auc:.4f}{said}."
    yield ""
    yield (
        "Intervals of single domains are DeLong's, of rows; they are of this run alone, and do not "
        "hold what other seeds would differ by. Calibration is mean prediction over mean label."
    )


def _number(value: "pd.Series[float]", key: tuple[str, str, str]) -> float:
    return float(value[key]) if key in value.index else math.nan


def _shown(value: "pd.Series[float]", key: tuple[str, str, str], form: str) -> str:
    number = _number(value, key)
    return "" if math.isnan(number) else format(number, form)


def _interval(center: float, error: float) -> str:
    if math.isnan(center) or math.isnan(error):
        return ""
    return f"{center - NORMAL * error:.4f} to {center + NORMAL * error:.4f}"


def _limits(run: Run, data: Interactions, record: Mapping[str, Any]) -> Iterator[str]:
    schema = data.schema
    if OTHER_DOMAIN in schema.domains:
        yield f"- Rows of domains that are not listed are scored as `{OTHER_DOMAIN}`."
    else:
        yield (
            "- Rows of other domains are scored by what all domains share, or refused where "
            "nothing is shared."
        )
    few = [
        name
        for name, rows in zip(schema.domains, record["rows"]["test"], strict=True)
        if rows < FEW
    ]
    if few:
        yield f"- Fewer than {FEW} test rows: {_listed(tuple(few))}; their AUC says little."
    if data.sampled_negatives:
        yield "- Negatives were sampled: probabilities are no rates; they rank within a domain."
    if run.settings.training.precision != "float32":
        yield "- Its metrics were made in lower precision than it serves with."
    yield "- Nothing is known of rows that came after the test rows, or of other populations."


FEW = 100


def _listed(names: tuple[str, ...], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return _named(names[:most]) + more


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(map(markdown, names))
