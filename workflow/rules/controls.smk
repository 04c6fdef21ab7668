use rule train_backbone as train_control with:
    wildcard_constraints:
        phase="controls",


rule controls:
    input:
        targets("controls"),
