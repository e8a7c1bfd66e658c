# Runs at once: where a table cannot be made, nobody takes another configuration's for it.
rule view:
    output:
        LAYOUT.view(),
    log:
        f"results/logs/reports/{CONFIG.name}_view.log",
    priority: 1000
    conda:
        "../../envs/mgd3.yaml"
    params:
        report=LAYOUT.report("").rstrip("/"),
    shell:
        "mgd3 view --report {params.report:q} --output {output:q} > {log:q} 2>&1"


rule tables:
    input:
        scores=LAYOUT.scores(),
        paper=ancient(LAYOUT.resource("paper_results.csv")),
        reported=ancient(LAYOUT.resource("reported_results.csv")),
    output:
        csv=report(
            LAYOUT.report("tables/results.csv"),
            caption="../report/results.rst",
            category="1. Results",
            labels={"what": "accuracies, CSV"},
        ),
        md=LAYOUT.report("tables/results.md"),
        tex=LAYOUT.report("tables/results.tex"),
    log:
        f"results/logs/reports/{CONFIG.name}_tables.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=labels_of(CONFIG.runs),
        sizes=compact([{"dataset": d.name, "size": d.size} for d in CONFIG.datasets]),
        title=CONFIG.name,
    shell:
        "mgd3 tables --runs @<(printf %s {params.rows:q}) --scores @<(printf '%s\\0' {input.scores:q}) --paper {input.paper:q}"
        " --reported {input.reported:q} --sizes {params.sizes:q} --title {params.title:q} --output {output.csv:q} > {log:q} 2>&1"


rule cost:
    input:
        scores=LAYOUT.scores(),
    output:
        csv=report(
            LAYOUT.report("tables/cost.csv"),
            caption="../report/cost.rst",
            category="1. Results",
            labels={"what": "cost of each run, CSV"},
        ),
        md=LAYOUT.report("tables/cost.md"),
    log:
        f"results/logs/reports/{CONFIG.name}_cost.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=labels_of(CONFIG.runs),
    shell:
        "mgd3 cost --runs @<(printf %s {params.rows:q}) --scores @<(printf '%s\\0' {input.scores:q}) --output {output.csv:q}"
        " > {log:q} 2>&1"


rule claims:
    input:
        scores=LAYOUT.scores(),
        costs=rules.cost.output.csv,
        ledger=ancient(LAYOUT.resource("claims.yaml")),
        paper=ancient(LAYOUT.resource("paper_results.csv")),
    output:
        csv=report(
            LAYOUT.report("tables/claims.csv"),
            caption="../report/claims.rst",
            category="1. Results",
            labels={"what": "the paper's claims: reproduced or not, CSV"},
        ),
        md=LAYOUT.report("tables/claims.md"),
    log:
        f"results/logs/reports/{CONFIG.name}_claims.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=labels_of(CONFIG.runs),
        title=CONFIG.name,
    shell:
        "mgd3 claims --runs @<(printf %s {params.rows:q}) --scores @<(printf '%s\\0' {input.scores:q}) --costs {input.costs:q}"
        " --ledger {input.ledger:q} --paper {input.paper:q} --title {params.title:q}"
        " --output {output.csv:q} > {log:q} 2>&1"


rule settings_table:
    input:
        [*map(timed, LAYOUT.manifests())],
    output:
        csv=report(
            LAYOUT.report("tables/settings.csv"),
            caption="../report/settings.rst",
            category="1. Results",
            labels={"what": "settings, hashes and versions of each set, CSV"},
        ),
        md=LAYOUT.report("tables/settings.md"),
    log:
        f"results/logs/reports/{CONFIG.name}_settings.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=rows_of(CONFIG.runs),
    shell:
        "mgd3 settings-table @<(printf '%s\\0' {input:q}) --runs @<(printf %s {params.rows:q}) --output {output.csv:q} > {log:q} 2>&1"


rule tables_page:
    input:
        rules.tables.output.md,
        rules.claims.output.md,
        rules.cost.output.md,
        rules.settings_table.output.md if LAYOUT.distilling else [],
    output:
        report(
            LAYOUT.report("tables/tables.html"),
            caption="../report/tables_page.rst",
            category="1. Results",
            labels={"what": "all tables: accuracies, claims, cost, settings"},
        ),
    log:
        f"results/logs/reports/{CONFIG.name}_tables_page.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        title=CONFIG.name,
    shell:
        "mgd3 tables-page {input:q} --title {params.title:q} --output {output:q} > {log:q} 2>&1"


rule overview:
    input:
        rules.tables.output.csv,
    output:
        png=report(
            LAYOUT.report("figures/overview.png"),
            caption="../report/overview.rst",
            category="1. Results",
            labels={"what": "accuracies, as a picture"},
        ),
        svg=LAYOUT.report("figures/overview.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_overview.log",
    conda:
        "../../envs/mgd3.yaml"
    shell:
        "mgd3 overview {input:q} --output {output.png:q} > {log:q} 2>&1"


rule cost_plot:
    input:
        results=rules.tables.output.csv,
        costs=rules.cost.output.csv,
    output:
        png=report(
            LAYOUT.report("figures/accuracy_over_cost.png"),
            caption="../report/cost_plot.rst",
            category="1. Results",
            labels={"what": "accuracy over seconds"},
        ),
        svg=LAYOUT.report("figures/accuracy_over_cost.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_cost_plot.log",
    conda:
        "../../envs/mgd3.yaml"
    shell:
        "mgd3 cost-plot {input.results:q} --costs {input.costs:q} --output {output.png:q} > {log:q} 2>&1"


rule grid:
    input:
        reads(JOBS.sets(JOBS.own)),
    output:
        report(
            LAYOUT.report("figures/{dataset}_{run}_ipc{ipc}.png"),
            caption="../report/grid.rst",
            category="2. Distilled images",
            labels=lambda wildcards: {
                "data set": wildcards.dataset,
                "images per class": wildcards.ipc,
                "method": LAYOUT.runs[wildcards.run].label,
            },
        ),
    log:
        f"results/logs/reports/{CONFIG.name}_{{dataset}}_{{run}}_ipc{{ipc}}.log",
    conda:
        "../../envs/mgd3.yaml"
    shell:
        "mgd3 grid --distilled {input:q} --output {output:q} > {log:q} 2>&1"


rule exhibit:
    input:
        index=reads(JOBS.index),
        sets=reads(JOBS.sets(JOBS.distilling)),
        modes=reads(JOBS.decoded(JOBS.from_modes)),
        latents=reads(JOBS.measured_latents),
        embedded=reads(JOBS.shown_in_space),
    output:
        LAYOUT.report("gallery/{dataset}_ipc{ipc}.safetensors"),
    log:
        f"results/logs/reports/{CONFIG.name}_exhibit_{{dataset}}_ipc{{ipc}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        dataset=JOBS.dataset,
        classes=JOBS.shown_classes,
        slugs=compact([run.slug for run in LAYOUT.distilling]),
        real=JOBS.nearest,
        modes=JOBS.mode_images,
        of=JOBS.of_first,
    shell:
        "mgd3 exhibit --dataset {params.dataset:q} --index {input.index:q}"
        " --classes {params.classes:q} --slugs {params.slugs:q} --sets {input.sets:q}"
        " {params.real:q} {params.modes:q} --of {params.of:q} --output {output:q}"
        " --threads {threads} > {log:q} 2>&1"


rule gallery_page:
    input:
        results=rules.tables.output.csv,
        exhibits=LAYOUT.exhibits(),
    output:
        page=LAYOUT.report("gallery.html"),
        small=report(
            LAYOUT.report("gallery_small.html"),
            caption="../report/gallery.rst",
            category="2. Distilled images",
            labels={
                "data set": "all",
                "images per class": "all",
                "method": "all: the gallery",
            },
        ),
    log:
        f"results/logs/reports/{CONFIG.name}_gallery.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=rows_of(LAYOUT.distilling),
        title=CONFIG.name,
    shell:
        "mgd3 gallery {input.results:q} --exhibits {input.exhibits:q} --runs @<(printf %s {params.rows:q})"
        " --title {params.title:q} --output {output.page:q} --small {output.small:q} > {log:q} 2>&1"


rule gallery:
    input:
        rules.view.output,
        LAYOUT.target("gallery"),
