"""What an experiment says of a search for settings: its space and its budget."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from domain_experts.strict import Positive, Seeds, Settings, distinct


class Range(Settings):
    """Numbers between two bounds, both included; whole ones if both bounds are."""

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="draw evenly on a logarithmic scale")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low above 0, not {self.low}")
        return self


Choices = Annotated[tuple[Any, ...], Field(min_length=2), AfterValidator(distinct)]


class SearchSettings(Settings):
    """How the settings of an experiment's arms are chosen, by validation rows alone.

    Every arm has the same budget. A trial trains the arm with what it starts from, for each seed.
    """

    trials: dict[str, Positive] = Field(description="settings tried for each arm, by tier")
    passes: dict[str, Positive] = Field(
        description="no trial begins once those of an arm have passed so often over the training "
        "rows of the seeds, by tier"
    )
    seeds: Seeds = Field(min_length=1, description="of the trials; none of the experiment's own")
    sampler: Literal["tpe", "random"] = "tpe"
    prune: bool = Field(
        default=False, description="end a trial whose best validation AUC is below the median"
    )
    starts_from: dict[str, str] = Field(
        default={},
        description="arm -> arm whose search comes first: the first half of the trials are that "
        "one's, the best of them fixes what it searched, and only the arm's own space is searched "
        "in the other half",
    )
    space: dict[str, dict[str, Range | Choices]] = Field(
        description="arm, or all -> dotted setting, of one arm (`arm/key`) or of all that a trial "
        "trains -> its values"
    )
