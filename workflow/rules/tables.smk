rule make_tables:
    input:
        targets("evaluate"),
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
        code=phase_code("tables"),
    shell:
        "domain-experts tables --tier {params.tier} 2>&1 | tee {log:q}"


rule tables:
    input:
        targets("tables"),
