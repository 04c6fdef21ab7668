"""Settings of the multi-domain multi-task models. Here, since params.yaml is read without torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from domain_experts.strict import Positive, Settings


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


class HamurSettings(Settings):
    """HAMUR (Li et al. 2023)."""

    hidden: tuple[Positive, ...] = Field(
        min_length=2, description="widths of a domain's network; the last two layers have adapters"
    )
    bottleneck: Positive = Field(description="width between the two products of an adapter")
    hyper_hidden: Positive = Field(description="hidden width of the hyper-network")
    rank: Positive = Field(description="r, rows and columns of the matrix that a row generates")
    moments: Literal["domain", "all"] = Field(
        description="of which rows an adapter's normalisation takes mean and variance: those of "
        "the row's domain, as the paper's figure has it, or all, as the released code does"
    )


class AdaSparseSettings(Settings):
    """AdaSparse (Yang et al. 2022)."""

    hidden: tuple[Positive, ...] = Field(min_length=1, description="widths of the network")
    factor: Literal["binary", "scaled", "fused"] = Field(
        description="of a neuron that is kept: 1, between threshold and scale, or that with alpha"
    )
    threshold: float = Field(ge=0, description="eps, up to which a neuron is pruned")
    scale: float = Field(gt=0, description="beta, the largest factor; binary: not used")
    alpha: float = Field(gt=0, description="steepness of the sigmoid at the start; scaled: 1")
    alpha_growth: float = Field(ge=0, description="what alpha grows by with each batch")
    sparsity: tuple[float, float] = Field(
        description="binary: least and largest share of pruned neurons without a penalty"
    )
    penalty: float = Field(ge=0, description="lambda of that penalty; scaled and fused: not used")

    @model_validator(mode="after")
    def _prunes_some(self) -> Self:
        most = 1.0 if self.factor == "binary" else self.scale
        if self.threshold >= most:
            raise ValueError(
                f"threshold {self.threshold} prunes every neuron, since no factor is above {most}"
            )
        low, high = self.sparsity
        if not 0 <= low <= high <= 1:
            raise ValueError(f"sparsity [{low}, {high}] is no range of shares, from least to most")
        return self


class SARNetSettings(Settings):
    """SAR-Net (Shen et al. 2021)."""

    shared_experts: Positive = Field(description="experts that the scenarios share")
    domain_experts: Positive = Field(description="experts of each scenario")
    expert_hidden: Positive = Field(description="hidden width of an expert")


class AdaptDHMSettings(Settings):
    """AdaptDHM (Li et al. 2022)."""

    hidden: tuple[Positive, ...] = Field(min_length=1, description="widths of a cluster's network")
    clusters: Positive = Field(description="K, clusters of rows")
    momentum: float = Field(ge=0, lt=1, description="beta, what a centre keeps of itself")


class APGSettings(Settings):
    """APG (Yan et al. 2022)."""

    hidden: tuple[Positive, ...] = Field(min_length=1, description="widths of the network")
    rank: Positive = Field(description="k, of the weights; at most the narrowest width")

    @model_validator(mode="after")
    def _low_rank(self) -> Self:
        if self.rank > min(self.hidden):
            raise ValueError(
                f"rank {self.rank} is above the narrowest of hidden {list(self.hidden)}: the "
                "weights have no higher rank than that"
            )
        return self


class HierRecSettings(Settings):
    """HierRec (Gao et al. 2023)."""

    heads: Positive = Field(description="K, implicit scenarios; must divide the embedding's width")
    inner: Positive = Field(description="width between the two generated products")


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


class AITMSettings(Settings):
    """AITM (Xi et al. 2021)."""

    calibration: float = Field(
        ge=0,
        description="alpha, weight of the loss where a step is more probable than the one before",
    )


class PLATESettings(Settings):
    """PLATE (Wang et al. 2023)."""

    hidden: tuple[Positive, ...] = Field(
        min_length=1, description="widths of the network that weighs the vectors for a user"
    )
    vectors: Positive = Field(description="K, vectors that a user's prompt is a mean of")
    temperature: float = Field(gt=0, description="of the weights' softmax")


class ESCM2Settings(Settings):
    """ESCM2 (Wang et al. 2022)."""

    risk: Literal["inverse_propensity", "doubly_robust"] = Field(
        description="how the error of a step is estimated where nobody got to it"
    )
    weight: float = Field(ge=0, description="lambda_c, of that estimate in the loss")
    clip: float = Field(ge=1, description="largest weight of a row in it")


class SmallHeadsSettings(Settings):
    """Small heads (Wang et al. 2022)."""

    weight: float = Field(ge=0, description="gamma, of the small heads' cross entropy in the loss")


class CrossStitchSettings(Settings):
    """Cross-Stitch (Misra et al. 2016)."""

    own_share: float = Field(
        gt=0, le=1, description="of a task's own network in a unit, at the start"
    )


class SNRSettings(Settings):
    """SNR-Trans (Ma et al. 2019)."""

    sub_networks: Positive = Field(description="sub-networks of a layer")
    hidden: tuple[Positive, ...] = Field(min_length=1, description="widths of the sub-networks")
    penalty: float = Field(ge=0, description="lambda, loss of each connection that is kept")


class MFHSettings(Settings):
    """MFH (Liu et al. 2022)."""

    specific_experts: Positive = Field(description="experts of each branch of a switcher")
    shared_experts: Positive = Field(description="experts that the branches of a switcher share")


class HoMESettings(Settings):
    """HoME (Wang et al. 2024)."""

    categories: Positive = Field(description="categories that the tasks are shared out over")
    experts: Positive = Field(description="experts of each category, of each task, and shared ones")
    meta_width: Positive = Field(description="width of what the experts of categories give")
    gate_parts: Positive = Field(description="L, low-rank parts of a feature gate")
    gate_rank: Positive = Field(description="rank of each part")


class HMoESettings(Settings):
    """HMoE (Li et al. 2020)."""

    experts: Positive = Field(description="experts that all scenarios share")


class AESM2Settings(Settings):
    """AESM2 (Zou et al. 2022)."""

    experts: Positive = Field(description="experts of each layer")
    specific: Positive = Field(description="experts picked as a scenario's or task's own")
    shared: Positive = Field(description="experts picked as shared")
    scenario_hidden: tuple[Positive, ...] = Field(
        min_length=1, description="widths of the layers that pick for scenarios"
    )
    task_hidden: tuple[Positive, ...] = Field(
        min_length=1, description="widths of the layers that pick for tasks"
    )
    noise: float = Field(ge=0, description="deviation of the noise on gates in training")
    selection_loss: float = Field(ge=0, description="lambda, weight of the picked experts' KL")

    @model_validator(mode="after")
    def _has_as_many_to_pick(self) -> Self:
        for key in ("specific", "shared"):
            if getattr(self, key) > self.experts:
                raise ValueError(
                    f"{key} is {getattr(self, key)}, but there are {self.experts} experts to pick "
                    "from"
                )
        return self


class MultiModelSettings(Settings):
    """The multi-domain multi-task models: sizes that they share, and each one's own."""

    embedding_dim: Positive
    hidden: tuple[Positive, Positive, Positive, Positive] = Field(
        description="widths of the layers; M3oE and STAR: star-like layer, what it gives, the same "
        "again as experts' input, experts; M2M, HiNet, HoME, SAR-Net and HierRec take the last "
        "alone; a model with `hidden` of its own has those widths"
    )
    weight_decay: float = Field(ge=0, description="times a weight is added to its gradient")
    m3oe: M3oESettings
    mmoe: MMoESettings
    ple: PLESettings
    adatt: AdaTTSettings
    m2m: M2MSettings
    hinet: HiNetSettings
    pepnet: PEPNetSettings
    hamur: HamurSettings
    adasparse: AdaSparseSettings
    sarnet: SARNetSettings
    adaptdhm: AdaptDHMSettings
    apg: APGSettings
    hierrec: HierRecSettings
    aitm: AITMSettings
    escm2: ESCM2Settings
    plate: PLATESettings
    small_heads: SmallHeadsSettings
    cross_stitch: CrossStitchSettings
    snr: SNRSettings
    mfh: MFHSettings
    home: HoMESettings
    hmoe: HMoESettings
    aesm2: AESM2Settings
    autoifs: AutoIFSSettings

    @model_validator(mode="after")
    def _heads_share_the_embedding(self) -> Self:
        for name, heads in (("m2m", self.m2m.heads), ("hierrec", self.hierrec.heads)):
            if self.embedding_dim % heads:
                raise ValueError(
                    f"{name}.heads is {heads}, which does not divide embedding_dim "
                    f"{self.embedding_dim}"
                )
        return self
