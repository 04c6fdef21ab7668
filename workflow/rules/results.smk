# From logits and labels to numbers, tables, figures and the report.
rule evaluate_dataset:
    input:
        dataset_indexes,
    output:
        [str(path) for path in evaluated("{dataset}")],
    log:
        log_of("evaluate/{dataset}"),
    params:
        tier=TIER,
        settings=dataset_pairs,
        code=phase_code("evaluate"),
    shell:
        "domain-experts evaluate {wildcards.dataset:q} --tier {params.tier} 2>&1 | tee {log:q}"


rule merge_results:
    input:
        [str(path) for dataset in STUDY.datasets for path in evaluated(dataset)],
        targets("search"),
    output:
        # what is known of runs whose artifacts are gone is kept
        [update(path) for path in targets("evaluate")],
    log:
        log_of("evaluate/results"),
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("evaluate"),
    shell:
        "domain-experts results --tier {params.tier} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        targets("evaluate"),


# One process makes all tables and one all figures: each takes less time than a process's start.
rule tables:
    input:
        targets("evaluate"),
    output:
        shown("Tables", layout.table_files, table_names(STUDY)),
        [str(path) for path in layout.metrics_files(TIER)],
    log:
        log_of("tables"),
    params:
        tier=TIER,
        settings=all_shown(),
        code=phase_code("tables"),
    shell:
        "domain-experts tables --tier {params.tier} 2>&1 | tee {log:q}"


rule figures:
    input:
        targets("evaluate"),
    output:
        shown("Figures", layout.figure_files, figure_names(STUDY)),
    log:
        log_of("figures"),
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("figures"),
    shell:
        "domain-experts figures --tier {params.tier} 2>&1 | tee {log:q}"


rule report:
    input:
        targets("evaluate"),
        targets("figures"),
    output:
        targets("report"),
    log:
        log_of("report"),
    params:
        tier=TIER,
        settings=all_shown(),
        code=phase_code("report"),
    shell:
        "domain-experts report --tier {params.tier} 2>&1 | tee {log:q}"


# Of no tier, and made when asked for: it checks the verdicts, and no table is made of it.
rule simulation:
    output:
        [str(path) for path in layout.simulation_files()],
    log:
        "logs/simulation.log",
    params:
        settings=STUDY.params.statistics.margin,
        code=code_of(("domain_experts.reporting.simulation",)),
    shell:
        "domain-experts simulate 2>&1 | tee {log:q}"
