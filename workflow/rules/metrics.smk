rule embed:
    input:
        distilled=reads(JOBS.in_set("images.safetensors")),
        vae=reads(JOBS.encoder),
    output:
        "results/{dataset}/metrics/{generator}/{run}/ipc{ipc}_gen{gen}~{id}.safetensors",
    log:
        "results/logs/{dataset}/{run}/embed_{generator}_ipc{ipc}_gen{gen}~{id}.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        space=JOBS.space,
    shell:
        "mgd3 embed --distilled {input.distilled:q} --generator {params.space.vae_folder:q}"
        " --size {params.space.size:q} --identity {params.identity:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule judge:
    input:
        distilled=reads(JOBS.in_set("images.safetensors")),
        teacher=reads(JOBS.judge),
    output:
        "results/{dataset}/judged/{trained_on}/{teacher}/{run}/ipc{ipc}_gen{gen}~{id}.safetensors",
    log:
        "results/logs/{dataset}/{run}/judge_{trained_on}_{teacher}_ipc{ipc}_gen{gen}~{id}.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        names=JOBS.names_for_judge,
        folder=lambda wildcards, input: str(Path(input.teacher[0]).parent),
    shell:
        "mgd3 judge --distilled {input.distilled:q} --teacher {wildcards.teacher:q}"
        " --teacher-folder {params.folder:q} {params.names:q} --identity {params.identity:q}"
        " --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule judge_originals:
    input:
        index=reads(JOBS.index),
        teacher=reads(JOBS.judge),
    output:
        "results/{dataset}/judged/{trained_on}/{teacher}/originals~{id}.safetensors",
    log:
        "results/logs/{dataset}/judge_{trained_on}_{teacher}_originals~{id}.log",
    benchmark:
        "results/benchmarks/{dataset}/judge_{trained_on}_{teacher}_originals~{id}.tsv"
    conda:
        "../../envs/mgd3.yaml"
    threads: 8  # JPEGs to decode
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        dataset=JOBS.dataset,
        folder=lambda wildcards, input: str(Path(input.teacher[0]).parent),
    shell:
        "mgd3 judge-originals --dataset {params.dataset:q} --index {input.index:q}"
        " --teacher {wildcards.teacher:q} --teacher-folder {params.folder:q}"
        " --identity {params.identity:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule measure:
    input:
        index=reads(JOBS.index),
        latents=reads(JOBS.measured_latents),
        embedded=reads(JOBS.embedded),
        judged=reads(JOBS.verdicts),
        judged_originals=reads(JOBS.verdict_on_originals),
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
        of=JOBS.of,
        runs=compact([run.slug for run in LAYOUT.distilling]),
        judged=JOBS.judged,
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
        rows=labels_of(CONFIG.runs),
    shell:
        "mgd3 measures-table @<(printf '%s\\0' {input:q}) --runs @<(printf %s {params.rows:q}) --output {output.csv:q} > {log:q} 2>&1"


rule claims_of_measures:
    input:
        scores=LAYOUT.scores(),
        measures=rules.measures_table.output.classes,
        ledger=ancient(LAYOUT.resource("claims.yaml")),
        paper=ancient(LAYOUT.resource("paper_results.csv")),
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
        rows=labels_of(CONFIG.runs),
        title=CONFIG.name,
    shell:
        "mgd3 claims-of-measures --runs @<(printf %s {params.rows:q}) --scores @<(printf '%s\\0' {input.scores:q})"
        " --by-class {input.measures:q} --ledger {input.ledger:q} --paper {input.paper:q}"
        " --title {params.title:q} --output {output.csv:q} > {log:q} 2>&1"


rule metrics:
    input:
        rules.view.output,
        LAYOUT.target("metrics"),
        rules.measures_table.output if LAYOUT.measures else [],
        rules.claims_of_measures.output if LAYOUT.measures else [],
