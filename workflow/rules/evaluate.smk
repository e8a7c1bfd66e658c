SCORES = "results/{dataset}/evaluated/{run}/ipc{ipc}/gen{gen}/{protocol}/{network}_seed{seed}"


rule relabel:
    input:
        train=train_file,
        teacher=lambda wildcards: LAYOUT.teacher_files(
            wildcards.dataset, get_protocol(wildcards.protocol)
        ),
    output:
        "results/{dataset}/labels/{run}/ipc{ipc}/gen{gen}/{protocol}_part{part}.safetensors",
    log:
        "results/logs/{dataset}/{run}/relabel_ipc{ipc}_gen{gen}_{protocol}_part{part}.log",
    benchmark:
        "results/benchmarks/{dataset}/{run}/relabel_ipc{ipc}_gen{gen}_{protocol}_part{part}.tsv"
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        version=version_with(VERSIONS["relabel"], "protocol"),
        settings=lambda wildcards: str(get_protocol(wildcards.protocol)),
        parts=lambda wildcards: len(label_files(wildcards)),
        flip=flip_of,
        teacher=lambda wildcards, input: teacher_options(input.teacher, wildcards),
    shell:
        "mgd3 relabel --train {input.train:q} {params.teacher:q}"
        " --protocol {wildcards.protocol:q} --part {wildcards.part:q} --parts {params.parts:q}"
        " --generation-seed {wildcards.gen:q} {params.flip:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule evaluate:
    input:
        train=train_file,
        test=real_split("test"),
        validation=real_split("validation"),
        teacher=teacher_files,
        labels=label_files,
    output:
        scores=f"{SCORES}.json",
        predictions=f"{SCORES}.safetensors",
    log:
        "results/logs/{dataset}/{run}/ipc{ipc}_gen{gen}_{protocol}_{network}_seed{seed}.log",
    benchmark:
        "results/benchmarks/{dataset}/{run}/evaluate_ipc{ipc}_gen{gen}_{protocol}_{network}_seed{seed}.tsv"
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        version=version_with(VERSIONS["evaluate"], "protocol"),
        settings=lambda wildcards: str(get_protocol(wildcards.protocol)),
        context=context,
        flip=flip_of,
        validation=validation_of,
        supervision=supervision_of,
    shell:
        "mgd3 evaluate --train {input.train:q} --test {input.test:q} {params.validation:q}"
        " {params.supervision:q} --protocol {wildcards.protocol:q} --network {wildcards.network:q}"
        " --generation-seed {wildcards.gen:q} --training-seed {wildcards.seed:q} {params.flip:q}"
        " --context {params.context:q} --output {output.scores:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"
