rule split_dataset:
    input:
        str(layout.card("{dataset}")),
    output:
        str(layout.split_index(TIER, "{dataset}")),
    log:
        log_of("split/{dataset}"),
    benchmark:
        benchmark_of("split/{dataset}")
    params:
        tier=TIER,
        settings=split_settings,
        code=phase_code("split"),
    shell:
        "domain-experts split {wildcards.dataset:q} --tier {params.tier} 2>&1 | tee {log:q}"


rule split:
    input:
        targets("split"),
