GENERATOR = f"{CONFIG.cache_dir}/generators/{{dataset}}/{{generator}}~{{id}}"
TRAINED = one_of(LAYOUT.trained())
VAE = f"{CONFIG.cache_dir}/generators/{{dataset}}/{{generator}}-vae~{{id}}"
WHOLE = (*VAE_FILES, *DIT_FILES, FOLDER_HEADER)


rule train_vae:
    input:
        index=reads(JOBS.index),
    output:
        expand(f"{VAE}/{{file}}", file=(*VAE_FILES, FOLDER_HEADER), allow_missing=True),
    log:
        "results/logs/{dataset}/{generator}/train_vae~{id}.log",
    wildcard_constraints:
        generator=TRAINED,
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        dataset=JOBS.dataset,
        folder=above,
    shell:
        "mgd3 train-vae --dataset {params.dataset:q} --index {input.index:q}"
        " --generator {wildcards.generator:q} --identity {params.identity:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule train_generator:
    input:
        index=reads(JOBS.index),
        vae=reads(JOBS.vae),
    output:
        expand(f"{GENERATOR}/{{file}}", file=WHOLE, allow_missing=True),
    log:
        "results/logs/{dataset}/{generator}/train_generator~{id}.log",
    wildcard_constraints:
        generator=TRAINED,
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        dataset=JOBS.dataset,
        vae=JOBS.vae_folder,
        folder=above,
    shell:
        "mgd3 train-generator --dataset {params.dataset:q} --index {input.index:q} --vae {params.vae:q}"
        " --generator {wildcards.generator:q} --identity {params.identity:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule finetune_generator:
    input:
        index=reads(JOBS.index),
        base=reads(JOBS.base),
    output:
        expand(f"{GENERATOR}/{{file}}", file=WHOLE, allow_missing=True),
    log:
        "results/logs/{dataset}/{generator}/finetune_generator~{id}.log",
    benchmark:
        "results/benchmarks/{dataset}/{generator}/finetune_generator~{id}.tsv"
    wildcard_constraints:
        generator=one_of(LAYOUT.finetuned()),
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        dataset=JOBS.dataset_with_meanings,
        base=JOBS.base_folder,
        folder=above,
    shell:
        "mgd3 finetune-generator --dataset {params.dataset:q} --index {input.index:q}"
        " --base {params.base:q} --generator {wildcards.generator:q}"
        " --identity {params.identity:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# Downloads run where snakemake runs: compute nodes often have no way out.
for family, files in FAMILY_FILES.items():

    rule:
        name:
            f"fetch_{family}"
        output:
            expand(
                f"{CONFIG.cache_dir}/generators/{ANY_DATASET}/{{generator}}~{{id}}/{{file}}",
                file=(*files, "fetched.json", FOLDER_HEADER),
                allow_missing=True,
            ),
        log:
            f"results/logs/{ANY_DATASET}/{{generator}}/fetch_{family}~{{id}}.log",
        wildcard_constraints:
            generator=one_of(LAYOUT.fetched(family)),
        localrule: True
        conda:
            "../../envs/mgd3.yaml"
        params:
            identity=identity,
            name=lambda wildcards: LAYOUT.generators[wildcards.generator],
            folder=folder_of,
        shell:
            "mgd3 fetch-generator --generator {params.name:q} --identity {params.identity:q}"
            " --folder {params.folder:q} > {log:q} 2>&1"
