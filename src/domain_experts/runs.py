"""Runs and jobs: what is trained, and where its files lie."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from domain_experts.declarations import Arm
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.settings import RunSettings

DEFAULT_VARIANT = "default"
INDEX = "runs.json"
SEARCH, SEARCHED_FOR = "search", "for"
"""Keys of a variant that are no settings: the experiment whose search found its settings, and, of
a run that another arm starts from, that arm."""
Variant = tuple[tuple[str, Any], ...]
"""Settings that are not the default: dotted key and value. `arm/key` is a setting of one arm alone
among those that start from one another; a plain key is one of them all."""


_LEFT_OUT = object()


def variant_name(variant: Variant) -> str:
    """Folder name of a variant: `experts-per-domain=2`, or `default`."""
    return ",".join(f"{key_name(key)}={_short(value)}" for key, value in variant) or DEFAULT_VARIANT


def key_name(key: str) -> str:
    """A setting's name in folders and tables: its last part, after the arm that it is of."""
    arm, _, setting = key.rpartition("/")
    return "-".join(filter(None, (_short(arm), _short(setting))))


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value).rsplit(".", 1)[-1].replace("_", "-") if isinstance(value, str) else str(value)


@dataclass(frozen=True)
class Job:
    """All runs of one arm on one data set and backbone: one process, one Snakemake job."""

    phase: str
    dataset: str
    backbone: str
    arm: str

    @property
    def path(self) -> Path:
        """Folder of the job below a tier's results or artifacts."""
        return Path(self.phase, self.dataset, self.backbone, self.arm)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code determines the job's numbers, with all that they import."""
        arm = ARMS[self.arm]
        backbone = (BACKBONES[self.backbone].module,) if arm.backbone else ()
        return ("domain_experts.training.job", arm.trainer, *backbone)


@dataclass(frozen=True)
class Search:
    """The choice of an arm's settings on one data set and backbone, as an experiment declares."""

    experiment: str
    dataset: str
    backbone: str
    arm: str

    @property
    def path(self) -> Path:
        """Its file below a tier's results, without the suffix."""
        return Path("search", self.experiment, self.dataset, self.backbone, self.arm)

    @classmethod
    def at(cls, path: str) -> "Search":
        """The search of a path."""
        return cls(*Path(path).parts[1:])

    def __str__(self) -> str:
        return f"{self.experiment} {self.dataset} {self.backbone} {self.arm}"


@dataclass(frozen=True)
class Run:
    """One arm x data set x backbone x variant x seed. Its identity is its path."""

    dataset: str
    backbone: str
    arm: str
    variant: Variant
    seed: int
    # equal runs are told by the rest already, and to hash some hundred values takes long
    settings: RunSettings = field(hash=False)

    @property
    def spec(self) -> Arm:
        return ARMS[self.arm]

    @property
    def phase(self) -> str:
        """The arm's own phase; variants of the gate are trained in `ablations`."""
        varied = self.variant and self.search is None
        return "ablations" if varied and self.spec.phase == "gates" else self.spec.phase

    @cached_property
    def job(self) -> Job:
        return Job(self.phase, self.dataset, self.backbone, self.arm)

    @cached_property
    def path(self) -> Path:
        """Folder of the run below a tier's results or artifacts."""
        return self.job.path / variant_name(self.variant) / f"seed={self.seed}"

    @cached_property
    def search(self) -> "Search | None":
        """The search that finds its settings, if there is one."""
        tags = dict(self.variant)
        if SEARCH not in tags:
            return None
        return Search(tags[SEARCH], self.dataset, self.backbone, tags.get(SEARCHED_FOR, self.arm))

    @property
    def split_seed(self) -> int:
        """Seed of the split that the run is trained and tested on."""
        fixed = self.settings.protocol.split_seed
        return self.seed if fixed is None else fixed

    def payload(self) -> dict[str, Any]:
        """The settings that matter to this run, for its key and for Snakemake's `params`.

        A setting has a default if it came after results that are kept; at it, it is left out, so
        that their keys stay.
        """
        values = self.settings.model_dump(mode="json", exclude_defaults=True)
        return {"arm": self.arm, "backbone": self.backbone, "seed": self.seed} | dict(
            _read(values, reads(self.arm, self.backbone))
        )


def reads(arm: str, backbone: str) -> tuple[str, ...]:
    """The settings that matter to an arm with a backbone."""
    own = BACKBONES[backbone].reads if ARMS[arm].backbone else ()
    return (*ARMS[arm].reads, *own)


def _read(values: dict[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key in keys:
        value: Any = values
        for part in key.split("."):
            value = value.get(part, _LEFT_OUT)
            if value is _LEFT_OUT:
                break
        else:
            yield key, value
