# Snakemake's own report; the call inside only reads, so it takes no lock.
rule make_report:
    input:
        targets("tables"),
        targets("figures"),
        sorted(str(caption) for caption in Path("workflow/report").glob("*.rst")),
    output:
        targets("report"),
    log:
        log_of("report/report"),
    benchmark:
        benchmark_of("report/report")
    params:
        tier=TIER,
    shell:
        "snakemake --nolock --config tier={params.tier} --report {output:q} -- tables figures"
        " > {log:q} 2>&1 || {{ cat {log:q}; exit 1; }}"


rule report:
    input:
        targets("report"),
