"""A whole MoE-MLoRA run: backbone, experts, gate, evaluation.

`the public code's way`: what the released code in effect computes (all weights train in all legs,
the adapters' uniform mean serves every row), written in PyTorch in its manner: leg after leg, a
loader for each domain, an AUC for each domain on validation and test rows after every epoch. Both
have the package's model and make the same number of epochs in each leg.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.backbones import THREE
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.experts import BACKBONE
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.study import settings
from benchmarks.timing import in_turns
from domain_experts.data.interactions import Interactions
from domain_experts.data.specs import Fractions
from domain_experts.data.split import SPLITS
from domain_experts.data.split_rules import stratified
from domain_experts.evaluation.metrics import evaluate
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.models.low_rank import LowRank
from domain_experts.models.routers import UniformGate
from domain_experts.runs import Run
from domain_experts.settings import RunSettings
from domain_experts.training.assignment import Assignment, Outcome, Upstream
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.job import record_of
from domain_experts.training.progress import Progress

RELEASED = "the public code's way"
DATASET = "ml-1m-gender"
EPOCHS = 2
"""In each leg."""
DOMAINS = 2
ROUNDS = 3


def measure(effort: Effort) -> Iterator[Measurement]:
    """Rows that all legs visit, by the seconds of the whole."""
    data = rows_like_movielens(effort.rows // 4, THREE.fields, domains=DOMAINS)
    split = stratified(data, 0, Fractions(0.2, 0.2))
    # backbone, experts and gate visit every training row once an epoch
    rows = 3 * EPOCHS * int((split == 0).sum())
    work = {OURS: partial(ours, data, split), RELEASED: partial(released, data, split)}
    seconds = in_turns(work, ROUNDS, warm_up=0)
    name = f"moe_mlora, {BACKBONE}"
    yield from throughput("whole run", name, seconds, rows, THREE.batch, effort.threads)


def _settings(arm: str) -> RunSettings:
    changed = {"training.max_epochs": EPOCHS, "training.patience": EPOCHS + 1}
    return settings(arm, DATASET, BACKBONE, changed)


def ours(data: Interactions, split: np.ndarray) -> None:
    """The three arms one after another, as jobs do it, checkpoints included."""
    made: Outcome
    upstream: dict[str, Upstream] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for arm in ("base", "experts", "moe_mlora"):
            run = Run(DATASET, BACKBONE, arm, (), 0, _settings(arm))
            assignment = Assignment(
                run,
                data,
                split,
                upstream,
                "cpu",
                Checkpoint(Path(folder, f"{arm}.safetensors"), "bench"),
                Progress("bench"),
            )
            made = run.spec.train(assignment)
            upstream[arm] = Upstream(made.state, record_of(assignment, made))
    test = np.flatnonzero(split == SPLITS.index("test"))
    logits, labels = made.logits["test"], data.labels[test]
    schema = data.schema
    evaluate(logits, labels, data.domain[test], schema.domains, schema.tasks, binned=False)


def released(data: Interactions, split: np.ndarray) -> None:
    """Leg after leg over the loaders of the domains."""
    chosen = _settings("base")
    generator = torch.Generator().manual_seed(0)
    model = build(BACKBONE, CTRContext(data.schema, chosen.model, generator))
    new = partial(LowRank, alpha=chosen.adapter.alpha, init=chosen.protocol.expert_init)
    for _ in range(DOMAINS):
        model.tower.add_expert(new, generator)
    model.router = UniformGate(DOMAINS, DOMAINS)
    optimizer = torch.optim.Adam(model.parameters(), lr=chosen.training.learning_rate)
    batch, masks = chosen.training.batch_size, np.random.default_rng(0)

    def loaders(name: str) -> list[DataLoader[tuple[torch.Tensor, ...]]]:
        found = []
        for d in range(DOMAINS):
            own = np.flatnonzero((split == SPLITS.index(name)) & (data.domain == d))
            columns = (data.fields, data.dense, data.domain.astype(np.int64), data.labels)
            rows = TensorDataset(*(torch.from_numpy(column[own]) for column in columns))
            found.append(DataLoader(rows, batch, shuffle=name == "train"))
        return found

    parts = {name: loaders(name) for name in SPLITS}

    def epoch(train: list[DataLoader[tuple[torch.Tensor, ...]]]) -> None:
        model.train()
        for loader in train:
            for fields, dense, domain, labels in loader:
                model.dropout.lanes = [(masks, len(fields))]
                logits = model(fields, dense, domain)
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()

    @torch.no_grad()
    def auc(name: str) -> list[float]:
        model.eval()
        found = []
        for loader in parts[name]:
            pairs = [(model(f, x, d).sigmoid(), y) for f, x, d, y in loader]
            scores, labels = (torch.cat(column).numpy() for column in zip(*pairs, strict=True))
            found.append(float(roc_auc_score(labels[:, 0], scores[:, 0])))
        return found

    legs = [parts["train"], *([own] for own in parts["train"]), parts["train"]]
    for train in legs:
        for _ in range(EPOCHS):
            epoch(train)
            auc("validation")
            auc("test")
