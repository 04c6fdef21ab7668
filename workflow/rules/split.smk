def split_settings(wildcards):
    data = STUDY.params.data
    return digest(
        [data.validation_fraction, data.test_fraction, STUDY.seeds(wildcards.dataset)]
    )


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
        settings=split_settings,
        code=phase_code("split"),
    shell:
        "domain-experts split {wildcards.dataset:q} --tier {TIER} 2>&1 | tee {log:q}"


rule split:
    input:
        targets("split"),
