"""A study of one's own log from Python, by the road of `domain-experts study`."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow.parquet as pq
import yaml

from domain_experts import study, study_folder
from domain_experts.data.log.values import column_of
from domain_experts.files import replacing, write_text
from domain_experts.own_model import OwnModel
from domain_experts.presence import load_study
from domain_experts.reporting.advice import sentences
from domain_experts.reporting.frame import frames
from domain_experts.reporting.recommend import choice
from domain_experts.serving.keep import best_run, saved_model
from domain_experts.tables import Dense, Domain, Fields, as_table, columns_of

OF_GAINS = ["over", "label", "seeds", "gain", "low", "high", "verdict"]


class Study:
    """A study file, and the folder beside it.

    Args:
        file: the YAML file; `from_frame` writes one.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file).absolute()

    @classmethod
    def from_frame(
        cls,
        table: Any,
        *,
        domain: Domain,
        tasks: str | Sequence[str] | Mapping[str, str],
        fields: Fields | None = None,
        dense: Dense | None = None,
        folder: str | Path | None = None,
        name: str = "own",
        **more: Any,
    ) -> Self:
        """Write rows as Parquet, and a study file for them.

        Every column is used that is no label and is not named in `more`; what it is, is guessed and
        said as in an estimator's `fit`.

        Args:
            table: of pandas, Polars or pyarrow.
            domain: column with the domain, or the keys of a study's `domain`.
            tasks: columns of 0 and 1, or task to a condition such as `rating >= 5`.
            fields: columns that hold ids, or a mapping from field to the keys of `fields`.
            dense: columns that hold numbers, or the keys of `dense` of each.
            folder: where both files go, and the study's own folder; None: a temporary one, which
                stays.
            name: of the files.
            more: further keys of a study file: arms, backbones, seeds, split, time, weight, search,
                settings, device, ...

        Raises:
            UserError: a name is no column, or a key cannot be used.
        """
        rows = as_table(table)
        labels = {tasks: tasks} if isinstance(tasks, str) else tasks
        labels = labels if isinstance(labels, Mapping) else {task: task for task in labels}
        known = rows.column_names
        apart = {column_of(of, known)[0] for of in labels.values()}
        others = (more.get("time"), more.get("weight"), (more.get("split") or {}).get("column"))
        apart |= {column for column in others if column}
        features = rows.select([column for column in known if column not in apart])
        columns = columns_of(features, domain, fields, dense, labels)
        target = Path(folder or tempfile.mkdtemp(prefix="domain-experts-")).absolute()
        target.mkdir(parents=True, exist_ok=True)
        said = columns.model_dump(mode="json", exclude_defaults=True)
        values = {"files": f"{name}.parquet", **said, **more}
        found = cls(target / f"{name}.yaml")
        with replacing(target / f"{name}.parquet") as temporary_file:
            pq.write_table(rows, temporary_file)
        write_text(found.file, yaml.safe_dump(values, sort_keys=False))
        # refuses what cannot be used before any work
        study_folder.make(found.file)
        return found

    def run(self, cores: int | None = None) -> Self:
        """Make what the study lacks, and only that.

        Args:
            cores: of the workflow; None: all.

        Raises:
            UserError: the file cannot be used, or the workflow did not end well, as it has said.
        """
        study_folder.run(self.file, cores)
        return self

    def results(self) -> pd.DataFrame:
        """All numbers, one a row: run, arm, backbone, seed, split, domain, task, metric, value, ...

        `status` says whether a run is current; `against` names what a difference is taken from.

        Raises:
            UserError: there are none.
        """
        with self._study() as own:
            return frames(own).results.numbers.reset_index(drop=True)

    def gains(self) -> pd.DataFrame:
        """The arm best on validation rows less what is simpler, on test rows.

        Returns:
            over, label, seeds, gain, low and high (95 % interval), verdict.

        Raises:
            UserError: there are no results.
        """
        with self._study() as own:
            found = choice(frames(own))
            return pd.DataFrame(columns=OF_GAINS) if found is None else found.against[OF_GAINS]

    def verdict(self) -> str:
        """What to take, why, at what cost, and how sure that is; the first line is the answer.

        Raises:
            UserError: there are no results.
        """
        with self._study() as own:
            return "\n".join(sentences(frames(own)))

    def best(self) -> OwnModel:
        """The model of the arm that is best on validation rows, of its best seed.

        Raises:
            UserError: it is not there, or was trained on other rows.
        """
        with self._study() as own:
            return OwnModel(saved_model(own, best_run(own)))

    @contextmanager
    def _study(self) -> Iterator[study.Study]:
        """The study as the pipeline knows it, in its folder, by which all paths go."""
        with chdir(study_folder.existing(self.file)):
            yield load_study()
