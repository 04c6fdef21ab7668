"""A study file: a log and what is to be tried on it, in one YAML; it becomes a params.yaml."""

import os
from collections.abc import Iterator
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from domain_experts.data.log.spec import USER, LogSpec
from domain_experts.data.specs import DatasetName
from domain_experts.errors import UserError
from domain_experts.params import Params, validated
from domain_experts.registry import ARMS, BACKBONES, FLOORS, REFERENCE
from domain_experts.strict import Positive, Seeds, Settings, distinct
from domain_experts.study import Study
from domain_experts.suggest import unknown
from domain_experts.yaml_files import parse_yaml, read_yaml

TIER = "study"
"""The one tier of a study file."""
EXPERIMENT = "main"
"""Its one experiment, ..."""
SPACE_OF = "tuned"
"""... and the packaged experiment whose space a search has."""
ITEM = "item"
ALL_FLOORS = "floors"
"""Stands for all floors that the log has fields for."""
M3OE = "m3oe"
"""Stands for the multi-domain multi-task arm with the model of this name."""
MULTI_TASK = "mdmt"
NEEDS = {"item_rate": (ITEM,), "user_item_rate": (USER, ITEM)}
"""Floors that look for fields by name."""
RATE_SPACE = {"rates.smoothing": {"low": 1.0, "high": 1000.0, "log": True}}
"""What is searched of those, of which the packaged experiment has none."""
PASSES = 250
"""Passes over the training rows after which a search begins no trial, for each of its trials."""
FIRST_SEED = 2022
MOST_SEEDS = 1000
ONE_LOSS = {"multi": {"protocol.loss": "mean", "protocol.upper_loss": "mean"}}
"""Configuration in which all that is compared minimises one loss: the click models', by rows."""
KNOWN_ARMS = {
    name: arm
    for name, arm in ARMS.items()
    # groups are known of generated data alone, and a new domain is a question of its own
    if not arm.planted and not any(key.startswith("new_domain") for key in arm.reads)
}


class Trials(Settings):
    """How long settings are searched for, alike for all arms."""

    trials: Annotated[int, Field(ge=2)]


class StudyFile(LogSpec):
    """What a study file holds: a log, and what is to be tried on it."""

    arms: tuple[str, ...] = Field(
        default=(ALL_FLOORS, REFERENCE, "mlora", "moe_mlora", "star"),
        min_length=1,
        description="methods to compare; floors: all that fit; m3oe: the multi-task arm with M3oE",
    )
    backbones: tuple[str, ...] = Field(default=("wdl",), min_length=1)
    seeds: Seeds = Field(
        default=(FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2),
        min_length=1,
        description="of the initial weights and the order of rows; a number: so many",
    )
    search: Trials | None = Field(default=None, description="null: default settings alone")
    settings: dict[str, Any] = Field(
        default={}, description="dotted settings of the package's params.yaml, replaced"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: Positive = Field(
        default=1,
        description="processes that train each run together, each on its rows of every batch",
    )
    push: bool = Field(
        default=False, description="data, weights and predictions may leave this machine"
    )

    @field_validator("seeds", mode="before")
    @classmethod
    def _a_number_is_enough(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            TypeAdapter(Annotated[int, Field(ge=1, le=MOST_SEEDS)]).validate_python(value)
            return tuple(range(FIRST_SEED, FIRST_SEED + value))
        return value

    @field_validator("arms", "backbones", mode="before")
    @classmethod
    def _one_name_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("arms", "backbones")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return distinct(value)

    @field_validator("arms")
    @classmethod
    def _arms_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = (ALL_FLOORS, M3OE, *KNOWN_ARMS)
        for name in value:
            if name not in known:
                raise ValueError(unknown("arm", name, known))
        return value

    @field_validator("backbones")
    @classmethod
    def _backbones_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in BACKBONES:
                raise ValueError(unknown("backbone", name, BACKBONES))
        return value

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        grid = self.grid
        for arm, backbones in grid.items():
            lacking = [field for field in NEEDS.get(arm, ()) if field not in self.fields]
            if lacking:
                raise ValueError(
                    f"arms: '{arm}' needs a field named {' and one named '.join(lacking)}; name "
                    f"the field so, or take the arm out ({ALL_FLOORS}: those that fit)"
                )
            if ARMS[arm].backbone and not backbones:
                family = ARMS[arm].family
                fitting = [name for name, model in BACKBONES.items() if model.family == family]
                raise ValueError(
                    f"arms: '{arm}' takes none of the backbones {', '.join(self.backbones)}; add "
                    f"one of {', '.join(fitting)}"
                )
        used = {backbone for own in grid.values() for backbone in own}
        for name in self.backbones:
            takers = [arm for arm in grid if ARMS[arm].backbone]
            if takers and name not in used:
                raise ValueError(f"backbones: none of the arms takes '{name}'; take it out")
        return self

    @property
    def grid(self) -> dict[str, tuple[str, ...]]:
        """Arm -> its backbones, as an experiment of params.yaml has them."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.arms:
            if name == ALL_FLOORS:
                fitting = [arm for arm in FLOORS if {*NEEDS.get(arm, ())} <= {*self.fields}]
                found |= {arm: () for arm in ARMS if arm in fitting}
            elif name == M3OE:
                found[MULTI_TASK] = (*found.get(MULTI_TASK, ()), M3OE)
            else:
                own = ARMS[name]
                fitting = [b for b in self.backbones if BACKBONES[b].family == own.family]
                more = fitting if own.backbone else []
                found[name] = tuple(dict.fromkeys((*found.get(name, ()), *more)))
        return found


def read(path: Path) -> StudyFile:
    """Read a study file.

    Raises:
        UserError: it is missing, no YAML, or a key of it is wrong; the message names file and key.
    """
    try:
        TypeAdapter(DatasetName).validate_python(path.stem)
    except ValidationError:
        raise UserError(
            f"{path}: the study takes its name from the file: use letters, digits, '_', '-' and '.'"
        ) from None
    try:
        values = read_yaml(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return validated(StudyFile, values, path)


def params_of(file: StudyFile, name: str, files_from: Path) -> dict[str, Any]:
    """The content of the params.yaml of a study: the package's, but for data and what is run.

    Args:
        file: the study file.
        name: of the data set.
        files_from: what relative `files` are relative to, seen from the study's folder.

    Raises:
        UserError: what is asked for cannot be made; the message names the key.
    """
    packaged_params = files("domain_experts").joinpath("params.yaml")
    values: dict[str, Any] = parse_yaml(packaged_params.read_text(encoding="utf-8"))
    packaged = values["experiments"][SPACE_OF]
    log = file.model_dump(mode="json", include={*LogSpec.model_fields, "push"})
    log["files"] = [os.path.normpath(files_from / pattern) for pattern in file.files]
    values["data"]["datasets"] = {name: {"source": "log", **log}}
    for protocol in values["protocols"].values():
        # the log's own split is that of all seeds and protocols
        protocol["split_seed"] = None
    values |= {
        "tier": TIER,
        "device": file.device,
        "processes": file.processes,
        "configurations": {name: ONE_LOSS},
        "experiments": {EXPERIMENT: _experiment(file, name, packaged)},
        "tiers": {TIER: {"seeds": [*file.seeds], "set": file.settings}},
    }
    study = Study(validated(Params, values, name), TIER)
    try:
        study.settings(REFERENCE, (), name, file.backbones[0])
    except UserError as error:
        _, _, said = str(error).partition("variants)")
        raise UserError(f"settings{said}") from None
    study.refuse_incomparable()
    return values


def _experiment(file: StudyFile, name: str, packaged: dict[str, Any]) -> dict[str, Any]:
    grid = file.grid
    compare = [*_references(grid)]
    found: dict[str, Any] = {
        "question": f"Do domain experts pay on {name}?",
        "datasets": {TIER: [name]},
        "arms": {arm: [*backbones] for arm, backbones in grid.items()},
        "compare": compare,
    }
    if file.search is None:
        return found
    own = packaged["search"]
    trials = file.search.trials
    space = {arm: values for arm, values in own["space"].items() if arm in (*grid, "all")}
    space |= {arm: RATE_SPACE for arm in NEEDS if arm in grid}
    first = {arm: of for arm, of in own["starts_from"].items() if {arm, of} <= grid.keys()}
    found["compare"] = [*compare, "default"]
    found["labels"] = {f"search={EXPERIMENT}": SPACE_OF}
    found["search"] = {
        "trials": {TIER: trials},
        "passes": {TIER: PASSES * trials},
        # other seeds than those of the runs that are reported
        "seeds": [next(seed for seed in count() if seed not in file.seeds)],
        "starts_from": first,
        "space": space,
    }
    return found


def _references(grid: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """What gains are taken over, beside the best floor."""
    for arm in (REFERENCE, "mlora"):
        if own := grid.get(arm, ()):
            yield arm
            # what has a model of its own is compared across the only backbone, or the first
            if len(own) > 1 and MULTI_TASK in grid:
                yield f"{arm}/{own[0]}"
