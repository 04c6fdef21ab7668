"""params.yaml: its keys and their values; study.py expands them into runs."""

import fnmatch
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import Field, ValidationError, model_validator

from domain_experts.data.specs import (
    WITHOUT_FRACTIONS,
    Dataset,
    DatasetName,
    Generated,
    Log,
    Share,
    SplitRule,
)
from domain_experts.declarations import Family, ProtocolName
from domain_experts.errors import UserError
from domain_experts.evaluation.registry import COMPARED, SEARCHED, SHOWN
from domain_experts.layout import PARAMS
from domain_experts.models.multi.settings import MultiModelSettings
from domain_experts.registry import ARMS, BACKBONES, BEST_FLOOR, NO_BACKBONE, REFERENCE
from domain_experts.runs import DEFAULT_VARIANT
from domain_experts.search_space import SearchSettings
from domain_experts.settings import (
    AdapterSettings,
    CrossfitSettings,
    GateSettings,
    HeldOutSettings,
    MAMDRSettings,
    ModelSettings,
    NewDomainSettings,
    Protocol,
    RateSettings,
    StarSettings,
    TrainingSettings,
    TreesSettings,
)
from domain_experts.strict import Positive, Seeds, Settings
from domain_experts.suggest import unknown
from domain_experts.yaml_files import read_yaml

TierName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
ExperimentName = TierName
"""It names tables and figures."""
ALL = "all"
T = TypeVar("T", bound=Settings)


class Data(Settings):
    """Data sets, and where local copies of raw files lie."""

    local: str | None = Field(
        description="folder with raw data by source (ml-100k/, ml-1m/), used when no download "
        "answers; the environment variable DOMAIN_EXPERTS_DATA_LOCAL overrides it"
    )
    test_fraction: Share
    validation_fraction: Share
    datasets: dict[DatasetName, Dataset]

    def split_rule(self, dataset: str) -> SplitRule:
        """The data set's own split rule, or the usual one of its kind."""
        spec = self.datasets[dataset]
        if isinstance(spec, Log):
            return SplitRule(rule="given")
        if spec.split:
            return spec.split
        if spec.usual_split in WITHOUT_FRACTIONS:
            return SplitRule(rule=spec.usual_split)
        return SplitRule(
            rule=spec.usual_split,
            validation_fraction=self.validation_fraction,
            test_fraction=self.test_fraction,
        )


class Experiment(Settings):
    """A grid of runs that answers one question."""

    question: str
    datasets: dict[TierName, tuple[str, ...]] = Field(description="data sets, by tier")
    backbones: tuple[str, ...] | dict[TierName, tuple[str, ...]] = Field(
        default=(), description="backbones, or backbones by tier"
    )
    arms: tuple[str, ...] | dict[str, tuple[str, ...]] = Field(
        min_length=1, description="arms, or arms each with backbones of its own"
    )
    vary: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        default={}, description="dotted setting to the values it takes; all combinations are run"
    )
    variants: tuple[dict[str, Any], ...] = Field(
        default=(), description="single variants: dotted setting to value"
    )
    flip: bool = Field(
        default=False,
        description="each switch by which an arm's protocol and its counterpart differ, alone",
    )
    seeds: dict[TierName, Seeds] = Field(default={}, description="seeds instead of the tier's own")
    compare: tuple[str, ...] = Field(
        default=(),
        description="what differences are taken from: an arm (of the same backbone), arm/backbone, "
        "`default` (the arm with default settings) or `best_floor` (of the floors on the same "
        "data the best on validation rows), which is always added; by default `default` if "
        "settings vary, else `base` or the first arm",
    )
    metric: str = Field(
        default="wauc",
        description="of which differences are taken: wauc (domains weighted by their rows), "
        "macro_auc (domains alike), or another of `evaluation.registry`",
    )
    show: tuple[str, ...] = Field(
        default=(), description="further columns of its table (`evaluation.registry`)"
    )
    labels: dict[str, str] = Field(
        default={}, description="variants in words: their names as in the runs' paths"
    )
    search: SearchSettings | None = Field(
        default=None,
        description="each arm is run with the settings that a search found, beside the default",
    )

    @property
    def references(self) -> tuple[str, ...]:
        """What differences are taken from: as `compare` says, and the best floor."""
        return tuple(dict.fromkeys((*self._own_references, BEST_FLOOR)))

    @property
    def _own_references(self) -> tuple[str, ...]:
        if self.compare:
            return self.compare
        if self.vary or self.variants or self.flip:
            return (DEFAULT_VARIANT,)
        if REFERENCE in self.arms:
            return (REFERENCE,)
        first = next(iter(self.arms))
        given = self.arms[first] if isinstance(self.arms, dict) else ()
        return (f"{first}/{given[0]}",) if given else (first,)

    @property
    def named_tiers(self) -> Iterator[tuple[str, str]]:
        """The tiers that it names, each after the key where it does."""
        by_tier: dict[str, Any] = {"datasets": self.datasets, "seeds": self.seeds}
        if isinstance(self.backbones, dict):
            by_tier["backbones"] = self.backbones
        if self.search:
            by_tier |= {"search.trials": self.search.trials, "search.passes": self.search.passes}
        return ((key, tier) for key, own in by_tier.items() for tier in own)

    def backbones_in(self, tier: TierName, arm: str) -> tuple[str, ...]:
        """The backbones of an arm in a tier."""
        if not ARMS[arm].backbone:
            return (NO_BACKBONE,)
        if isinstance(self.arms, dict):
            return self.arms[arm]
        return self.backbones.get(tier, ()) if isinstance(self.backbones, dict) else self.backbones

    @model_validator(mode="after")
    def _search_stands_alone(self) -> Self:
        if self.search is None:
            return self
        if self.vary or self.variants or self.flip:
            raise ValueError("`search` chooses settings: leave out `vary`, `variants` and `flip`")
        if self.metric not in SEARCHED:
            raise ValueError(f"a search maximises {' or '.join(SEARCHED)}, not {self.metric}")
        for tier in filter(self.datasets.get, self.datasets):
            if not (tier in self.search.trials and tier in self.search.passes):
                raise ValueError(f"search: say the `trials` and `passes` of tier {tier}")
        return self

    @model_validator(mode="after")
    def _backbones_are_said_once(self) -> Self:
        if isinstance(self.arms, dict) == bool(self.backbones):
            raise ValueError(
                "give `backbones` for all arms, or each arm its own (`arms: {mdmt: [m3oe]}`)"
            )
        return self


class Statistics(Settings):
    """What the verdicts on differences rest on."""

    margin: float = Field(
        gt=0, lt=0.5, description="differences in AUC within it, both ways, are equivalent"
    )


class Tier(Settings):
    """How much is run."""

    seeds: Seeds = Field(min_length=1)
    set: dict[str, Any] = Field(default={}, description="dotted settings replaced in this tier")


class Params(Settings):
    """The whole of params.yaml."""

    tier: TierName = Field(description="tier of a bare `snakemake`; --config tier=... overrides")
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto: a GPU if there is one")
    processes: Positive = Field(
        default=1,
        description="processes that train each run together, each on its rows of every batch: for "
        "one large log (docs/cluster.md)",
    )
    data: Data
    model: ModelSettings
    adapter: AdapterSettings
    gate: GateSettings
    star: StarSettings
    training: TrainingSettings
    rates: RateSettings
    trees: TreesSettings
    new_domain: NewDomainSettings
    held_out: HeldOutSettings
    crossfit: CrossfitSettings
    mamdr: MAMDRSettings
    protocols: dict[ProtocolName, Protocol]
    multi_model: MultiModelSettings
    configurations: dict[str, dict[str, dict[str, Any]]] = Field(
        description="pattern of data set names -> arm, backbone, family of arms (ctr, multi) or "
        "all -> dotted settings of its own; a tier's `set` and an experiment's variants go before "
        "them"
    )
    statistics: Statistics
    experiments: dict[ExperimentName, Experiment]
    tiers: dict[TierName, Tier] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for protocol in get_args(ProtocolName):
            _known("protocols", protocol, self.protocols)
        _known("tier", self.tier, self.tiers)
        for name, experiment in self.experiments.items():
            where = f"experiments.{name}"
            for key, tier in experiment.named_tiers:
                _known(f"{where}.{key}", tier, self.tiers)
            for dataset in itertools.chain(*experiment.datasets.values()):
                _known(f"{where}.datasets", dataset, self.data.datasets)
            for arm in experiment.arms:
                _known(f"{where}.arms", arm, ARMS)
                self._refuse_without_groups(where, arm, experiment)
                _refuse_backbones(where, arm, experiment, self.tiers)
            for reference in experiment.references:
                arm, _, backbone = reference.partition("/")
                _known(f"{where}.compare", arm, (*ARMS, DEFAULT_VARIANT, BEST_FLOOR))
                _known(f"{where}.compare", backbone, (*BACKBONES, ""))
            _known(f"{where}.metric", experiment.metric, COMPARED)
            for shown in experiment.show:
                _known(f"{where}.show", shown, SHOWN)
            if experiment.search:
                self._refuse_search(where, experiment, experiment.search)
        for pattern, entries in self.configurations.items():
            if not fnmatch.filter(self.data.datasets, pattern):
                raise ValueError(f"configurations: '{pattern}' fits no data set")
            for backbone in entries:
                known = (*BACKBONES, *ARMS, *get_args(Family), ALL)
                _known(f"configurations.{pattern}", backbone, known)
        if self.data.test_fraction + self.data.validation_fraction >= 1:
            raise ValueError("data: test_fraction + validation_fraction leave no training rows")
        return self

    def _refuse_search(self, where: str, experiment: Experiment, search: SearchSettings) -> None:
        """Refuse a space of no arm, and trials with the seeds of the final runs."""
        for arm in search.space:
            _known(f"{where}.search.space", arm, (*experiment.arms, ALL))
        for arm, first in search.starts_from.items():
            _known(f"{where}.search.starts_from", arm, experiment.arms)
            known = [name for name in experiment.arms if name not in search.starts_from]
            _known(f"{where}.search.starts_from.{arm}", first, known)
            if ARMS[first].family != ARMS[arm].family or not {*ARMS[first].reads} <= {
                *ARMS[arm].reads
            }:
                raise ValueError(
                    f"{where}.search.starts_from: '{arm}' does not read all settings of '{first}', "
                    "whose best ones it is to take over"
                )
            for tier, trials in search.trials.items():
                if trials < 2:
                    raise ValueError(
                        f"{where}.search.trials.{tier}: half of the trials of '{arm}' are those of "
                        f"'{first}': give two or more"
                    )
            if not search.space.get(arm):
                raise ValueError(f"{where}.search.space has nothing of '{arm}' to search")
        for tier in filter(experiment.datasets.get, self.tiers):
            final = experiment.seeds.get(tier, self.tiers[tier].seeds)
            if shared := sorted({*final} & {*search.seeds}):
                raise ValueError(
                    f"{where}.search.seeds: {shared[0]} is a seed of the final runs of tier "
                    f"{tier}, which are to be fresh; take another one"
                )

    def _refuse_without_groups(self, where: str, arm: str, experiment: Experiment) -> None:
        for dataset in itertools.chain(*experiment.datasets.values()):
            if ARMS[arm].planted and not isinstance(self.data.datasets[dataset], Generated):
                raise ValueError(
                    f"{where}: arm '{arm}' needs planted groups, and '{dataset}' has none"
                )


def _refuse_backbones(where: str, arm: str, experiment: Experiment, tiers: Iterable[str]) -> None:
    """Refuse unknown backbones, and those that the arm does not take."""
    if not ARMS[arm].backbone:
        given = experiment.arms[arm] if isinstance(experiment.arms, dict) else ()
        if given:
            raise ValueError(
                f"{where}.arms.{arm}: the arm takes no backbone, but it is given "
                f"{', '.join(given)}; write `{arm}: []`"
            )
        return
    family = ARMS[arm].family
    for tier in tiers:
        for backbone in experiment.backbones_in(tier, arm):
            _known(f"{where}.backbones", backbone, BACKBONES)
            if BACKBONES[backbone].family != family:
                fitting = [name for name, b in BACKBONES.items() if b.family == family]
                raise ValueError(
                    f"{where}: arm '{arm}' does not take backbone '{backbone}', but one of "
                    f"{', '.join(fitting)}; give the others an experiment of their own"
                )


def _known(where: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(f"{where}: {unknown('name', name, sorted(known))}")


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises:
        UserError: names the file and the line or key, and the values that are allowed.
    """
    try:
        values = read_yaml(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the project's root") from None
    return validated(Params, values, path)


def validated(model: type[T], values: Any, where: object) -> T:
    """The model made of values.

    Raises:
        UserError: names `where`, and each key that is wrong, with what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = []
        for issue in error.errors():
            key = ".".join(str(part) for part in issue["loc"]) or "(top level)"
            message = issue["msg"].removeprefix("Value error, ")
            if issue["type"] == "extra_forbidden":
                message = f"unknown key; known here: {_known_keys(model, issue['loc'])}"
            elif issue["type"] != "missing" and "input" in issue and issue["loc"]:
                message += f" (found {issue['input']!r})"
            lines.append(f"  {key}: {message}")
        raise UserError(f"{where}: cannot be used:\n" + "\n".join(lines)) from None


def _known_keys(model: type[Settings], location: tuple[int | str, ...]) -> str:
    """Keys allowed beside an unknown one, read from the JSON schema."""
    schema = model.model_json_schema()
    node: dict[str, Any] = schema
    for part in location[:-1]:
        node = _resolve(schema, node)
        if "discriminator" in node:
            # of a discriminated union the location names the discriminator's value
            node = {"$ref": node["discriminator"]["mapping"][part]}
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        elif isinstance(part, int):
            node = node["items"]
        else:
            (node,) = node.get("patternProperties", {"": node.get("additionalProperties")}).values()
    return ", ".join(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def json_schema() -> str:
    """The JSON schema of params.yaml, for editors and the docs."""
    schema = Params.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"
