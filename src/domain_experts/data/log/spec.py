"""What is said of a click log: its files, and what their columns are."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from domain_experts.plain_text import plain_name
from domain_experts.strict import Positive, Seed, Settings
from domain_experts.suggest import unknown

RARE = 0
"""Code of a rare or unknown id of a field that holds one id a row."""
NONE = 0
"""Code of a place that holds no id, in fields of several ids a row."""
POOLED_RARE = 1
"""Code of a rare or unknown id in those."""
USER = "user"
"""The field whose ids are users."""
OTHER_DOMAIN = "(other)"
"""Domain of the rows whose own has too few."""
Name = Annotated[str, AfterValidator(plain_name)]
"""It names a file of vocabulary, or columns of scores."""
Several = Annotated[int, Field(ge=2, le=10_000)]
CONDITION = re.compile(r"(?P<column>.+?)\s*(?P<relation>>=|<=|==|!=|>|<)\s*(?P<value>.+)")


class DomainColumn(Settings):
    """Which domain a row is of."""

    column: str
    min_rows: Positive = Field(default=1, description="training rows that make a domain its own")
    rare: Literal["shared", "drop"] = Field(
        default="shared",
        description="domains with fewer: one domain together, or their rows are left out",
    )


class IdField(Settings):
    """A categorical feature; its ids may be texts or numbers."""

    column: str | None = Field(default=None, description="null: that of the field's name")
    min_count: Positive = Field(
        default=2,
        description="training rows that give an id a row of its own; rarer ones share one, which "
        "unknown ids are given, too; over 1, the rarest id is given it where no other trains it",
    )
    hash: Annotated[int, Field(ge=2, lt=2**31 - 1)] | None = Field(
        default=None, description="rows of the table that ids are hashed into, without vocabulary"
    )
    multi: str | None = Field(
        default=None,
        description="the column holds several ids, text with this separator (or lists): their "
        "embeddings' mean",
    )
    most: Several = Field(default=8, description="of several ids, how many of a row are kept")


class History(Settings):
    """What the user met before: the mean of the embeddings of the last items."""

    of: str = Field(description="the field whose ids are kept")
    last: Several = Field(description="how many")


class DenseColumn(Settings):
    """A number, standardised by the training rows; where it is missing it is their mean."""

    column: str
    transform: Literal["none", "log"] = Field(
        default="none", description="log: sign(x) log(1 + |x|), before it is standardised"
    )


class LogSplit(Settings):
    """Which rows train, validate and test: one split for all seeds, as vocabularies need one."""

    rule: Literal["random", "stratified", "time", "each_user_last", "leave_one_out", "column"] = (
        "stratified"
    )
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    seed: Seed = 0
    column: str | None = Field(
        default=None, description="of rule column: it holds train, validation or test"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test leave no training rows")
        if (self.rule == "column") != (self.column is not None):
            raise ValueError("`column` goes with rule: column")
        return self


class Negatives(Settings):
    """For a log of positives alone: items that the user did not meet, as negatives."""

    per_positive: Positive
    among: Literal["domain", "all"] = Field(
        default="domain", description="items of the row's domain, or all"
    )
    of: str = Field(default="item", description="the field that is drawn")
    along: tuple[str, ...] = Field(
        default=(), description="fields and dense columns that are the item's: drawn along with it"
    )


class Csv(Settings):
    """How CSV files are written."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf8"


class Columns(Settings):
    """What the columns of a log are; a model that scores such rows keeps it."""

    domain: DomainColumn
    tasks: dict[Name, str] = Field(
        min_length=1,
        description="task to a column of 0 and 1, or a condition such as `rating >= 5`",
    )
    fields: dict[Name, IdField] = Field(
        min_length=1, description="field to its column; one named user clusters the rows"
    )
    history: dict[Name, History] = Field(default={})
    dense: tuple[DenseColumn, ...] = ()
    time: str | None = Field(default=None, description="column with a moment")
    weight: str | None = Field(default=None, description="column with the weight of a row")

    @field_validator("domain", mode="before")
    @classmethod
    def _a_column_is_enough(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("dense", mode="before")
    @classmethod
    def _columns_are_enough(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"column": v} if isinstance(v, str) else v for v in value]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for name, of in self.history.items():
            if name in self.fields:
                raise ValueError(f"history '{name}': a field has this name, too")
            if of.of not in self.fields:
                raise ValueError(f"history '{name}': {unknown('field', of.of, self.fields)}")
            if self.fields[of.of].multi is not None:
                raise ValueError(f"history '{name}': field '{of.of}' holds several ids a row")
        if self.history and (self.time is None or USER not in self.fields):
            raise ValueError("history needs `time` and a field named user")
        columns = [of.column for of in self.dense]
        if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
            raise ValueError(f"dense: column '{twice[0]}' is named twice; keep one of them")
        user = self.fields.get(USER)
        if user and user.multi is not None:
            raise ValueError("field 'user' holds one id a row: `multi` does not go with it")
        return self


class LogSpec(Columns):
    """Files, what their columns are, and how their rows are split."""

    files: tuple[str, ...] = Field(
        min_length=1,
        description="Parquet or CSV files (compressed as their names say), or patterns",
    )
    csv: Csv = Csv()
    key: tuple[str, ...] = Field(
        default=(), description="columns of which no two rows hold the same values"
    )
    negatives: Negatives | None = None
    split: LogSplit = LogSplit()

    @field_validator("files", "key", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _split_has_its_columns(self) -> Self:
        rule = self.split.rule
        if rule in ("time", "each_user_last", "leave_one_out") and self.time is None:
            raise ValueError(f"split rule {rule} needs `time`, the column with a row's moment")
        if rule in ("each_user_last", "leave_one_out") and USER not in self.fields:
            raise ValueError(f"split rule {rule} needs a field named user")
        if self.negatives:
            for name in (self.negatives.of, *self.negatives.along):
                if name not in self.fields and name not in [d.column for d in self.dense]:
                    raise ValueError(f"negatives: {unknown('field', name, self.fields)}")
            item = self.fields.get(self.negatives.of)
            if USER not in self.fields or item is None or item.multi is not None:
                raise ValueError("negatives need a field named user, and one item a row")
        return self
