DATASET = archive_folder(CONFIG.cache_dir, "{dataset}")


# An archive that was fetched elsewhere is put into this folder beforehand, and is checked here.
rule fetch_dataset:
    output:
        f"{DATASET}/{RECEIPT}",
    log:
        "results/logs/{dataset}/fetch_dataset.log",
    wildcard_constraints:
        dataset="|".join(archives()),
    conda:
        "../../envs/mgd3.yaml"
    params:
        folder=lambda wildcards: DATASET.format(**wildcards),
    shell:
        "mgd3 fetch-dataset --name {wildcards.dataset:q} --folder {params.folder:q} > {log:q} 2>&1"


rule index:
    input:
        reads(JOBS.archive),
    output:
        f"{CONFIG.cache_dir}/indexes/{{dataset}}~{{id}}.parquet",
    log:
        "results/logs/{dataset}/index~{id}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        identity=identity,
        dataset=JOBS.dataset,
    shell:
        "mgd3 index --dataset {params.dataset:q} --identity {params.identity:q} --output {output:q}"
        " > {log:q} 2>&1"


# Before all trainings: a damaged test image must not be found after them.
rule pixels:
    input:
        index=reads(JOBS.index),
    output:
        f"{CONFIG.cache_dir}/pixels/{{dataset}}/{{split}}_{{size}}~{{id}}.safetensors",
    log:
        "results/logs/{dataset}/pixels_{split}_{size}~{id}.log",
    priority: 100
    conda:
        "../../envs/mgd3.yaml"
    params:
        identity=identity,
        dataset=JOBS.dataset,
    shell:
        "mgd3 pixels --dataset {params.dataset:q} --index {input.index:q} --split {wildcards.split:q}"
        " --size {wildcards.size:q} --identity {params.identity:q} --output {output:q} > {log:q} 2>&1"
