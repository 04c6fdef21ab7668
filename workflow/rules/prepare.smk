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
        settings=lambda w: digest(STUDY.params.data.datasets[w.dataset].model_dump(mode="json")),
        code=phase_code("prepare"),
    shell:
        "domain-experts prepare {wildcards.dataset:q} 2>&1 | tee {log:q}"


rule prepare:
    input:
        targets("prepare"),
