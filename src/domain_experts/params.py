"""params.yaml: validation, and the one expansion of experiments into runs."""

import fnmatch
import itertools
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from domain_experts.data import registry as raw_sources
from domain_experts.errors import UserError
from domain_experts.layout import PARAMS
from domain_experts.registry import (
    ARMS,
    BACKBONES,
    NO_BACKBONE,
    MultiProtocolName,
    ProtocolName,
)
from domain_experts.runs import Job, Run, reads
from domain_experts.settings import (
    AdapterSettings,
    GateSettings,
    ModelSettings,
    MultiModelSettings,
    MultiProtocol,
    NewDomainSettings,
    Positive,
    Protocol,
    RateSettings,
    RunSettings,
    Settings,
    StarSettings,
    TrainingSettings,
)

TierName = Literal["smoke", "quick", "paper"]
TIERS: tuple[TierName, ...] = get_args(TierName)
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
DatasetName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
EXPERTS_KEY = "adapter.experts_per_domain"
ALL = "all"
Variant = tuple[tuple[str, Any], ...]
T = TypeVar("T", bound=Settings)


class SplitRule(Settings):
    """How the rows of a data set become train, validation and test rows.

    `positional` cuts the named order of the rows: the first go to training, the next to
    validation, the last to the test. `positional_by_domain` does so in each domain. Both are the
    same for every seed. `stratified` draws each domain's and label's share anew for each seed.
    """

    rule: Literal["stratified", "positional", "positional_by_domain"]
    validation_fraction: Share
    test_fraction: Share

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction leave no training rows")
        return self


class OwnSplit(Settings):
    """A data set that may have a split rule of its own."""

    split: SplitRule | None = Field(
        default=None, description="null: stratified, with the fractions of `data`"
    )


class MovieLens(OwnSplit):
    """MovieLens ratings; the domain is an attribute of the user."""

    source: Literal["ml-100k", "ml-1m"]
    domain: Literal["gender", "age", "occupation", "age_group"] = Field(
        description="age_group: under 25, 25-34, 35+"
    )
    labels: Literal["rating_5", "click_like"] = Field(
        default="rating_5",
        description="one task: rating 5; or two: click (rating > 3) and like (rating > 4)",
    )
    features: Literal["ids", "profile"] = Field(
        default="ids",
        description="user, item and domain; or also gender, occupation, zip, first genre and age",
    )
    order: Literal["file", "timestamp", "two_sorts", "shuffled", "each_user"] = Field(
        default="file",
        description="order of the rows; two_sorts: as an old pandas merge leaves them; each_user: "
        "by the share of the user's history that lies before",
    )


class Generated(Settings):
    """What all generated data sets have: users, items and domains in planted groups.

    Domain d belongs to group d mod groups.
    """

    source: Literal["planted", "planted-tasks"]
    seed: Seed = Field(description="the data's own seed; runs differ by their split only")
    rows: Positive
    users: Positive
    items: Positive
    domains: Positive
    groups: Positive = Field(description="planted experts; domains of one group share one")
    latent_dim: Positive
    common: float = Field(ge=0, description="weight of the affinity that all domains share")
    strength: float = Field(ge=0, description="weight of the group's own affinity")
    sparsity: float = Field(ge=0, description="Zipf exponent of users and items; 0 = uniform")
    skew: float = Field(gt=0, le=1, description="rows of each domain over those of the one before")

    @model_validator(mode="after")
    def _groups_have_domains(self) -> Self:
        if self.groups > self.domains:
            raise ValueError(f"groups ({self.groups}) exceed domains ({self.domains})")
        return self


class Planted(Generated):
    """Generated clicks whose domains share planted experts.

    logit = bias_d + activity_u + popularity_i + common <p_u, q_i> + strength <w_g, q_i>
    """

    source: Literal["planted"]
    positive_rate: Rate


class PlantedTasks(Generated, OwnSplit):
    """Generated labels of several tasks that agree with each other or conflict, as domains do.

    logit_t = bias_dt + activity_u + popularity_i
              + common <p_u, q_i> + strength <w_g, q_i> + task_strength <v_t, q_i>
    """

    source: Literal["planted-tasks"]
    positive_rates: dict[str, Rate] = Field(
        min_length=1, description="task to its share of positive labels"
    )
    task_strength: float = Field(ge=0, description="weight of the task's own affinity")
    agreement: float = Field(
        ge=-1,
        le=1,
        description="cosine between any two tasks' directions v_t: 1 the same, 0 unrelated, "
        "-1 opposed",
    )

    @model_validator(mode="after")
    def _directions_exist(self) -> Self:
        tasks = len(self.positive_rates)
        if tasks > self.latent_dim:
            raise ValueError(f"{tasks} tasks need a latent_dim of {tasks} or more")
        if tasks > 1 and self.agreement * (tasks - 1) < -1:
            raise ValueError(f"the agreement of {tasks} tasks is at least {-1 / (tasks - 1):.3f}")
        return self


class Epinions(Settings):
    """Epinions ratings of the largest item categories, which are the domains."""

    source: Literal["epinions"]
    domains: Positive = Field(description="how many categories, by rows, are kept")
    core: Positive = Field(description="least rows of a user and of an item, over all categories")
    label_at_least: int = Field(ge=1, le=5, description="lowest rating whose label is 1")


class Taobao(Settings):
    """Clicks in the first themes of Taobao's log; the negatives are sampled."""

    source: Literal["taobao"]
    themes: Positive


class Amazon(Settings):
    """Amazon reviews, each a positive; the domain is the category, the negatives are sampled."""

    source: Literal["amazon-3", "amazon-6", "amazon-13"]


class Mamdr(Settings):
    """Rows, negatives and split as the authors of MAMDR prepared them."""

    source: Literal[
        "mamdr-taobao-10",
        "mamdr-taobao-20",
        "mamdr-taobao-30",
        "mamdr-amazon-6",
        "mamdr-amazon-13",
    ]


class KuaiRand(OwnSplit):
    """KuaiRand-Pure: impressions in tabs 0, 1 and 4, which are the domains; click and long view."""

    source: Literal["kuairand-pure"]
    order: Literal["timestamp", "shuffled"] = Field(description="order of the rows")


Dataset = Annotated[
    MovieLens | Epinions | Taobao | Amazon | Mamdr | KuaiRand | Planted | PlantedTasks,
    Field(discriminator="source"),
]


class Data(Settings):
    """Data sets, and where local copies of raw files lie."""

    local: str | None = Field(
        description="folder with raw data by source (ml-100k/, ml-1m/), used when no download "
        "answers; the environment variable DOMAIN_EXPERTS_DATA_LOCAL overrides it"
    )
    not_at_hand: tuple[str, ...] = Field(
        description="sources that nobody has placed yet: their data sets are left out, and the "
        "tables say so"
    )
    test_fraction: Share
    validation_fraction: Share
    datasets: dict[DatasetName, Dataset]

    def split_rule(self, dataset: str) -> SplitRule:
        """The data set's own split rule, or the one of all others."""
        spec = self.datasets[dataset]
        if isinstance(spec, OwnSplit) and spec.split:
            return spec.split
        return SplitRule(
            rule="stratified",
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
    seeds: dict[TierName, tuple[Seed, ...]] = Field(
        default={}, description="seeds instead of the tier's own"
    )

    def backbones_in(self, tier: TierName, arm: str) -> tuple[str, ...]:
        """The backbones of an arm in a tier."""
        if not ARMS[arm].backbone:
            return (NO_BACKBONE,)
        if isinstance(self.arms, dict):
            return self.arms[arm]
        return self.backbones.get(tier, ()) if isinstance(self.backbones, dict) else self.backbones

    @model_validator(mode="after")
    def _backbones_are_said_once(self) -> Self:
        if isinstance(self.arms, dict) == bool(self.backbones):
            raise ValueError(
                "give `backbones` for all arms, or each arm its own (`arms: {mdmt: [m3oe]}`)"
            )
        return self


class Tier(Settings):
    """How much is run."""

    seeds: tuple[Seed, ...] = Field(min_length=1)
    set: dict[str, Any] = Field(default={}, description="dotted settings replaced in this tier")


class Params(Settings):
    """The whole of params.yaml."""

    tier: TierName = Field(description="tier of a bare `snakemake`; --config tier=... overrides")
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto: a GPU if there is one")
    data: Data
    model: ModelSettings
    adapter: AdapterSettings
    gate: GateSettings
    star: StarSettings
    training: TrainingSettings
    rates: RateSettings
    new_domain: NewDomainSettings
    protocols: dict[ProtocolName, Protocol]
    multi_model: MultiModelSettings
    multi_protocols: dict[MultiProtocolName, MultiProtocol]
    configurations: dict[str, dict[str, dict[str, Any]]] = Field(
        description="pattern of data set names -> backbone, or all -> dotted settings of its own; "
        "a tier's `set` and an experiment's variants go before them"
    )
    experiments: dict[str, Experiment]
    tiers: dict[TierName, Tier]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for key, names, found in (
            ("protocols", get_args(ProtocolName), self.protocols),
            ("multi_protocols", get_args(MultiProtocolName), self.multi_protocols),
            ("tiers", TIERS, self.tiers),
        ):
            for name in names:
                _known(key, name, found)
        for source in self.data.not_at_hand:
            _known("data.not_at_hand", source, raw_sources.SOURCES)
        for name, experiment in self.experiments.items():
            where = f"experiments.{name}"
            for dataset in itertools.chain(*experiment.datasets.values()):
                _known(f"{where}.datasets", dataset, self.data.datasets)
            for arm in experiment.arms:
                _known(f"{where}.arms", arm, ARMS)
                self._refuse_without_groups(where, arm, experiment)
                _refuse_backbones(where, arm, experiment)
        for pattern, entries in self.configurations.items():
            if not fnmatch.filter(self.data.datasets, pattern):
                raise ValueError(f"configurations: '{pattern}' fits no data set")
            for backbone in entries:
                _known(f"configurations.{pattern}", backbone, (*BACKBONES, ALL))
        if self.data.test_fraction + self.data.validation_fraction >= 1:
            raise ValueError("data: test_fraction + validation_fraction leave no training rows")
        return self

    def _refuse_without_groups(self, where: str, arm: str, experiment: Experiment) -> None:
        for dataset in itertools.chain(*experiment.datasets.values()):
            if ARMS[arm].planted and not isinstance(self.data.datasets[dataset], Generated):
                raise ValueError(
                    f"{where}: arm '{arm}' needs planted groups, and '{dataset}' has none"
                )


def _refuse_backbones(where: str, arm: str, experiment: Experiment) -> None:
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
    for tier in TIERS:
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
        raise ValueError(f"{where}: unknown name '{name}'; known are {', '.join(sorted(known))}")


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises:
        UserError: names the file and the line or key, and the values that are allowed.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the project's root") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    return _validated(Params, values, path)


def _validated(model: type[T], values: Any, where: object) -> T:
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


class Study:
    """The runs of one tier: every experiment expanded, with the runs that those start from."""

    def __init__(
        self,
        params: Params,
        tier: str,
        leave_out: frozenset[str] = frozenset(),
        partial: bool = False,
    ) -> None:
        if tier not in TIERS:
            raise UserError(f"tier '{tier}' is unknown; known are {', '.join(TIERS)}")
        self.params = params
        self.tier = next(name for name in TIERS if name == tier)
        self.leave_out = leave_out | {
            name
            for name, dataset in params.data.datasets.items()
            if dataset.source in params.data.not_at_hand
        }
        """Data sets whose raw files are missing: their runs are expected, but not made."""
        self.partial = partial
        """Tables and figures show the runs that are finished, and say what is not."""

    @cached_property
    def expected(self) -> dict[str, tuple[Run, ...]]:
        """Experiment -> its runs, data sets that are left out included.

        Raises:
            UserError: an experiment varies what is no setting, or what none of its arms reads.
        """
        return {
            name: tuple(dict.fromkeys(self._expand(name, experiment)))
            for name, experiment in self.params.experiments.items()
        }

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every run to make, upstream runs first, each once."""
        found: dict[Run, None] = {}

        def add(run: Run) -> None:
            for upstream in self.upstream(run):
                add(upstream)
            found[run] = None

        for run in itertools.chain(*self.expected.values()):
            if run.dataset not in self.leave_out:
                add(run)
        return tuple(found)

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Data sets of the tier, in order of appearance, less those left out."""
        return tuple(d for d in self.all_datasets if d not in self.leave_out)

    @cached_property
    def all_datasets(self) -> tuple[str, ...]:
        """Data sets of the tier, those left out included."""
        return tuple(dict.fromkeys(run.dataset for runs in self.expected.values() for run in runs))

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Raw sources that the tier's data sets are read from."""
        found = (self.params.data.datasets[name].source for name in self.datasets)
        return tuple(dict.fromkeys(source for source in found if source in raw_sources.SOURCES))

    def jobs(self, phase: str | None = None) -> tuple[Job, ...]:
        """The training jobs, of one phase or of all."""
        jobs = dict.fromkeys(run.job for run in self.runs)
        return tuple(job for job in jobs if phase in (None, job.phase))

    def runs_of(self, job: Job) -> tuple[Run, ...]:
        """The runs of one job.

        Raises:
            UserError: params.yaml asks for no such job in this tier.
        """
        runs = tuple(run for run in self.runs if run.job == job)
        if not runs:
            raise UserError(
                f"tier '{self.tier}' has no job {job.path}; see `domain-experts runs` for those it "
                "has, and `experiments` in params.yaml"
            )
        return runs

    def upstream(self, run: Run) -> tuple[Run, ...]:
        """The runs whose weights `run` starts from."""
        found = []
        for arm in run.spec.needs:
            found.append(self._run(run.dataset, run.backbone, arm, run.variant, run.seed))
        return tuple(found)

    def seeds(self, dataset: str) -> tuple[int, ...]:
        """Seeds of the splits of a data set."""
        return tuple(sorted({run.split_seed for run in self.runs if run.dataset == dataset}))

    def settings(
        self, arm: str, variant: Variant = (), dataset: str = "", backbone: str = NO_BACKBONE
    ) -> RunSettings:
        """The resolved settings of an arm.

        params.yaml's own come first, then the data set's configuration of the backbone, the tier's
        `set`, and the variant.

        Raises:
            UserError: a dotted key names no setting, its value is out of range, or the experts are
                to go into a layer that the tower lacks, or into none.
        """
        params = self.params
        values: dict[str, Any] = {
            "model": params.model.model_dump(),
            "adapter": params.adapter.model_dump(),
            "gate": params.gate.model_dump(),
            "star": params.star.model_dump(),
            "training": params.training.model_dump(),
            "rates": params.rates.model_dump(),
            "new_domain": params.new_domain.model_dump(),
            "protocol": params.protocols[ARMS[arm].protocol].model_dump(),
            "multi_model": params.multi_model.model_dump(),
            "multi_protocol": params.multi_protocols[ARMS[arm].multi_protocol].model_dump(),
        }
        where = f"params.yaml (configurations, tiers.{self.tier}.set, or variants)"
        own = self._configured(dataset, backbone)
        for key, value in (*own, *params.tiers[self.tier].set.items(), *variant):
            *parents, last = key.split(".")
            node: Any = values
            for parent in parents:
                node = node.get(parent) if isinstance(node, dict) else None
            if not isinstance(node, dict) or last not in node:
                raise UserError(f"{where}: '{key}' is not a setting")
            node[last] = value
        settings = _validated(RunSettings, values, where)
        _refuse_unknown_layers(settings, where)
        return settings

    def _configured(self, dataset: str, backbone: str) -> Iterator[tuple[str, Any]]:
        """What `configurations` says of a data set and backbone, the general first."""
        for name in (ALL, backbone):
            for pattern, entries in self.params.configurations.items():
                if fnmatch.fnmatchcase(dataset, pattern):
                    yield from entries.get(name, {}).items()

    def _expand(self, name: str, experiment: Experiment) -> Iterator[Run]:
        seeds = experiment.seeds.get(self.tier, self.params.tiers[self.tier].seeds)
        for dataset, arm in itertools.product(
            experiment.datasets.get(self.tier, ()), experiment.arms
        ):
            for variant in (*_grid(experiment), *(self._flips(arm) if experiment.flip else ())):
                for backbone in experiment.backbones_in(self.tier, arm):
                    for seed in seeds:
                        yield self._run(dataset, backbone, arm, variant, seed)
        # last, so that a key that is no setting at all is told as such
        _refuse_unread(name, experiment)

    def _flips(self, arm: str) -> Iterator[Variant]:
        """Each switch that matters to the arm, with the value that its counterpart has."""
        own, counterpart = ARMS[arm].protocol, ARMS[arm].counterpart
        if counterpart is None:
            raise UserError(f"params.yaml: arm '{arm}' has no counterpart whose switches to flip")
        there = self.params.protocols[counterpart].model_dump()
        for switch, value in self.params.protocols[own].model_dump().items():
            if there[switch] != value and _is_read(f"protocol.{switch}", ARMS[arm].reads):
                yield ((f"protocol.{switch}", there[switch]),)

    def _run(self, dataset: str, backbone: str, arm: str, variant: Variant, seed: int) -> Run:
        def resolved(changed: Variant) -> RunSettings:
            return self.settings(arm, changed, dataset, backbone)

        defaults, values = resolved(()).model_dump(), resolved(variant).model_dump()
        changed = tuple(
            (key, _at(values, key))
            for key, _ in variant
            if _at(values, key) != _at(defaults, key) and _is_read(key, reads(arm, backbone))
        )
        if arm == "experts":
            # trained once, for the largest number that any experiment asks for
            changed = tuple((key, value) for key, value in changed if key != EXPERTS_KEY)
        settings = resolved(changed)
        if arm == "experts":
            most = self._most_experts_per_domain(dataset, backbone)
            settings = settings.model_copy(
                update={"adapter": settings.adapter.model_copy(update={"experts_per_domain": most})}
            )
        return Run(dataset, backbone, arm, changed, seed, settings)

    def _most_experts_per_domain(self, dataset: str, backbone: str) -> int:
        asked = [
            value
            for experiment in self.params.experiments.values()
            if dataset in experiment.datasets.get(self.tier, ())
            and any(backbone in experiment.backbones_in(self.tier, arm) for arm in experiment.arms)
            for variant in _grid(experiment)
            for key, value in variant
            if key == EXPERTS_KEY
        ]
        configured = self.settings("experts", (), dataset, backbone)
        default: int = configured.adapter.experts_per_domain
        return int(max([default, *asked]))


def load_study(
    tier: str | None = None,
    skip_missing: bool = False,
    path: Path = PARAMS,
    partial: bool = False,
) -> Study:
    """The study of a tier (default: the one named in params.yaml), less data that is not there.

    Raises:
        UserError: params.yaml cannot be used; or, without `skip_missing` or `partial`, data sets
            that must be placed by hand are missing (the message says which, and where they go); or
            a source is at hand that `data.not_at_hand` names.
    """
    skip_missing = skip_missing or partial
    params = load(path)
    study = Study(params, tier or params.tier)
    asked = {params.data.datasets[name].source for name in study.all_datasets}
    for source in params.data.not_at_hand:
        if source in asked and raw_sources.at_hand(source, params.data.local):
            raise UserError(
                f"{path}: data.not_at_hand names {source}, but its files are there; take it out of "
                "that list, or its data sets are left out"
            )
    absent = {
        source
        for source in study.sources
        if not raw_sources.at_hand(source, params.data.local)
        and (skip_missing or raw_sources.SOURCES[source].by_hand)
    }
    if absent and not skip_missing:
        places = "\n".join(
            f"  {raw_sources.SOURCES[source].placement}" for source in sorted(absent)
        )
        raise UserError(
            f"data sets of tier '{study.tier}' are missing and cannot be downloaded:\n{places}\n"
            "Place them; or name them in data.not_at_hand (params.yaml), or leave them out "
            "(snakemake --config skip_missing=true, domain-experts ... --skip-missing): the tables "
            "then say that they are not there."
        )
    left_out = {d for d in study.datasets if params.data.datasets[d].source in absent}
    return Study(params, study.tier, frozenset(left_out), partial)


def _grid(experiment: Experiment) -> Iterator[Variant]:
    """Variants of an experiment, the default first if nothing varies in all of them."""
    yield from itertools.product(*([(k, v) for v in vs] for k, vs in experiment.vary.items()))
    for variant in experiment.variants:
        yield tuple(variant.items())


def _refuse_unknown_layers(settings: RunSettings, where: str) -> None:
    layers, depth = settings.adapter.layers, len(settings.model.hidden)
    if layers is not None and not (layers and max(layers) < depth):
        raise UserError(
            f"{where}: adapter.layers {list(layers)}: the tower's layers are 0 to {depth - 1} "
            "(model.hidden); name one or more of them, or null for all"
        )


def _refuse_unread(name: str, experiment: Experiment) -> None:
    """Refuse a key that varies nothing: its variants would be the default once more."""
    read = {
        key
        for tier in TIERS
        for arm in experiment.arms
        for backbone in experiment.backbones_in(tier, arm)
        for key in reads(arm, backbone)
    }
    for key in itertools.chain(experiment.vary, *experiment.variants):
        if not _is_read(key, read):
            raise UserError(
                f"params.yaml: experiments.{name}: none of its arms and backbones reads '{key}'; "
                "take the key out, or name an arm or backbone that reads it"
            )


def _is_read(key: str, keys: Iterable[str]) -> bool:
    """Whether a setting is one of those read: a variant of another one would be the same run."""
    return any(key == read or key.startswith(f"{read}.") for read in keys)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
