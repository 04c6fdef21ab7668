# Snakemake's own report; the call inside only reads, hence no lock.
rule make_report:
    input:
        targets("tables"),
        targets("figures"),
    output:
        targets("report"),
    log:
        log_of("report/report"),
    benchmark:
        benchmark_of("report/report")
    shell:
        "snakemake --nolock --config "
        + CONFIG
        + " --report {output:q} -- tables figures"
        " > {log:q} 2>&1"


rule report:
    input:
        targets("report"),
