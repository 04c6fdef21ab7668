"""Models that score tables in memory: just fitted, or loaded from a folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from domain_experts.data.interactions import Interactions
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.files import Block
from domain_experts.data.split import SPLITS
from domain_experts.digest import code_digest
from domain_experts.errors import UserError
from domain_experts.fitting import Fitted
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.serving.collect import served_state
from domain_experts.serving.model import Origin, SavedModel
from domain_experts.serving.rebuild import Identity
from domain_experts.serving.score import PROBABILITY, ROWS, probabilities, reader_of
from domain_experts.suggest import unknown
from domain_experts.tables import as_table
from domain_experts.training.progress import best
from domain_experts.versions import libraries


@dataclass(frozen=True)
class OwnModel:
    """A saved model that scores rows in memory, as `domain-experts score` scores files."""

    saved: SavedModel

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open a saved model.

        Raises:
            UserError: it is of a newer format, or a part is missing, damaged, or of another model.
        """
        return cls(SavedModel.load(Path(folder)))

    @classmethod
    def of(cls, found: Fitted, encoder: Encoder) -> Self:
        """The model of a run that was trained in memory."""
        run, rows, record = found.assignment.run, found.assignment.interactions, found.made.record
        identity = Identity(
            dataset=run.dataset,
            backbone=run.backbone,
            arm=run.arm,
            seed=run.seed,
            settings=run.settings,
            schema=rows.schema,
            by_domain=record["scope"]["domain"],
            by_task=record["scope"]["task"],
        )
        origin = Origin(
            run=run.path.as_posix(),
            data=_digest(rows),
            split=hashlib.sha256(found.assignment.split.tobytes()).hexdigest(),
            code=code_digest(run.job.modules),
            libraries=libraries(),
        )
        state = served_state(found.assignment, found.made.weights)
        return cls(SavedModel.of(identity, state, origin, _card(found), encoder))

    def save(self, folder: str | Path) -> None:
        """Write the folder; a saved model that is there is replaced.

        Raises:
            UserError: the folder holds something else.
        """
        self.saved.save(Path(folder))

    def predict(self, rows: Any) -> pd.DataFrame:
        """Probabilities of a positive label, one column `p_<task>` a task.

        Args:
            rows: a table of pandas, Polars or pyarrow with the columns that the model was trained
                on, others left aside; an array if it was trained on one.

        Raises:
            UserError: a column is missing or does not fit, or the model cannot score a domain.
        """
        names = [f"{PROBABILITY}{task}" for task in self.saved.schema.tasks]
        return pd.DataFrame(self.probabilities(as_table(rows)), columns=names)

    def probabilities(self, table: pa.Table) -> np.ndarray:
        """(N, T) float32.

        Raises:
            UserError: as `predict`.
        """
        reader = reader_of(self.saved)
        for name in reader.needed:
            if name not in table.column_names:
                raise UserError(f"the table: {unknown('column', name, table.column_names)}")
        parts = [np.empty((0, len(self.saved.schema.tasks)), np.float32)]
        for start in range(0, len(table), ROWS):
            block = Block(Path("the table"), start, table.slice(start, ROWS))
            parts.append(probabilities(self.saved, reader.rows(block)))
        return np.concatenate(parts)


def _digest(rows: Interactions) -> str:
    digest = hashlib.sha256()
    for name, array in rows.arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _card(found: Fitted) -> str:
    """The model card of what was fitted in memory, which has no test rows."""
    run, record = found.assignment.run, found.made.record
    schema, arm = found.assignment.interactions.schema, ARMS[run.arm]
    backbone = f" with backbone {BACKBONES[run.backbone].label}" if arm.backbone else ""
    rows = {split: sum(record["rows"][split]) for split in SPLITS if split in record["rows"]}
    return "\n".join(
        [
            f"# {arm.label}{backbone}",
            "",
            f"Fitted in memory: seed {run.seed}, {record['parameters']['used']:,} parameters.",
            "",
            "## Data",
            "",
            f"{', '.join(f'{number:,} {split} rows' for split, number in rows.items())}; "
            f"domains {len(schema.domains):,}, tasks {', '.join(schema.tasks)}.",
            f"Fields: {', '.join(f'{name} ({size:,} codes)' for name, size in schema.fields)}.",
            f"Dense features: {', '.join(schema.dense) or 'none'}.",
            "",
            "## Metrics",
            "",
            f"On validation rows, by which training was ended: {best(record['curve']) or 'none'}",
            "There were no test rows: the model's quality on new rows is not known from this.",
            "",
            "## Intended use and limits",
            "",
            f"To score rows as those it was trained on: the probability of "
            f"{', '.join(schema.tasks)}, to rank within a domain. Nothing is known of later rows, "
            "or of other populations.",
            "",
        ]
    )


load = OwnModel.load
