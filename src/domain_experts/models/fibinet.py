"""FiBiNET (Huang et al. 2019): logit = linear(x) + w' tower([bilinear(e), bilinear'(SENET(e))])."""

import torch
from torch import Tensor, nn

from domain_experts.models.ctr import CTRModel, Deep, LinearPart, Plan
from domain_experts.models.init import glorot

# the paper's reduction ratio, and DeepCTR's default
REDUCTION = 3


class SENET(nn.Module):
    """Reweighted embeddings a_i e_i, a = ReLU(ReLU(z W_1) W_2), z_i = mean of e_i."""

    def __init__(self, fields: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = max(fields // REDUCTION, 1)
        self.W_1 = nn.Parameter(glorot("glorot_normal", fields, hidden, generator))
        self.W_2 = nn.Parameter(glorot("glorot_normal", hidden, fields, generator))

    def forward(self, e: Tensor) -> Tensor:
        """Map e (B, F, d) to (B, F, d)."""
        a = torch.relu(torch.relu(e.mean(2) @ self.W_1) @ self.W_2)
        return e * a.unsqueeze(2)


class Bilinear(nn.Module):
    """p_ij = (e_i W_ij) * e_j of all pairs i < j, each with a matrix of its own."""

    def __init__(self, fields: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(fields * (fields - 1) // 2, dim, dim))
        for matrix in self.W.data:
            matrix.copy_(glorot("glorot_normal", dim, dim, generator))

    def forward(self, e: Tensor) -> list[Tensor]:
        """Map e (B, F, d) to the pairs (B, (F - 1 - i) d) of every field i but the last."""
        fields = e.unbind(1)
        later = list(range(len(fields) - 1, 0, -1))
        # one product of e_i with its matrices side by side
        matrices = [W.transpose(0, 1).flatten(1) for W in torch.split(self.W, later)]
        return [(fields[i] @ W) * torch.cat(fields[i + 1 :], 1) for i, W in enumerate(matrices)]


class Model(CTRModel):
    """The tower on bilinear interactions of raw and of reweighted embeddings, and dense features.

    The two bilinear layers do not share their matrices, as in DeepCTR.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        fields, dim = len(plan.schema.fields), plan.settings.embedding_dim
        self.linear = LinearPart(plan)
        self.senet = SENET(fields, plan.generator)
        self.bilinear_senet = Bilinear(fields, dim, plan.generator)
        self.bilinear = Bilinear(fields, dim, plan.generator)

    def tower_input(self) -> int:
        fields = len(self.schema.fields)
        return fields * (fields - 1) * self.settings.embedding_dim + len(self.schema.dense)

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields)
        p = self.bilinear_senet(self.senet(e)) + self.bilinear(e)
        wide: Tensor = self.linear(fields, dense)
        return wide + deep(torch.cat([*p, dense], 1)) @ self.head
