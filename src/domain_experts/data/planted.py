"""Generated clicks with planted domain experts: domains of one group share one."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from domain_experts.data.interactions import Interactions
from domain_experts.data.specs import Generated, Planted
from domain_experts.schema import Schema

# standard deviation of the domains' biases: their positive rates differ a little
BIAS_STD = 0.25


@dataclass(frozen=True)
class Population:
    """Users, items and planted groups in k latent dimensions.

    `user_vectors` (U, k) are normal, `item_vectors` (I, k) have variance 1/k; the rows of
    `directions` (groups, k) have length sqrt(k). `activity` (U,) and `popularity` (I,) are normal.
    So every term of a logit, weight 1, has unit variance over users and items.
    """

    user_vectors: np.ndarray
    item_vectors: np.ndarray
    activity: np.ndarray
    popularity: np.ndarray
    directions: np.ndarray


def draw_population(rng: np.random.Generator, spec: Generated) -> Population:
    """Draw users, items and the directions w_g of the planted groups."""
    k = spec.latent_dim
    user_vectors = rng.standard_normal((spec.users, k))
    item_vectors = rng.standard_normal((spec.items, k)) / np.sqrt(k)
    activity = rng.standard_normal(spec.users)
    popularity = rng.standard_normal(spec.items)
    directions = rng.standard_normal((spec.groups, k))
    directions *= np.sqrt(k) / np.linalg.norm(directions, axis=1, keepdims=True)
    return Population(user_vectors, item_vectors, activity, popularity, directions)


def draw_rows(
    rng: np.random.Generator, spec: Generated
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the (N,) domain, user and item of each row."""
    domain = rng.permutation(np.repeat(np.arange(spec.domains), _domain_sizes(spec)))
    user = _zipf(rng, spec.users, spec.sparsity, spec.rows)
    item = _zipf(rng, spec.items, spec.sparsity, spec.rows)
    return domain, user, item


def probability(logit: np.ndarray, positive_rate: float) -> np.ndarray:
    """(N,) probabilities: the logits shifted so that their mean is the positive rate."""
    shift = brentq(lambda b: expit(logit + b).mean() - positive_rate, -100, 100)
    return np.asarray(expit(logit + shift))


def to_interactions(
    spec: Generated,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    labels: np.ndarray,
    truth: np.ndarray,
    tasks: tuple[str, ...],
) -> Interactions:
    """Interactions with the fields user, item and domain of the rows that `draw_rows` drew.

    Args:
        spec: Sizes.
        rows: Domain, user and item of each row.
        labels: (N, T) truth values.
        truth: (N,) or (N, T) probability of each label.
        tasks: T names.
    """
    domain, user, item = rows
    return Interactions(
        schema=Schema(
            fields=(("user", spec.users), ("item", spec.items), ("domain", spec.domains)),
            dense=(),
            domains=tuple(f"domain {d}" for d in range(spec.domains)),
            tasks=tasks,
        ),
        fields=np.stack([user, item, domain], axis=1).astype(np.int32),
        dense=np.zeros((spec.rows, 0), np.float32),
        labels=labels.astype(np.uint8),
        domain=domain.astype(np.int16),
        truth=truth.astype(np.float32),
        planted_groups=tuple(d % spec.groups for d in range(spec.domains)),
    )


def generate(spec: Planted) -> Interactions:
    """Draw users, items, domains and clicks.

    logit = bias_d + activity_u + popularity_i + common <p_u, q_i> + strength <w_g, q_i>
    with g = d mod groups. Over users and items activity, popularity and both inner products have
    unit variance. `truth` is the probability of the click, so its AUC is the
    best that any model can reach.

    Args:
        spec: Sizes and weights; the rows depend on nothing else.

    Returns:
        Interactions with the fields user, item and domain and the task `click`.
    """
    rng = np.random.default_rng(spec.seed)
    drawn = draw_population(rng, spec)
    biases = rng.normal(0, BIAS_STD, spec.domains)
    domain, user, item = rows = draw_rows(rng, spec)
    group = domain % spec.groups

    affinity = spec.common * drawn.user_vectors[user] + spec.strength * drawn.directions[group]
    logit = biases[domain] + drawn.activity[user] + drawn.popularity[item]
    logit += (affinity * drawn.item_vectors[item]).sum(axis=1)
    truth = probability(logit, spec.positive_rate)
    label = rng.random(spec.rows) < truth
    return to_interactions(spec, rows, label[:, None], truth, ("click",))


def _domain_sizes(spec: Generated) -> np.ndarray:
    """(domains,) rows, geometric in `skew`; the first domain takes what rounding leaves."""
    share = spec.skew ** np.arange(spec.domains)
    sizes: np.ndarray = np.floor(spec.rows * share / share.sum()).astype(np.int64)
    sizes[0] += spec.rows - sizes.sum()
    return sizes


def _zipf(rng: np.random.Generator, size: int, exponent: float, rows: int) -> np.ndarray:
    """(rows,) codes in [0, size), drawn with weight 1 / (code + 1) ** exponent."""
    weights = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return np.asarray(rng.choice(size, size=rows, p=weights / weights.sum()))
