rule tables:
    input:
        scores=LAYOUT.scores(),
        paper="workflow/resources/paper_results.csv",
        reported="workflow/resources/reported_results.csv",
    output:
        csv=report(
            LAYOUT.report("tables/results.csv"),
            caption="../report/results.rst",
            category="1. Results",
            labels={"what": "accuracies, as a table to sort and search"},
        ),
        md=LAYOUT.report("tables/results.md"),
        tex=LAYOUT.report("tables/results.tex"),
    log:
        f"results/logs/reports/{CONFIG.name}_tables.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["tables"],
        rows=compact([run.row() for run in CONFIG.runs]),
        title=CONFIG.name,
    shell:
        "mgd3 tables --runs {params.rows:q} --scores {input.scores:q} --paper {input.paper:q}"
        " --reported {input.reported:q} --title {params.title:q} --output {output.csv:q} > {log:q} 2>&1"


rule cost:
    input:
        scores=LAYOUT.scores(),
    output:
        csv=report(
            LAYOUT.report("tables/cost.csv"),
            caption="../report/cost.rst",
            category="1. Results",
            labels={"what": "cost of each run"},
        ),
        md=LAYOUT.report("tables/cost.md"),
    log:
        f"results/logs/reports/{CONFIG.name}_cost.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["cost"],
        rows=compact([run.row() for run in CONFIG.runs]),
    shell:
        "mgd3 cost --runs {params.rows:q} --scores {input.scores:q} --output {output.csv:q}"
        " > {log:q} 2>&1"


rule claims:
    input:
        scores=LAYOUT.scores(),
        costs=rules.cost.output.csv,
        ledger="workflow/resources/claims.yaml",
        paper="workflow/resources/paper_results.csv",
    output:
        csv=report(
            LAYOUT.report("tables/claims.csv"),
            caption="../report/claims.rst",
            category="1. Results",
            labels={"what": "the paper's claims: reproduced or not"},
        ),
        md=LAYOUT.report("tables/claims.md"),
    log:
        f"results/logs/reports/{CONFIG.name}_claims.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        version=VERSIONS["claims"],
        rows=compact([run.row() for run in CONFIG.runs]),
        title=CONFIG.name,
    shell:
        "mgd3 claims --runs {params.rows:q} --scores {input.scores:q} --costs {input.costs:q}"
        " --ledger {input.ledger:q} --paper {input.paper:q} --title {params.title:q}"
        " --output {output.csv:q} > {log:q} 2>&1"


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
    params:
        version=VERSIONS["figures"],
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
    params:
        version=VERSIONS["plots"],
    shell:
        "mgd3 cost-plot {input.results:q} --costs {input.costs:q} --output {output.png:q} > {log:q} 2>&1"


rule grid:
    input:
        f"results/{{dataset}}/distilled/{{run}}/ipc{{ipc}}/gen{CONFIG.generation_seeds[0]}/images.safetensors",
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
    params:
        version=VERSIONS["figures"],
    shell:
        "mgd3 grid --distilled {input:q} --output {output:q} > {log:q} 2>&1"
