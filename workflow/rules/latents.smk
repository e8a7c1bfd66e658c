rule latents:
    input:
        reads(JOBS.encoder_of_block),
    output:
        f"{CONFIG.cache_dir}/latents/{{origin}}/{{space}}{{flips}}/{{block}}~{{id}}.safetensors",
    log:
        "results/logs/latents/{origin}/{space}{flips}_{block}~{id}.log",
    benchmark:
        "results/benchmarks/latents/{origin}/{space}{flips}_{block}~{id}.tsv"
    wildcard_constraints:
        origin=one_of(space.origin for space in LAYOUT.spaces),
        space=one_of(space.name for space in LAYOUT.spaces),
        block="block-[0-9a-f]{8}",
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 16  # JPEGs to decode; fewer where there are fewer cores
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        job=lambda wildcards: LAYOUT.latent_job(wildcards.id),
        dataset=lambda wildcards: compact(LAYOUT.latent_job(wildcards.id).choice),
        classes=lambda wildcards: compact(LAYOUT.latent_job(wildcards.id).classes),
        flip=lambda wildcards: ["--flip"] if wildcards.flips else [],
    shell:
        "mgd3 latents --dataset {params.dataset:q} --generator {params.job.space.vae_folder:q}"
        " --classes {params.classes:q} --size {params.job.space.size:q} {params.flip:q}"
        " --precision {params.job.space.precision:q} --identity {params.identity:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule modes:
    input:
        index=reads(JOBS.index),
        latents=reads(JOBS.latents),
        mirrored=reads(JOBS.mirrored),
    output:
        "results/{dataset}/modes/{generator}/{discovery}{pca}{flips}/ipc{ipc}{seeded}~{id}.safetensors",
    log:
        "results/logs/{dataset}/{generator}/modes_{discovery}{pca}{flips}_ipc{ipc}{seeded}~{id}.log",
    wildcard_constraints:
        discovery=one_of(DISCOVERIES),
        pca=r"(-pca\d+)?",
        seeded=r"(_gen\d+)?",
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    params:
        identity=identity,
        draw=JOBS.draw,
        pca=JOBS.pca,
        mirrored=JOBS.mirrored_option,
        generation_seed=lambda wildcards: wildcards.seeded.removeprefix("_gen") or "0",
    shell:
        "mgd3 modes --latents {input.latents:q} {params.mirrored:q} --index {input.index:q}"
        " --discovery {wildcards.discovery:q} {params.pca:q} --draw {params.draw:q} --ipc {wildcards.ipc:q}"
        " --generation-seed {params.generation_seed:q} --identity {params.identity:q}"
        " --output {output:q} --threads {threads}"
        " > {log:q} 2>&1"
