rule embed:
    input:
        distilled=f"{DISTILLED}/images.safetensors",
        vae=lambda wildcards: [
            f"{LAYOUT.space(wildcards.dataset, wildcards.generator).vae_folder}/{f}"
            for f in VAE_FILES
        ],
    output:
        "results/{dataset}/metrics/{generator}/{run}/ipc{ipc}_gen{gen}.safetensors",
    log:
        "results/logs/{dataset}/{run}/embed_{generator}_ipc{ipc}_gen{gen}.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["embed"],
        space=lambda wildcards: LAYOUT.space(wildcards.dataset, wildcards.generator),
    shell:
        "mgd3 embed --distilled {input.distilled:q} --generator {params.space.vae_folder:q}"
        " --size {params.space.size:q} --output {output:q} --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule measure:
    input:
        index=index,
        latents=lambda wildcards: LAYOUT.latents(
            wildcards.dataset, LAYOUT.measuring_generator()
        ),
        embedded=lambda wildcards: LAYOUT.embedded(
            wildcards.dataset, wildcards.ipc, wildcards.gen
        ),
    output:
        samples=LAYOUT.report("metrics/{dataset}_ipc{ipc}_gen{gen}_samples.parquet"),
        points=LAYOUT.report("metrics/{dataset}_ipc{ipc}_gen{gen}_points.parquet"),
    log:
        f"results/logs/reports/{CONFIG.name}_measure_{{dataset}}_ipc{{ipc}}_gen{{gen}}.log",
    benchmark:
        f"results/benchmarks/reports/{CONFIG.name}_measure_{{dataset}}_ipc{{ipc}}_gen{{gen}}.tsv"
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["measure"],
        of=lambda wildcards: compact(
            {
                "dataset": wildcards.dataset,
                "ipc": int(wildcards.ipc),
                "generation_seed": int(wildcards.gen),
            }
        ),
        runs=compact([run.slug for run in LAYOUT.distilling]),
    shell:
        "mgd3 measure --latents {input.latents:q} --index {input.index:q}"
        " --embedded {input.embedded:q} --slugs {params.runs:q} --of {params.of:q}"
        " --output {output.samples:q} --points {output.points:q} --threads {threads}"
        " > {log:q} 2>&1"


rule measures_table:
    input:
        LAYOUT.measured("samples"),
    output:
        csv=LAYOUT.report("tables/metrics.csv"),
        md=LAYOUT.report("tables/metrics.md"),
        classes=LAYOUT.report("tables/metrics_classes.csv"),
    log:
        f"results/logs/reports/{CONFIG.name}_metrics.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["measure"],
        rows=compact([run.row() for run in CONFIG.runs]),
    shell:
        "mgd3 measures-table {input:q} --runs {params.rows:q} --output {output.csv:q} > {log:q} 2>&1"


rule trade_off:
    input:
        rules.measures_table.output.classes,
    output:
        png=LAYOUT.report("figures/trade_off.png"),
        svg=LAYOUT.report("figures/trade_off.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_trade_off.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["plots"],
    shell:
        "mgd3 trade-off {input:q} --output {output.png:q} > {log:q} 2>&1"


rule sample_map:
    input:
        LAYOUT.report(
            f"metrics/{{dataset}}_ipc{{ipc}}_gen{CONFIG.generation_seeds[0]}_points.parquet"
        ),
    output:
        png=LAYOUT.report("figures/map_{dataset}_ipc{ipc}.png"),
        svg=LAYOUT.report("figures/map_{dataset}_ipc{ipc}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_map_{{dataset}}_ipc{{ipc}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["plots"],
        rows=compact([run.row() for run in CONFIG.runs]),
    shell:
        "mgd3 sample-map --mapped {input:q} --runs {params.rows:q} --output {output.png:q}"
        " > {log:q} 2>&1"


rule metrics:
    input:
        rules.measures_table.output,
        rules.trade_off.output,
        LAYOUT.maps(),
