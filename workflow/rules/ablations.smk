use rule train_backbone as train_ablation with:
    wildcard_constraints:
        phase="ablations",


rule ablations:
    input:
        targets("ablations"),
