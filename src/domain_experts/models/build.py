"""From a backbone's name to its model."""

from importlib import import_module

from domain_experts.models.ctr import CTRContext, CTRModel
from domain_experts.registry import BACKBONES


def build(backbone: str, context: CTRContext) -> CTRModel:
    """A freshly initialised model without experts."""
    model_class: type[CTRModel] = import_module(BACKBONES[backbone].module).Model
    return model_class(context)
