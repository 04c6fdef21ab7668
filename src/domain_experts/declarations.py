"""What declares an arm or a model, and settings that several arms read; imports nothing heavy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome

ProtocolName = Literal[
    "described",
    "released",
    "released_base",
    "released_mlora",
    "m3oe",
    "m3oe_released",
    "m3oe_released_one_axis",
]
Family = Literal["ctr", "multi"]
Need = Literal["domains", "tasks"]


@dataclass(frozen=True)
class Backbone:
    """A model: the label in tables and the module that defines its class `Model`.

    The family `ctr` are the click models that take low-rank experts, `multi` the multi-domain
    multi-task models. `reads` are settings that matter to this model alone. The first line of the
    module's docstring is read by `domain_experts.methods`: name, paper in brackets, idea.
    """

    label: str
    module: str
    family: Family = "ctr"
    reads: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    """Of what the idea takes two or more; with one the model trains, without that part."""
    whole: bool = True
    """Whether the definition was to be had whole; else it follows an abstract or later work."""
    proof: str = "tests/test_backbones.py"
    """Tests that hold it against its equation."""


@dataclass(frozen=True)
class Arm:
    """A method as compared in a table.

    `train` makes a run; importing its module must import nothing heavy. `reads` are the settings
    that matter to it; `needs` are the arms whose weights or records it starts from. `counterpart`
    is the protocol whose switches an experiment flips one by one. A `planted` arm needs generated
    data. An arm with a backbone takes those of its `family`.
    """

    phase: str
    train: Callable[["Assignment"], "Outcome"]
    reads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    protocol: ProtocolName = "described"
    counterpart: ProtocolName | None = None
    family: Family = "ctr"
    backbone: bool = True
    planted: bool = False
    balances: bool = False
    """Whether it trains all tasks in one leg of one lane, so that `training.balance` means it."""
    together: bool = True
    """Whether several processes can train it together: not where a batch's statistics matter."""
    floor: bool = False
    """A simple model that any other must beat to be worth its cost; the registry gives it."""
    label: str = ""
    """In words; the registry gives it, and what follows."""
    paper: str = ""
    """Authors, year and where it is to be had."""
    proof: str = ""
    """Tests that hold it against what it says."""

    @property
    def trainer(self) -> str:
        """The module of `train`, whose code counts."""
        return self.train.__module__


RATES = ("rates", "protocol.split_seed")
LOOP = (
    "training",
    "protocol.split_seed",
    "protocol.batches",
    "protocol.loss",
    "protocol.rollback",
    "protocol.keep_start",
    "protocol.min_improvement",
    "protocol.binned_auc",
    "protocol.embedding_std",
)
DEEP = ("model", *LOOP, "protocol.tower_init", "protocol.dropout_place")
ADAPTER = ("adapter.alpha", "adapter.layers", "protocol.expert_init")
FROZEN = (*DEEP, *ADAPTER, "protocol.frozen_dropout")
SEQUENCE = (
    *FROZEN,
    "adapter.experts_per_domain",
    "gate",
    "protocol.routing",
    "protocol.freeze",
    "protocol.fresh_optimizer",
    "protocol.reset_best",
    "protocol.selection",
)
LINEAR = ("model.embedding_dim", "model.l2", *LOOP)

# M3oE's models have an initial spread of their own
MULTI_LOOP = (*(key for key in LOOP if key != "protocol.embedding_std"), "protocol.restore")
