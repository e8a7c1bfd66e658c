DATASET = f"{CONFIG.cache_dir}/datasets/{{dataset}}"


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
        version=VERSIONS["fetch_dataset"],
        folder=lambda wildcards: DATASET.format(**wildcards),
    shell:
        "mgd3 fetch-dataset --name {wildcards.dataset:q} --folder {params.folder:q} > {log:q} 2>&1"


rule index:
    input:
        lambda wildcards: (
            f"{DATASET}/{RECEIPT}" if wildcards.dataset in archives() else []
        ),
    output:
        f"{CONFIG.cache_dir}/indexes/{{dataset}}{{state}}.parquet",
    log:
        "results/logs/{dataset}{state}/index.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["index"],
        dataset=dataset_choice,
    shell:
        "mgd3 index --dataset {params.dataset:q} --output {output:q} > {log:q} 2>&1"


# Before all trainings: a damaged test image must not be found after them.
rule pixels:
    input:
        index=index,
    output:
        f"{CONFIG.cache_dir}/pixels/{{dataset}}{{state}}/{{split}}_{{size}}.safetensors",
    log:
        "results/logs/{dataset}{state}/pixels_{split}_{size}.log",
    priority: 100
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["pixels"],
        dataset=dataset_choice,
    shell:
        "mgd3 pixels --dataset {params.dataset:q} --index {input.index:q} --split {wildcards.split:q}"
        " --size {wildcards.size:q} --output {output:q} > {log:q} 2>&1"
