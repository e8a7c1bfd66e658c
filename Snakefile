import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

# `snakemake ablation_stop` is `snakemake --configfile workflow/presets/ablation-stop.yaml`.
PRESETS = {
    preset.stem.replace("-", "_"): preset
    for preset in sorted(Path(workflow.basedir, "workflow/presets").glob("*.yaml"))
}
CHOSEN = [preset for name, preset in PRESETS.items() if name in sys.argv[1:]]


configfile: "config.yaml"


if CHOSEN:
    # Jobs are processes of their own, which are told of configuration files but not of targets.
    # Those of the command line come after it and win.
    workflow.config_settings.configfiles = [
        *CHOSEN,
        *workflow.config_settings.configfiles,
    ]

    configfile: CHOSEN[0]


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
    settings_table,
    tables_page,
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
    gallery,


rule all:
    default_target: True
    input:
        rules.tables.output,
        rules.cost.output,
        rules.claims.output,
        rules.settings_table.output if LAYOUT.distilling else [],
        rules.tables_page.output,
        rules.overview.output,
        rules.cost_plot.output if LAYOUT.distilling else [],
        LAYOUT.grids(),
        LAYOUT.sweeps(),


for name in PRESETS:

    rule:
        name:
            name
        input:
            rules.all.input,
            rules.metrics.input if name == "analysis" else [],
            rules.figures.input if name == "analysis" else [],
