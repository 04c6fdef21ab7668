use rule train_backbone as train_baseline with:
    wildcard_constraints:
        phase="baselines",


rule baselines:
    input:
        targets("baselines"),
