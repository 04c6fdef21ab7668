# One job trains one arm on one data set and backbone, with all its variants and seeds. How many
# these are no pattern of files can say: the job declares its index, which it writes last, and
# which lists the files of each run with their checksums.
rule train:
    input:
        job_inputs,
    output:
        str(layout.job_index(TIER, Job("{phase}", "{dataset}", "{backbone}", "{arm}"))),
    log:
        log_of("{phase}/{dataset}/{backbone}/{arm}"),
    wildcard_constraints:
        phase="|".join(TRAINING),
    threads: job_threads
    resources:
        gpu=GPU,
    params:
        tier=TIER,
        settings=job_settings,
        code=job_code,
        libraries=libraries(),
    shell:
        "domain-experts train {wildcards.phase:q} {wildcards.dataset:q} {wildcards.backbone:q}"
        " {wildcards.arm:q} --threads {threads} --tier {params.tier} 2>&1 | tee {log:q}"


# Its trials are runs in the store: cut off, a search goes on from the last one.
rule search_settings:
    input:
        search_inputs,
    output:
        str(layout.search_file(TIER, Search("{experiment}", "{dataset}", "{backbone}", "{arm}"))),
    log:
        log_of("search/{experiment}/{dataset}/{backbone}/{arm}"),
    threads: 1
    resources:
        gpu=GPU,
    params:
        tier=TIER,
        settings=search_settings,
        code=search_code,
        libraries=libraries(),
    shell:
        "domain-experts search {wildcards.experiment:q} {wildcards.dataset:q}"
        " {wildcards.backbone:q} {wildcards.arm:q} --threads {threads} --tier {params.tier}"
        " 2>&1 | tee {log:q}"


rule search:
    input:
        targets("search"),


rule backbones:
    input:
        targets("backbones"),


rule experts:
    input:
        targets("experts"),


rule gates:
    input:
        targets("gates"),


rule ablations:
    input:
        targets("ablations"),


rule baselines:
    input:
        targets("baselines"),


rule controls:
    input:
        targets("controls"),
