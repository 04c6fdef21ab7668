"""The settings that determine a run's numbers; the rest of params.yaml is in params.py.

Training imports only this module, so that a change to experiments or tiers retrains nothing.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from domain_experts.models.multi.settings import MultiModelSettings
from domain_experts.strict import Fraction, Init, Positive, Seed, Settings

Folds = Annotated[int, Field(ge=2)]


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
    shared_experts: int = Field(
        default=0,
        ge=0,
        description="experts that serve every row beside the domains', trained before them on all "
        "rows",
    )
    own_subspace: int = Field(
        default=0,
        ge=0,
        description="leading singular directions of a layer's frozen weights that the domains' "
        "experts stay out of",
    )
    orthogonality: float = Field(
        default=0.0,
        ge=0,
        description="weight of the loss on experts' outputs that lie along one another, where "
        "experts are trained under a gate (moe_mlora_joint)",
    )


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
    variance: float = Field(
        default=0.0, ge=0, description="weight of the reward for weights that differ between rows"
    )
    noise: bool = Field(
        default=False, description="noise on the logits in training, learnt; with top_k"
    )

    @model_validator(mode="after")
    def _noise_chooses(self) -> Self:
        if self.noise and self.top_k is None:
            raise ValueError(
                "noise changes which experts are kept: give gate.top_k a number, or leave "
                "gate.noise out"
            )
        return self


class TrainingSettings(Settings):
    """Optimisation, the same in every leg."""

    balance: Literal[
        "none",
        "uncertainty",
        "dwa",
        "gradnorm",
        "metabalance",
        "adatask",
        "pcgrad",
        "cagrad",
    ] = Field(
        default="none",
        description="how the losses of several tasks become one step (arms that train all of them "
        "in one leg); metabalance takes the first task as the target",
    )
    batch_size: Positive
    learning_rate: float = Field(gt=0, le=1)
    max_epochs: Positive = Field(description="cap per leg; early stopping usually comes first")
    optimizer: Literal["adam", "lazy_adam"] = Field(
        default="adam",
        description="lazy_adam moves of embeddings and linear weights only the rows that a batch "
        "has (and their moments; the L2 penalty is theirs alone): for tables of millions of ids",
    )
    patience: Positive = Field(description="validations without improvement before a leg stops")
    validations: Positive = Field(description="validations in an epoch, at equal distances")
    nudge: float = Field(
        ge=0,
        lt=0.001,
        description="relative change of all initial weights; one rounding, 1.2e-7, shows how far "
        "arithmetic alone moves a result (experiment `noise`)",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        description="of products; bfloat16 is faster where the processor has it, but changes "
        "results: not for numbers to be reported (table `arithmetic`)"
    )
    compiled: bool = Field(
        description="compile what a training step does by torch.compile: half a minute of start, "
        "other rounding, and little gain on a CPU (docs/benchmarks.md)"
    )

    @model_validator(mode="after")
    def _balance_can_take_gradients_apart(self) -> Self:
        if self.balance != "none" and self.compiled:
            raise ValueError(
                f"balance '{self.balance}' takes the gradients task by task, which a compiled step "
                "cannot: set compiled to false, or balance to none"
            )
        if self.balance == "adatask" and self.optimizer == "lazy_adam":
            raise ValueError(
                "balance 'adatask' is an Adam of its own: set optimizer to adam, or balance to "
                "another way"
            )
        return self


class RateSettings(Settings):
    """The floors: smoothed click rates, no training."""

    smoothing: float = Field(gt=0, description="pseudo-rows of prior added to each id")


class TreesSettings(Settings):
    """Gradient-boosted trees on counts and click rates (arm `lightgbm`)."""

    leaves: int = Field(ge=2, description="most leaves of a tree")
    learning_rate: float = Field(gt=0, le=1, description="what each tree's values are scaled by")
    max_rounds: Positive = Field(description="cap on trees; early stopping usually comes first")
    patience: Positive = Field(description="rounds without improvement before boosting stops")
    min_rows: Positive = Field(description="fewest training rows of a leaf")
    l2: float = Field(ge=0, description="L2 penalty on the leaves' values")
    folds: Folds = Field(description="folds that the training rows' rates are computed out of")


class StarSettings(Settings):
    """STAR (Sheng et al. 2021), as the released configurations have it."""

    embedding_dim: Positive
    auxiliary: bool = Field(description="add the logits of the auxiliary network")


class NewDomainSettings(Settings):
    """A domain that comes after training."""

    held_out: Annotated[int, Field(ge=0)] = Field(description="number of the domain")
    share: float = Field(gt=0, le=1, description="share of its training rows that are there")


class HeldOutSettings(Settings):
    """Rows for experts and gate that their backbone does not see (arms `*_held_out`)."""

    share: Fraction = Field(description="share of each domain's training rows")


class CrossfitSettings(Settings):
    """Experts on rows that their backbone has not seen, fold by fold (arms `*_crossfit`)."""

    folds: Folds = Field(description="folds of the training rows, each with a backbone of its own")


class MAMDRSettings(Settings):
    """MAMDR (Luo et al. 2023); its inner steps have `training.learning_rate`."""

    outer_step: float = Field(
        gt=0, le=1, description="beta, the part of an epoch's way that the shared weights go"
    )
    own_step: float = Field(
        gt=0, le=1, description="gamma, the part of a pass's way that a domain's own weights go"
    )
    helpers: Positive = Field(
        description="k, other domains that each domain's own weights are led over in an epoch; all "
        "others where there are fewer"
    )


class Protocol(Settings):
    """Where the papers' texts and the released codes differ, one switch each.

    The last seven are read by the multi-domain multi-task models alone.
    """

    split_seed: Seed | None = Field(description="seed of the split; null: the run's own seed")
    batches: Literal["mixed", "by_domain", "alternating", "proportional"] = Field(
        description="batches over all domains; or of one domain each: domain after domain, domains "
        "in turn, or drawn by their rows"
    )
    loss: Literal["mean", "balanced"] = Field(
        description="mean over rows and tasks, or sum of the means of all domains and tasks"
    )
    routing: Literal["phases", "uniform"] = Field(
        description="each leg routes in its own way, or the uniform mix of all experts always"
    )
    freeze: bool = Field(description="a leg trains its own weights only, not all")
    fresh_optimizer: bool = Field(description="each leg starts with new Adam moments")
    reset_best: bool = Field(description="each leg has its own best value to beat")
    selection: Literal["own_domain", "all_domains"] = Field(
        description="an expert's best weights are chosen on its own domain, or on all"
    )
    rollback: bool = Field(description="go back to the best weights after an epoch without gain")
    keep_start: bool = Field(description="a leg may end with the weights it started from")
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


class RunSettings(Settings):
    """Everything that, with data and seed, determines a run."""

    model: ModelSettings
    adapter: AdapterSettings
    gate: GateSettings
    star: StarSettings
    training: TrainingSettings
    rates: RateSettings
    trees: TreesSettings
    new_domain: NewDomainSettings
    held_out: HeldOutSettings
    crossfit: CrossfitSettings
    mamdr: MAMDRSettings
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
