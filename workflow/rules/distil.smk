DISTILLED = "results/{dataset}/distilled/{run}/ipc{ipc}/gen{gen}~{id}"
BLOCK = "results/{dataset}/blocks/{run}/ipc{ipc}/gen{gen}/block{b}~{id}"


# How lambda reaches the command line: a value of `lambda` in the configuration (or in `set`) makes a
# run (planning/config.py), whose settings are in the identity of its blocks (planning/identities.py)
# and so in the path that `collect` asks for (planning/layout.py). The path matches this rule, and
# JOBS.settings gives the run's settings as JSON (planning/wiring.py): `--settings '{"lambda":0.1}'`,
# which stages/methods.py checks and hands to the method's `distil` (methods/mgd3.py).
rule sample:
    input:
        index=reads(JOBS.index),
        generator=reads(JOBS.generator_of_run),
        modes=reads(JOBS.modes_of_run),
        teacher=reads(JOBS.teacher_of_run),
    output:
        f"{BLOCK}.safetensors",
    log:
        "results/logs/{dataset}/{run}/ipc{ipc}_gen{gen}_block{b}~{id}.log",
    benchmark:
        "results/benchmarks/{dataset}/{run}/sample_ipc{ipc}_gen{gen}_block{b}~{id}.tsv"
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
        identity=identity,
        dataset=JOBS.dataset_with_meanings,
        method=JOBS.method,
        settings=JOBS.settings,
        generator=JOBS.generator_option,
        modes=JOBS.modes_option,
        teacher=JOBS.teacher_option,
        classes=JOBS.classes_of_block,
    shell:
        "mgd3 sample --dataset {params.dataset:q} --index {input.index:q} --method {params.method:q}"
        " --settings {params.settings:q} --classes {params.classes:q} --ipc {wildcards.ipc:q}"
        " --generation-seed {wildcards.gen:q} {params.generator:q} {params.modes:q}"
        " {params.teacher:q} --identity {params.identity:q} --output {output:q} --batch {resources.batch:q} --compile {resources.compile:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule collect:
    input:
        blocks=reads(JOBS.blocks),
    output:
        images=f"{DISTILLED}/images.safetensors",
        manifest=f"{DISTILLED}/manifest.parquet",
    log:
        "results/logs/{dataset}/{run}/collect_ipc{ipc}_gen{gen}~{id}.log",
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    params:
        identity=identity,
        classes=JOBS.classes,
    shell:
        "mgd3 collect --blocks @<(printf '%s\\0' {input.blocks:q}) --classes @<(printf %s {params.classes:q})"
        " --identity {params.identity:q} --output {output.images:q} --manifest {output.manifest:q} > {log:q} 2>&1"
