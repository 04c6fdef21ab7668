"""From a backbone's name to its model."""

from importlib import import_module

import torch

from domain_experts.models.ctr import CTRModel
from domain_experts.registry import BACKBONES
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings


def build(
    backbone: str,
    schema: Schema,
    settings: ModelSettings,
    tower_init: str,
    generator: torch.Generator,
) -> CTRModel:
    """A freshly initialised model without experts."""
    model_class: type[CTRModel] = import_module(BACKBONES[backbone].module).Model
    return model_class(schema, settings, tower_init, generator)
