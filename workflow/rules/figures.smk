rule make_figures:
    input:
        targets("evaluate"),
    output:
        [
            report(
                str(layout.figures(TIER) / f"{name}.png"),
                caption=f"../report/figure-{name}.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in FIGURES
        ],
        [str(layout.figures(TIER) / f"{name}.pdf") for name in FIGURES],
    log:
        log_of("figures/figures"),
    benchmark:
        benchmark_of("figures/figures")
    params:
        tier=TIER,
        settings=all_expected(),
        code=phase_code("figures"),
    shell:
        "domain-experts figures --tier {params.tier} 2>&1 | tee {log:q}"


rule figures:
    input:
        targets("figures"),
