TUNING = "results/{dataset}/tuning/{tuning}"
TRIAL = f"{TUNING}/rung{{rung}}/slot{{slot}}_gen{{gen}}"


# `snakemake tune` searches settings on held-out training images. How many settings a rung tries is
# known beforehand; which they are, its jobs read from the rung's file when they run.
rule tune:
    input:
        lambda wildcards: LAYOUT.tuning_figures(),
        LAYOUT.report("tables/tuning.csv"),


rule tune_rung:
    input:
        lambda wildcards: LAYOUT.judged(tuning_of(wildcards), int(wildcards.rung) - 1),
    output:
        f"{TUNING}/rung{{rung}}.json",
    log:
        "results/logs/{dataset}/tuning/{tuning}_rung{rung}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["tune_rung"],
        points=lambda wildcards: compact(tuning_of(wildcards).points),
        keep=lambda wildcards: tuning_of(wildcards).slots(int(wildcards.rung)),
        scores=lambda wildcards, input: ["--scores", *input] if input else [],
    shell:
        "mgd3 tune-rung --grid {params.points:q} --keep {params.keep:q} {params.scores:q}"
        " --output {output:q} > {log:q} 2>&1"


rule tune_sample:
    input:
        rung=f"{TUNING}/rung{{rung}}.json",
        index=index,
        generator=lambda wildcards: LAYOUT.generator_files(
            wildcards.dataset, LAYOUT.slug(tuning_of(wildcards).run)
        ),
        modes=lambda wildcards: LAYOUT.tuning_modes(
            tuning_of(wildcards), int(wildcards.gen)
        ),
    output:
        f"{TRIAL}_images.safetensors",
    log:
        "results/logs/{dataset}/tuning/{tuning}_rung{rung}_slot{slot}_gen{gen}_sample.log",
    benchmark:
        "results/benchmarks/{dataset}/tuning/{tuning}_rung{rung}_slot{slot}_gen{gen}_sample.tsv"
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
        batch=CONFIG.batch,
        compile="yes" if CONFIG.compile else "no",
    params:
        version=lambda wildcards: version_of_method(
            VERSIONS["tune_sample"], tuning_of(wildcards).run
        ),
        dataset=dataset_with_meanings,
        meanings=meanings,
        method=lambda wildcards: tuning_of(wildcards).run.method,
        settings=lambda wildcards: compact(tuning_of(wildcards).run.settings),
        classes=lambda wildcards: compact(LAYOUT.classes[wildcards.dataset]),
        ipc=lambda wildcards: tuning_of(wildcards).ipc,
        generator=lambda wildcards: LAYOUT.generator_folder(
            wildcards.dataset, LAYOUT.slug(tuning_of(wildcards).run)
        ),
        modes=lambda wildcards, input: ["--modes", *input.modes] if input.modes else [],
    shell:
        "mgd3 tune-sample --rung {input.rung:q} --slot {wildcards.slot:q}"
        " --dataset {params.dataset:q} --index {input.index:q} --method {params.method:q}"
        " --settings {params.settings:q} --classes {params.classes:q} --ipc {params.ipc:q}"
        " --generation-seed {wildcards.gen:q} --generator {params.generator:q} {params.modes:q}"
        " --output {output:q} --batch {resources.batch:q} --compile {resources.compile:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# A teacher that is shown no test images, not even to say how good it is.
rule tune_teacher:
    input:
        train=teacher_split("train"),
        validation=teacher_split("validation"),
    output:
        expand(
            "results/{{dataset}}/tuning/teachers/{{teacher}}/{file}",
            file=TEACHER_FILES,
        ),
    log:
        "results/logs/{dataset}/tuning/teacher_{teacher}.log",
    benchmark:
        "results/benchmarks/{dataset}/tuning/teacher_{teacher}.tsv"
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        version=version_with(VERSIONS["train_teacher"], "teacher"),
        settings=lambda wildcards: str(TEACHERS[wildcards.teacher]),
        flip=flip_of,
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "mgd3 train-teacher --teacher {wildcards.teacher:q} --train {input.train:q}"
        " --validation {input.validation:q} {params.flip:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# The first rung.
rule tune_proxy:
    input:
        distilled=f"{TUNING}/rung0/slot{{slot}}_gen{{gen}}_images.safetensors",
        index=index,
        latents=lambda wildcards: LAYOUT.latents(
            wildcards.dataset, LAYOUT.slug(tuning_of(wildcards).run)
        ),
        vae=lambda wildcards: [
            f"{tuning_space(wildcards).vae_folder}/{file}" for file in VAE_FILES
        ],
        teacher=lambda wildcards: LAYOUT.tuning_teacher(tuning_of(wildcards)),
    output:
        f"{TUNING}/rung0/slot{{slot}}_gen{{gen}}_score.json",
    log:
        "results/logs/{dataset}/tuning/{tuning}_rung0_slot{slot}_gen{gen}_proxy.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["tune_proxy"],
        space=tuning_space,
        teacher=lambda wildcards, input: str(Path(input.teacher[0]).parent),
    shell:
        "mgd3 tune-proxy --distilled {input.distilled:q} --latents {input.latents:q}"
        " --index {input.index:q} --generator {params.space.vae_folder:q}"
        " --size {params.space.size:q} --teacher-folder {params.teacher:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# The later ones.
rule tune_train:
    input:
        distilled=f"{TRIAL}_images.safetensors",
        validation=lambda wildcards: LAYOUT.pixels(
            LAYOUT.datasets[wildcards.dataset],
            "validation",
            get_protocol(tuning_of(wildcards).protocol).pixels,
        ),
    output:
        scores=f"{TRIAL}_score.json",
        predictions=f"{TRIAL}_score.safetensors",
    log:
        "results/logs/{dataset}/tuning/{tuning}_rung{rung}_slot{slot}_gen{gen}_train.log",
    benchmark:
        "results/benchmarks/{dataset}/tuning/{tuning}_rung{rung}_slot{slot}_gen{gen}_train.tsv"
    wildcard_constraints:
        rung=r"[1-9]\d*",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        version=lambda wildcards: version_of(
            VERSIONS["tune_train"], ("protocol", tuning_of(wildcards).protocol)
        ),
        protocol=lambda wildcards: tuning_of(wildcards).protocol,
        network=lambda wildcards: tuning_of(wildcards).network,
        settings=lambda wildcards: str(get_protocol(tuning_of(wildcards).protocol)),
        flip=flip_of,
    shell:
        "mgd3 tune-train --distilled {input.distilled:q} --validation {input.validation:q}"
        " --protocol {params.protocol:q} --network {params.network:q} {params.flip:q}"
        " --output {output.scores:q} --device {resources.device:q} --threads {threads}"
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
        version=VERSIONS["tune_report"],
        tunings=lambda wildcards: compact(LAYOUT.tuning_summaries()),
        runs=compact(CONFIG.run_choices),
        known=compact([run.slug for run in CONFIG.runs]),
        title=CONFIG.name,
    shell:
        "mgd3 tune-report --tunings {params.tunings:q} --runs {params.runs:q}"
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
    params:
        version=VERSIONS["tune_surface"],
    shell:
        "mgd3 tune-surface {input:q} --tuning {wildcards.tuning:q} --output {output.png:q}"
        " > {log:q} 2>&1"
