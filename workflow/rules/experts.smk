use rule train_backbone as train_experts with:
    wildcard_constraints:
        phase="experts",


rule experts:
    input:
        targets("experts"),
