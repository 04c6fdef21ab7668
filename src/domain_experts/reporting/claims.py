"""The ledger: claims of the papers and of this study, each with the rule that decides it.

It is data of the project, beside params.yaml: claims/<name>.yaml. Light: the workflow reads and
checks it before any work starts. `reporting.verdicts` applies the rules.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from domain_experts.errors import UserError
from domain_experts.evaluation.registry import AUCS, COMPARED, SHOWN
from domain_experts.layout import CLAIMS
from domain_experts.params import Experiment, TierName, validated
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.runs import variant_name
from domain_experts.strict import Positive, Settings
from domain_experts.study import Study
from domain_experts.suggest import unknown
from domain_experts.yaml_files import read_yaml

PUBLISHED = "published"
Margin = Annotated[float, Field(ge=0)]
Names = tuple[str, ...]


class _Rule(Settings):
    """What all rules have: which comparisons they are about, and how they combine."""

    experiments: Annotated[Names, Field(min_length=1)] = Field(
        description="experiments of params.yaml whose runs are the evidence"
    )
    arms: Names = Field(default=(), description="arms or arm/backbone; all, if none is named")
    backbones: Names = Field(default=(), description="all, if none is named")
    variants: Names = Field(
        default=(), description="names of variants as in the runs' paths; all, if none is named"
    )
    datasets: Names = Field(default=(), description="all, if none is named")
    metric: str | None = Field(default=None, description="the experiment's own, if none is named")
    margin: Margin | None = Field(
        default=None,
        description="differences up to it do not matter, in units of the metric; "
        "`statistics.margin` of params.yaml, which is of AUCs, if null",
    )
    min_seeds: Positive = Field(default=3, description="seeds that a comparison needs")
    combine: Literal["all", "any", "most"] = Field(
        default="all", description="of how many comparisons it must hold"
    )


class Gain(_Rule):
    """Arms less a reference of their experiment, by data set, backbone and variant."""

    kind: Literal["gain"]
    over: str = Field(description="a reference of the experiments: arm, arm/backbone or `default`")
    expect: Literal["better", "worse", "same", "not better"]


class Trend(_Rule):
    """How a gain changes along data sets or variants: the rise of a straight line over them."""

    kind: Literal["trend"]
    over: str = Field(description="as of a gain")
    along: Literal["datasets", "variants"] = Field(
        default="datasets",
        description="which of the two lists is in the order that matters; what a tier lacks of it "
        "is passed over",
    )
    expect: Literal["better", "worse", "same", "not better"] = Field(
        description="what becomes of the gain from the first to the last"
    )

    @model_validator(mode="after")
    def _order_is_said(self) -> Self:
        if len(getattr(self, self.along)) < 2:
            raise ValueError(f"a trend along {self.along} needs two of them or more, in order")
        return self


class Value(_Rule):
    """A metric or fact of arms, against a number, another one of the same run, or a published."""

    kind: Literal["value"]
    against: float | str = Field(description="a number, a metric's name, or `published`")
    expect: Literal["above", "below", "same"]


Rule = Gain | Trend | Value


class Claim(Settings):
    """A sentence that results can support or not, in our own words."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    says: str
    source: str = Field(description="where it stands: abstract, section, table")
    published: str = Field(
        default="", description="its number as printed, where no line of `published` holds it"
    )
    nearest: Names = Field(
        default=(), description="claims that come nearest, where this one cannot be tested"
    )
    rule: Annotated[Rule, Field(discriminator="kind")]


class _File(Settings):
    """One file of the ledger."""

    paper: str
    claims: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


@dataclass(frozen=True)
class Entry:
    """A claim of the ledger."""

    paper: str
    file: Path
    claim: Claim

    @property
    def where(self) -> str:
        return _where(self.file, self.claim.id)


def _where(file: Path, name: object) -> str:
    return f"{file}, claim '{name}'"


def load_claims(study: Study) -> tuple[Entry, ...]:
    """Read and check the ledger in the working directory; without its folder there are no claims.

    Raises:
        UserError: a claim does not fit its model, names what params.yaml or the registry does not
            know, a comparison that no experiment makes, or more seeds than any tier has; the
            message names file and claim.
    """
    entries = tuple(itertools.chain(*map(_read, sorted(CLAIMS.glob("*.yaml")))))
    ids: dict[str, Entry] = {}
    for entry in entries:
        if other := ids.get(entry.claim.id):
            raise UserError(f"{entry.where}: {other.file} has a claim of this id; rename one")
        ids[entry.claim.id] = entry
    # of nearly all claims the tier itself knows, and the others need not be expanded
    studies = (
        study,
        *(Study(study.params, tier) for tier in study.params.tiers if tier != study.tier),
    )
    for entry in entries:
        for name in entry.claim.nearest:
            _known(entry, "nearest: claim", name, ids)
            if name == entry.claim.id:
                raise UserError(f"{entry.where}: nearest names the claim itself; name another one")
        _check(entry, studies)
    return entries


def _read(file: Path) -> Iterator[Entry]:
    content = validated(_File, read_yaml(file), file)
    for place, value in enumerate(content.claims, start=1):
        claim = validated(Claim, value, _where(file, value.get("id", f"no. {place}")))
        yield Entry(content.paper, file, claim)


def _check(entry: Entry, studies: Sequence[Study]) -> None:
    """Refuse names that are unknown, or that none of the claim's experiments has."""
    rule, params = entry.claim.rule, studies[0].params
    for name in rule.experiments:
        _known(entry, "experiment", name, params.experiments)
    experiments = {name: params.experiments[name] for name in rule.experiments}
    every = list(experiments.values())
    _check_metrics(entry, every)
    for name in rule.arms:
        arm, _, backbone = name.partition("/")
        _known(entry, "arm", arm, ARMS)
        _had(entry, "arm", arm, {known for one in every for known in one.arms})
        if backbone:
            _known(entry, "backbone", backbone, BACKBONES)
            _had(entry, f"backbone of {arm}", backbone, _backbones(every, [arm], params.tiers))
    arms = {arm for one in every for arm in one.arms}
    for name in rule.backbones:
        _known(entry, "backbone", name, BACKBONES)
        _had(entry, "backbone", name, _backbones(every, arms, params.tiers))
    for name in rule.datasets:
        _known(entry, "data set", name, params.data.datasets)
        there = {d for one in every for own in one.datasets.values() for d in own}
        _had(entry, "data set", name, there)
    for name in rule.variants:
        if not any(name in _variants(of, rule.experiments) for of in studies):
            known = sorted({v for of in studies for v in _variants(of, rule.experiments)})
            _known(entry, "variant", name, known)
    for name, one in experiments.items():
        if not isinstance(rule, Value) and rule.over not in one.references:
            raise UserError(
                f"{entry.where}: experiment '{name}' compares nothing with '{rule.over}', but with "
                f"{', '.join(one.references)}; add it to `compare` in params.yaml, or name another "
                "experiment"
            )
    tiers = [(one, tier) for one in every for tier in params.tiers if _makes(one, rule, tier)]
    if not tiers:
        raise UserError(
            f"{entry.where}: no experiment makes this comparison: {', '.join(experiments)} "
            "never has these arms, backbones and data sets together"
        )
    most = max(len(one.seeds.get(tier, params.tiers[tier].seeds)) for one, tier in tiers)
    if most < rule.min_seeds:
        raise UserError(
            f"{entry.where}: min_seeds is {rule.min_seeds}, but params.yaml runs what it compares "
            f"with {most} at most in any tier; lower it, or add seeds to the experiment or the tier"
        )


def _check_metrics(entry: Entry, experiments: Iterable[Experiment]) -> None:
    rule = entry.claim.rule
    metrics = {rule.metric} if rule.metric else {one.metric for one in experiments}
    if rule.expect in ("same", "not better") and rule.margin is None and not metrics <= {*AUCS}:
        raise UserError(
            f"{entry.where}: '{rule.expect}' needs a `margin`: that of params.yaml is of AUCs "
            f"({', '.join(AUCS)})"
        )
    if rule.metric is not None:
        _known(entry, "metric", rule.metric, SHOWN if isinstance(rule, Value) else COMPARED)
    if isinstance(rule, Value) and isinstance(rule.against, str):
        _known(entry, "against: metric", rule.against, (PUBLISHED, *SHOWN))


def _variants(study: Study, experiments: Iterable[str]) -> set[str]:
    return {variant_name(run.variant) for name in experiments for run in study.expected[name]}


def _backbones(
    experiments: Iterable[Experiment], arms: Iterable[str], tiers: Iterable[str]
) -> set[str]:
    return {
        backbone
        for one, arm in itertools.product(experiments, arms)
        if arm in one.arms
        for tier in tiers
        for backbone in one.backbones_in(tier, arm)
    }


def _makes(experiment: Experiment, rule: Rule, tier: TierName) -> bool:
    """Whether an experiment, a full grid, has anything in a tier that a rule is about."""
    return any(
        _wanted(rule.datasets, dataset)
        and _wanted(rule.arms, arm, f"{arm}/{backbone}")
        and _wanted(rule.backbones, backbone)
        # an arm is not compared with itself
        and (isinstance(rule, Value) or rule.over not in (arm, f"{arm}/{backbone}"))
        for dataset in experiment.datasets.get(tier, ())
        for arm in experiment.arms
        for backbone in experiment.backbones_in(tier, arm)
    )


def _wanted(names: Names, *own: str) -> bool:
    return not names or any(name in names for name in own)


def _known(entry: Entry, what: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        raise UserError(f"{entry.where}: {unknown(what, name, names)}")


def _had(entry: Entry, what: str, name: str, there: Iterable[str]) -> None:
    names = sorted(there)
    if name not in names:
        raise UserError(
            f"{entry.where}: no experiment makes this comparison: {what} '{name}' is in none of "
            f"{', '.join(entry.claim.rule.experiments)}; they have {', '.join(names)}"
        )
