"""Raw files to Interactions, or generated ones."""

from domain_experts import layout
from domain_experts.data import planted
from domain_experts.data.interactions import write
from domain_experts.params import MovieLens, Planted


def prepare(dataset: str, spec: MovieLens | Planted) -> None:
    """Write the Interactions of a data set.

    Raises:
        UserError: raw files are missing, changed since they were fetched, or do not fit.
    """
    interactions = planted.generate(spec)
    provenance = {"source": spec.source, "settings": spec.model_dump(mode="json")}
    write(interactions, layout.interactions(dataset), provenance)
