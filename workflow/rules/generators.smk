GENERATOR = f"{CONFIG.cache_dir}/generators/{{dataset}}{{state}}/{{generator}}"
TRAINED = "|".join(map(re.escape, LAYOUT.trained())) or "none"


rule train_vae:
    input:
        index=index,
    output:
        expand(f"{GENERATOR}/{{file}}", file=VAE_FILES, allow_missing=True),
    log:
        "results/logs/{dataset}{state}/{generator}/train_vae.log",
    wildcard_constraints:
        generator=TRAINED,
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["train_vae"],
        dataset=dataset_choice,
        recipe=recipe,
        folder=lambda wildcards: GENERATOR.format(**wildcards),
    shell:
        "mgd3 train-vae --dataset {params.dataset:q} --index {input.index:q}"
        " --generator {wildcards.generator:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule train_generator:
    input:
        index=index,
        vae=expand(f"{GENERATOR}/{{file}}", file=VAE_FILES, allow_missing=True),
    output:
        expand(f"{GENERATOR}/{{file}}", file=DIT_FILES, allow_missing=True),
    log:
        "results/logs/{dataset}{state}/{generator}/train_generator.log",
    wildcard_constraints:
        generator=TRAINED,
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["train_generator"],
        dataset=dataset_choice,
        recipe=recipe,
        folder=lambda wildcards: GENERATOR.format(**wildcards),
    shell:
        "mgd3 train-generator --dataset {params.dataset:q} --index {input.index:q}"
        " --generator {wildcards.generator:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule finetune_generator:
    input:
        index=index,
        base=lambda wildcards: LAYOUT.generator_files(
            wildcards.dataset, LAYOUT.base_of(wildcards.generator)
        ),
    output:
        expand(f"{GENERATOR}/{{file}}", file=VAE_FILES + DIT_FILES, allow_missing=True),
    log:
        "results/logs/{dataset}{state}/{generator}/finetune_generator.log",
    benchmark:
        "results/benchmarks/{dataset}{state}/{generator}/finetune_generator.tsv"
    wildcard_constraints:
        generator="|".join(map(re.escape, LAYOUT.finetuned())) or "none",
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["finetune_generator"],
        dataset=dataset_with_meanings,
        meanings=meanings,
        recipe=lambda wildcards: str(
            get_generator(LAYOUT.generators[wildcards.generator]).finetune
        ),
        base=lambda wildcards: LAYOUT.generator_folder(
            wildcards.dataset, LAYOUT.base_of(wildcards.generator)
        ),
        folder=lambda wildcards: GENERATOR.format(**wildcards),
    shell:
        "mgd3 finetune-generator --dataset {params.dataset:q} --index {input.index:q}"
        " --base {params.base:q} --generator {wildcards.generator:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# Downloads run where snakemake runs: compute nodes often have no way out.
for family, files in FAMILY_FILES.items():

    rule:
        name:
            f"fetch_{family}"
        output:
            expand(
                f"{CONFIG.cache_dir}/generators/{ANY_DATASET}/{{generator}}/{{file}}",
                file=(*files, "fetched.json"),
                allow_missing=True,
            ),
        log:
            f"results/logs/{ANY_DATASET}/{{generator}}/fetch_{family}.log",
        wildcard_constraints:
            generator="|".join(map(re.escape, LAYOUT.fetched(family))) or "none",
        localrule: True
        conda:
            "../../envs/mgd3.yaml"
        params:
            version=VERSIONS["fetch_generator"],
            name=lambda wildcards: LAYOUT.generators[wildcards.generator],
            hub=lambda wildcards: str(
                get_generator(LAYOUT.generators[wildcards.generator]).hub
            ),
            folder=lambda wildcards, output: str(Path(output[0]).parent),
        shell:
            "mgd3 fetch-generator --generator {params.name:q} --folder {params.folder:q}"
            " > {log:q} 2>&1"
