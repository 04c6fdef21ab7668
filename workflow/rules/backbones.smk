# One job trains one arm on one data set and backbone, with all its seeds. The other phases of
# training use this rule under their own name.
rule train_backbone:
    input:
        job_inputs,
    output:
        str(layout.job_index(TIER, Job("{phase}", "{dataset}", "{backbone}", "{arm}"))),
    log:
        log_of("{phase}/{dataset}/{backbone}/{arm}"),
    benchmark:
        benchmark_of("{phase}/{dataset}/{backbone}/{arm}")
    wildcard_constraints:
        phase="backbones",
    threads: 1
    resources:
        gpu=GPU,
    params:
        tier=TIER,
        settings=job_settings,
        code=job_code,
    shell:
        "domain-experts train {wildcards.phase:q} {wildcards.dataset:q} {wildcards.backbone:q}"
        " {wildcards.arm:q} --threads {threads} --tier {params.tier} 2>&1 | tee {log:q}"


rule backbones:
    input:
        targets("backbones"),
