"""The runs of a tier: every experiment of params.yaml expanded, with what each run starts from."""

import fnmatch
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from domain_experts import layout
from domain_experts.data.registry import SOURCES
from domain_experts.errors import UserError
from domain_experts.files import read_json
from domain_experts.params import ALL, Experiment, Params, validated
from domain_experts.registry import ARMS, BEST_FLOOR, NO_BACKBONE, TRAINED_ONCE
from domain_experts.runs import (
    DEFAULT_VARIANT,
    SEARCH,
    SEARCHED_FOR,
    Job,
    Run,
    Search,
    Variant,
    reads,
    variant_name,
)
from domain_experts.search_space import Choices, Range, SearchSettings
from domain_experts.settings import Protocol, RunSettings
from domain_experts.suggest import unknown

_AGAIN = "delete it and run snakemake, which makes it again"


class Study:
    """The runs of one tier: every experiment expanded, with the runs that those start from."""

    def __init__(
        self,
        params: Params,
        tier: str,
        absent: frozenset[str] = frozenset(),
    ) -> None:
        if tier not in params.tiers:
            raise UserError(unknown("tier", tier, params.tiers))
        self.params = params
        self.tier = tier
        self.absent = absent
        """Data sets to do without: their runs are expected, but not made."""
        self._chosen: dict[Search, Variant | None] = {}
        self._settings: dict[tuple[str, ...], RunSettings] = {}
        self._alike: dict[tuple[str, str], RunSettings] = {}
        self._made: dict[tuple[str, ...], Run] = {}

    @cached_property
    def expected(self) -> dict[str, tuple[Run, ...]]:
        """Experiment -> its runs, absent data sets included.

        Raises:
            UserError: an experiment varies what is no setting, or what none of its arms reads, or
                labels a variant that it does not have.
        """
        found = {}
        for name, experiment in self.params.experiments.items():
            found[name] = tuple(dict.fromkeys(self._expand(name, experiment)))
            # last, so that a key that is no setting at all is told as such
            _refuse_unread(name, experiment, self.params.tiers)
            _refuse_nothing_to_search(name, experiment, self.params.tiers)
            self._refuse_space(name)
            self._refuse_labels(name, experiment)
        return found

    @cached_property
    def expected_runs(self) -> tuple[Run, ...]:
        """Every expected run and what it starts from, upstream runs first, each once."""
        return self.in_order(itertools.chain(*self.expected.values()))

    def in_order(self, runs: Iterable[Run]) -> tuple[Run, ...]:
        """Runs and what they start from, upstream runs first, each once."""
        found: dict[Run, None] = {}

        def add(run: Run) -> None:
            if run in found:
                return
            for upstream in self.upstream(run):
                add(upstream)
            found[run] = None

        for run in runs:
            add(run)
        return tuple(found)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every run to make, upstream runs first, each once."""
        return tuple(run for run in self.expected_runs if run.dataset not in self.absent)

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Data sets of the tier, in order of appearance, less the absent."""
        return tuple(d for d in self.all_datasets if d not in self.absent)

    @cached_property
    def all_datasets(self) -> tuple[str, ...]:
        """Data sets of the tier, the absent included."""
        return tuple(dict.fromkeys(run.dataset for runs in self.expected.values() for run in runs))

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Raw sources that the tier's data sets are read from."""
        found = (self.params.data.datasets[name].source for name in self.datasets)
        return tuple(dict.fromkeys(source for source in found if source in SOURCES))

    def jobs(self, phase: str | None = None) -> tuple[Job, ...]:
        """The training jobs, of one phase or of all."""
        return tuple(job for job in self._by_job if phase in (None, job.phase))

    def processes(self, arm: str) -> int:
        """How many processes are to train a run of an arm together.

        An arm with statistics of a whole batch (`Arm.together`, the family `multi`), and one
        without a training loop, is trained in one.
        """
        own = ARMS[arm]
        able = own.together and own.family == "ctr" and "training" in own.reads
        return self.params.processes if able else 1

    def runs_of(self, job: Job) -> tuple[Run, ...]:
        """The runs of one job.

        Raises:
            UserError: params.yaml asks for no such job in this tier.
        """
        runs = self._by_job.get(job, ())
        if not runs:
            raise UserError(
                unknown(
                    f"job of tier {self.tier}",
                    job.path.as_posix(),
                    [known.path.as_posix() for known in self.jobs()],
                    "see `domain-experts runs` for those it has, and `experiments` in params.yaml",
                )
            )
        return runs

    def upstream(self, run: Run) -> tuple[Run, ...]:
        """The runs whose weights `run` starts from."""
        variant = run.variant
        if run.search:
            variant = ((SEARCH, run.search.experiment), (SEARCHED_FOR, run.search.arm))
        return tuple(
            self._run(run.dataset, run.backbone, arm, variant, run.seed) for arm in run.spec.needs
        )

    @cached_property
    def searches(self) -> tuple[Search, ...]:
        """The searches of the tier, data sets to do without excepted."""
        found = (run.search for run in self.runs if run.search)
        return tuple(dict.fromkeys(found))

    def declared(self, search: Search) -> SearchSettings:
        """What its experiment says of a search."""
        declared = self.params.experiments[search.experiment].search
        assert declared is not None
        return declared

    def space(self, search: Search) -> dict[str, Range | Choices]:
        """Dotted setting -> the values that a search tries."""
        space = self.declared(search).space
        if self.first(search):
            return space[search.arm]
        every = {
            key: values
            for key, values in space.get(ALL, {}).items()
            if _matters(key, search.arm, search.backbone)
        }
        return every | space.get(search.arm, {})

    def first(self, search: Search) -> Search | None:
        """The search that a search starts from."""
        arm = self.declared(search).starts_from.get(search.arm)
        if arm is None:
            return None
        return replace(
            search, arm=arm, backbone=search.backbone if ARMS[arm].backbone else NO_BACKBONE
        )

    def default(self, search: Search, key: str) -> Any:
        """What a setting of a search's space is by default."""
        owner, _, setting = key.rpartition("/")
        settings = self.settings(owner or search.arm, (), search.dataset, search.backbone)
        # lists as params.yaml has them, not tuples
        return _at(settings.model_dump(mode="json"), setting)

    def asked(self, search: Search) -> dict[str, Any]:
        """All that a search's outcome depends on, but data and code."""
        declared = self.declared(search)
        runs = self.trying(search, ()).in_order(
            self.trying(search, ()).tuned(search, seed) for seed in declared.seeds
        )
        return {
            "metric": self.params.experiments[search.experiment].metric,
            "trials": declared.trials[self.tier],
            "passes": declared.passes[self.tier],
            "space": {
                key: values.model_dump() if isinstance(values, Range) else values
                for key, values in self.space(search).items()
            },
            **declared.model_dump(include={"sampler", "prune", "seeds"}),
            "first": self.asked(first) if (first := self.first(search)) else None,
            "default": [run.payload() for run in runs],
        }

    def chosen(self, search: Search) -> Variant | None:
        """The settings that a search chose; None if it has not ended.

        Raises:
            UserError: its file is damaged.
        """
        if search not in self._chosen:
            path, found = layout.search_file(self.tier, search), None
            if path.is_file():
                found = tuple(read_json(path, _AGAIN)["chosen"].items())
            self._chosen[search] = found
        return self._chosen[search]

    def trying(self, search: Search, settings: Variant) -> "Study":
        """The same study, were these the settings that the search chose."""
        other = Study(self.params, self.tier, self.absent)
        other._chosen = {search: settings}
        other._settings, other._alike = self._settings, self._alike
        return other

    def require_chosen(self, job: Job) -> None:
        """Refuse to train runs whose settings are yet to be found.

        Raises:
            UserError: a search has not ended, or was another one.
        """
        for run in self.runs_of(job):
            if run.search:
                self.require_found(run.search)

    def require_found(self, search: Search) -> None:
        """Refuse to go on from a search that has not ended, or was asked something else.

        Raises:
            UserError: it says which, and how to make it.
        """
        path, why = layout.search_file(self.tier, search), "is missing"
        if path.is_file():
            found = read_json(path, _AGAIN).get("asked")
            if found == json.loads(json.dumps(self.asked(search))):
                return
            why = "is of another search than params.yaml asks for now"
        raise UserError(
            f"{path} {why}: run `snakemake --config tier={self.tier} -- {path}`, the search that "
            f"chooses settings of {search.arm} on {search.dataset}"
        )

    def declared_of(self, run: Run) -> dict[str, Any]:
        """What a run's numbers depend on, as declared: of what is searched, the search."""
        return self.asked(run.search) if run.search else run.payload()

    def tuned(self, search: Search, seed: int) -> Run:
        """The run of the settings that a search chose."""
        variant = ((SEARCH, search.experiment),)
        return self._run(search.dataset, search.backbone, search.arm, variant, seed)

    def comparisons(self, experiment: str) -> Iterator[tuple[Run, Run, str]]:
        """An experiment's runs, each with what it is compared with, and that reference's name.

        Both have one seed and one split, and so the same test rows. The reference may be a run of
        another experiment. An arm without a backbone is compared across the only backbone there is.
        What is no floor is compared with every floor on its data; which of them is the best only
        their results can tell.
        """
        for reference in self.params.experiments[experiment].references:
            for run in self.expected[experiment]:
                for other in self._referred(run, reference):
                    if other != run and other.split_seed == run.split_seed:
                        yield run, other, reference

    def _referred(self, run: Run, reference: str) -> Iterator[Run]:
        """Runs of a run's data and seed that a reference means, whatever their split."""
        if reference == BEST_FLOOR:
            named = [
                (name, NO_BACKBONE) for name in ARMS if ARMS[name].floor and not run.spec.floor
            ]
        else:
            arm, _, backbone = reference.partition("/")
            of = run.arm if arm == DEFAULT_VARIANT else arm
            there = [backbone] if backbone else [*self._backbones.get((run.dataset, of), ())]
            if not backbone and (run.backbone in there or len(there) != 1):
                there = [run.backbone]
            named = [(of, there[0])]
        # what was searched is compared with what was searched, and with floors that were not
        own = tuple(part for part in run.variant if part[0] == SEARCH)
        variants = [() if reference == DEFAULT_VARIANT else own, *[()] * (reference == BEST_FLOOR)]
        for arm, backbone in named:
            keys = [(run.dataset, backbone, arm, variant, run.seed) for variant in variants]
            known = [self._by_settings[key] for key in keys if key in self._by_settings]
            yield from known[:1]

    def refuse_incomparable(self) -> None:
        """Refuse a reference that no run can be compared with, or only in some seeds.

        One that the tier does not run at all is left out of tables.

        Raises:
            UserError: all runs of a reference that `compare` names are on other test rows, or of an
                arm that is compared some seeds have a reference and others not.
        """
        for name, runs in self.expected.items():
            for reference in self.params.experiments[name].compare:
                if runs and reference != BEST_FLOOR:
                    self._refuse_reference(
                        f"params.yaml: experiments.{name}.compare", name, reference
                    )

    def _refuse_reference(self, where: str, name: str, reference: str) -> None:
        found = [(run, [*self._referred(run, reference)]) for run in self.expected[name]]
        others = [(run, other) for run, known in found for other in known]
        if others and all(a != b and a.split_seed != b.split_seed for a, b in others):
            run, other = others[0]
            raise UserError(
                f"{where}: '{reference}' is tested on other rows than every run of the experiment "
                f"(its split has seed {other.split_seed}, that of {run.path} {run.split_seed}); "
                "compare with an arm of the same protocol"
            )
        seeds: dict[Path, dict[int, bool]] = {}
        for run, known in found:
            seeds.setdefault(run.path.parent, {})[run.seed] = bool(known)
        for path, there in seeds.items():
            lacking = [str(seed) for seed, known in there.items() if not known]
            if lacking and any(there.values()):
                raise UserError(
                    f"{where}: '{reference}' has no run with seed {', '.join(lacking)} that {path} "
                    f"could be compared with; give both the same seeds (`seeds.{self.tier}`)"
                )

    @cached_property
    def _backbones(self) -> dict[tuple[str, str], dict[str, None]]:
        """Backbones of every expected data set and arm."""
        found: dict[tuple[str, str], dict[str, None]] = {}
        for run in self.expected_runs:
            found.setdefault((run.dataset, run.arm), {})[run.backbone] = None
        return found

    @cached_property
    def _by_job(self) -> dict[Job, tuple[Run, ...]]:
        """Every run to make by its job."""
        found: dict[Job, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.job, []).append(run)
        return {job: tuple(runs) for job, runs in found.items()}

    @cached_property
    def _by_settings(self) -> dict[tuple[str, str, str, Variant, int], Run]:
        """Every expected run by data set, backbone, arm, variant and seed."""
        return {
            (run.dataset, run.backbone, run.arm, run.variant, run.seed): run
            for run in self.expected_runs
        }

    def seeds(self, dataset: str) -> tuple[int, ...]:
        """Seeds of the splits of a data set."""
        found = {run.split_seed for run in self.runs if run.dataset == dataset}
        for search in self.searches:
            if search.dataset == dataset:
                seeds = self.declared(search).seeds
                found |= {self.tuned(search, seed).split_seed for seed in seeds}
        return tuple(sorted(found))

    def settings(
        self, arm: str, variant: Variant = (), dataset: str = "", backbone: str = NO_BACKBONE
    ) -> RunSettings:
        """The resolved settings of an arm.

        params.yaml's own come first, then the data set's configuration of the arm's family, of the
        backbone and of the arm, the tier's `set`, and the variant; of other arms' settings (`arm/
        key`) nothing is taken.

        Raises:
            UserError: a dotted key names no setting, its value is out of range, or the experts are
                to go into a layer that the tower lacks, or into none.
        """
        # as text, in which 1, 1.0 and True differ
        key = (arm, repr(variant), dataset, backbone)
        if key not in self._settings:
            self._settings[key] = self._resolved(arm, variant, dataset, backbone)
        return self._settings[key]

    def _resolved(self, arm: str, variant: Variant, dataset: str, backbone: str) -> RunSettings:
        where = f"params.yaml (configurations, tiers.{self.tier}.set, or variants)"
        own = self._configured(dataset, arm, backbone)
        # what is of one arm goes before what is of all, in whatever order they stand
        changed = sorted(variant, key=lambda part: "/" in part[0])
        changes = []
        for key, value in (*own, *self.params.tiers[self.tier].set.items(), *changed):
            owner, _, setting = key.rpartition("/")
            if owner not in ("", *ARMS):
                raise UserError(f"{where}: '{key}': {unknown('arm', owner, ARMS)}")
            if owner in ("", arm):
                changes.append((key, setting, value))
        # most data sets and backbones change nothing; as text, in which 1, 1.0 and True differ
        alike = (ARMS[arm].protocol, repr(changes))
        if alike not in self._alike:
            protocol = self.params.protocols[ARMS[arm].protocol]
            self._alike[alike] = self._changed(protocol, changes, where)
        settings = self._alike[alike]
        _refuse_balance(settings, arm, where)
        return settings

    def _changed(
        self, protocol: Protocol, changes: Iterable[tuple[str, str, Any]], where: str
    ) -> RunSettings:
        """The settings of params.yaml with changes (as written, setting, value), in turn."""
        parts = {
            name: getattr(self.params, name)
            for name in RunSettings.model_fields.keys() - {"protocol"}
        }
        values: dict[str, Any] = {
            n: own.model_dump() for n, own in (*parts.items(), ("protocol", protocol))
        }
        for key, setting, value in changes:
            *parents, last = setting.split(".")
            node: Any = values
            for parent in parents:
                node = node.get(parent) if isinstance(node, dict) else None
            if not isinstance(node, dict) or last not in node:
                raise UserError(f"{where}: '{key}' is not a setting")
            node[last] = value
        settings = validated(RunSettings, values, where)
        _refuse_unknown_layers(settings, where)
        return settings

    def _configured(self, dataset: str, arm: str, backbone: str) -> Iterator[tuple[str, Any]]:
        """What `configurations` says of a data set, arm and backbone, the general first."""
        for name in (ALL, ARMS[arm].family, backbone, arm):
            for pattern, entries in self.params.configurations.items():
                if fnmatch.fnmatchcase(dataset, pattern):
                    yield from entries.get(name, {}).items()

    def _expand(self, name: str, experiment: Experiment) -> Iterator[Run]:
        seeds = experiment.seeds.get(self.tier, self.params.tiers[self.tier].seeds)
        for dataset, arm in itertools.product(
            experiment.datasets.get(self.tier, ()), experiment.arms
        ):
            variants = [*_grid(experiment), *(self._flips(arm) if experiment.flip else ())]
            if experiment.search:
                variants.append(((SEARCH, name),))
            for variant in variants:
                for backbone in experiment.backbones_in(self.tier, arm):
                    for seed in seeds:
                        yield self._run(dataset, backbone, arm, variant, seed)

    def _refuse_labels(self, name: str, experiment: Experiment) -> None:
        """Refuse labels of variants that the experiment has in no tier."""
        if not experiment.labels:
            return
        runs = itertools.chain(*(study._expand(name, experiment) for study in self._in_all_tiers))
        known = dict.fromkeys(variant_name(run.variant) for run in runs)
        for label in experiment.labels:
            if label not in known:
                said = unknown("variant", label, known)
                raise UserError(f"params.yaml: experiments.{name}.labels: {said}")

    @cached_property
    def _in_all_tiers(self) -> tuple["Study", ...]:
        return tuple(Study(self.params, tier) for tier in self.params.tiers)

    def _refuse_space(self, name: str) -> None:
        """Refuse values of a search's space that no run could be handed."""
        for search in dict.fromkeys(run.search for run in self._searched(name)):
            if search is None:
                continue
            for key, values in self.space(search).items():
                ends = (values.low, values.high) if isinstance(values, Range) else values
                owner, _, setting = key.rpartition("/")
                for value in ends:
                    try:
                        of = owner or search.arm
                        self.settings(of, ((setting, value),), search.dataset, search.backbone)
                    except UserError as error:
                        raise UserError(
                            f"params.yaml: experiments.{name}.search.space: {key}: {error}"
                        ) from None
                whole = isinstance(self.default(search, key), int)
                if whole and not all(isinstance(value, int) for value in ends):
                    raise UserError(
                        f"params.yaml: experiments.{name}.search.space: {key} takes whole numbers: "
                        "give whole bounds"
                    )

    def _searched(self, name: str) -> Iterator[Run]:
        return (run for run in self._expand(name, self.params.experiments[name]) if run.search)

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
        """The run, each made once: runs are asked for again as what others start from."""
        key = (dataset, backbone, arm, repr(variant), str(seed))
        if key not in self._made:
            self._made[key] = self._new_run(dataset, backbone, arm, variant, seed)
        return self._made[key]

    def _new_run(self, dataset: str, backbone: str, arm: str, variant: Variant, seed: int) -> Run:
        def resolved(changed: Variant, of: str = arm) -> RunSettings:
            return self.settings(of, changed, dataset, backbone)

        run = Run(dataset, backbone, arm, variant, seed, resolved(()))
        if run.search:
            return replace(run, settings=resolved(self.chosen(run.search) or ()))
        owners = dict.fromkeys(key.rpartition("/")[0] or arm for key, _ in variant)
        defaults, values = (
            {of: resolved(changed, of).model_dump() for of in owners} for changed in ((), variant)
        )
        found = []
        for key, _ in variant:
            owner, _, setting = key.rpartition("/")
            value = _at(values[owner or arm], setting)
            if value != _at(defaults[owner or arm], setting) and _matters(key, arm, backbone):
                found.append((key, value))
        changed: Variant = tuple(found)
        more: Variant = ()
        if once := TRAINED_ONCE.get(arm):
            changed = tuple((key, value) for key, value in changed if key != once)
            default = _at(run.settings.model_dump(), once)
            more = ((once, self._most(once, dataset, backbone, default)),)
        return replace(run, variant=changed, settings=resolved((*changed, *more)))

    def _most(self, setting: str, dataset: str, backbone: str, default: int) -> int:
        """The largest value of a setting that an experiment with the data and backbone asks for."""
        asked = (
            value
            for experiment in self.params.experiments.values()
            if dataset in experiment.datasets.get(self.tier, ())
            and any(backbone in experiment.backbones_in(self.tier, arm) for arm in experiment.arms)
            for variant in _grid(experiment)
            for key, value in variant
            if key == setting
        )
        return max([default, *map(int, asked)])


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


def _refuse_balance(settings: RunSettings, arm: str, where: str) -> None:
    own, balance = ARMS[arm], settings.training.balance
    if balance != "none" and not own.balances and _is_read("training.balance", own.reads):
        able = ", ".join(name for name, other in ARMS.items() if other.balances)
        raise UserError(
            f"{where}: training.balance is {balance}, but arm '{arm}' does not train all tasks in "
            f"one leg; set it to none for '{arm}' (arms that take it: {able})"
        )


def _refuse_unread(name: str, experiment: Experiment, tiers: Iterable[str]) -> None:
    """Refuse a key that varies nothing: its variants would be the default once more."""
    spaces = experiment.search.space if experiment.search else {}
    asked = [
        *((ALL, key) for key in itertools.chain(experiment.vary, *experiment.variants)),
        *((arm, key) for arm, space in spaces.items() for key in space),
    ]
    for owner, key in asked:
        arms = experiment.arms if owner == ALL else (owner,)
        if not any(
            _matters(key, arm, backbone)
            for tier in tiers
            for arm in arms
            for backbone in experiment.backbones_in(tier, arm)
        ):
            who = "none of its arms and backbones" if owner == ALL else f"arm '{owner}' never"
            raise UserError(
                f"params.yaml: experiments.{name}: {who} reads '{key}'; "
                "take the key out, or name an arm or backbone that reads it"
            )


def _refuse_nothing_to_search(name: str, experiment: Experiment, tiers: Iterable[str]) -> None:
    if experiment.search is None:
        return
    for arm in experiment.arms:
        keys = {*experiment.search.space.get(ALL, {}), *experiment.search.space.get(arm, {})}
        backbones = {b for tier in tiers for b in experiment.backbones_in(tier, arm)}
        if not any(_matters(key, arm, backbone) for key in keys for backbone in backbones):
            raise UserError(
                f"params.yaml: experiments.{name}.search.space has no setting that arm '{arm}' "
                "reads; add one, or take the arm out of the experiment"
            )


def _matters(key: str, arm: str, backbone: str) -> bool:
    """Whether an arm, or one that it starts from, reads a setting: of any of them, or its own."""
    owner, _, setting = key.rpartition("/")
    chain = _chain(arm)
    readers = [name for name in chain if owner in ("", name)]
    return any(_is_read(setting, reads(name, backbone)) for name in readers)


def _chain(arm: str) -> tuple[str, ...]:
    """An arm and all that it starts from."""
    upstream = itertools.chain(*map(_chain, ARMS[arm].needs))
    return tuple(dict.fromkeys((arm, *upstream)))


def _is_read(key: str, keys: Iterable[str]) -> bool:
    """Whether a setting is one of those read: a variant of another one would be the same run."""
    return any(key == read or key.startswith(f"{read}.") for read in keys)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
