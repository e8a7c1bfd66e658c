rule trade_off:
    input:
        rules.measures_table.output.classes,
    output:
        png=report(
            LAYOUT.report("figures/trade_off.png"),
            caption="../report/trade_off.rst",
            category="3. Analysis",
            labels={
                "figure": "3",
                "what": "representativeness and diversity, by class",
            },
        ),
        svg=LAYOUT.report("figures/trade_off.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_trade_off.log",
    conda:
        "../../envs/mgd3.yaml"
    shell:
        "mgd3 trade-off {input:q} --output {output.png:q} > {log:q} 2>&1"


rule sample_map:
    input:
        LAYOUT.report(
            f"metrics/{{dataset}}_ipc{{ipc}}_gen{CONFIG.generation_seeds[0]}_points.parquet"
        ),
    output:
        png=report(
            LAYOUT.report("figures/map_{dataset}_ipc{ipc}.png"),
            caption="../report/map.rst",
            category="3. Analysis",
            labels={
                "figure": "5",
                "what": "samples among the originals, {dataset}, IPC {ipc}",
            },
        ),
        svg=LAYOUT.report("figures/map_{dataset}_ipc{ipc}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_map_{{dataset}}_ipc{{ipc}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=labels_of(CONFIG.runs),
    shell:
        "mgd3 sample-map --mapped {input:q} --runs {params.rows:q} --output {output.png:q}"
        " > {log:q} 2>&1"


rule sweep_plot:
    input:
        rules.tables.output.csv,
    output:
        png=report(
            LAYOUT.report("figures/accuracy_over_{setting}.png"),
            caption="../report/accuracy_over.rst",
            category="3. Analysis",
            labels=lambda wildcards: {
                "figure": {"t_sg": "4a", "lambda": "E"}.get(wildcards.setting, ""),
                "what": f"accuracy over {wildcards.setting}",
            },
        ),
        svg=LAYOUT.report("figures/accuracy_over_{setting}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_accuracy_over_{{setting}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=rows_of(CONFIG.runs),
    shell:
        "mgd3 sweep-plot {input:q} --runs {params.rows:q} --over {wildcards.setting:q}"
        " --output {output.png:q} > {log:q} 2>&1"


SAMPLES = LAYOUT.report(
    f"metrics/{{dataset}}_ipc{{ipc}}_gen{CONFIG.generation_seeds[0]}_samples.parquet"
)


wildcard_constraints:
    space=one_of(SPACES),
    trained_on=one_of([*LAYOUT.datasets, IMAGENET]),


rule trade_off_images:
    input:
        SAMPLES,
    output:
        png=report(
            LAYOUT.report("figures/trade_off_images_{dataset}_ipc{ipc}_{space}.png"),
            caption="../report/trade_off_images.rst",
            category="3. Analysis",
            labels={
                "figure": "6",
                "what": "representativeness and diversity, by image, {dataset}, IPC {ipc}, {space}",
            },
        ),
        svg=LAYOUT.report("figures/trade_off_images_{dataset}_ipc{ipc}_{space}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_trade_off_images_{{dataset}}_ipc{{ipc}}_{{space}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=rows_of(LAYOUT.distilling),
    shell:
        "mgd3 trade-off-images --measured {input:q} --runs {params.rows:q}"
        " --space {wildcards.space:q} --output {output.png:q} > {log:q} 2>&1"


rule trade_off_over_stops:
    input:
        SAMPLES,
    output:
        png=report(
            LAYOUT.report(
                "figures/trade_off_over_t_sg_{dataset}_{run}_ipc{ipc}_{space}.png"
            ),
            caption="../report/trade_off_over_stops.rst",
            category="3. Analysis",
            labels={
                "figure": "7",
                "what": "representativeness and diversity, by t_SG, {dataset}, IPC {ipc}, {space}",
            },
        ),
        svg=LAYOUT.report(
            "figures/trade_off_over_t_sg_{dataset}_{run}_ipc{ipc}_{space}.svg"
        ),
    log:
        f"results/logs/reports/{CONFIG.name}_trade_off_over_t_sg_{{dataset}}_{{run}}_ipc{{ipc}}_{{space}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=JOBS.rows(JOBS.over_stops),
    shell:
        "mgd3 trade-off-over-stops --measured {input:q} --runs {params.rows:q}"
        " --space {wildcards.space:q} --output {output.png:q} > {log:q} 2>&1"


rule decode_modes:
    input:
        modes=reads(JOBS.modes_to_decode),
        vae=reads(JOBS.vae),
    output:
        "results/{dataset}/decoded/{generator}/{modes}~{id}.safetensors",
    log:
        "results/logs/{dataset}/{generator}/decode_{modes}~{id}.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        classes=JOBS.shown_classes,
        size=JOBS.size,
        folder=JOBS.vae_folder,
    shell:
        "mgd3 decode-modes --modes {input.modes:q} --generator {params.folder:q}"
        " --classes {params.classes:q} --size {params.size:q}"
        " --identity {params.identity:q} --output {output:q}"
        " --device {resources.device:q} --threads {threads} > {log:q} 2>&1"


rule trajectory:
    input:
        index=reads(JOBS.index),
        generator=reads(JOBS.generator_of_run),
        modes=reads(JOBS.modes_of_run),
    output:
        "results/{dataset}/trajectories/{run}/ipc{ipc}_gen{gen}~{id}.safetensors",
    log:
        "results/logs/{dataset}/{run}/trajectory_ipc{ipc}_gen{gen}~{id}.log",
    conda:
        "../../envs/mgd3.yaml"
    resources:
        **ON_DEVICE,
    params:
        identity=identity,
        dataset=JOBS.dataset_with_meanings,
        method=JOBS.method,
        settings=JOBS.settings,
        generator=JOBS.generator_option,
        modes=JOBS.modes_option,
        classes=JOBS.traced_classes,
    shell:
        "mgd3 trajectory --dataset {params.dataset:q} --index {input.index:q}"
        " --method {params.method:q} --settings {params.settings:q} --classes {params.classes:q}"
        " --ipc {wildcards.ipc:q} --generation-seed {wildcards.gen:q} {params.generator:q}"
        " {params.modes:q} --identity {params.identity:q} --output {output:q} --device {resources.device:q} --threads {threads}"
        " > {log:q} 2>&1"


rule images_over_stops:
    input:
        sets=reads(JOBS.sets(JOBS.over_stops)),
        modes=reads(JOBS.decoded(JOBS.own)),
    output:
        png=report(
            LAYOUT.report("figures/images_over_t_sg_{dataset}_{run}_ipc{ipc}.png"),
            caption="../report/images_over_stops.rst",
            category="3. Analysis",
            labels={"figure": "4b", "what": "images by t_SG, {dataset}, IPC {ipc}"},
        ),
        svg=LAYOUT.report("figures/images_over_t_sg_{dataset}_{run}_ipc{ipc}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_images_over_t_sg_{{dataset}}_{{run}}_ipc{{ipc}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=JOBS.rows(JOBS.over_stops),
    shell:
        "mgd3 images-over-stops --runs {params.rows:q} --sets {input.sets:q}"
        " --decoded {input.modes:q} --output {output.png:q} > {log:q} 2>&1"


rule trajectories:
    input:
        recorded=reads(JOBS.recorded(JOBS.traced)),
        modes=reads(JOBS.decoded(JOBS.own)),
    output:
        png=report(
            LAYOUT.report("figures/trajectories_{dataset}_{run}_ipc{ipc}.png"),
            caption="../report/trajectories.rst",
            category="3. Analysis",
            labels={"figure": "9", "what": "denoising, {dataset}, IPC {ipc}"},
        ),
        svg=LAYOUT.report("figures/trajectories_{dataset}_{run}_ipc{ipc}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_trajectories_{{dataset}}_{{run}}_ipc{{ipc}}.log",
    conda:
        "../../envs/mgd3.yaml"
    params:
        rows=JOBS.rows(JOBS.traced),
    shell:
        "mgd3 trajectories --runs {params.rows:q} --recorded {input.recorded:q}"
        " --decoded {input.modes:q} --output {output.png:q} > {log:q} 2>&1"


rule modes_and_samples_of:
    input:
        distilled=reads(JOBS.sets(JOBS.own)),
        modes=reads(JOBS.decoded(JOBS.own)),
    output:
        png=report(
            LAYOUT.report("figures/modes_and_samples_{dataset}_{run}_ipc{ipc}.png"),
            caption="../report/modes_and_samples.rst",
            category="3. Analysis",
            labels=lambda wildcards: {
                "figure": "modes",
                "what": f"{LAYOUT.runs[wildcards.run].label}, {wildcards.dataset}, IPC {wildcards.ipc}",
            },
        ),
        svg=LAYOUT.report("figures/modes_and_samples_{dataset}_{run}_ipc{ipc}.svg"),
    log:
        f"results/logs/reports/{CONFIG.name}_modes_and_samples_{{dataset}}_{{run}}_ipc{{ipc}}.log",
    conda:
        "../../envs/mgd3.yaml"
    shell:
        "mgd3 modes-and-samples --distilled {input.distilled:q} --decoded {input.modes:q}"
        " --output {output.png:q} > {log:q} 2>&1"


# The paper's figures by their names, and all that the configuration permits. docs/analysis.md
# says what each shows.
rule figures:
    input:
        rules.view.output,
        LAYOUT.target("figures"),
        LAYOUT.sweeps(),
        LAYOUT.gallery(),


rule figure3:
    input:
        rules.view.output,
        LAYOUT.target("figure3"),


rule figure4a:
    input:
        rules.view.output,
        LAYOUT.target("figure4a"),


rule figure4b:
    input:
        rules.view.output,
        LAYOUT.target("figure4b"),


rule figure5:
    input:
        rules.view.output,
        LAYOUT.target("figure5"),


rule figure6:
    input:
        rules.view.output,
        LAYOUT.target("figure6"),


rule figure7:
    input:
        rules.view.output,
        LAYOUT.target("figure7"),


rule figure9:
    input:
        rules.view.output,
        LAYOUT.target("figure9"),


rule appendix_e:
    input:
        rules.view.output,
        LAYOUT.target("appendix_e"),


rule modes_and_samples:
    input:
        rules.view.output,
        LAYOUT.target("modes_and_samples"),
