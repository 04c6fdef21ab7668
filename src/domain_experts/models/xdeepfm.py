"""xDeepFM (Lian et al. 2018): logit = linear(x) + w' tower([e_1, ..., e_F]) + u' CIN(e)."""

import torch
from torch import Tensor, nn

from domain_experts.models.ctr import CTRModel, Deep, LinearPart, Plan
from domain_experts.models.init import glorot

# DeepCTR's default
MAPS = (128, 128)


class CIN(nn.Module):
    """Compressed interaction network (equation 6), with bias, ReLU and split halves as in DeepCTR.

    X^k_h = ReLU(sum_{i,j} W^k_{ij,h} X^0_i * X^{k-1}_j + b^k_h). Of every layer but the last, the
    first half of the feature maps goes on to the next layer and the second half to the output; each
    is summed over the embedding.

    Args:
        fields: number of fields F.
        maps: feature maps of each layer, even but for the last.
        generator: random stream of the init.
    """

    def __init__(self, fields: int, maps: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        ins = [fields, *(m // 2 for m in maps[:-1])]
        init = [
            glorot("glorot_uniform", fields * i, m, generator)
            for i, m in zip(ins, maps, strict=True)
        ]
        self.W = nn.ParameterList(nn.Parameter(w) for w in init)
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(m)) for m in maps)
        self.width = sum(ins[1:]) + maps[-1]

    def forward(self, e: Tensor) -> Tensor:
        """Map e (B, F, d) to (B, width)."""
        x0 = e.transpose(1, 2)
        x = x0
        pooled: list[Tensor] = []
        for w, b in zip(self.W, self.b, strict=True):
            products = (x0.unsqueeze(3) * x.unsqueeze(2)).flatten(2)
            maps = torch.relu(products @ w + b)
            last = len(pooled) == len(self.W) - 1
            x, direct = (maps, maps) if last else maps.chunk(2, 2)
            pooled.append(direct.sum(1))
        return torch.cat(pooled, 1)


class Model(CTRModel):
    """Linear part, tower and CIN; each task has output weights of its own for the CIN."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        generator = plan.generator
        self.linear = LinearPart(plan)
        self.cin = CIN(len(plan.schema.fields), MAPS, generator)
        self.cin_head = nn.Parameter(
            glorot("glorot_normal", self.cin.width, len(plan.schema.tasks), generator)
        )

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields)
        explicit: Tensor = self.cin(e) @ self.cin_head
        wide: Tensor = self.linear(fields, dense)
        return wide + explicit + deep(self.concatenated(e, dense)) @ self.head
