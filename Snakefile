from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "workflow/rules/snakemake.smk"


# `--config preset=ablation-stop` stands for --configfile workflow/presets/ablation-stop.yaml, under
# the files and keys of the command line.
if "preset" in config:
    from mgd3.base.errors import UserError
    from mgd3.planning.overrides import preset_file

    try:
        CHOSEN = preset_file(
            Path(workflow.basedir, "workflow/presets"), config["preset"], GIVEN_FILES
        )
    except UserError as error:
        raise WorkflowError(str(error)) from None

    configfile: CHOSEN


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


if PLANNING:
    tell_jobs(PLAN, FOUND.save())


localrules:
    all,
    view,
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
        rules.view.output,
        rules.tables.output,
        rules.cost.output,
        rules.claims.output,
        rules.settings_table.output if LAYOUT.distilling else [],
        rules.tables_page.output,
        rules.overview.output,
        rules.cost_plot.output if LAYOUT.distilling else [],
        LAYOUT.grids(),
        LAYOUT.sweeps(),
