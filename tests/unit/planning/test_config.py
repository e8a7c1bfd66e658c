"""The configuration: every mistake is named before a job starts, and slugs tell settings apart."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.methods import METHODS, distiller
from mgd3.planning import config as configuration
from mgd3.planning import settings_page
from mgd3.planning.config import resolve, schema
from mgd3.planning.layout import Layout
from mgd3.stages import VERSIONS

ROOT = Path(__file__).parents[3]
MGD3 = {"method": "mgd3", "generator": "tiny-dit"}
MANIFOLD = {"method": "manifoldgd", "generator": "tiny-dit"}
PRIOR = {"method": "h-glad-vae", "generator": "tiny-dit"}
D4M = {"method": "d4m", "generator": "tiny-dit"}


def raw(*runs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "test",
        "datasets": ["digits"],
        "ipc": [5],
        "generation_seeds": [0],
        "runs": list(runs) or [{"method": "random"}],
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
        **more,
    }


def slug(row: dict[str, Any] = MGD3, **settings: Any) -> str:
    flipped = [{"name": "digits", "flip": True}]
    (run,) = resolve(raw({**row, **settings}, datasets=flipped)).runs
    return run.slug


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (raw(evalution=[]), ["'evalution'", "did you mean 'evaluation'"]),
        (raw({**MGD3, "lamda": 1}), ["'lamda'", "runs[0]", "did you mean 'lambda'"]),
        (raw(resources={"bach": 1}), ["'bach'", "resources", "did you mean 'batch'"]),
        (raw({**MGD3, "lambda": -0.1}), ["runs[0].lambda", "-0.1"]),
        (raw({**MGD3, "lambda": [0.1, -1]}), ["runs[0].lambda[1]", "-1"]),
        (raw({**MGD3, "lambda": float("nan")}), ["nan"]),
        (raw({**MGD3, "t_sg": -1}), ["t_sg", "-1"]),
        (raw({**MGD3, "t_sg": 51}), ["t_sg is 51", "0..50"]),
        (raw({**MGD3, "t_sg": 25, "steps": [50, 20]}), ["t_sg is 25", "0..20"]),
        (raw({"method": "mgd4"}), ["'mgd4'", "did you mean 'mgd3'"]),
        (raw({"method": "mgd3"}), ["runs[0]", "lacks", "'generator'"]),
        (raw({**MGD3, "generator": "tiny-dot"}), ["'tiny-dot'", "did you mean 'tiny-dit'"]),
        (raw({**MGD3, "variant": "ddmp"}), ["'ddmp'", "did you mean 'ddpm'"]),
        (raw({**MGD3, "flips": True}), ["flips", "a mirrored image of digits", "flip: true"]),
        (raw({**MGD3, "flips": 1}), ["runs[0].flips", "1"]),
        (raw({"method": "nearest", "generator": "tiny-dit", "flips": True}), ["no 'flips'"]),
        (raw(tuning=[{"grid": {"lamda": [1]}}]), ["tuning[0].grid", "did you mean 'lambda'"]),
        (raw(tuning=[{"keep": 1}]), ["tuning[0].keep", "1"]),
        (raw(datasets=["digts"]), ["'digts'", "did you mean 'digits'"]),
        (raw(datasets=[{"name": "mine"}]), ["datasets[0]", "'root'"]),
        (raw({"method": "random", "lambda": 1}), ["'random' takes no 'lambda'"]),
        (
            raw({"method": "unguided", "generator": "tiny-dit", "modes": "random"}),
            ["'unguided' takes no 'modes'"],
        ),
        (raw({**MGD3, "generator": "mnist-dit"}), ["'mnist-dit'", "'mnist'", "'digits'"]),
        (raw({"method": "random"}, {"method": "random"}), ["run 'random' is listed twice"]),
        (raw({**MGD3, "lambda": [0.1, 0.10]}), ["listed twice"]),
        (raw(datasets=["digits", "digits"]), ["data set 'digits' is listed twice"]),
        (raw(ipc=[5, 5]), ["ipc", "non-unique"]),
        (raw({**MGD3, "lambda": -0.0}), ["runs[0].lambda", "-0.0"]),
        (raw({**MGD3, "lambda": "0.1"}), ["runs[0].lambda is '0.1'", "a number of at least 0"]),
        (raw({**MGD3, "t_sg": True}), ["runs[0].t_sg is True", "a whole number"]),
        (raw({**MGD3, "t_sg": 5.0}), ["runs[0].t_sg is 5.0", "a whole number"]),
        (raw({**MGD3, "cfg_channels": 0}), ["runs[0].cfg_channels is 0", "all or a whole number"]),
        (raw({"method": ["random"], "foo": 1}), ["runs[0].method is ['random']"]),
        (raw({"method": "random", "foo": 1}), ["unknown key 'foo' in runs[0]"]),
        (raw({"method": "dc", "learning_rate": None}), ["runs[0].learning_rate is None"]),
        (raw({"method": "dm", "size": 10**9}), ["runs[0].size is 1000000000", "4,096"]),
        (raw(datasets=[{"name": "mnist", "size": 10**9}]), ["datasets[0].size", "4,096"]),
        (raw(datasets=[{"name": "mnist", "size": 33}]), ["datasets[0].size", "divisible by 8"]),
        (raw(ipc=[10**9]), ["ipc[0] is 1000000000", "1,000,000"]),
        (raw(resources={"batch": "atuo"}), ["resources.batch", "did you mean 'auto'"]),
        (raw(tuning=[{"grid": {}}]), ["tuning[0].grid is empty"]),
        (raw(generation_seeds=[1, 1]), ["generation_seeds", "non-unique"]),
        (raw(runs=None), ["runs", "None"]),
        (
            raw(evaluation=[{"protocol": "hrad-small", "networks": ["convnet3"]}]),
            ["'hrad-small'", "did you mean 'hard-small'"],
        ),
        (
            raw(evaluation=[{"protocol": "hard-small", "networks": ["resnet18"]}]),
            ["'resnet18'", "at least 64 px", "32 px"],
        ),
    ],
)
def test_a_mistake_is_one_message_that_names_it(config, words):
    with pytest.raises(UserError) as caught:
        resolve(config)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_network_of_timm_is_looked_up_before_any_job():
    def evaluated(name):
        return resolve(raw(evaluation=[{"protocol": "hard-small", "networks": [name]}]))

    configuration.preflight(evaluated("timm:resnet10t"))
    with pytest.raises(UserError, match=r"timm has no network 'resnet10'") as caught:
        configuration.preflight(evaluated("timm:resnet10"))
    assert "'resnet10t'" in caught.value.mend
    with pytest.raises(UserError, match="timm:"):
        evaluated("timm:../../x")


def test_a_network_is_of_its_protocols_family():
    with pytest.raises(UserError, match=r"'vit'.* family 'hard'"):
        resolve(raw(evaluation=[{"protocol": "hard", "networks": ["vit"]}]))
    resolve(raw(evaluation=[{"protocol": "hard-cross", "networks": ["vit"]}]))


def test_a_generator_folder_without_its_vae_is_named(dit_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x" / "transformer").mkdir(parents=True)
    for file in ("model_index.json", "transformer/config.json"):
        (tmp_path / "x" / file).write_bytes((dit_folder / file).read_bytes())
    with pytest.raises(UserError, match=r"generator folder \./x has no vae/config.json"):
        resolve(raw({**MGD3, "generator": "./x"}))


def test_a_generator_folder_may_lie_anywhere(dit_folder):
    resolved = resolve(raw({**MGD3, "generator": str(dit_folder)}))
    layout = Layout(resolved, ROOT, VERSIONS)
    folder = layout.generator_folder("digits", layout.slug(resolved.runs[0]))
    assert Path(folder) == dit_folder
    assert "/" not in resolved.runs[0].slug


def test_large_generators_encode_in_bfloat16_into_folders_of_their_own(dit_folder):
    spaces = {}
    for name in ("mnist-dit", "dit", str(dit_folder)):
        layout = Layout(
            resolve(raw({**MGD3, "generator": name}, datasets=["mnist"])), ROOT, VERSIONS
        )
        (space,) = layout.spaces
        spaces[name] = (space.precision, "bfloat16" in space.name)
    assert spaces.pop("dit") == ("bfloat16", True)
    assert set(spaces.values()) == {("float32", False)}


def test_lists_sweep():
    runs = resolve(raw({**MGD3, "lambda": [0, 0.1], "t_sg": [10, 25], "modes": "random"})).runs
    pairs = [(run.settings["lambda"], run.settings["t_sg"]) for run in runs]
    assert sorted(pairs) == sorted(itertools.product([0, 0.1], [10, 25]))
    assert {run.settings["modes"] for run in runs} == {"random"}


def test_a_run_takes_the_methods_defaults_unless_its_generator_has_its_own():
    (run,) = resolve(raw(MGD3)).runs
    assert run.settings == {**METHODS["mgd3"].defaults(), "cfg": 1.5, "cfg_channels": "all"} | {
        "clamp": 3.0
    }
    assert resolve(raw({**MGD3, "clamp": None})).runs[0].settings["clamp"] is None


def test_rows_of_several_generators_and_samplers_have_names_of_their_own():
    (one,) = resolve(raw(MGD3)).runs
    assert one.label == "MGD3 (λ=0.1, t_SG=25, CFG 1.5)"
    both = {**MGD3, "generator": ["tiny-dit", "small-dit"], "variant": ["ddpm", "ddim"]}
    labels = [run.label for run in resolve(raw(both)).runs]
    assert len(set(labels)) == 4
    assert "MGD3, small-dit (ddim, λ=0.1, t_SG=25, CFG 1.5)" in labels


def test_the_rest_of_the_configuration_has_defaults():
    resolved = resolve(raw())
    assert resolved.evaluation[0]["training_seeds"] == 1
    assert (resolved.device, resolved.batch, resolved.classes_per_block) == ("auto",) * 3
    assert resolved.cache_dir == "results/cache"
    assert Layout(resolved, ROOT, VERSIONS).classes == {"digits": [f"digit-{d}" for d in range(10)]}


def test_the_full_data_set_is_trained_on_as_it_is():
    resolved = resolve(raw({"method": "random"}, {"method": "full"}, ipc=[5, 10]))
    layout = Layout(resolved, ROOT, VERSIONS)
    scores = [path for path in layout.scores() if "/full/" in path]
    (score,) = scores
    folder = "results/digits/evaluated/full/ipc0/gen0/hard-small/"
    assert re.fullmatch(rf"{folder}convnet3_seed0~[0-9a-f]{{12}}\.json", score)
    assert len(layout.scores()) == 3
    assert not [path for path in (*layout.grids(), *layout.cards()) if "full" in path]
    with pytest.raises(UserError, match="makes no images"):
        distiller("full")


def test_a_slug_holds_every_swept_setting():
    assert slug() == "mgd3_tiny-dit_ddpm_kmeans_lambda0.1_stop25_cfg1.5_steps50"


def test_equal_settings_share_a_slug():
    for one, other in ((0.10, 0.1), (1, 1.0), (0.1, 1e-1)):
        assert slug(**{"lambda": one}) == slug(**{"lambda": other})
    assert slug(clamp=2) == slug(clamp=2.0)
    assert slug(clamp=3.0) == slug(), "the default, given or not"


VALUES = {
    "generator": ["tiny-dit", "small-dit"],
    "variant": ["ddpm", "ddim", "ddim-x0"],
    "modes": ["kmeans", "nearest", "random"],
    "pca": [None, 16, 32],
    "flips": [False, True],
    "lambda": [0, 0.1, 0.12345678, 0.12345679, 1e-9, 1234567.0, 1234568.0],
    "t_sg": [0, 1, 25, 50],
    "manifold_rule": ["code", "paper"],
    "manifold_scale": [0.1, 0, 1.5],
    "manifold_radius": [0.1, 0.05, 0.12345678],
    "tangent_dim": [3, 1, 11],
    "strength": [0.7, 1, 0.12345678, 0.12345679],
    "cfg": [0, 1.5, 15, 1.50000001],
    "steps": [50, 51, 1000],
    "stop_rule": ["code", "paper"],
    "cfg_channels": ["all", 3, 1],
    "clamp": [None, 3.0, 1, 1.0000001],
    "stop_unit": ["step", "timestep"],
    "spacing": ["auto", "linspace", "leading"],
    "precision": ["float32", "bfloat16"],
    "selection": ["seeded", "first"],
    "path": ["made", "made/here"],
    "teacher": ["resnet18", "resnet10-64"],
    "network": [None, "convnet3", "convnet4"],
    "size": [None, 64, 224],
    "init": ["real", "noise"],
    "iterations": [1000, 0, 20],
    "learning_rate": [1.0, 0.12345678, 0.12345679],
    "real_batch": [256, 64],
    "outer_loop": [1, 2, None],
    "inner_loop": [1, 50, None],
    "dsa": [True, False],
    "objective": ["dc", "dm"],
    "stages": [None, 1, 3],
    "warmup_epochs": [None, 0, 10],
    "bn_weight": [0.01, 0, 0.05],
    "candidates": [300, 30],
    "crops": [5, 1, 50],
}
MATCHING = ("network", "size", "init", "iterations", "learning_rate", "real_batch")
MATCHING += ("outer_loop", "inner_loop", "dsa")
# A row that takes a key which the method MGD3 does not.
ROWS = {
    "selection": {"method": "random"},
    "path": {"method": "external"},
    "strength": D4M,
    **{f"manifold_{key}": MANIFOLD for key in ("rule", "scale", "radius")},
    "tangent_dim": MANIFOLD,
    **{key: {"method": "dc"} for key in MATCHING},
    "objective": PRIOR,
    "stages": PRIOR,
    "warmup_epochs": {"method": "idc"},
    "bn_weight": {"method": "sre2l"},
    **{key: {"method": "rded"} for key in ("teacher", "candidates", "crops")},
}


def test_different_settings_never_share_a_slug():
    keys = {key for method in METHODS.values() for key in method.fields()}
    assert set(VALUES) == {"generator", *keys}
    defaults = [slug(), slug({"method": "random"}), slug({"method": "rded"}), slug(MANIFOLD)]
    defaults += [slug(PRIOR), slug({"method": "idc"}), slug({"method": "dc"})]
    defaults += [slug({"method": "sre2l"})]
    slugs = list(defaults)
    for key, values in VALUES.items():
        of_key = [slug(ROWS.get(key, MGD3), **{key: value}) for value in values]
        assert len(set(of_key)) == len(values), key
        slugs += [s for s in of_key if s not in defaults]
    assert len(set(slugs)) == len(slugs)


def test_a_folders_slug_tells_apart_folders_of_one_name(dit_folder, tmp_path):
    names = []
    for place in ("a", "b"):
        link = tmp_path / place / "dit"
        link.parent.mkdir()
        link.symlink_to(dit_folder)
        names.append(slug(generator=str(link)))
    assert names[0] != names[1]


def test_the_schema_file_is_current(capsys):
    assert main(["schema"]) == 0
    file = ROOT / "workflow" / "schemas" / "config.schema.yaml"
    assert file.read_text() == capsys.readouterr().out, "mgd3 schema > " + str(
        file.relative_to(ROOT)
    )


def test_the_shipped_configuration_is_valid():
    # Presets: test_presets.py.
    configuration.check(yaml.safe_load((ROOT / "config.yaml").read_text()))


def test_every_key_is_described_or_obvious():
    obvious = {"method", "device", "validation_fraction"}
    undescribed = set()

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in (node.get("properties") or {}).items():
                # {} repeats a key for a method; a const is a condition.
                if value and "const" not in value and "description" not in value:
                    undescribed.add(key)
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(schema())
    assert undescribed <= obvious


def test_every_swept_key_accepts_a_list_and_no_other_does():
    for key, values in VALUES.items():
        config = raw({**ROWS.get(key, MGD3), key: copy.copy(values[:2])})
        if key in METHODS[ROWS.get(key, MGD3)["method"]].swept():
            assert len(resolve(config).runs) == 2
        else:
            with pytest.raises(UserError, match=key):
                resolve(config)


def test_the_table_of_settings_is_current():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page.page(), "python -m mgd3.planning.settings_page > docs/settings.md"
