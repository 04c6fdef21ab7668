"""Domain Experts: MoE-MLoRA and M3oE, reproduced by a pipeline and put to the test."""

__version__ = "0.1.0"
