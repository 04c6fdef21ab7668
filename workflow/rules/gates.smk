use rule train_backbone as train_gate with:
    wildcard_constraints:
        phase="gates",


rule gates:
    input:
        targets("gates"),
