rule embed:
    input:
        distilled=f"{DISTILLED}/images.safetensors",
        vae=lambda wildcards: [
            f"{LAYOUT.space(wildcards.dataset, wildcards.generator).vae_folder}/{f}"
            for f in vae_files(
                LAYOUT.space(wildcards.dataset, wildcards.generator).vae_folder
            )
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


rule judge:
    input:
        distilled=f"{DISTILLED}/images.safetensors",
        teacher=judge_of,
    output:
        "results/{dataset}/judged/{trained_on}/{teacher}/{run}/ipc{ipc}_gen{gen}.safetensors",
    log:
        "results/logs/{dataset}/{run}/judge_{trained_on}_{teacher}_ipc{ipc}_gen{gen}.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["judge"],
        names=names_for_judge,
        folder=lambda wildcards, input: str(Path(input.teacher[0]).parent),
    shell:
        "mgd3 judge --distilled {input.distilled:q} --teacher {wildcards.teacher:q}"
        " --teacher-folder {params.folder:q} {params.names:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule judge_originals:
    input:
        index=index,
        teacher=judge_of,
    output:
        "results/{dataset}/judged/{trained_on}/{teacher}/originals.safetensors",
    log:
        "results/logs/{dataset}/judge_{trained_on}_{teacher}_originals.log",
    benchmark:
        "results/benchmarks/{dataset}/judge_{trained_on}_{teacher}_originals.tsv"
    conda:
        "../../envs/mgd3.yaml"
    threads: 8  # JPEGs to decode
    resources:
        **ON_DEVICE,
    params:
        version=VERSIONS["judge_originals"],
        dataset=dataset_choice,
        folder=lambda wildcards, input: str(Path(input.teacher[0]).parent),
    shell:
        "mgd3 judge-originals --dataset {params.dataset:q} --index {input.index:q}"
        " --teacher {wildcards.teacher:q} --teacher-folder {params.folder:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule measure:
    input:
        index=index,
        latents=lambda wildcards: LAYOUT.latents(
            wildcards.dataset, LAYOUT.measuring_generator()
        ),
        embedded=lambda wildcards: LAYOUT.embedded(
            wildcards.dataset, wildcards.ipc, wildcards.gen
        ),
        judged=lambda wildcards: LAYOUT.verdicts(
            wildcards.dataset, wildcards.ipc, wildcards.gen
        ),
        judged_originals=lambda wildcards: LAYOUT.verdict_on_originals(
            wildcards.dataset
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
        judged=judged_by,
    shell:
        "mgd3 measure --latents {input.latents:q} --index {input.index:q}"
        " --embedded {input.embedded:q} {params.judged:q} --slugs {params.runs:q} --of {params.of:q}"
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
        version=VERSIONS["measures_table"],
        rows=compact([run.row() for run in CONFIG.runs]),
    shell:
        "mgd3 measures-table {input:q} --runs {params.rows:q} --output {output.csv:q} > {log:q} 2>&1"


rule claims_of_measures:
    input:
        scores=LAYOUT.scores(),
        measures=rules.measures_table.output.classes,
        ledger="workflow/mgd3/resources/claims.yaml",
        paper="workflow/mgd3/resources/paper_results.csv",
    output:
        csv=report(
            LAYOUT.report("tables/claims_diversity.csv"),
            caption="../report/claims.rst",
            category="1. Results",
            labels={"what": "the paper's claims on diversity"},
        ),
        md=LAYOUT.report("tables/claims_diversity.md"),
    log:
        f"results/logs/reports/{CONFIG.name}_claims_diversity.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["claims_of_measures"],
        rows=compact([run.row() for run in CONFIG.runs]),
        title=CONFIG.name,
    shell:
        "mgd3 claims-of-measures --runs {params.rows:q} --scores {input.scores:q}"
        " --by-class {input.measures:q} --ledger {input.ledger:q} --paper {input.paper:q}"
        " --title {params.title:q} --output {output.csv:q} > {log:q} 2>&1"


rule metrics:
    input:
        rules.measures_table.output,
        rules.claims_of_measures.output,
        LAYOUT.figures()["figure3"],
        LAYOUT.figures()["figure5"],
