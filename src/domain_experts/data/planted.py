"""Generated clicks with planted domain experts: domains of one group share one."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from domain_experts.data.interactions import Interactions
from domain_experts.params import Planted
from domain_experts.schema import Schema

# standard deviation of the domains' biases: their positive rates differ a little
_BIAS_STD = 0.25


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
    k = spec.latent_dim
    user_vectors = rng.standard_normal((spec.users, k))
    item_vectors = rng.standard_normal((spec.items, k)) / np.sqrt(k)
    activity = rng.standard_normal(spec.users)
    popularity = rng.standard_normal(spec.items)
    directions = rng.standard_normal((spec.groups, k))
    directions *= np.sqrt(k) / np.linalg.norm(directions, axis=1, keepdims=True)
    biases = rng.normal(0, _BIAS_STD, spec.domains)

    domain = rng.permutation(np.repeat(np.arange(spec.domains), _domain_sizes(spec)))
    user = _zipf(rng, spec.users, spec.sparsity, spec.rows)
    item = _zipf(rng, spec.items, spec.sparsity, spec.rows)
    group = domain % spec.groups

    affinity = spec.common * user_vectors[user] + spec.strength * directions[group]
    logit = biases[domain] + activity[user] + popularity[item]
    logit += (affinity * item_vectors[item]).sum(axis=1)
    shift = brentq(lambda b: expit(logit + b).mean() - spec.positive_rate, -100, 100)
    truth = expit(logit + shift)
    label = rng.random(spec.rows) < truth

    return Interactions(
        schema=Schema(
            fields=(("user", spec.users), ("item", spec.items), ("domain", spec.domains)),
            dense=(),
            domains=tuple(f"domain {d}" for d in range(spec.domains)),
            tasks=("click",),
        ),
        fields=np.stack([user, item, domain], axis=1).astype(np.int32),
        dense=np.zeros((spec.rows, 0), np.float32),
        labels=label.astype(np.uint8)[:, None],
        domain=domain.astype(np.int16),
        truth=truth.astype(np.float32),
        planted_groups=tuple(d % spec.groups for d in range(spec.domains)),
    )


def _domain_sizes(spec: Planted) -> np.ndarray:
    """(domains,) rows, geometric in `skew`; the first domain takes what rounding leaves."""
    share = spec.skew ** np.arange(spec.domains)
    sizes: np.ndarray = np.floor(spec.rows * share / share.sum()).astype(np.int64)
    sizes[0] += spec.rows - sizes.sum()
    return sizes


def _zipf(rng: np.random.Generator, size: int, exponent: float, rows: int) -> np.ndarray:
    """(rows,) codes in [0, size), drawn with weight 1 / (code + 1) ** exponent."""
    weights = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return np.asarray(rng.choice(size, size=rows, p=weights / weights.sum()))
