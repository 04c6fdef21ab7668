"""Show each idea of a model on generated rows where it must help, against the model without it.

    python scripts/ideas.py [--only MODEL ...]

A label is 1 with probability sigmoid(3 (v_1 v_2 + v_3)), but where a kind of rows says otherwise.
What differs is whose v is: that of the row's domain, user, cluster or task. Each is planted so that
one idea finds it. Both models see the same rows and start from the same weights; the domain is a
field of both, unless the idea is that it is known at all. This writes AUCs on new rows to RESULTS,
and their table into DOCUMENT.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.settings import MultiModelSettings
from domain_experts.params import load
from domain_experts.registry import BACKBONES
from domain_experts.reporting.render import number
from domain_experts.schema import Schema

RESULTS, DOCUMENT = Path("results/ideas.csv"), Path("docs/m3oe.md")
START, END = "<!-- scripts/ideas.py writes this table -->\n", "<!-- end of the table -->\n"
SEEDS = range(10, 15)
"""Not those on which widths and ways to leave an idea out were tried."""
TRAIN, TEST, BATCH, STEPS = 4000, 10_000, 256, 300
RATE, DECAY = 0.01, 1e-4
OF_ONE = 3
"""Numbers in v."""
USERS = 60
FUNNELS = ("funnel", "clicks that choose")
"""Kinds in which the second task takes the first."""
SIZES: dict[str, Any] = {
    "embedding_dim": 4,
    "pepnet": {"hidden": (24, 12), "gate_hidden": 12},
    "adasparse": {"hidden": (24, 12)},
    "adaptdhm": {"hidden": (24, 12), "clusters": 4},
    "hamur": {"hidden": (24, 12), "bottleneck": 6, "hyper_hidden": 12, "rank": 4},
    "apg": {"hidden": (24, 12), "rank": 12},
    "m2m": {"heads": 2, "scenario_dim": 8},
    "sarnet": {"expert_hidden": 24, "shared_experts": 3, "domain_experts": 1},
    "hinet": {"sub_expert_hidden": 12, "task_experts": 1},
    "snr": {"hidden": (12, 6)},
    "home": {"experts": 1, "meta_width": 6, "gate_rank": 2},
    "hmoe": {"experts": 2},
    "aesm2": {"experts": 4, "specific": 1, "shared": 1}
    | {"scenario_hidden": (12, 12), "task_hidden": (12, 6)},
}
NARROW = (12, 12, 12, 4)
"""Widths for ideas of sharing: what is learnt for one must not find room beside all else."""


class Planted(NamedTuple):
    """Rows with labels, as a model takes them."""

    fields: Tensor
    dense: Tensor
    domain: Tensor
    labels: Tensor
    users: int
    """Codes of the first field; it may be a dummy."""
    domains: int
    if_clicked: Tensor | None = None
    """Labels, had everybody clicked. On the second task's is tested its probability given the
    first, in the place of the labels."""


def generate(kind: str, rows: int, seed: int, world: int) -> Planted:
    """Draw rows.

    | kind | whose v it is |
    |---|---|
    | domain's features | three dense features of the row's domain, of 12; four domains |
    | user's features | three of the user's, of 12; a user has one of four tastes |
    | cluster's features | three of the row's cluster, of 12; four more tell it, no field does |
    | task's features | three of each of two tasks, of 6 |
    | four tasks' features | three of each of four tasks, of 12 |
    | domain's and task's features | three of the row's domain, of 12, and three of the task, of 6 |
    | blended rates | three of each of two domains, of 6; two more have the mean of both rates |
    | funnel | three of clicks, of 6; three of conversions, which take a click and are rare |
    | clicks that choose | of conversions: three, of 9, where a click is likely, else three more |
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
    if kind in OWN_LAWS:
        dense, logits = OWN_LAWS[kind](dense, domain, rng)
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
        case "four tasks' features":
            v = list(dense.swapaxes(0, 1))
        case "scaled inputs":
            stretch = np.exp(shared.normal(size=(domains, OF_ONE)))
            shift = 2 * shared.normal(size=(domains, OF_ONE))
            dense = stretch[domain] * (dense[:, 0] + shift[domain])
        case "turned inputs":
            turns, _ = np.linalg.qr(shared.normal(size=(domains, OF_ONE, OF_ONE)))
            dense = np.einsum("nij,nj->ni", turns[domain], dense[:, 0])
        case "rates":
            constant, dense = constants[domain], dense[:, 0]
        case _ if kind not in OWN_LAWS:
            raise ValueError(f"unknown kind '{kind}'")
    if kind not in OWN_LAWS:
        logits = np.stack([law(x) + constant for x in v], 1)
    labels = if_clicked = rng.random(logits.shape) < expit(logits)
    if kind in FUNNELS:
        labels = np.logical_and.accumulate(labels, 1)
    return Planted(
        torch.from_numpy(np.stack([user, np.zeros(rows, int), domain], 1)).int(),
        torch.from_numpy(dense.reshape(rows, -1)).float(),
        torch.from_numpy(domain),
        torch.from_numpy(labels).float(),
        USERS,
        domains,
        torch.from_numpy(if_clicked).float() if kind == "clicks that choose" else None,
    )


def law(v: np.ndarray) -> np.ndarray:
    """The logit of v (rows, 3)."""
    return np.asarray(3 * (v[:, 0] * v[:, 1] + v[:, 2]))


Drawn = tuple[np.ndarray, np.ndarray]


def of_domain_and_task(dense: np.ndarray, domain: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Features and logits: half of a logit is the domain's, half the task's."""
    more = rng.normal(size=(len(dense), 2, OF_ONE))
    own = law(dense[np.arange(len(dense)), domain])
    logits = np.stack([(own + law(more[:, t])) / 2**0.5 for t in range(2)], 1)
    return np.concatenate([dense, more], 1), logits


def blended(dense: np.ndarray, domain: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Features and logits: the last domains' rates are the mean of the first two's."""
    p = expit(law(dense[:, 0])), expit(law(dense[:, 1]))
    rates = np.select([domain == 0, domain == 1], p, (p[0] + p[1]) / 2)
    return dense[:, :2], logit(rates)[:, None]


def funnel(dense: np.ndarray, domain: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Features and logits: of clicks, and of conversions after them."""
    return dense[:, :2], np.stack([law(dense[:, 0]), law(dense[:, 1]) - 3], 1)


def choosing(dense: np.ndarray, domain: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Features and logits: conversions have another law where a click is unlikely."""
    click = 3 * dense[:, 2, 0] - 1
    conversion = law(dense[np.arange(len(dense)), (dense[:, 2, 0] < 0).astype(int)])
    return dense[:, :3], np.stack([click, conversion], 1)


OWN_LAWS = {
    "domain's and task's features": of_domain_and_task,
    "blended rates": blended,
    "funnel": funnel,
    "clicks that choose": choosing,
}


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


def silent(*parts: str) -> Callable[[MultiModel], None]:
    """Have parts of these names, wherever they are, give zeros."""

    def silence(model: MultiModel) -> None:
        found = [p for own, p in model.named_parameters() if set(parts) & set(own.split("."))]
        assert found, parts
        for parameter in found:
            nn.init.zeros_(parameter).requires_grad_(False)

    return silence


def no_fusion(model: MultiModel) -> None:
    """Of M3oE's experts the shared ones alone."""
    for weight in ("a_D", "a_T"):
        fixed(f"fusion.{weight}", -20.0)(model)


def all_connected(model: Any) -> None:
    """No connection that can be cut."""
    for connections in model.connections:
        nn.init.constant_(connections.log_alpha, 10.0).requires_grad_(False)


def shared_alone(model: Any) -> None:
    """Of HiNet's first layer what all scenarios share."""
    fixed("attention")(model)
    all_parts = model.by_scenario

    def by_scenario(x: Tensor, counts: list[int]) -> Tensor:
        G, *others = all_parts(x, counts).chunk(3, 1)
        return torch.cat([G, *map(torch.zeros_like, others)], 1)

    model.by_scenario = by_scenario


def one_kind(model: Any) -> None:
    """AESM2's experts are picked as for one scenario and one task."""
    for name in ("scenarios", "tasks"):
        fixed(name)(model)
    for layer in (*model.scenario_layers, *model.task_layers):
        layer.register_forward_pre_hook(
            lambda _, given: (*given[:2], torch.zeros_like(given[2]), *given[3:])
        )


def no_relations(model: Any) -> None:
    """A domain's prediction is its own."""
    model.relations = None


def no_product(model: Any) -> None:
    """A step's tower gives the probability of all steps up to it."""
    model.grouped = model.steps


class OwnPart(nn.Module):
    """AITM's transfer without what it transfers."""

    def forward(self, u: Tensor) -> Tensor:
        """What the task's own layers give."""
        return u[:, 1]


def no_transfer(model: Any) -> None:
    """Nothing is handed on."""
    model.handed_on.requires_grad_(False)
    model.transfers = nn.ModuleList(OwnPart() for _ in model.transfers)


BOTH, NO_DOMAIN, PEOPLE = slice(1, 3), slice(1, 2), slice(0, 3)
NAMELESS = slice(0, 2)
BOTHS = "domain's and task's features"
BY_DOMAIN = ("by_domain", "shared_of_domain", "leaves_by_domain")


class Idea(NamedTuple):
    """A model, where it must help, and what it is without its idea."""

    model: str
    planted: str
    without: str
    change: Callable[[MultiModel], None] | dict[str, Any]
    """What is done to the model, or sizes that it has instead."""
    fields: slice = BOTH
    """Of user, a dummy and domain, those that the models see."""
    hidden: tuple[int, int, int, int] = (24, 24, 24, 12)


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
    Idea("m2m", "domain's features", "one scenario vector", fixed("scenarios")),
    Idea("mmoe", "four tasks' features", "equal gates", fixed("gates"), hidden=NARROW),
    Idea(
        "ple", "four tasks' features", "no experts of their own", silent("specific"), hidden=NARROW
    ),
    Idea("snr", "four tasks' features", "all connections", all_connected, hidden=NARROW),
    Idea(
        "home", "four tasks' features", "one category", {"home": {"categories": 1}}, hidden=NARROW
    ),
    Idea("m3oe", BOTHS, "a_D = a_T = 0", no_fusion, hidden=NARROW),
    Idea("hinet", BOTHS, "shared expert alone", shared_alone),
    Idea("mfh", BOTHS, "no tree by domain", silent(*BY_DOMAIN), hidden=NARROW),
    Idea("aesm2", BOTHS, "one scenario, one task", one_kind, hidden=NARROW),
    Idea("hmoe", "blended rates", "own prediction alone", no_relations, hidden=NARROW),
    Idea("esmm", "funnel", "no product", no_product),
    Idea("aitm", "funnel", "nothing handed on", no_transfer),
    Idea("escm2", "clicks that choose", "ESMM", {"escm2": {"weight": 0.0}}, hidden=NARROW),
    Idea("plate", "domain's features", "no prompts", silent("of_domain", "of_user"), NAMELESS),
    Idea("small_heads", "task's features", "no small heads", {"small_heads": {"weight": 0.0}}),
)


def auc(idea: Idea, seed: int, has_idea: bool) -> float:
    """AUC on new rows, the mean over tasks, of a model with its idea or without."""
    train, test = (generate(idea.planted, n, s, seed) for n, s in rows_of(seed))
    model = new_model(idea, train, seed, has_idea)
    generator = torch.Generator().manual_seed(seed)
    for leg in model.legs().values():
        train_on(model, leg.values(), train, idea.fields, generator)
    model.eval()
    with torch.no_grad():
        scores = model(test.fields[:, idea.fields], test.dense, test.domain)
    labels = test.labels
    if test.if_clicked is not None:
        # the logarithm of the probability given a click
        labels, (click, both) = test.if_clicked[:, 1:], logsigmoid(scores).unbind(1)
        scores = (both - click).unsqueeze(1)
    pairs = zip(labels.T.numpy(), scores.T.numpy(), strict=True)
    return float(np.mean([roc_auc_score(*pair) for pair in pairs]))


def train_on(
    model: MultiModel,
    weights: Iterable[nn.Parameter],
    rows: Planted,
    fields: slice,
    generator: torch.Generator,
) -> None:
    """Take the steps of one leg, which trains these weights."""
    trained = [p for p in weights if p.requires_grad]
    if not trained:
        return
    optimizer = torch.optim.Adam(trained, RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        index = torch.randint(TRAIN, (BATCH,), generator=generator)
        labels = rows.labels[index]
        loss = binary_cross_entropy_with_logits(
            model(rows.fields[index, fields], rows.dense[index], rows.domain[index]), labels
        )
        extra, of_each = model.auxiliary_loss(), model.row_losses(labels)
        if of_each is not None:
            loss = loss + of_each.mean() / labels.shape[1]
        optimizer.zero_grad()
        torch.autograd.backward(loss if extra is None else loss + extra)
        optimizer.step()


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
    values = load(Path("params.yaml")).multi_model.model_dump() | {"hidden": idea.hidden}
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
