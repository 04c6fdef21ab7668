# Logits and labels to numbers, a job a data set.
rule evaluate_dataset:
    input:
        dataset_indexes,
    output:
        [str(path) for path in evaluated("{dataset}")],
    log:
        log_of("evaluate/{dataset}"),
    benchmark:
        benchmark_of("evaluate/{dataset}")
    params:
        tier=TIER,
        code=phase_code("evaluate"),
    shell:
        "domain-experts evaluate {wildcards.dataset:q} --tier {params.tier} 2>&1 | tee {log:q}"


rule merge_results:
    input:
        [str(path) for dataset in STUDY.datasets for path in evaluated(dataset)],
    output:
        # what is known of runs whose artifacts are gone is kept
        [update(path) for path in targets("evaluate")],
    log:
        log_of("evaluate/results"),
    benchmark:
        benchmark_of("evaluate/results")
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("evaluate"),
    shell:
        "domain-experts results --tier {params.tier} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        targets("evaluate"),
