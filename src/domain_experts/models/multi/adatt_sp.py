"""AdaTT-sp (Li et al. 2023, arXiv 2304.04959): AdaTT without the shared unit."""

from typing import ClassVar

from domain_experts.models.multi import adatt


class Model(adatt.Model):
    """AdaTT-sp."""

    shared_unit: ClassVar[bool] = False
