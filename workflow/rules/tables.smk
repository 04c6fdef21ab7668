rule compare_arms:
    input:
        all_indexes(),
    output:
        # of a partial study it keeps comparisons whose predictions are gone
        update(str(COMPARISONS)) if STUDY.partial else str(COMPARISONS),
    log:
        log_of("tables/comparisons"),
    benchmark:
        benchmark_of("tables/comparisons")
    params:
        tier=TIER,
        settings=all_expected(),
        code=code_digest(["domain_experts.evaluation.compare"]),
    shell:
        "domain-experts compare --tier {params.tier} 2>&1 | tee {log:q}"


rule project_modules:
    input:
        # no other model leaves the outputs of its modules
        all_indexes("m3oe"),
    output:
        # of a partial study it keeps the points of runs whose artifacts are gone
        update(str(PROJECTIONS)) if STUDY.partial else str(PROJECTIONS),
    log:
        log_of("tables/projections"),
    benchmark:
        benchmark_of("tables/projections")
    params:
        tier=TIER,
        settings=all_expected(),
        code=code_digest(["domain_experts.evaluation.projections"]),
    shell:
        "domain-experts project --tier {params.tier} 2>&1 | tee {log:q}"


rule make_tables:
    input:
        str(COMPARISONS),
        str(PROJECTIONS),
        all_indexes(),
    output:
        [
            report(
                f"{TABLE_FOLDER}/{name}.html",
                caption=f"../report/table-{name}.rst",
                category="Tables",
                labels={"table": name},
            )
            for name in TABLES
        ],
        [f"{TABLE_FOLDER}/{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex")],
        f"{TABLE_FOLDER}/metrics.json",
        f"{TABLE_FOLDER}/curves.csv",
    log:
        log_of("tables/tables"),
    benchmark:
        benchmark_of("tables/tables")
    params:
        tier=TIER,
        settings=all_expected(),
        code=code_digest(["domain_experts.reporting.tables", "domain_experts.registry"]),
    shell:
        "domain-experts tables --tier {params.tier} 2>&1 | tee {log:q}"


rule tables:
    input:
        targets("tables"),
