"""PPNet (Chang et al. 2023, arXiv 2302.01115): user's and item's gates on towers, half of PEPNet.

    H_t^(l) = gate_t^(l)([e_user, e_item, sg(x)]) * layer_t^(l)(H_t^(l-1)),  H_t^(0) = x
    logit   = v_t' H_t^(L) + c_t,  gate as in PEPNet                    (PPNet)

sg stops the gradient. It knows a row's domain only by a field that tells it. Scenario-Wise Rec has
a tower a domain, and feeds the first layer what the gates see.
"""

from domain_experts.models.multi import pepnet


class Model(pepnet.Model):
    """PPNet; a domain has nothing of its own.

    Raises:
        UserError: the data set has no field `user` or no field `item`.
    """

    title, name = "PPNet", "ppnet"
    gates_embeddings = False
