TEACHER = f"{CONFIG.cache_dir}/teachers/{{dataset}}/{{teacher}}~{{id}}"


rule train_teacher:
    input:
        train=reads(JOBS.shown_to_teacher("train")),
        test=reads(JOBS.shown_to_teacher("test")),
        validation=reads(JOBS.shown_to_teacher("validation")),
    output:
        expand(f"{TEACHER}/{{file}}", file=TEACHER_FILES, allow_missing=True),
    log:
        "results/logs/{dataset}/teacher_{teacher}~{id}.log",
    benchmark:
        "results/benchmarks/{dataset}/teacher_{teacher}~{id}.tsv"
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        flip=JOBS.flip,
        validation=JOBS.validation_of_teacher,
        folder=folder_of,
    shell:
        "mgd3 train-teacher --teacher {wildcards.teacher:q} --train {input.train:q}"
        " --test {input.test:q} {params.validation:q} {params.flip:q}"
        " --identity {params.identity:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# A file fetched elsewhere takes its place: `mgd3 fetch-teacher ... --file FILE`.
rule fetch_teacher:
    output:
        expand(
            f"{CONFIG.cache_dir}/teachers/{IMAGENET}/{{teacher}}~{{id}}/{{file}}",
            file=TEACHER_FILES,
            allow_missing=True,
        ),
    log:
        "results/logs/fetch_teacher_{teacher}~{id}.log",
    wildcard_constraints:
        teacher=one_of(name for name, recipe in TEACHERS.items() if recipe.pretrained),
    conda:
        "../../envs/mgd3.yaml"
    params:
        identity=identity,
        folder=folder_of,
    shell:
        "mgd3 fetch-teacher --teacher {wildcards.teacher:q} --identity {params.identity:q}"
        " --folder {params.folder:q} > {log:q} 2>&1"


ruleorder: fetch_teacher > train_teacher
