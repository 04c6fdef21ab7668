# Raw files, Interactions, splits.
rule fetch:
    output:
        str(layout.raw_record("{source}")),
    log:
        log_of("download/{source}"),
    shell:
        "domain-experts fetch {wildcards.source:q} 2>&1 | tee {log:q}"


rule prepare_dataset:
    input:
        raw_input,
    output:
        str(layout.card("{dataset}")),
    log:
        log_of("prepare/{dataset}"),
    params:
        settings=prepare_settings,
        code=phase_code("prepare"),
    shell:
        "domain-experts prepare {wildcards.dataset:q} 2>&1 | tee {log:q}"


rule split_dataset:
    input:
        str(layout.card("{dataset}")),
    output:
        str(layout.split_index(TIER, "{dataset}")),
    log:
        log_of("split/{dataset}"),
    params:
        tier=TIER,
        settings=split_settings,
        code=phase_code("split"),
    shell:
        "domain-experts split {wildcards.dataset:q} --tier {params.tier} 2>&1 | tee {log:q}"


rule download:
    input:
        targets("download"),


rule prepare:
    input:
        targets("prepare"),


rule split:
    input:
        targets("split"),
