"""Generated labels of several tasks, with planted relations between domains and between tasks."""

import numpy as np

from domain_experts.data.interactions import Interactions
from domain_experts.data.planted import (
    BIAS_STD,
    draw_population,
    draw_rows,
    probability,
    to_interactions,
)
from domain_experts.data.specs import PlantedTasks


def generate(spec: PlantedTasks) -> Interactions:
    """Draw users, items, domains and the labels of all tasks.

    logit_t = bias_dt + activity_u + popularity_i
              + common <p_u, q_i> + strength <w_g, q_i> + task_strength <v_t, q_i>
    with g = d mod groups. Over users and items each inner product has unit variance, and any two
    of <v_t, q_i> have the correlation `agreement`. So with `agreement` -1 one task likes the items
    that the other does not, and a model that serves the one harms the other. Given the
    probabilities, the labels of a row are independent. `truth` (N, T), or (N,) for one task, holds
    the probabilities.

    Args:
        spec: Sizes and weights; the rows depend on nothing else.

    Returns:
        Interactions with the fields user, item and domain, rows in random order.
    """
    rng = np.random.default_rng(spec.seed)
    tasks = tuple(spec.positive_rates)
    drawn = draw_population(rng, spec)
    directions = task_directions(rng, len(tasks), spec.latent_dim, spec.agreement)
    biases = rng.normal(0, BIAS_STD, (spec.domains, len(tasks)))
    domain, user, item = rows = draw_rows(rng, spec)
    group = domain % spec.groups

    affinity = spec.common * drawn.user_vectors[user] + spec.strength * drawn.directions[group]
    shared = drawn.activity[user] + drawn.popularity[item]
    shared += (affinity * drawn.item_vectors[item]).sum(axis=1)
    of_task = spec.task_strength * drawn.item_vectors[item] @ directions.T
    logits = biases[domain] + shared[:, None] + of_task
    rates = spec.positive_rates.values()
    truth = np.stack([probability(z, rate) for z, rate in zip(logits.T, rates, strict=True)], 1)
    labels = rng.random(truth.shape) < truth
    # one task has its probabilities in one dimension, as all generated data of one task
    known = truth if len(tasks) > 1 else truth[:, 0]
    return to_interactions(spec, rows, labels, known, tasks)


def task_directions(
    rng: np.random.Generator, tasks: int, latent_dim: int, agreement: float
) -> np.ndarray:
    """Draw T directions, any two of which have the same cosine.

    The square root of their Gram matrix is laid along random orthonormal axes.

    Returns:
        (T, k) rows of length sqrt(k).
    """
    gram = (1 - agreement) * np.eye(tasks) + agreement
    values, vectors = np.linalg.eigh(gram)
    # opposed directions leave a zero that rounding may turn negative
    root = vectors * np.sqrt(np.maximum(values, 0))
    axes, _ = np.linalg.qr(rng.standard_normal((latent_dim, tasks)))
    return np.asarray(np.sqrt(latent_dim) * root @ axes.T)
