DISTILLED = "results/{dataset}/distilled/{run}/ipc{ipc}/gen{gen}"


rule sample:
    input:
        index=index,
        generator=generator_files,
        modes=modes_file,
        teacher=method_teacher_files,
    output:
        f"{DISTILLED}/block{{b}}.safetensors",
    log:
        "results/logs/{dataset}/{run}/ipc{ipc}_gen{gen}_block{b}.log",
    benchmark:
        "results/benchmarks/{dataset}/{run}/sample_ipc{ipc}_gen{gen}_block{b}.tsv"
    priority: FIRST
    group:
        "sample"
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
        batch=CONFIG.batch,
        compile="yes" if CONFIG.compile else "no",
    params:
        version=version_of_run(VERSIONS["sample"]),
        dataset=dataset_with_meanings,
        meanings=meanings,
        method=lambda wildcards: run_of(wildcards).method,
        settings=lambda wildcards: compact(run_of(wildcards).settings),
        generator=generator_options,
        modes=lambda wildcards: (
            ["--modes", modes_file(wildcards)] if modes_file(wildcards) else []
        ),
        images=external_state,
        teacher=lambda wildcards, input: (
            ["--teacher-folder", str(Path(input.teacher[0]).parent)]
            if input.teacher
            else []
        ),
        classes=lambda wildcards: compact(sample_blocks(wildcards)[int(wildcards.b)]),
    shell:
        "mgd3 sample --dataset {params.dataset:q} --index {input.index:q} --method {params.method:q}"
        " --settings {params.settings:q} --classes {params.classes:q} --ipc {wildcards.ipc:q}"
        " --generation-seed {wildcards.gen:q} {params.generator:q} {params.modes:q}"
        " {params.teacher:q} --output {output:q} --batch {resources.batch:q} --compile {resources.compile:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule collect:
    input:
        blocks=lambda wildcards: [
            f"{DISTILLED}/block{b}.safetensors".format(**wildcards)
            for b in range(len(sample_blocks(wildcards)))
        ],
    output:
        images=f"{DISTILLED}/images.safetensors",
        manifest=f"{DISTILLED}/manifest.parquet",
    log:
        "results/logs/{dataset}/{run}/collect_ipc{ipc}_gen{gen}.log",
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["collect"],
        classes=lambda wildcards: compact(LAYOUT.classes[wildcards.dataset]),
    shell:
        "mgd3 collect --blocks {input.blocks:q} --classes {params.classes:q}"
        " --output {output.images:q} --manifest {output.manifest:q} > {log:q} 2>&1"
