"""The arms without gradients as modules: click rates, and trees on counts and rates, looked up.

What they know of the training rows lies in tables by code, so that they score a row by itself.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor, nn

from domain_experts.schema import Schema
from domain_experts.training.assignment import Assignment
from domain_experts.training.rate_features import DOMAIN
from domain_experts.training.rates import field_named, smoothed_rate_logits

State = dict[str, np.ndarray]


class Rates(nn.Module):
    """logit = overall + sum of what the codes of some fields add, in float64 until the end.

    Args:
        state: `overall` (T,), and `rate_<j>` (size, T) of each field number j.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.columns = sorted(int(n.removeprefix("rate_")) for n in state if n.startswith("rate_"))
        for name, array in state.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        total = self.get_buffer(f"rate_{self.columns[0]}")[fields[:, self.columns[0]].long()]
        for j in self.columns[1:]:
            total = total + self.get_buffer(f"rate_{j}")[fields[:, j].long()]
        return (total + self.overall).float()

    overall: Tensor


def rates_of(assignment: Assignment, fields: tuple[str, ...]) -> State:
    """What `Rates` needs: log-odds of the codes of the named fields."""
    interactions = assignment.interactions
    labels = np.asarray(interactions.labels, np.float64)[assignment.index("train")]
    # as training.rates: a class without rows counts as half a row
    half = 0.5 / len(labels)
    state = {"overall": logit(np.clip(labels.mean(0), half, 1 - half))}
    for name in fields:
        j = field_named(assignment, name)
        table = np.zeros((interactions.schema.sizes[j], len(interactions.schema.tasks)))
        table[np.asarray(interactions.fields[:, j])] = smoothed_rate_logits(assignment, j)
        state[f"rate_{j}"] = table
    return state


class Trees(nn.Module):
    """LightGBM's trees on `training.rate_features`, whose counts and rates are looked up.

    Args:
        schema: of the data.
        state: `own` (D + 1, 1 + T), `code_<j>` (size, 1 + T) and `pair_<j>`
            ((D + 1) size, 1 + T), the share of training rows and their rates; by task t
            `feature_<t>`, `threshold_<t>`, `left_<t>`, `right_<t>` (trees, nodes) and `value_<t>`
            (trees, nodes), leaves standing behind the inner nodes, each its own child; `depth_<t>`.
    """

    def __init__(self, schema: Schema, state: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.domains, self.tasks = len(schema.domains), len(schema.tasks)
        self.sizes = {j: size for j, (name, size) in enumerate(schema.single) if name != DOMAIN}
        self.depths = [int(state[f"depth_{t}"]) for t in range(self.tasks)]
        for name, array in state.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))

    def features(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Features (B, P) float32, in the order of `rate_features`; domain -1 is unknown."""
        number = domain.to(dense.dtype).unsqueeze(1)
        # what has no training rows stands last
        known = torch.where(domain < 0, self.domains, domain)
        columns = [dense, number, self.own[known]]
        for j, size in self.sizes.items():
            codes = fields[:, j].long()
            columns.append(self.get_buffer(f"code_{j}")[codes])
            columns.append(self.get_buffer(f"pair_{j}")[known * size + codes])
        return torch.cat(columns, 1)

    own: Tensor

    def forward(self, fields: Tensor, dense: Tensor, domain: Tensor) -> Tensor:
        """Logits (B, T)."""
        features = self.features(fields, dense, domain)
        return torch.stack([self._grown(features, t) for t in range(self.tasks)], 1).float()

    def _grown(self, features: Tensor, task: int) -> Tensor:
        """Sum (B,) of the trees of a task, in float64."""
        names = ("feature", "threshold", "left", "right", "value")
        feature, threshold, left, right, value = (self.get_buffer(f"{n}_{task}") for n in names)
        # nodes of all trees side by side: (B, trees) numbers of nodes
        first = torch.arange(len(feature), device=features.device) * feature.shape[1]
        inside, bounds = feature.flatten(), threshold.flatten()
        lower, upper = (left + first.unsqueeze(1)).flatten(), (right + first.unsqueeze(1)).flatten()
        node = first.expand(len(features), -1)
        for _ in range(self.depths[task]):
            seen = features.gather(1, inside[node]).double()
            node = torch.where(seen <= bounds[node], lower[node], upper[node])
        return value.flatten()[node].sum(1)


def trees_of(assignment: Assignment, boosters: Mapping[str, np.ndarray]) -> State:
    """What `Trees` needs: the trees' arrays, and the tables of the training rows' features."""
    state: State = {}
    for task in range(len(assignment.interactions.schema.tasks)):
        text = boosters[f"booster.{task}"].tobytes().decode()
        state |= {f"{name}_{task}": array for name, array in _arrays(text).items()}
    return state | _feature_tables(assignment)


def _feature_tables(assignment: Assignment) -> State:
    interactions, train = assignment.interactions, assignment.index("train")
    labels = np.asarray(interactions.labels, np.float64)[train]
    domain = np.asarray(interactions.domain, np.int64)[train]
    domains, m = len(interactions.schema.domains), assignment.settings.rates.smoothing
    overall = labels.mean(0)

    def table(codes: np.ndarray, size: int, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share (size, 1) of the training rows with a code, and their rates (size, T)."""
        number = np.bincount(codes, minlength=size)[:, None]
        clicks = [np.bincount(codes, weights=own, minlength=size) for own in labels.T]
        return number / len(train), (np.column_stack(clicks) + m * prior) / (number + m)

    state = {"own": np.hstack(table(domain, domains + 1, overall))}
    for j, (name, size) in enumerate(interactions.schema.single):
        if name != DOMAIN:
            codes = np.asarray(interactions.fields[:, j], np.int64)[train]
            share, rates = table(codes, size, overall)
            state[f"code_{j}"] = np.hstack([share, rates])
            pairs = (domains + 1) * size
            prior = np.tile(rates, (domains + 1, 1))
            state[f"pair_{j}"] = np.hstack(table(domain * size + codes, pairs, prior))
    return {name: array.astype(np.float32) for name, array in state.items()}


def _arrays(text: str) -> State:
    """Nodes of all trees of a booster's text: inner ones first, then leaves."""
    trees = [dict(_entries(part)) for part in re.split(r"\nTree=\d+\n", text)[1:]]
    nodes = max(2 * int(tree["num_leaves"]) - 1 for tree in trees)
    kinds = {"feature": np.int64, "threshold": np.float64, "value": np.float64}
    kinds |= {"left": np.int64, "right": np.int64}
    arrays = {name: np.zeros((len(trees), nodes), kind) for name, kind in kinds.items()}
    # a leaf's, and what lies behind the last one, is its own child
    arrays["left"][:] = arrays["right"][:] = np.arange(nodes)
    depth = 0
    for number, tree in enumerate(trees):
        leaves = int(tree["num_leaves"])
        inner = leaves - 1
        arrays["value"][number, inner : inner + leaves] = _numbers(tree["leaf_value"])
        if inner:
            arrays["feature"][number, :inner] = _numbers(tree["split_feature"])
            arrays["threshold"][number, :inner] = _numbers(tree["threshold"])
            for side in ("left", "right"):
                # LightGBM counts leaves down from -1
                child = _numbers(tree[f"{side}_child"]).astype(np.int64)
                arrays[side][number, :inner] = np.where(child < 0, inner + ~child, child)
            depth = max(depth, _depth(arrays["left"][number], arrays["right"][number], inner))
    return arrays | {"depth": np.array(depth)}


def _depth(left: np.ndarray, right: np.ndarray, inner: int) -> int:
    """Steps to the farthest leaf."""
    level, steps = [0], 0
    while level := [child for n in level if n < inner for child in (left[n], right[n])]:
        steps += 1
    return steps


def _entries(part: str) -> Iterator[tuple[str, str]]:
    for line in part.split("\n\n", maxsplit=1)[0].splitlines():
        name, _, value = line.partition("=")
        yield name, value


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)
