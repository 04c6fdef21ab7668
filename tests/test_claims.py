"""The ledger: what it refuses, and that verdicts follow from the intervals by the rule alone."""

import math
import re
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import plain_yaml
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT
from scipy import stats

from domain_experts import cli
from domain_experts.errors import UserError
from domain_experts.params import Params, load, validated
from domain_experts.reporting.claims import load_claims
from domain_experts.reporting.frame import Frames
from domain_experts.reporting.render import html, latex, markdown
from domain_experts.reporting.statistics import half_widths
from domain_experts.reporting.verdicts import (
    SUPPORTED,
    UNTESTABLE,
    VERDICTS,
    combined,
    counts,
    decided,
    evidence,
    judged,
    verdicts,
)
from domain_experts.results import Results, identity, table
from domain_experts.study import Study
from domain_experts.versions import libraries

SEEDS, CODE = (1, 2, 3), "code"
DATASETS = ("domains-2", "domains-8", "domains-32")
NOISE = dict(zip(SEEDS, (-0.0001, 0.0, 0.0001), strict=True))
GAIN = {"kind": "gain", "experiments": ["main"], "arms": ["moe_mlora"], "over": "base"}


@cache
def small():
    """A small study."""
    values = plain_yaml.read()
    given = {"datasets": {tier: [*DATASETS] for tier in ("quick", "paper")}, "backbones": ["mlp"]}
    given["seeds"] = {"quick": SEEDS, "paper": [*range(1, 10)]}
    values["experiments"] = {
        "main": {
            "question": "Do they pay?",
            "compare": ["base", "mlora"],
            "arms": ["item_rate", "base", "mlora", "moe_mlora"],
            **given,
        },
        "again": {
            "question": "Do they pay, in short?",
            "compare": ["base"],
            "arms": ["base", "moe_mlora"],
            **given,
            "seeds": {"quick": SEEDS[:2]},
        },
        "ensembles": {
            "question": "Do more pay?",
            "arms": ["moe_mlora"],
            "vary": {"adapter.experts_per_domain": [1, 2, 4]},
            **given,
            "datasets": {"quick": ["domains-2"], "paper": ["domains-64"]},
        },
    }
    return Study(validated(Params, values, "params.yaml"), "quick")


@pytest.fixture
def study(project, monkeypatch):
    """The small study, in an empty folder."""
    # to digest code takes longer than all else here
    monkeypatch.setattr("domain_experts.results.code_digest", lambda modules: CODE)
    monkeypatch.setattr("domain_experts.presence.load_study", lambda tier: small())
    (project / "claims").mkdir()
    return small()


def write(rules, name="ours", **keys):
    """A ledger of one claim a rule, `a`, `b`, ..., whose words are its own name."""
    claims = [
        {"id": chr(97 + i), "says": f"Says {i}.", "source": "here", "rule": rule} | keys
        for i, rule in enumerate(rules)
    ]
    text = yaml.safe_dump({"paper": "Ours", "claims": claims}, sort_keys=False)
    Path(f"claims/{name}.yaml").write_text(text)


def frames(study, value, se=0.0001, stale=(), lacking=(), metric="wauc", own_errors=None):
    """Results without any training: `value(run)` of each run, and errors of differences.

    `own_errors` are those of the runs' own values, by name.
    """
    rows, records = [], {}
    for run in study.expected_runs:
        if run in lacking:
            continue
        path = run.path.as_posix()
        own = {"split": "test", "task": "click", "status": "current"}
        for split in ("validation", "test"):
            number = {"split": split, "metric": metric, "value": value(run)}
            rows.append(identity(run) | own | number)
        for name, error in (own_errors or {}).items():
            number = {"metric": f"{metric}_{name}", "value": error, "task": ""}
            rows.append(identity(run) | own | number)
        records[path] = record(study, run, "other" if run in stale else None)
    for name in study.expected:
        for run, other, _ in study.comparisons(name):
            if se is not None and metric == "wauc" and not {run, other} & {*lacking}:
                error = {"metric": "wauc_difference_se", "value": se}
                against = {"against": other.path.as_posix()}
                rows.append(identity(run) | own | error | against)
    data = {name: {"domains": ["a", "b"], "tasks": ["click"]} for name in study.all_datasets}
    stored = table(rows).drop_duplicates(["run", "split", "metric", "against"])
    return Frames(Results(study, stored, records, data, {}))


def record(study, run, code=None):
    keys = {up.arm: up.path.as_posix() for up in study.upstream(run)}
    made = {"data": "d", "split": "s", "key": run.path.as_posix(), "upstream": keys}
    made |= {"code": code or CODE, **libraries()}
    cost = dict.fromkeys(("wall_s", "train_rows_per_s", "epochs", "peak_memory_mb"), 1.0)
    return {
        "settings": run.payload(),
        "provenance": made | cost | {"machine": "m", "device": "cpu", "threads": 1},
        "parameters": {"total": 1},
        "rows": {"train": [1, 1]},
        "domains": ["a", "b"],
        "lanes": [],
        "curve": [],
    }


def by_arm(moe_mlora, mlora=0.0):
    """Values that differ by arm as said: a number, or one a data set."""

    def value(run):
        gain = {"moe_mlora": moe_mlora, "mlora": mlora}.get(run.arm, 0.0)
        gain = gain[run.dataset] if isinstance(gain, dict) else gain
        return 0.7 + gain + NOISE[run.seed] * (run.arm == "moe_mlora")

    return value


def found(of):
    return [one.verdict for one in decided(of)]


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (0.01, {"better": "supported", "worse": "contradicted", "same": "contradicted"}),
        (-0.01, {"better": "contradicted", "worse": "supported", "same": "contradicted"}),
        (0.0, {"better": "equivalent", "worse": "equivalent", "same": "supported"}),
        # the interval is 0.0005 wide on either side
        (0.0008, {"better": "supported", "worse": "contradicted", "same": "contradicted"}),
    ],
)
def test_a_gain_makes_each_verdict(study, gain, expected):
    write([GAIN | {"expect": expect} for expect in (*expected, "not better")])
    *three, not_better = found(frames(study, by_arm(gain)))
    assert three == [*expected.values()]
    assert not_better == ("contradicted" if gain > 0 else "supported")


def test_an_interval_that_leaves_it_open_supports_nothing(study):
    write([GAIN | {"expect": expect} for expect in ("better", "worse", "same")])
    assert found(frames(study, by_arm(0.001), se=0.01)) == ["not supported"] * 3


def test_the_interval_is_that_of_the_differences(study):
    write([GAIN | {"expect": "better", "datasets": ["domains-8"]}])
    (one,) = decided(frames(study, by_arm(0.004), se=None))
    row = one.evidence.iloc[0]
    low, high = stats.t.interval(0.95, 2, 0.004, np.std([*NOISE.values()], ddof=1) / math.sqrt(3))
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert (row["seeds"], row["experiment"]) == (3, "main")


def test_comparisons_combine(study):
    gains = dict(zip(DATASETS, (0.01, 0.01, -0.01), strict=True))
    write([GAIN | {"expect": "better", "combine": how} for how in ("all", "most", "any")])
    assert found(frames(study, by_arm(gains))) == ["contradicted", "supported", "supported"]


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=6))
def test_what_was_not_tested_can_not_turn_a_verdict(seen):
    """Oracle: all that the others might say, tried out."""
    for how in ("all", "any", "most"):
        gaps = [i for i, verdict in enumerate(seen) if verdict == UNTESTABLE]
        might = set()
        for filled in product([v for v in VERDICTS if v != UNTESTABLE], repeat=min(len(gaps), 4)):
            whole = list(seen)
            for i, verdict in zip(gaps, filled, strict=False):
                whole[i] = verdict
            if UNTESTABLE not in whole:
                might.add(combined(whole, how))
        verdict = combined(seen, how)
        if verdict == UNTESTABLE:
            assert gaps
            assert not might or (SUPPORTED in might and len(might) > 1)
        elif verdict in ("supported", "contradicted", "equivalent"):
            assert might <= {verdict}
        else:
            assert SUPPORTED not in might


BOUNDS = st.floats(-0.1, 0.1)


@given(BOUNDS, BOUNDS, st.floats(0, 0.01), st.booleans())
def test_supported_is_never_said_against_the_interval(a, b, margin, lower):
    low, high = sorted((a, b))
    worth = (-high, -low) if lower else (low, high)
    for expect in ("better", "worse", "same", "not better"):
        if judged(expect, low, high, margin, lower) == SUPPORTED:
            # the margin on the wrong side is outside
            assert {
                "better": worth[0] > -margin and worth[0] > 0,
                "worse": worth[1] < margin and worth[1] < 0,
                "same": -margin <= low and high <= margin,
                "not better": worth[1] <= margin,
            }[expect]


@given(BOUNDS, BOUNDS, st.floats(0, 0.01))
def test_better_of_a_loss_is_worse_of_what_it_is_the_negative_of(a, b, margin):
    low, high = sorted((a, b))
    for expect in ("better", "worse", "same", "not better"):
        assert judged(expect, low, high, margin, lower=True) == judged(expect, -high, -low, margin)


def test_the_margin_decides_and_its_half_and_double_are_shown(study):
    write([GAIN | {"expect": "better", "margin": 0.001}])
    of = frames(study, by_arm(0.0008))
    (one,) = decided(of)
    assert (one.verdict, one.others) == ("supported", ("supported", "equivalent"))
    assert verdicts(of).printed["Half, double margin"].tolist() == ["supported, equivalent"]
    assert evidence(of).printed["Margin"].tolist() == ["0.001"] * 3


def test_a_trend_is_the_rise_of_a_line(study):
    rising = dict(zip(DATASETS, (0.001, 0.01, 0.02), strict=True))
    rule = {**GAIN, "kind": "trend", "datasets": [*DATASETS], "expect": "better"}
    write([rule, rule | {"datasets": [*reversed(DATASETS)]}])
    up, down = decided(frames(study, by_arm(rising)))
    assert (up.verdict, down.verdict) == ("supported", "contradicted")
    slope = np.polyfit([0, 0.5, 1], [*rising.values()], 1)[0]
    assert up.evidence["gain"].item() == pytest.approx(slope)
    assert down.evidence["gain"].item() == pytest.approx(-slope)
    # an error of 0.0001 a data set, whose test rows are others
    assert up.evidence["high"].item() - slope == pytest.approx(1.96 * 0.0001 * math.sqrt(2), 0.01)


def test_a_trend_along_variants(study):
    def value(run):
        return (
            0.7
            + 0.01 * run.settings.adapter.experts_per_domain
            + NOISE[run.seed] * (run.settings.adapter.experts_per_domain)
        )

    along = ["experts-per-domain=2", "experts-per-domain=4"]
    write(
        [
            {
                **{"kind": "trend", "experiments": ["ensembles"], "over": "default"},
                **{"along": "variants", "variants": along, "expect": "better"},
            }
        ]
    )
    (one,) = decided(frames(study, value))
    assert one.verdict == "supported"
    assert one.evidence["gain"].item() == pytest.approx(0.02)


def test_a_value_is_held_against_a_number_a_metric_and_what_is_published(study):
    rule = {"kind": "value", "experiments": ["main"], "arms": ["moe_mlora"]}
    write(
        [
            rule | {"against": 0.7, "expect": "above"},
            rule | {"against": 0.71, "expect": "same"},
            rule | {"against": 0.8, "expect": "above"},
            rule | {"against": "log_loss", "expect": "above"},
            rule | {"against": "published", "expect": "same"},
        ]
    )
    of = frames(study, by_arm(0.01))
    assert found(of) == ["supported", "supported", "contradicted", "not testable", "not testable"]
    assert {*decided(of)[3].evidence["why"]} == {"not run"}


@pytest.mark.parametrize("errors", [{}, {"se": 0.002}, {"se": 0.002, "user_se": 0.004}])
def test_a_value_has_the_error_of_its_test_rows(study, errors):
    """Oracle: the intervals that tables give the same means."""
    rule = {"kind": "value", "experiments": ["main"], "arms": ["moe_mlora"]}
    write([rule | {"against": 0.705, "expect": "above"}])
    of = frames(study, by_arm(0.01), own_errors=errors)
    row = decided(of)[0].evidence.iloc[0]
    runs = of.runs[(of.runs["arm"] == "moe_mlora") & (of.runs["dataset"] == row["dataset"])]
    half = half_widths(runs.query("variant == 'default'"), ["wauc"])["wauc_half"].item()
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half)
    assert row["error"] == ("seeds", "rows", "users")[len(errors)]


def test_of_a_comparison_that_two_experiments_make_the_fuller_counts(study):
    both = GAIN | {"experiments": ["again", "main"], "datasets": ["domains-2"], "expect": "better"}
    write([both])
    (one,) = decided(frames(study, by_arm(0.01)))
    assert one.evidence[["experiment", "seeds"]].to_numpy().tolist() == [["main", 3]]
    assert one.verdict == SUPPORTED


def test_what_is_published_stands_beside(project, study, monkeypatch):
    known = pd.DataFrame(
        [
            ("domains-2", "click", "mlp", "base", "default", 0.70),
            ("domains-2", "click", "mlp", "moe_mlora", "default", 0.7145),
        ],
        columns=["dataset", "task", "backbone", "arm", "variant", "published_wauc"],
    )
    monkeypatch.setattr("domain_experts.reporting.verdicts.published", lambda metric: known)
    value = {"kind": "value", "experiments": ["main"], "arms": ["moe_mlora"]}
    value |= {"datasets": ["domains-2"], "against": "published", "expect": "same"}
    write([GAIN | {"expect": "better"}, value])
    of = frames(study, by_arm(0.0145))
    assert verdicts(of).printed["Published"].tolist()[0] == "+0.0145"
    assert found(of)[1] == "supported"


def test_fewer_seeds_than_asked_no_runs_and_no_data_are_not_testable(study):
    write(
        [
            GAIN | {"expect": "better", "min_seeds": 4},
            GAIN | {"expect": "better", "datasets": ["domains-2"]},
            GAIN | {"expect": "better"},
            GAIN | {"expect": "better", "combine": "most"},
            {
                **{"kind": "gain", "experiments": ["ensembles"], "over": "default"},
                **{"datasets": ["domains-64"], "expect": "better"},
            },
        ]
    )
    gone = [run for run in study.expected_runs if run.dataset == "domains-2"]
    of = frames(study, by_arm(0.01), lacking=gone)
    few, none, some, most, elsewhere = decided(of)
    assert {*few.evidence["why"]} == {"3 of 4 seeds", "not run"}
    assert none.evidence["why"].tolist() == ["not run"]
    assert [one.verdict for one in (few, none, some, most, elsewhere)] == [
        *["not testable"] * 3,
        "supported",
        "not testable",
    ]
    said = verdicts(of).printed["Evidence"]
    assert "°" not in "".join(verdicts(of).printed["Verdict"])
    assert "not run: 1 of 3 (domains-2)" in said[3]
    assert said[4] == "no part of tier quick"


def test_the_best_floor_is_a_reference_though_it_may_not_be_known_yet(study):
    write([GAIN | {"over": "best_floor", "expect": "better"}])
    (one,) = decided(frames(study, by_arm(0.01)))
    assert one.verdict == "supported"
    gone = [run for run in study.expected_runs if run.arm == "item_rate"]
    (one,) = decided(frames(study, by_arm(0.01), lacking=gone))
    assert (one.verdict, {*one.evidence["why"]}) == ("not testable", {"not run"})
    assert len(one.evidence) == len(DATASETS)


def test_one_seed_without_an_error_has_no_interval(study):
    write([GAIN | {"expect": "better", "min_seeds": 1}])
    others = [run for run in study.expected_runs if run.seed > 1]
    (one,) = decided(frames(study, by_arm(0.01), se=None, lacking=others))
    assert one.verdict == UNTESTABLE
    assert {*one.evidence["why"]} == {"no interval"}


def test_stale_evidence_is_marked(study):
    write([GAIN | {"expect": "better"}, GAIN | {"expect": "better", "datasets": ["domains-8"]}])
    old = [r for r in study.expected_runs if (r.dataset, r.arm) == ("domains-2", "moe_mlora")]
    of = frames(study, by_arm(0.01), stale=old)
    assert verdicts(of).printed["Verdict"].tolist() == ["supported°", "supported"]
    cells = evidence(of).printed.query("Claim == 'a'")["Difference"].tolist()
    assert [cell.endswith("°") for cell in cells] == [True, False, False]


def test_the_nearest_evidence_is_named(study):
    write([GAIN | {"expect": "better", "min_seeds": 9}], nearest=["b"])
    write([GAIN | {"expect": "better"}], name="two", id="b")
    said = verdicts(frames(study, by_arm(0.01))).printed["Evidence"]
    assert "nearest evidence: b (supported)" in said[0]


def test_tables_in_all_forms_and_the_count(study):
    write([GAIN | {"expect": "better"}, GAIN | {"expect": "worse"}])
    of = frames(study, by_arm(0.01))
    for made in (verdicts(of), evidence(of)):
        for form in (markdown, latex, html):
            assert "supported" in form(made)
    assert counts(of) == ["Ours: of 2 claims 1 supported, 1 contradicted."]
    assert verdicts(of).numbers[["supported", "contradicted"]].to_numpy().tolist() == [
        [3, 0],
        [0, 3],
    ]


def test_no_ledger_gives_empty_tables(study):
    of = frames(study, by_arm(0.01))
    assert counts(of) == []
    for made in (verdicts(of), evidence(of)):
        assert len(made.printed) == 0
        for form in (markdown, latex, html):
            assert made.caption.split("?")[0] in form(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": ["mian"]}, "experiment 'mian' is unknown; did you mean main?"),
        ({"arms": ["moe_mlroa"]}, "arm 'moe_mlroa' is unknown; did you mean moe_mlora?"),
        ({"arms": ["star"]}, "no experiment makes this comparison: arm 'star' is in none of main"),
        ({"arms": ["mlora/wdl"]}, "backbone of mlora 'wdl' is in none of main; they have mlp"),
        ({"arms": ["base"]}, "no experiment makes this comparison: main never has these arms"),
        ({"backbones": ["wld"]}, "backbone 'wld' is unknown; did you mean wdl?"),
        ({"datasets": ["taobao-21"]}, "data set 'taobao-21' is unknown; did you mean taobao-2"),
        ({"datasets": ["taobao-20"]}, "data set 'taobao-20' is in none of main"),
        ({"variants": ["alpha=8"]}, "variant 'alpha=8' is unknown"),
        ({"over": "item_rate"}, "experiment 'main' compares nothing with 'item_rate', but with"),
        ({"metric": "wauk"}, "metric 'wauk' is unknown; did you mean wauc?"),
        ({"expect": "bigger"}, "rule.gain.expect"),
        ({"expect": "same", "metric": "log_loss"}, "'same' needs a `margin`"),
        ({"margin": -1}, "rule.gain.margin"),
        ({"min_seeds": 0}, "rule.gain.min_seeds"),
        ({"min_seeds": 999}, "min_seeds is 999, but params.yaml runs what it compares with 9 at"),
        ({"seeds": 3}, "unknown key; known here: "),
        ({"kind": "trend", "datasets": ["domains-2"]}, "needs two of them or more"),
        ({"kind": "loss"}, "rule"),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused_by_file_and_name(study, change, message):
    write([GAIN | {"expect": "better"}, GAIN | {"expect": "better"} | change], name="theirs")
    with pytest.raises(UserError) as refused:
        load_claims(study)
    assert str(refused.value).startswith("claims/theirs.yaml, claim 'b': ")
    assert message in str(refused.value)


def test_a_value_against_what_is_no_metric_is_refused(study):
    write([{"kind": "value", "experiments": ["main"], "against": "chance", "expect": "above"}])
    with pytest.raises(UserError, match=r"claim 'a': against: metric 'chance' is unknown"):
        load_claims(study)


def test_two_claims_of_one_name_and_an_unknown_nearest_are_refused(study):
    write([GAIN | {"expect": "better"}], name="one")
    write([GAIN | {"expect": "better"}], name="two")
    with pytest.raises(UserError, match=r"claims/two.yaml, claim 'a': claims/one.yaml has a claim"):
        load_claims(study)
    write([], name="two")
    with pytest.raises(UserError, match=r"claims/two.yaml: cannot be used"):
        load_claims(study)
    write([GAIN | {"expect": "better"}], name="two", id="c", nearest=["z"])
    with pytest.raises(UserError, match=r"claim 'c': nearest: claim 'z' is unknown"):
        load_claims(study)
    write([GAIN | {"expect": "better"}], name="two", id="c", nearest=["c"])
    with pytest.raises(UserError, match=r"two.yaml, claim 'c': nearest names the claim itself"):
        load_claims(study)


@pytest.mark.parametrize("text", ["claims: [", "- a", "", "paper: x\nclaims: [1]"])
def test_a_file_that_is_no_ledger_is_refused(study, project, text):
    (project / "claims/ours.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^claims/ours\.yaml"):
        load_claims(study)


@pytest.mark.parametrize("tier", ["smoke", "quick", "paper"])
def test_the_studys_own_ledger_fits_its_params(monkeypatch, tier):
    monkeypatch.chdir(ROOT)
    entries = load_claims(Study(load(), tier))
    assert {entry.paper for entry in entries} == {"MoE-MLoRA", "M3oE", "This study"}


def test_the_studys_own_sentences_say_no_more_than_their_rules(monkeypatch):
    monkeypatch.chdir(ROOT)
    needed = {"most": r"\bmost\b", "any": r"\bat least one\b", "all": ""}
    for entry in load_claims(Study(load(), "smoke")):
        rule, says = entry.claim.rule, entry.claim.says
        assert re.search(needed[rule.combine], says), entry.where
        # a rule that a clear loss fits too
        assert ("worth having" in says) == (rule.expect == "not better"), entry.where
        if rule.combine == "all":
            assert not re.search(r"\bmost (comparisons|backbones)\b", says), entry.where


def test_one_claim_is_printed_with_its_evidence(study, monkeypatch, capsys):
    write([GAIN | {"expect": "better", "min_seeds": 9}], published="+1.45", nearest=["b"])
    write([GAIN | {"expect": "better"}], name="two", id="b")
    of = frames(study, by_arm(0.01))
    monkeypatch.setattr("domain_experts.reporting.terminal.frames", lambda study: of)
    cli.claims("quick", "a")
    said = " ".join(capsys.readouterr().out.split())
    for part in ("not testable: Says 0.", "+1.45", "3 of 9 seeds", "+0.0100", "b (supported)"):
        assert part in said
    cli.claims("quick")
    assert "Ours: of 2 claims 1 supported, 1 not testable." in capsys.readouterr().out
    with pytest.raises(UserError, match="claim 'aa' is unknown; did you mean a"):
        cli.claims("quick", "aa")
