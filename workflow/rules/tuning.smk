TUNING = "results/{dataset}/tuning/{tuning}~{id}"
TRIAL = f"{TUNING}/rung{{rung}}/slot{{slot}}_gen{{gen}}"


# `snakemake tune` searches settings on held-out training images. How many settings a rung tries is
# known beforehand; which they are, its jobs read from the rung's file when they run.
rule tune:
    input:
        rules.view.output,
        LAYOUT.target("tune"),


rule tune_rung:
    input:
        scores=reads(JOBS.scores_before),
        before=reads(JOBS.rung_before),
    output:
        f"{TUNING}/rung{{rung}}.json",
    log:
        "results/logs/{dataset}/tuning/{tuning}~{id}_rung{rung}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        identity=identity,
        points=lambda wildcards: compact(JOBS.tuning(wildcards).points),
        keep=JOBS.keep,
        scores=JOBS.scores_option,
    shell:
        "mgd3 tune-rung --grid @<(printf %s {params.points:q}) --keep {params.keep:q} {params.scores:q}"
        " --identity {params.identity:q} --output {output:q} > {log:q} 2>&1"


rule tune_sample:
    input:
        rung=f"{TUNING}/rung{{rung}}.json",
        index=reads(JOBS.index),
        generator=reads(JOBS.tuned_generator),
        modes=reads(JOBS.tuned_modes),
    output:
        f"{TRIAL}_images.safetensors",
    log:
        "results/logs/{dataset}/tuning/{tuning}~{id}_rung{rung}_slot{slot}_gen{gen}_sample.log",
    benchmark:
        "results/benchmarks/{dataset}/tuning/{tuning}~{id}_rung{rung}_slot{slot}_gen{gen}_sample.tsv"
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
        batch=CONFIG.batch,
        compile="yes" if CONFIG.compile else "no",
    params:
        identity=identity,
        dataset=JOBS.dataset_with_meanings,
        method=lambda wildcards: JOBS.tuning(wildcards).run.method,
        settings=lambda wildcards: compact(JOBS.tuning(wildcards).run.settings),
        classes=JOBS.classes,
        ipc=lambda wildcards: JOBS.tuning(wildcards).ipc,
        generator=JOBS.tuned_folder,
        modes=JOBS.tuned_modes_option,
    shell:
        "mgd3 tune-sample --rung {input.rung:q} --slot {wildcards.slot:q}"
        " --dataset {params.dataset:q} --index {input.index:q} --method {params.method:q}"
        " --settings {params.settings:q} --classes @<(printf %s {params.classes:q}) --ipc {params.ipc:q}"
        " --generation-seed {wildcards.gen:q} --generator {params.generator:q} {params.modes:q}"
        " --identity {params.identity:q} --output {output:q} --batch {resources.batch:q} --compile {resources.compile:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# A teacher that is shown no test images, not even to say how good it is.
rule tune_teacher:
    input:
        train=reads(JOBS.shown_to_teacher("train")),
        validation=reads(JOBS.shown_to_teacher("validation")),
    output:
        expand(
            "results/{{dataset}}/tuning/teachers/{{teacher}}~{{id}}/{file}",
            file=TEACHER_FILES,
        ),
    log:
        "results/logs/{dataset}/tuning/teacher_{teacher}~{id}.log",
    benchmark:
        "results/benchmarks/{dataset}/tuning/teacher_{teacher}~{id}.tsv"
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        flip=JOBS.flip,
        folder=folder_of,
    shell:
        "mgd3 train-teacher --teacher {wildcards.teacher:q} --train {input.train:q}"
        " --validation {input.validation:q} {params.flip:q}"
        " --identity {params.identity:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# The first rung.
rule tune_proxy:
    input:
        distilled=f"{TUNING}/rung0/slot{{slot}}_gen{{gen}}_images.safetensors",
        rung=f"{TUNING}/rung0.json",
        index=reads(JOBS.index),
        latents=reads(JOBS.tuned_latents),
        vae=reads(JOBS.tuned_encoder),
        teacher=reads(JOBS.tuning_teacher),
    output:
        f"{TUNING}/rung0/slot{{slot}}_gen{{gen}}_score.json",
    log:
        "results/logs/{dataset}/tuning/{tuning}~{id}_rung0_slot{slot}_gen{gen}_proxy.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        space=JOBS.tuned_space,
        teacher=JOBS.tuning_teacher_folder,
    shell:
        "mgd3 tune-proxy --distilled {input.distilled:q} --rung {input.rung:q}"
        " --slot {wildcards.slot:q} --latents {input.latents:q}"
        " --index {input.index:q} --generator {params.space.vae_folder:q}"
        " --size {params.space.size:q} --teacher-folder {params.teacher:q}"
        " --identity {params.identity:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# The later ones.
rule tune_train:
    input:
        distilled=f"{TRIAL}_images.safetensors",
        rung=f"{TUNING}/rung{{rung}}.json",
        validation=reads(JOBS.held_out),
    output:
        scores=f"{TRIAL}_score.json",
        predictions=f"{TRIAL}_score.safetensors",
    log:
        "results/logs/{dataset}/tuning/{tuning}~{id}_rung{rung}_slot{slot}_gen{gen}_train.log",
    benchmark:
        "results/benchmarks/{dataset}/tuning/{tuning}~{id}_rung{rung}_slot{slot}_gen{gen}_train.tsv"
    wildcard_constraints:
        rung=r"[1-9]\d*",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        protocol=lambda wildcards: JOBS.tuning(wildcards).protocol,
        network=lambda wildcards: JOBS.tuning(wildcards).network,
        flip=JOBS.flip,
    shell:
        "mgd3 tune-train --distilled {input.distilled:q} --rung {input.rung:q}"
        " --slot {wildcards.slot:q} --validation {input.validation:q}"
        " --protocol {params.protocol:q} --network {params.network:q} {params.flip:q}"
        " --identity {params.identity:q} --output {output.scores:q} --device {resources.device:q} --threads {threads}"
        " > {log:q} 2>&1"


rule tune_report:
    input:
        lambda wildcards: LAYOUT.tuning_files(),
    output:
        csv=report(
            LAYOUT.report("tables/tuning.csv"),
            caption="../report/tuning.rst",
            category="4. Tuning",
            labels={"what": "every setting that was tried"},
        ),
        md=LAYOUT.report("tables/tuning.md"),
        overlay=LAYOUT.report("tuning/overlay.yaml"),
    log:
        f"results/logs/reports/{CONFIG.name}_tuning.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        tunings=lambda wildcards: compact(LAYOUT.tuning_summaries()),
        runs=compact(CONFIG.run_choices),
        known=compact([run.slug for run in CONFIG.runs]),
        title=CONFIG.name,
    shell:
        "mgd3 tune-report --tunings @<(printf %s {params.tunings:q}) --runs {params.runs:q}"
        " --slugs {params.known:q} --title {params.title:q} --output {output.csv:q}"
        " --overlay {output.overlay:q} > {log:q} 2>&1"


rule tune_surface:
    input:
        rules.tune_report.output.csv,
    output:
        png=report(
            LAYOUT.report("figures/tuning_{tuning}.png"),
            caption="../report/tuning.rst",
            category="4. Tuning",
            labels=lambda wildcards: {
                "what": LAYOUT.tunings[wildcards.tuning].run.label
            },
        ),
        svg=LAYOUT.report("figures/tuning_{tuning}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_tuning_{{tuning}}.log",
    conda:
        "../../envs/mgd3.yaml"
    shell:
        "mgd3 tune-surface {input:q} --tuning {wildcards.tuning:q} --output {output.png:q}"
        " > {log:q} 2>&1"
