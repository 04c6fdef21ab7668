"""What all settings are made of: a strict base, and numbers within bounds."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, lt=2**31)]
Init = Literal["glorot_normal", "glorot_uniform"]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, if no two are the same."""
    if any(value in values[:i] for i, value in enumerate(values)):
        raise ValueError(f"the same value twice in {list(values)}; keep one of them")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Results keep seeds as signed integers of 64 bits."""
Seeds = Annotated[tuple[Seed, ...], AfterValidator(distinct)]


class Settings(BaseModel):
    """Base of all parameter models: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
