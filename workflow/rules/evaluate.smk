SCORES = "results/{dataset}/evaluated/{run}/ipc{ipc}/gen{gen}/{protocol}/{network}_seed{seed}~{id}"


rule relabel:
    input:
        train=reads(JOBS.train),
        teacher=reads(JOBS.teacher_of_labels),
    output:
        "results/{dataset}/labels/{run}/ipc{ipc}/gen{gen}/{protocol}_part{part}~{id}.safetensors",
    log:
        "results/logs/{dataset}/{run}/relabel_ipc{ipc}_gen{gen}_{protocol}_part{part}~{id}.log",
    benchmark:
        "results/benchmarks/{dataset}/{run}/relabel_ipc{ipc}_gen{gen}_{protocol}_part{part}~{id}.tsv"
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        parts=JOBS.parts,
        flip=JOBS.flip,
        teacher=JOBS.labelling,
    shell:
        "mgd3 relabel --train {input.train:q} {params.teacher:q}"
        " --protocol {wildcards.protocol:q} --part {wildcards.part:q} --parts {params.parts:q}"
        " --generation-seed {wildcards.gen:q} {params.flip:q} --identity {params.identity:q}"
        " --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule evaluate:
    input:
        train=reads(JOBS.train),
        test=reads(JOBS.real("test")),
        validation=reads(JOBS.real("validation")),
        teacher=reads(JOBS.teacher_online),
        labels=reads(JOBS.labels),
    output:
        scores=f"{SCORES}.json",
        predictions=f"{SCORES}.safetensors",
    log:
        "results/logs/{dataset}/{run}/ipc{ipc}_gen{gen}_{protocol}_{network}_seed{seed}~{id}.log",
    benchmark:
        "results/benchmarks/{dataset}/{run}/evaluate_ipc{ipc}_gen{gen}_{protocol}_{network}_seed{seed}~{id}.tsv"
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        context=JOBS.context,
        flip=JOBS.flip,
        validation=JOBS.validation,
        supervision=JOBS.supervision,
    shell:
        "mgd3 evaluate --train {input.train:q} --test {input.test:q} {params.validation:q}"
        " {params.supervision:q} --protocol {wildcards.protocol:q} --network {wildcards.network:q}"
        " --generation-seed {wildcards.gen:q} --training-seed {wildcards.seed:q} {params.flip:q}"
        " --context {params.context:q} --identity {params.identity:q} --output {output.scores:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"
