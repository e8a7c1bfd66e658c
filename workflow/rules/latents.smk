rule latents:
    input:
        index=origin_index,
        vae=lambda wildcards: [
            f"{space_of(wildcards).vae_folder}/{f}"
            for f in vae_files(space_of(wildcards).vae_folder)
        ],
    output:
        f"{CONFIG.cache_dir}/latents/{{origin}}/{{space}}{{flips}}/{{block}}.safetensors",
    log:
        "results/logs/latents/{origin}/{space}{flips}_{block}.log",
    benchmark:
        "results/benchmarks/latents/{origin}/{space}{flips}_{block}.tsv"
    wildcard_constraints:
        origin="|".join(re.escape(origin) for origin, _ in LAYOUT.spaces) or "none",
        space="|".join(re.escape(space) for _, space in LAYOUT.spaces) or "none",
        block="block-[0-9a-f]{8}",
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    threads: 16  # JPEGs to decode; fewer where there are fewer cores
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["latents"],
        dataset=lambda wildcards: compact(LAYOUT.origin_choice(wildcards.origin)),
        generator=lambda wildcards: space_of(wildcards).vae_folder,
        size=lambda wildcards: space_of(wildcards).size,
        precision=lambda wildcards: space_of(wildcards).precision,
        classes=lambda wildcards: compact(
            LAYOUT.latent_classes[wildcards.origin, wildcards.block]
        ),
        flip=lambda wildcards: ["--flip"] if wildcards.flips else [],
    shell:
        "mgd3 latents --dataset {params.dataset:q} --generator {params.generator:q}"
        " --classes {params.classes:q} --size {params.size:q} {params.flip:q}"
        " --precision {params.precision:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule modes:
    input:
        index=index,
        latents=lambda wildcards: LAYOUT.latents(wildcards.dataset, wildcards.generator),
        mirrored=lambda wildcards: (
            LAYOUT.latents(wildcards.dataset, wildcards.generator, wildcards.flips)
            if wildcards.flips
            else []
        ),
    output:
        "results/{dataset}/modes/{generator}/{discovery}{pca}{flips}/ipc{ipc}{seeded}.safetensors",
    log:
        "results/logs/{dataset}/{generator}/modes_{discovery}{pca}{flips}_ipc{ipc}{seeded}.log",
    wildcard_constraints:
        discovery="|".join(map(re.escape, DISCOVERIES)),
        pca=r"(-pca\d+)?",
        seeded=r"(_gen\d+)?",
    priority: FIRST
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=version_with(VERSIONS["modes"], "discovery"),
        draw=lambda wildcards: get_generator(
            LAYOUT.generators[wildcards.generator]
        ).draw,
        pca=lambda wildcards: (
            ["--pca", wildcards.pca.removeprefix("-pca")] if wildcards.pca else []
        ),
        mirrored=lambda wildcards, input: (
            ["--mirrored", *input.mirrored] if input.mirrored else []
        ),
        generation_seed=lambda wildcards: wildcards.seeded.removeprefix("_gen") or "0",
    shell:
        "mgd3 modes --latents {input.latents:q} {params.mirrored:q} --index {input.index:q}"
        " --discovery {wildcards.discovery:q} {params.pca:q} --draw {params.draw:q} --ipc {wildcards.ipc:q}"
        " --generation-seed {params.generation_seed:q} --output {output:q} --threads {threads}"
        " > {log:q} 2>&1"
