rule fetch:
    output:
        str(layout.raw_record("{source}")),
    log:
        log_of("download/{source}"),
    benchmark:
        benchmark_of("download/{source}")
    shell:
        "domain-experts fetch {wildcards.source:q} 2>&1 | tee {log:q}"


rule download:
    input:
        targets("download"),
