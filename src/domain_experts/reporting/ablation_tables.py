"""Tables of one setting varied: experts per domain, ranks, layers, the gate, the arithmetic."""

from collections.abc import Callable, Iterable

import pandas as pd

from domain_experts.reporting.collect import Results
from domain_experts.reporting.columns import KEYS, caption, labels, means, wauc
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.render import Table, counts, number
from domain_experts.reporting.summary import half_width, over_seeds, paired_gain
from domain_experts.runs import DEFAULT_VARIANT, Run


def experts_per_domain(results: Results) -> Table:
    """Data set x backbone x number of experts: WAUC, and gain over one expert."""
    runs = results.of("experts_per_domain")
    runs["variant"] = runs["others"]
    one = runs[runs["experts_per_domain"] == 1]
    runs["gain_over_one"] = paired_gain(runs, one, ["arm", "variant"])
    keys = [*KEYS, "experts_per_domain"]
    frame = over_seeds(runs, keys, ["wauc", "gain_over_one"])
    printed = labels(frame)
    printed["Experts per domain"] = counts(frame["experts_per_domain"])
    printed["WAUC"] = wauc(frame)
    printed["Gain over one expert"] = means(
        frame.mask(frame["experts_per_domain"] == 1), "gain_over_one", signed=True
    )
    printed["Seeds"] = counts(frame["seeds"])
    text = caption(
        results,
        runs,
        "Experts per domain: test WAUC and gain over one expert per domain, mean ± standard "
        "deviation over seeds; gains are paired by seed. Of the experts trained for a domain, the "
        "first are used.",
    )
    notes = ending_notes(results, results.expected("experts_per_domain"))
    return Table("experts_per_domain", text, frame, printed, notes)


def rank(results: Results) -> Table:
    """Data set x backbone x arm x rank: WAUC, and difference to the default."""
    text = (
        "Ranks: test WAUC by alpha (a layer of width h has adapters of rank max(h // alpha, 1)), "
        "and its difference to the default"
    )
    return _variants(results, "rank", text, {"Ranks": _ranks})


def adapted_layers(results: Results) -> Table:
    """Data set x backbone x arm x adapted layers: WAUC, and difference to the default."""
    text = (
        "Adapted layers: test WAUC with experts in some layers of the tower alone (counted from "
        "0), and its difference to the default"
    )
    return _variants(results, "adapted_layers", text, {"Layers": _layers})


def gates(results: Results) -> Table:
    """Data set x backbone x gate: WAUC, and difference to the default."""
    text = "Gates: test WAUC of MoE-MLoRA with other gates, and its difference to the default"
    return _variants(results, "gates", text, {})


def arithmetic(results: Results) -> Table:
    """Data set x backbone x arm x arithmetic: WAUC, and difference to the default with interval."""
    text = (
        "Arithmetic: test WAUC with matrix products in bfloat16, and of compiled models, and its "
        "difference to the default with a 95 % interval (Student's t over seeds)"
    )
    table = _variants(results, "arithmetic", text, {})
    others = table.numbers["variant"] != DEFAULT_VARIANT
    half = table.numbers["less_default_half"].where(others)
    place = list(table.printed).index("Less the default") + 1
    shown = ["" if pd.isna(h) else f"± {number(h)}" for h in half]
    table.printed.insert(place, "95 % interval", shown)
    return table


def _variants(
    results: Results, name: str, text: str, columns: dict[str, Callable[[Run], str]]
) -> Table:
    """An experiment's variants beside the default, which another experiment may have run."""
    own = results.expected(name)
    defaults = _defaults(results, own)
    shown = [*(run for run in defaults if run not in own), *own]
    by_path = {run.path.as_posix(): run for run in shown}
    runs = results.frame(shown)
    for head, describe in columns.items():
        runs[head] = [describe(by_path[path]) for path in runs["run"]]
    reference = runs[runs["variant"] == DEFAULT_VARIANT]
    runs["less_default"] = paired_gain(runs, reference, ["arm"])
    keys = [*KEYS, *columns]
    frame = over_seeds(runs, keys, ["wauc", "less_default"])
    frame["less_default_half"] = half_width(runs, keys, "less_default").to_numpy()
    frame["parameters"] = runs.groupby(keys, sort=False)["parameters"].first().to_numpy()
    printed = labels(frame)
    for head in columns:
        printed[head] = frame[head]
    printed["WAUC"] = wauc(frame)
    others = frame.mask(frame["variant"] == DEFAULT_VARIANT)
    printed["Less the default"] = means(others, "less_default", signed=True)
    printed["Parameters"] = counts(frame["parameters"])
    printed["Seeds"] = counts(frame["seeds"])
    whole = caption(
        results,
        runs,
        f"{text}, mean ± standard deviation over seeds; differences are paired by seed.",
    )
    return Table(name, whole, frame, printed, ending_notes(results, shown))


def _defaults(results: Results, runs: Iterable[Run]) -> list[Run]:
    """The runs with default settings that are like `runs` in all else."""
    known = dict.fromkeys([*results.expected(*results.study.expected), *results.metrics])
    alike = {(run.dataset, run.backbone, run.arm, run.seed) for run in runs}
    return [
        run
        for run in known
        if not run.variant and (run.dataset, run.backbone, run.arm, run.seed) in alike
    ]


def _ranks(run: Run) -> str:
    settings = run.settings
    ranks = [str(max(width // settings.adapter.alpha, 1)) for width in settings.model.hidden]
    return ", ".join(ranks)


def _layers(run: Run) -> str:
    layers = run.settings.adapter.layers
    return "all" if layers is None else ", ".join(map(str, layers))
