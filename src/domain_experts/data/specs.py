"""What params.yaml says of a data set: where its rows come from, and how they are split."""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from domain_experts.data.log.spec import LogSpec
from domain_experts.strict import Positive, Seed, Settings

Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
DatasetName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]


class Fractions(NamedTuple):
    """Shares of the rows; training takes the rest."""

    validation: float
    test: float


RuleName = Literal[
    "random",
    "stratified",
    "by_user_negatives",
    "by_time",
    "each_user_last",
    "leave_one_out",
    "positional",
    "positional_by_domain",
    "given",
]
WITHOUT_FRACTIONS = ("leave_one_out", "given")


class SplitRule(Settings):
    """How the rows of a data set become train, validation and test rows.

    Drawn anew for each seed: `random` from all rows, `stratified` from those of each domain and
    label, `by_user_negatives` as MAMDR does where negatives are sampled. The same for every seed:
    `by_time`, the last rows are the test; `each_user_last`, the last rows of each user;
    `leave_one_out`, the last row of each user; `positional`, the last rows in the data set's order;
    `positional_by_domain`, those of each domain; `given`, as it came with the data.
    """

    rule: RuleName
    validation_fraction: float = Field(
        default=0, ge=0, lt=1, description="left out for leave_one_out and given"
    )
    test_fraction: float = Field(
        default=0, ge=0, lt=1, description="left out for leave_one_out and given"
    )

    @property
    def fractions(self) -> Fractions:
        """Shares of the validation and the test rows."""
        return Fractions(self.validation_fraction, self.test_fraction)

    @model_validator(mode="after")
    def _has_its_fractions(self) -> Self:
        if self.rule in WITHOUT_FRACTIONS:
            if any(self.fractions):
                raise ValueError(f"{self.rule} takes no fractions")
        elif not all(self.fractions):
            raise ValueError(f"{self.rule} needs a validation_fraction and a test_fraction above 0")
        elif sum(self.fractions) >= 1:
            raise ValueError("test_fraction + validation_fraction leave no training rows")
        return self


class Splittable(Settings):
    """A data set: any may have a split rule of its own."""

    usual_split: ClassVar[RuleName] = "stratified"
    split: SplitRule | None = Field(
        default=None,
        description="null: stratified (by_user_negatives where negatives are sampled, given where "
        "the split came with the data), with the fractions of `data`",
    )


class Sampled(Splittable):
    """A data set of positives, to which negatives are sampled."""

    usual_split: ClassVar[RuleName] = "by_user_negatives"


class MovieLens(Splittable):
    """MovieLens ratings; the domain is an attribute of the user."""

    source: Literal["ml-100k", "ml-1m"]
    domain: Literal["gender", "age", "occupation", "age_group"] = Field(
        description="age_group: under 25, 25-34, 35+"
    )
    labels: Literal["rating_5", "click_like"] = Field(
        default="rating_5",
        description="one task: rating 5; or two: click (rating > 3) and like (rating > 4)",
    )
    features: Literal["ids", "profile"] = Field(
        default="ids",
        description="user, item and domain; or also gender, occupation, zip, first genre and age",
    )
    order: Literal["file", "timestamp", "two_sorts", "shuffled", "each_user"] = Field(
        default="file",
        description="order of the rows; two_sorts: as an old pandas merge leaves them; each_user: "
        "by the share of the user's history that lies before",
    )


class Generated(Splittable):
    """What all generated data sets have: users, items and domains in planted groups.

    Domain d belongs to group d mod groups.
    """

    source: Literal["planted", "planted-tasks"]
    seed: Seed = Field(description="the data's own seed; runs differ by their split only")
    rows: Positive
    users: Positive
    items: Positive
    domains: Positive
    groups: Positive = Field(description="planted experts; domains of one group share one")
    latent_dim: Positive
    common: float = Field(ge=0, description="weight of the affinity that all domains share")
    strength: float = Field(ge=0, description="weight of the group's own affinity")
    sparsity: float = Field(ge=0, description="Zipf exponent of users and items; 0 = uniform")
    skew: float = Field(gt=0, le=1, description="rows of each domain over those of the one before")

    @model_validator(mode="after")
    def _groups_have_domains(self) -> Self:
        if self.groups > self.domains:
            raise ValueError(f"groups ({self.groups}) exceed domains ({self.domains})")
        return self


class Planted(Generated):
    """Generated clicks whose domains share planted experts.

    logit = bias_d + activity_u + popularity_i + common <p_u, q_i> + strength <w_g, q_i>
    """

    source: Literal["planted"]
    positive_rate: Rate


class PlantedTasks(Generated):
    """Generated labels of several tasks that agree with each other or conflict, as domains do.

    logit_t = bias_dt + activity_u + popularity_i
              + common <p_u, q_i> + strength <w_g, q_i> + task_strength <v_t, q_i>
    """

    source: Literal["planted-tasks"]
    positive_rates: dict[str, Rate] = Field(
        min_length=1, description="task to its share of positive labels"
    )
    task_strength: float = Field(ge=0, description="weight of the task's own affinity")
    agreement: float = Field(
        ge=-1,
        le=1,
        description="cosine between any two tasks' directions v_t: 1 the same, 0 unrelated, "
        "-1 opposed",
    )

    @model_validator(mode="after")
    def _directions_exist(self) -> Self:
        tasks = len(self.positive_rates)
        if tasks > self.latent_dim:
            raise ValueError(f"{tasks} tasks need a latent_dim of {tasks} or more")
        if tasks > 1 and self.agreement * (tasks - 1) < -1:
            raise ValueError(f"the agreement of {tasks} tasks is at least {-1 / (tasks - 1):.3f}")
        return self


class Epinions(Splittable):
    """Epinions ratings of the largest item categories, which are the domains."""

    source: Literal["epinions"]
    domains: Positive = Field(description="how many categories, by rows, are kept")
    core: Positive = Field(description="least rows of a user and of an item, over all categories")
    label_at_least: int = Field(ge=1, le=5, description="lowest rating whose label is 1")


class Taobao(Sampled):
    """Clicks in the first themes of Taobao's log; the negatives are sampled."""

    source: Literal["taobao"]
    themes: Positive


class Amazon(Sampled):
    """Amazon reviews, each a positive; the domain is the category, the negatives are sampled."""

    source: Literal["amazon-3", "amazon-6", "amazon-13"]


class Mamdr(Splittable):
    """Rows, negatives and split as the authors of MAMDR prepared them."""

    usual_split: ClassVar[RuleName] = "given"
    source: Literal[
        "mamdr-taobao-10",
        "mamdr-taobao-20",
        "mamdr-taobao-30",
        "mamdr-amazon-6",
        "mamdr-amazon-13",
    ]


class KuaiRand(Splittable):
    """KuaiRand-Pure: impressions in tabs 0, 1 and 4, which are the domains; click and long view."""

    source: Literal["kuairand-pure"]
    order: Literal["timestamp", "shuffled"] = Field(description="order of the rows")


class Log(LogSpec):
    """A click log of one's own; its rows are split as they are read, alike for all seeds."""

    source: Literal["log"]
    push: bool = Field(
        default=False, description="`dvc push` takes it along, with weights and predictions"
    )


Dataset = Annotated[
    MovieLens | Epinions | Taobao | Amazon | Mamdr | KuaiRand | Planted | PlantedTasks | Log,
    Field(discriminator="source"),
]
