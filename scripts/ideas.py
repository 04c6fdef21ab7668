"""Show each idea of a model on generated rows where it must help, against the model without it.

    python scripts/ideas.py [--only MODEL ...]

All rows have one law: a label is 1 with probability sigmoid(3 (v_1 v_2 + v_3)). What differs is
whose v is: that of the row's domain, user, cluster or task. Each is planted so that one idea finds
it. Both models see the same rows and start from the same weights; the domain is a field of both,
unless the idea is that it is known at all. This writes AUCs on new rows to RESULTS, and their table
into DOCUMENT.
"""

import argparse
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.settings import MultiModelSettings
from domain_experts.params import load
from domain_experts.registry import BACKBONES
from domain_experts.reporting.render import number
from domain_experts.schema import Schema

RESULTS, DOCUMENT = Path("results/ideas.csv"), Path("docs/m3oe.md")
START, END = "<!-- scripts/ideas.py writes this table -->\n", "<!-- end of the table -->\n"
SEEDS = range(5)
TRAIN, TEST, BATCH, STEPS = 4000, 10_000, 256, 300
RATE, DECAY = 0.01, 1e-4
OF_ONE = 3
"""Numbers in v."""
USERS = 60
SIZES: dict[str, Any] = {
    "embedding_dim": 4,
    "hidden": (24, 24, 24, 12),
    "pepnet": {"hidden": (24, 12), "gate_hidden": 12},
    "adasparse": {"hidden": (24, 12)},
    "adaptdhm": {"hidden": (24, 12), "clusters": 4},
    "hamur": {"hidden": (24, 12), "bottleneck": 6, "hyper_hidden": 12, "rank": 4},
    "apg": {"hidden": (24, 12), "rank": 12},
    "m2m": {"heads": 2, "scenario_dim": 8},
    "sarnet": {"expert_hidden": 24, "shared_experts": 3, "domain_experts": 1},
}


class Planted(NamedTuple):
    """Rows with labels, as a model takes them."""

    fields: Tensor
    dense: Tensor
    domain: Tensor
    labels: Tensor
    users: int
    """Codes of the first field; it may be a dummy."""
    domains: int


def generate(kind: str, rows: int, seed: int, world: int) -> Planted:
    """Draw rows.

    | kind | whose v it is |
    |---|---|
    | domain's features | three dense features of the row's domain, of 12; four domains |
    | user's features | three of the user's, of 12; a user has one of four tastes |
    | cluster's features | three of the row's cluster, of 12; four more tell it, no field does |
    | task's features | three of each of two tasks, of 6 |
    | scaled inputs | v; each of 12 domains shows it shifted and stretched by its own vectors |
    | turned inputs | v; each of four domains shows it turned by its own rotation |
    | rates | v, and a constant of each of four domains in the logit |

    Args:
        kind: as above.
        rows: how many.
        seed: of the rows.
        world: of what all rows share, such as the users' tastes.
    """
    rng, shared = np.random.default_rng(seed), np.random.default_rng(world)
    domains = 12 if kind == "scaled inputs" else 4
    domain, user = rng.integers(domains, size=rows), rng.integers(USERS, size=rows)
    tastes, constants = shared.integers(4, size=USERS), 1.5 * shared.normal(size=domains)
    everyone, constant = np.arange(rows), np.zeros(rows)
    dense = rng.normal(size=(rows, 4, OF_ONE))
    v = [dense[:, 0]]
    match kind:
        case "domain's features":
            v = [dense[everyone, domain]]
        case "user's features":
            v = [dense[everyone, tastes[user]]]
        case "cluster's features":
            cluster = rng.integers(4, size=rows)
            v = [dense[everyone, cluster]]
            place = 4 * np.eye(4)[cluster] + 0.3 * rng.normal(size=(rows, 4))
            dense = np.concatenate([dense.reshape(rows, -1), place], 1)
        case "task's features":
            v, dense = [dense[:, 0], dense[:, 1]], dense[:, :2]
        case "scaled inputs":
            stretch = np.exp(shared.normal(size=(domains, OF_ONE)))
            shift = 2 * shared.normal(size=(domains, OF_ONE))
            dense = stretch[domain] * (dense[:, 0] + shift[domain])
        case "turned inputs":
            turns, _ = np.linalg.qr(shared.normal(size=(domains, OF_ONE, OF_ONE)))
            dense = np.einsum("nij,nj->ni", turns[domain], dense[:, 0])
        case "rates":
            constant, dense = constants[domain], dense[:, 0]
        case _:
            raise ValueError(f"unknown kind '{kind}'")
    logits = np.stack([3 * (x[:, 0] * x[:, 1] + x[:, 2]) + constant for x in v], 1)
    labels = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return Planted(
        torch.from_numpy(np.stack([user, np.zeros(rows, int), domain], 1)).int(),
        torch.from_numpy(dense.reshape(rows, -1)).float(),
        torch.from_numpy(domain),
        torch.from_numpy(labels).float(),
        USERS,
        domains,
    )


class KeepAll(nn.Module):
    """Factors of one, in the place of gates and of AdaSparse's pruners."""

    def __init__(self, width: int | None = None) -> None:
        super().__init__()
        self.width = width

    def forward(self, z: Tensor, *others: Tensor) -> Tensor:
        """Ones (B, width): as wide as what is pruned where no width is given."""
        return z.new_ones(len(z), self.width or others[0].shape[1])


class Nothing(nn.Module):
    """An adapter that adds nothing."""

    def forward(self, h: Tensor, *others: Tensor) -> Tensor:
        """Zeros like h."""
        return torch.zeros_like(h)


def fixed(name: str, value: float = 0.0) -> Callable[[MultiModel], None]:
    """Have the parameters of a name stay at a value."""

    def fix(model: MultiModel) -> None:
        found = [p for own, p in model.named_parameters() if f"{own}.".startswith(f"{name}.")]
        assert found, name
        for parameter in found:
            nn.init.constant_(parameter, value).requires_grad_(False)

    return fix


def keep_all(model: Any) -> None:
    """No pruning."""
    model.pruners = nn.ModuleList(KeepAll() for _ in model.pruners)


def open_embeddings(model: Any) -> None:
    """No gate of the domain."""
    model.epnet = KeepAll(model.width)


def open_towers(model: Any) -> None:
    """No gates of user and item."""
    model.ppnet = nn.ModuleList(KeepAll(part.W_2.shape[1]) for part in model.ppnet)


def no_adapters(model: Any) -> None:
    """No adapter cells."""
    model.cells = nn.ModuleList(Nothing() for _ in model.cells)


def no_scaling(model: Any) -> None:
    """Scales of 1, shifts of 0."""
    fixed("beta", 1.0)(model)
    fixed("gamma")(model)


BOTH, NO_DOMAIN, PEOPLE = slice(1, 3), slice(1, 2), slice(0, 3)


class Idea(NamedTuple):
    """A model, where it must help, and what it is without its idea."""

    model: str
    planted: str
    without: str
    change: Callable[[MultiModel], None] | dict[str, Any]
    """What is done to the model, or sizes that it has instead."""
    fields: slice = BOTH
    """Of user, a dummy and domain, those that the models see."""


IDEAS = (
    Idea("adasparse", "domain's features", "no pruning", keep_all),
    Idea("epnet", "domain's features", "gate open", open_embeddings),
    Idea("star_one_layer", "domain's features", "W_d = 1", fixed("representation.weights", 1.0)),
    Idea("domain_feature", "domain's features", "no domain", fixed("e"), NO_DOMAIN),
    Idea("ppnet", "user's features", "gates open", open_towers, PEOPLE),
    Idea("adaptdhm", "cluster's features", "one cluster", {"adaptdhm": {"clusters": 1}}),
    Idea("hamur", "cluster's features", "no adapters", no_adapters),
    Idea("sarnet", "scaled inputs", "beta = 1, gamma = 0", no_scaling),
    Idea("apg", "turned inputs", "one core for all", fixed("domains")),
    Idea("m2m", "turned inputs", "one scenario vector", fixed("scenarios")),
    Idea("hierrec", "turned inputs", "no domain vector", fixed("domains")),
    Idea("mmoe", "task's features", "one expert", {"mmoe": {"experts": 1}}),
    Idea("cross_stitch", "task's features", "equal shares", fixed("a", 0.5)),
    Idea("domain_bias", "rates", "no constants", fixed("b"), NO_DOMAIN),
)


def auc(idea: Idea, seed: int, has_idea: bool) -> float:
    """AUC on new rows, the mean over tasks, of a model with its idea or without."""
    train, test = (generate(idea.planted, n, s, seed) for n, s in rows_of(seed))
    model = new_model(idea, train, seed, has_idea)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], RATE, weight_decay=DECAY
    )
    for _ in range(STEPS):
        index = torch.randint(TRAIN, (BATCH,), generator=generator)
        loss = binary_cross_entropy_with_logits(
            model(train.fields[index, idea.fields], train.dense[index], train.domain[index]),
            train.labels[index],
        )
        extra = model.auxiliary_loss()
        optimizer.zero_grad()
        torch.autograd.backward(loss if extra is None else loss + extra)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        scores = model(test.fields[:, idea.fields], test.dense, test.domain)
    pairs = zip(test.labels.T.numpy(), scores.T.numpy(), strict=True)
    return float(np.mean([roc_auc_score(*pair) for pair in pairs]))


def rows_of(seed: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Numbers and seeds of the rows to train on, and of new ones."""
    return (TRAIN, 1000 + seed), (TEST, 2000 + seed)


def new_model(idea: Idea, data: Planted, seed: int, has_idea: bool) -> MultiModel:
    """The model of an idea, or the same without it."""
    fields = (("user", data.users), ("item", 1), ("domain", data.domains))[idea.fields]
    schema = Schema(
        fields,
        tuple(f"x{i}" for i in range(data.dense.shape[1])),
        tuple(map(str, range(data.domains))),
        tuple(map(str, range(data.labels.shape[1]))),
    )
    changed = {} if has_idea or not isinstance(idea.change, dict) else idea.change
    values = load(Path("params.yaml")).multi_model.model_dump()
    for sizes in (SIZES, changed):
        for name, own in sizes.items():
            values[name] = values[name] | own if isinstance(own, dict) else own
    context = MultiContext(
        schema,
        MultiModelSettings.model_validate(values),
        torch.Generator().manual_seed(seed),
        fusion_start=0.0,
    )
    model: MultiModel = import_module(BACKBONES[idea.model].module).Model(context)
    if not has_idea and callable(idea.change):
        idea.change(model)
    return model.train()


def measured(ideas: tuple[Idea, ...]) -> Iterator[dict[str, Any]]:
    """One line an idea and seed."""
    for idea in ideas:
        for seed in SEEDS:
            with_it, without = (auc(idea, seed, has_idea) for has_idea in (True, False))
            yield {
                "model": idea.model,
                "planted": idea.planted,
                "left out": idea.without,
                "seed": seed,
                "with": round(with_it, 5),
                "without": round(without, 5),
            }


def table(found: pd.DataFrame) -> str:
    """Means over seeds, and the gain with its standard deviation."""
    lines = [
        "| Model | Planted | Left out | AUC | Without | Gain (SD over seeds) | Seeds with a gain |",
        "| :-- | :-- | :-- | --: | --: | --: | --: |",
    ]
    for (model, planted, left_out), own in found.groupby(
        ["model", "planted", "left out"], sort=False
    ):
        gain = own["with"] - own["without"]
        lines.append(
            f"| `{model}` | {planted} | {left_out} | {number(own['with'].mean())} "
            f"| {number(own['without'].mean())} "
            f"| {number(gain.mean(), signed=True)} ({number(gain.std())}) "
            f"| {(gain > 0).sum()} of {len(gain)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the numbers and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", choices=[idea.model for idea in IDEAS])
    only = parser.parse_args().only
    torch.set_num_threads(1)
    lines = [*measured(tuple(i for i in IDEAS if only is None or i.model in only))]
    found = pd.DataFrame(lines)
    if only is not None and RESULTS.exists():
        old = pd.read_csv(RESULTS)
        found = pd.concat([old[~old["model"].isin(only)], found])
    found.to_csv(RESULTS, index=False)
    DOCUMENT.write_text(filled(DOCUMENT.read_text(), found))


def filled(text: str, found: pd.DataFrame) -> str:
    """The document with its table."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(found)}\n{END}{after}"


if __name__ == "__main__":
    main()
