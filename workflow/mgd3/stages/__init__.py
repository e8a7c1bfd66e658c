"""The version of each stage: a number to raise when its results change.

Rules pass it as a parameter, so that raising it reruns the stage and what lies below. Code itself
is no input: a changed docstring must not encode ImageNet again.
"""

VERSIONS: dict[str, int] = {
    "fetch_dataset": 1,
    "index": 3,
    "train_vae": 1,
    "finetune_generator": 2,
    "train_generator": 2,
    "fetch_generator": 1,
    "latents": 3,
    "modes": 4,
    "train_teacher": 1,
    "fetch_teacher": 1,
    "sample": 3,
    "collect": 1,
    "export": 2,
    "pixels": 2,
    "relabel": 1,
    "evaluate": 2,
    "tables": 3,
    "cost": 2,
    "claims": 1,
    "settings_table": 1,
    "tables_page": 1,
    "embed": 1,
    "tune_rung": 1,
    "tune_sample": 1,
    "tune_proxy": 1,
    "tune_train": 1,
    "tune_report": 1,
    "judge": 1,
    "measure": 2,
    "trajectory": 1,
    "plots": 3,
    "figures": 2,
    "exhibit": 1,
    "gallery": 1,
}
