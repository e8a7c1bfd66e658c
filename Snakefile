from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/generators.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/distil.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/figures.smk"


localrules:
    all,
    fetch_dataset,
    fetch_teacher,
    export,
    tables,
    cost,
    claims,
    claims_of_measures,
    overview,
    cost_plot,
    sweep_plot,
    measures_table,
    trade_off,
    trade_off_images,
    trade_off_over_stops,
    sample_map,
    images_over_stops,
    trajectories,
    modes_and_samples_of,
    metrics,
    tune,
    tune_rung,
    tune_report,
    tune_surface,
    figures,


rule all:
    default_target: True
    input:
        rules.tables.output,
        rules.cost.output,
        rules.claims.output,
        rules.overview.output,
        rules.cost_plot.output if LAYOUT.distilling else [],
        LAYOUT.grids(),
        LAYOUT.sweeps(),
