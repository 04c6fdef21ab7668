"""A saved model: one folder, which is checked when it is opened and needs nothing beside it.

`config.json` says what it is, and holds the checksums of the other parts; `model.safetensors` are
its weights and pretrained tables; `encoder/` are vocabularies, from columns of a log to codes (not
of data that are codes); `README.md` is the model card.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.spec import OTHER_DOMAIN, LogSplit
from domain_experts.errors import UserError
from domain_experts.files import (
    beside,
    place_folder,
    read_json,
    replacing,
    sha256,
    write_json,
    write_text,
)
from domain_experts.models.adapter import PLAIN
from domain_experts.models.ctr import CTRModel
from domain_experts.models.linear import LogisticRegression
from domain_experts.models.own_parts import OwnParts
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.schema import Schema
from domain_experts.serving.composed import Mean
from domain_experts.serving.rebuild import VECTORS, Identity, State, rebuild
from domain_experts.serving.tables import Rates, Trees
from domain_experts.settings import RunSettings
from domain_experts.strict import Settings

FORMAT = 1
KNOW_NO_DOMAIN = LogisticRegression | Rates | Trees | OwnParts
"""Modules that read no domain, or have logits for the rows of none (-1)."""
CONFIG, WEIGHTS, ENCODER, CARD = "config.json", "model.safetensors", "encoder", "README.md"
AGAIN = "copy the folder again, or make it again by `domain-experts save`"


class SchemaRecord(Settings):
    """`Schema` in config.json."""

    fields: tuple[tuple[str, int], ...]
    dense: tuple[str, ...]
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    widths: tuple[int, ...]


class Origin(Settings):
    """Where a model comes from."""

    run: str
    """Path of the run."""
    data: str
    """Digest of the rows that it was trained on."""
    split: str
    """Digest of their split."""
    code: str
    """Digest of the code that trained it."""
    libraries: dict[str, str]


class Config(Settings):
    """config.json."""

    format: int
    dataset: str
    backbone: str
    arm: str
    seed: int
    settings: RunSettings
    data_schema: SchemaRecord
    planted_groups: tuple[int, ...] | None
    by_domain: bool
    by_task: bool
    added: int
    origin: Origin
    split: LogSplit | None
    files: dict[str, str]
    """Path in the folder -> SHA-256."""


@dataclass(frozen=True)
class SavedModel:
    """A model that gives logits by itself."""

    identity: Identity
    module: nn.Module
    """From codes (B, C), dense features (B, K) and domains (B,) to logits (B, T)."""
    origin: Origin
    card: str
    """README.md."""
    encoder: Encoder | None = None
    """From columns of a log to codes; None of data that are codes."""
    vectors: Mapping[str, np.ndarray] | None = None
    """Pretrained tables of some fields."""
    split: LogSplit | None = None
    """How the log was split; None of data that are codes."""

    @classmethod
    def of(
        cls,
        identity: Identity,
        state: State,
        origin: Origin,
        card: str,
        encoder: Encoder | None,
        split: LogSplit | None = None,
    ) -> Self:
        """The model of a run's state (`collect.served_state`)."""
        vectors = {n.removeprefix(VECTORS): a for n, a in state.items() if n.startswith(VECTORS)}
        return cls(identity, rebuild(identity, state), origin, card, encoder, vectors, split)

    @property
    def schema(self) -> Schema:
        return self.identity.schema

    @torch.inference_mode()
    def logits(self, fields: np.ndarray, dense: np.ndarray, domain: np.ndarray) -> np.ndarray:
        """Logits (N, T) float32 of encoded rows.

        Args:
            fields: codes (N, C) int32.
            dense: (N, K) float32.
            domain: (N,) numbers of domains; -1 is unknown, and goes to the common domain of rare
                ones where there is one, else to what all domains share.

        Raises:
            UserError: domains are unknown, and the model has nothing that all domains share.
        """
        given = torch.from_numpy(domain.astype(np.int64))
        if OTHER_DOMAIN in self.schema.domains:
            given = torch.where(given < 0, self.schema.domains.index(OTHER_DOMAIN), given)
        inputs = torch.from_numpy(fields), torch.from_numpy(dense)
        logits = torch.empty(len(given), len(self.schema.tasks))
        if not len(given):
            return np.asarray(logits.numpy())
        unknown = given < 0
        if not unknown.any() or isinstance(self.module, KNOW_NO_DOMAIN):
            return np.asarray(self.module(*inputs, given).numpy())
        routed = self.module.models[0] if isinstance(self.module, Mean) else self.module
        if not isinstance(routed, CTRModel):
            raise UserError(
                f"{int(unknown.sum()):,} rows are of domains that the model has not met, and "
                f"{ARMS[self.identity.arm].label} has no part that all domains share: leave these "
                "rows out, or score them by another model"
            )
        for rows, routing in ((unknown, PLAIN), (~unknown, None)):
            if rows.any():
                own = (*(part[rows] for part in inputs), given[rows].clamp(min=0))
                logits[rows] = self.module(*own, routing=routing)
        return np.asarray(logits.numpy())

    def save(self, folder: Path) -> None:
        """Write the folder; a saved model that is there is replaced.

        Raises:
            UserError: the folder holds something else.
        """
        if folder.exists() and not (folder / CONFIG).is_file() and any(folder.iterdir()):
            raise UserError(
                f"{folder} holds something that is no saved model; name another folder by -o"
            )
        with beside(folder) as own:
            new = own / "model"
            new.mkdir()
            state = {name: value.numpy() for name, value in self.module.state_dict().items()}
            state |= {f"{VECTORS}{name}": table for name, table in (self.vectors or {}).items()}
            state = {name: np.array(array, order="C") for name, array in state.items()}
            # as text, for who opens the file alone
            about = {"arm": self.identity.arm, "backbone": self.identity.backbone}
            # its own files only their owner could read
            with replacing(new / WEIGHTS) as temporary:
                save_file(state, temporary, metadata={"format": str(FORMAT), **about})
            if self.encoder is not None:
                self.encoder.save(new / ENCODER)
            files = {path.relative_to(new).as_posix(): sha256(path) for path in _parts(new)}
            write_text(new / CARD, self.card)
            write_json(new / CONFIG, self._config(files).model_dump(mode="json"), sealed=True)
            place_folder(new, folder)

    def _config(self, files: dict[str, str]) -> Config:
        of = self.identity
        return Config(
            format=FORMAT,
            dataset=of.dataset,
            backbone=of.backbone,
            arm=of.arm,
            seed=of.seed,
            settings=of.settings,
            data_schema=SchemaRecord(**asdict(of.schema)),
            planted_groups=of.planted_groups,
            by_domain=of.by_domain,
            by_task=of.by_task,
            added=of.added,
            origin=self.origin,
            split=self.split,
            files=files,
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open a saved model.

        Raises:
            UserError: it is of a newer format, or a part is missing, damaged, or of another model.
        """
        config = _read_config(folder)
        _check_files(folder, config)
        try:
            schema = Schema(**dict(config.data_schema))
        except ValueError as error:
            raise UserError(f"{folder / CONFIG}: data_schema: {error}; {AGAIN}") from None
        identity = Identity(
            config.dataset,
            config.backbone,
            config.arm,
            config.seed,
            config.settings,
            schema,
            config.planted_groups,
            config.by_domain,
            config.by_task,
            config.added,
        )
        try:
            state = load_file(folder / WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{folder / WEIGHTS} is damaged ({error}); {AGAIN}") from None
        encoder = Encoder.open(folder / ENCODER) if (folder / ENCODER).is_dir() else None
        if encoder is not None and encoder.schema != identity.schema:
            raise UserError(
                f"{folder / ENCODER} is of another model: its fields, dense columns, domains "
                f"or tasks are not those of {folder / CONFIG}; {AGAIN}"
            )
        card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
        try:
            return cls.of(identity, state, config.origin, card, encoder, config.split)
        except (UserError, ValueError, RuntimeError, LookupError) as error:
            # what the configuration asks for cannot be built, or has other weights
            reason = " ".join(str(error).split())
            raise UserError(f"{folder / WEIGHTS}: {reason}; {AGAIN}") from None


def _parts(folder: Path) -> list[Path]:
    """The files that checksums are kept of: weights and vocabularies."""
    found = [folder / WEIGHTS, *(folder / ENCODER).rglob("*")]
    return sorted(path for path in found if path.is_file())


def _read_config(folder: Path) -> Config:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            f"{path} is missing: {folder} is no saved model; make one by `domain-experts save`"
        )
    given: Any = read_json(path, AGAIN)
    version = given.get("format") if isinstance(given, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path} is not that of a saved model: it names no format; {AGAIN}")
    if version > FORMAT:
        raise UserError(
            f"{path} is of format {version}, and this version reads up to {FORMAT}: update "
            "domain-experts"
        )
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}; {AGAIN}") from None
    if config.arm not in ARMS or config.backbone not in (*BACKBONES, NO_BACKBONE):
        raise UserError(
            f"{path}: arm '{config.arm}' with backbone '{config.backbone}' is unknown to this "
            "version: use that which saved it"
        )
    return config


def _check_files(folder: Path, config: Config) -> None:
    for name, expected in config.files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; {AGAIN}")
        if sha256(path) != expected:
            raise UserError(
                f"{path} is damaged, or of another model: its checksum is not that in "
                f"{folder / CONFIG}; {AGAIN}"
            )
    for path in _parts(folder):
        if path.relative_to(folder).as_posix() not in config.files:
            raise UserError(
                f"{path} is of another model: {folder / CONFIG} does not name it; remove it, or "
                f"{AGAIN}"
            )
