"""Embedding, tower, adapted layer and backbones."""
