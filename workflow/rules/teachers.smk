TEACHER = f"{CONFIG.cache_dir}/teachers/{{dataset}}{{state}}/{{teacher}}"


rule train_teacher:
    input:
        train=teacher_split("train"),
        test=teacher_split("test"),
        validation=teacher_split("validation"),
    output:
        expand(f"{TEACHER}/{{file}}", file=TEACHER_FILES, allow_missing=True),
    log:
        "results/logs/{dataset}{state}/teacher_{teacher}.log",
    benchmark:
        "results/benchmarks/{dataset}{state}/teacher_{teacher}.tsv"
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 2
    resources:
        **ON_DEVICE,
    params:
        version=version_with(VERSIONS["train_teacher"], "teacher"),
        settings=lambda wildcards: str(TEACHERS[wildcards.teacher]),
        flip=flip_of,
        validation=validation_of,
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "mgd3 train-teacher --teacher {wildcards.teacher:q} --train {input.train:q}"
        " --test {input.test:q} {params.validation:q} {params.flip:q} --folder {params.folder:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


# A file fetched elsewhere takes its place: `mgd3 fetch-teacher ... --file FILE`.
rule fetch_teacher:
    output:
        expand(
            f"{CONFIG.cache_dir}/teachers/{IMAGENET}/resnet18/{{file}}",
            file=TEACHER_FILES,
        ),
    log:
        "results/logs/fetch_teacher.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["fetch_teacher"],
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "mgd3 fetch-teacher --teacher resnet18 --folder {params.folder:q} > {log:q} 2>&1"


ruleorder: fetch_teacher > train_teacher
