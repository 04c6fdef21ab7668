# From logits and labels to numbers, tables, figures and the report.
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
        settings=dataset_pairs,
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


rule table:
    input:
        targets("evaluate"),
    output:
        shown(layout.table_files, category="Tables"),
    log:
        log_of("tables/{name}"),
    benchmark:
        benchmark_of("tables/{name}")
    wildcard_constraints:
        name="|".join(table_names(STUDY)),
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("tables"),
    shell:
        "domain-experts table {wildcards.name:q} --tier {params.tier} 2>&1 | tee {log:q}"


rule metrics:
    input:
        targets("evaluate"),
    output:
        [str(path) for path in layout.metrics_files(TIER)],
    log:
        log_of("tables/metrics"),
    benchmark:
        benchmark_of("tables/metrics")
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("tables"),
    shell:
        "domain-experts metrics --tier {params.tier} 2>&1 | tee {log:q}"


rule figure:
    input:
        targets("evaluate"),
    output:
        shown(layout.figure_files, category="Figures"),
    log:
        log_of("figures/{name}"),
    benchmark:
        benchmark_of("figures/{name}")
    wildcard_constraints:
        name="|".join(figure_names(STUDY)),
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("figures"),
    shell:
        "domain-experts figure {wildcards.name:q} --tier {params.tier} 2>&1 | tee {log:q}"


rule make_report:
    input:
        targets("evaluate"),
        targets("tables"),
        targets("figures"),
    output:
        targets("report"),
    log:
        log_of("report/report"),
    benchmark:
        benchmark_of("report/report")
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("report"),
    shell:
        "domain-experts report --tier {params.tier} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        targets("evaluate"),


rule tables:
    input:
        targets("tables"),


rule figures:
    input:
        targets("figures"),


rule report:
    input:
        targets("report"),
