rule prepare_dataset:
    input:
        raw_input,
    output:
        str(layout.card("{dataset}")),
    log:
        log_of("prepare/{dataset}"),
    benchmark:
        benchmark_of("prepare/{dataset}")
    params:
        settings=prepare_settings,
        code=phase_code("prepare"),
    shell:
        "domain-experts prepare {wildcards.dataset:q} 2>&1 | tee {log:q}"


rule prepare:
    input:
        targets("prepare"),
