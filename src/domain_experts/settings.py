"""The settings that determine a run's numbers; the rest of params.yaml is in params.py.

Training imports only this module, so that a change to experiments or tiers retrains nothing.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Init = Literal["glorot_normal", "glorot_uniform"]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base of all parameter models: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSettings(Settings):
    """Backbone (moe_mlora: Movielens configuration of the released code)."""

    embedding_dim: Positive = Field(description="width of each field's embedding")
    hidden: tuple[Positive, ...] = Field(min_length=1, description="widths of the deep tower")
    dropout: Fraction = Field(description="dropout of the deep tower")
    l2: float = Field(ge=0, description="L2 penalty on embeddings and linear weights")


class AdapterSettings(Settings):
    """Low-rank experts and their gate."""

    alpha: Positive = Field(description="rank of a layer of width h is max(h // alpha, 1)")
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        description="layers of the tower that take experts, counted from 0; null: all"
    )
    experts_per_domain: Positive = Field(description="experts trained for each domain")


class GateSettings(Settings):
    """The gate over the experts."""

    dim: Positive = Field(description="width of the gate's own domain embedding")
    input: Literal["domain", "features"] = Field(
        description="what the weights depend on: the domain id alone, or the tower's input too"
    )
    per_layer: bool = Field(description="each layer of the tower has weights of its own")
    top_k: Positive | None = Field(description="experts that may serve a row; null: all")
    temperature: float = Field(gt=0, description="divides the gate's logits")
    load_balance: float = Field(ge=0, description="weight of the load-balance loss")


class TrainingSettings(Settings):
    """Optimisation, the same in every phase."""

    batch_size: Positive
    learning_rate: float = Field(gt=0, le=1)
    max_epochs: Positive = Field(description="cap per phase; early stopping usually comes first")
    patience: Positive = Field(description="epochs without improvement before a phase stops")
    precision: Literal["float32", "bfloat16"] = Field(
        description="of products; bfloat16 is faster where the processor has it, but changes "
        "results: not for numbers to be reported (table `arithmetic`)"
    )
    compiled: bool = Field(
        description="compile what a training step does by torch.compile: half a minute of start, "
        "other rounding, and little gain on a CPU (docs/benchmarks.md)"
    )


class RateSettings(Settings):
    """The floors: smoothed click rates, no training."""

    smoothing: float = Field(gt=0, description="pseudo-rows of prior added to each id")


class StarSettings(Settings):
    """STAR (Sheng et al. 2021), as the released configurations have it."""

    embedding_dim: Positive
    auxiliary: bool = Field(description="add the logits of the auxiliary network")


class NewDomainSettings(Settings):
    """A domain that comes after training."""

    held_out: Annotated[int, Field(ge=0)] = Field(description="number of the domain")
    share: float = Field(gt=0, le=1, description="share of its training rows that are there")


class Protocol(Settings):
    """Where the papers' texts and the released codes differ, one switch each.

    The last seven are read by the multi-domain multi-task models alone.
    """

    split_seed: int | None = Field(ge=0, description="seed of the split; null: the run's own seed")
    batches: Literal["mixed", "by_domain"] = Field(
        description="batches over all domains, or of one domain at a time, domain after domain"
    )
    loss: Literal["mean", "balanced"] = Field(
        description="mean over rows and tasks, or sum of the means of all domains and tasks"
    )
    routing: Literal["phases", "uniform"] = Field(
        description="each phase routes in its own way, or the uniform mix of all experts always"
    )
    freeze: bool = Field(description="a phase trains its own weights only, not all")
    fresh_optimizer: bool = Field(description="each phase starts with new Adam moments")
    reset_best: bool = Field(description="each phase has its own best value to beat")
    selection: Literal["own_domain", "all_domains"] = Field(
        description="an expert's best weights are chosen on its own domain, or on all"
    )
    rollback: bool = Field(description="go back to the best weights after an epoch without gain")
    keep_start: bool = Field(description="a phase may end with the weights it started from")
    frozen_dropout: bool = Field(description="frozen layers keep their dropout in training")
    dropout_place: Literal["before_activation", "after_activation"] = Field(
        description="where the tower drops: the shared branch alone, or all that is activated"
    )
    min_improvement: float = Field(ge=0, description="gain in AUC that counts as an improvement")
    binned_auc: bool = Field(description="select by the AUC of 500 thresholds, and report it too")
    tower_init: Init = Field(description="initial distribution of the tower's weights W")
    expert_init: Init = Field(description="initial distribution of the experts' matrices A")
    embedding_std: float = Field(gt=0, description="standard deviation of the embeddings' init")
    restore: Literal["always", "if_stopped"] = Field(
        description="the best weights are brought back always, or only after early stopping"
    )
    scalars: Literal["upper", "both", "lower", "fixed"] = Field(
        description="which level trains the fusion scalars, if any"
    )
    start: float = Field(description="logit at which the fusion scalars start")
    upper_rows: Literal["train", "validation"] = Field(
        description="rows of the upper level's batches"
    )
    upper_loss: Literal["mean", "balanced"] = Field(description="as `loss`, of the upper level")
    upper_order: Literal[1, 2] = Field(
        description="2: through a gradient step of the weights, as in DARTS"
    )
    upper_learning_rate: float = Field(gt=0, le=1)


class M3oESettings(Settings):
    """What is M3oE's own; each switch but the first is a row of the paper's Table 3."""

    shared_experts: Positive = Field(description="N, experts of the shared module")
    domain_module: bool = Field(description="the domain experts are part of the fusion")
    task_module: bool = Field(description="the task experts are part of the fusion")
    fusion: Literal["sum", "concatenated", "gated"] = Field(
        description="how the three modules' outputs meet: eq. 7, side by side, or all gated"
    )
    tower_norm: Literal["layer", "batch"] = Field(
        description="normalisation in the towers; batch: as in the released ablations"
    )

    @model_validator(mode="after")
    def _one_ablation_at_a_time(self) -> Self:
        if self.fusion != "sum" and not (self.domain_module and self.task_module):
            raise ValueError(f"fusion '{self.fusion}' needs domain_module and task_module")
        return self


class MMoESettings(Settings):
    """What is MMoE's own (Ma et al. 2018)."""

    experts: Positive = Field(description="N, shared experts")


Levels = Annotated[
    Literal[1, 2, 4], Field(description="levels, among which the layers of `hidden` are shared out")
]


class PLESettings(Settings):
    """What is PLE's own (Tang et al. 2020)."""

    levels: Levels
    specific_experts: Positive = Field(description="K, experts of each objective, at each level")
    shared_experts: Positive = Field(description="M, shared experts at each level")


class AdaTTSettings(Settings):
    """What is AdaTT's own (Li et al. 2023); AdaTT-sp has no shared experts."""

    levels: Levels
    experts: Positive = Field(description="m, experts of each objective's unit, at each level")
    shared_experts: Positive = Field(description="experts of the shared unit, at each level")


class M2MSettings(Settings):
    """M2M (Zhang et al. 2022)."""

    experts: Positive = Field(description="K, expert views")
    encoder_layers: Positive = Field(description="layers of the Transformer over the fields")
    heads: Positive = Field(description="attention heads; must divide the embedding's width")
    feedforward: Positive = Field(description="inner width of the Transformer")
    scenario_dim: Positive = Field(description="width of the vector that generates weights")
    unit_layers: Positive = Field(description="layers of a meta unit")
    tower_layers: Positive = Field(description="meta units of the meta tower")


class HiNetSettings(Settings):
    """HiNet (Zhou et al. 2023)."""

    sub_experts: Positive = Field(
        description="sub-experts of each scenario's and the shared expert"
    )
    sub_expert_hidden: Positive = Field(description="hidden width of a sub-expert")
    task_experts: Positive = Field(description="experts of each task")
    shared_experts: Positive = Field(description="experts that the tasks share")


class PEPNetSettings(Settings):
    """PEPNet (Chang et al. 2023)."""

    hidden: tuple[Positive, ...] = Field(min_length=1, description="widths of a task's tower")
    gate_hidden: Positive = Field(description="hidden width of a gate")


class AutoIFSSettings(Settings):
    """AutoIFS (2026); it has steps and penalties of its own."""

    hidden: tuple[Positive, ...] = Field(
        min_length=1, description="widths of the shared layers, and of the gates' network"
    )
    domain_width: Positive = Field(description="width of the domain layer")
    rank: Positive = Field(description="rank of a domain's or task's own part of a layer")
    search_epochs: Positive = Field(description="epochs in which the gates are found")
    rewind: Annotated[int, Field(ge=1)] = Field(
        description="epoch of the search to which all but the gates go back"
    )
    temperature: float = Field(gt=0, description="of the gates' sigmoid at the end of the search")
    batch_size: Positive = Field(description="rows of a step, which its learning rates are for")
    learning_rate: float = Field(gt=0, le=1, description="in the search")
    gate_rate: float = Field(gt=0, description="step of the gates, over that of the weights")
    weight_decay: float = Field(ge=0, description="in the search, on all but the gates")
    retrain_learning_rate: float = Field(gt=0, le=1)
    retrain_weight_decay: float = Field(ge=0)

    @model_validator(mode="after")
    def _rewinds_into_the_search(self) -> Self:
        if self.rewind > self.search_epochs:
            raise ValueError(
                f"rewind {self.rewind} comes after the search, which has {self.search_epochs} "
                "epochs"
            )
        return self


class MultiModelSettings(Settings):
    """The multi-domain multi-task models: sizes that they share, and each one's own."""

    embedding_dim: Positive
    hidden: tuple[Positive, Positive, Positive, Positive] = Field(
        description="widths of the layers; M3oE and STAR: star-like layer, what it gives, the same "
        "again as experts' input, experts; M2M and HiNet take the last alone, PEPNet and AutoIFS "
        "have widths of their own"
    )
    weight_decay: float = Field(ge=0, description="times a weight is added to its gradient")
    m3oe: M3oESettings
    mmoe: MMoESettings
    ple: PLESettings
    adatt: AdaTTSettings
    m2m: M2MSettings
    hinet: HiNetSettings
    pepnet: PEPNetSettings
    autoifs: AutoIFSSettings

    @model_validator(mode="after")
    def _heads_share_the_embedding(self) -> Self:
        if self.embedding_dim % self.m2m.heads:
            raise ValueError(
                f"m2m.heads is {self.m2m.heads}, which does not divide embedding_dim "
                f"{self.embedding_dim}"
            )
        return self


class RunSettings(Settings):
    """Everything that, with data and seed, determines a run."""

    model: ModelSettings
    adapter: AdapterSettings
    gate: GateSettings
    star: StarSettings
    training: TrainingSettings
    rates: RateSettings
    new_domain: NewDomainSettings
    protocol: Protocol
    multi_model: MultiModelSettings


class Undeclared(AttributeError):
    """A setting was read that its reader had not declared."""


class _Declared:
    """Some settings of a model; the others cannot be read."""

    def __init__(self, values: Any, keys: tuple[str, ...], reader: str, at: str = "") -> None:
        self._values, self._keys, self._reader, self._at = values, keys, reader, at

    def model_copy(self, update: dict[str, Any]) -> "_Declared":
        """As of a pydantic model, with some settings replaced: those can be read, too."""
        values = self._values.model_copy(update=update)
        keys = (*self._keys, *(f"{self._at}{name}" for name in update))
        return _Declared(values, keys, self._reader, self._at)

    def __getattr__(self, name: str) -> Any:
        value, key = getattr(self._values, name), f"{self._at}{name}"
        if any(key == own or key.startswith(f"{own}.") for own in self._keys):
            return value
        if any(own.startswith(f"{key}.") for own in self._keys):
            return _Declared(value, self._keys, self._reader, f"{key}.")
        raise Undeclared(
            f"{self._reader} reads the setting '{key}', which it does not declare: the run store "
            "would serve it runs that were trained with another value. Add it to `reads`."
        )


def declared(settings: RunSettings, keys: Iterable[str], reader: str) -> RunSettings:
    """The same settings, of which only the dotted `keys` can be read.

    Raises:
        Undeclared: later, when `reader` reads another one.
    """
    return cast(RunSettings, _Declared(settings, tuple(keys), reader))
