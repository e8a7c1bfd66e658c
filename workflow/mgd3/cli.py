"""`mgd3 STAGE ...`: each stage's arguments, once. Stages are imported when they run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .base import process
from .base.errors import UserError
from .data.registry import SPLITS
from .discovery import DISCOVERIES


def _dataset(args: argparse.Namespace) -> Any:
    from .data import make_dataset

    return make_dataset(args.dataset)


def _device(args: argparse.Namespace) -> str:
    from .base.device import pick_device

    return pick_device(args.device)


def _index(args: argparse.Namespace) -> None:
    from .data.index import write_index

    write_index(_dataset(args), args.output)


def _fetch_dataset(args: argparse.Namespace) -> None:
    from .data.archives import fetch_dataset

    fetch_dataset(args.name, args.folder, args.url)


def _recipe(args: argparse.Namespace) -> Any:
    from .generators.registry import get_generator

    recipe = get_generator(args.generator).recipe
    if recipe is None:
        raise UserError(f"generator {args.generator!r} is not trained here", "choose small-dit")
    return recipe


def _train_vae(args: argparse.Namespace) -> None:
    from .generators.training import train_vae

    train_vae(_dataset(args), args.index, _recipe(args), args.folder, _device(args))


def _train_generator(args: argparse.Namespace) -> None:
    from .generators.training import train_generator

    train_generator(_dataset(args), args.index, _recipe(args), args.folder, _device(args))


def _finetune_generator(args: argparse.Namespace) -> None:
    from .generators.finetuning import finetune
    from .generators.registry import GENERATORS, get_generator

    recipe = get_generator(args.generator).finetune
    if recipe is None:
        raise UserError(
            f"generator {args.generator!r} is not fine-tuned here",
            f"choose one of {', '.join(n for n, e in GENERATORS.items() if e.finetune)}",
        )
    finetune(_dataset(args), args.index, args.base, recipe, args.folder, _device(args))


def _train_teacher(args: argparse.Namespace) -> None:
    from .teachers import get_teacher
    from .teachers.training import train_teacher

    train_teacher(
        args.teacher,
        get_teacher(args.teacher),
        args.train,
        args.test,
        args.validation,
        flip=args.flip,
        device=_device(args),
        folder=args.folder,
    )


def _fetch_teacher(args: argparse.Namespace) -> None:
    from .teachers.pretrained import fetch_teacher

    fetch_teacher(args.teacher, args.folder, args.file)


def _fetch_generator(args: argparse.Namespace) -> None:
    from .generators.fetch import fetch
    from .generators.registry import get_generator

    entry = get_generator(args.generator)
    if not entry.hub:
        raise UserError(
            f"generator {args.generator!r} is not fetched from the Hub", "choose dit or sd"
        )
    fetch(entry, args.folder)


def _convert(args: argparse.Namespace) -> None:
    if args.family == "dit":
        from .generators.convert import convert_dit

        convert_dit(args.checkpoint, args.vae, args.folder, args.heads)
    else:
        from .generators.convert_ldm import convert_ldm

        convert_ldm(args.checkpoint, args.config, args.folder)


def _latents(args: argparse.Namespace) -> None:
    from .generators.latents import encode

    size = int(args.size)
    encode(
        _dataset(args),
        args.generator,
        args.classes,
        size,
        args.output,
        _device(args),
        mirrored=args.flip,
        precision=args.precision,
    )


def _modes(args: argparse.Namespace) -> None:
    from .discovery.modes import discover

    discover(
        args.latents,
        args.index,
        args.discovery,
        args.ipc,
        args.generation_seed,
        args.output,
        args.pca,
        args.draw,
        args.mirrored or [],
    )


def _job(args: argparse.Namespace) -> Any:
    from .data.index import Index
    from .methods import Job
    from .stages import VERSIONS

    return Job(
        dataset=_dataset(args),
        index=Index.read(args.index),
        classes=args.classes,
        ipc=args.ipc,
        generation_seed=args.generation_seed,
        settings=args.settings,
        generator=args.generator,
        modes=args.modes,
        device=_device(args),
        batch=args.batch if args.batch == "auto" else int(args.batch),
        version=VERSIONS["sample"],
        compile=getattr(args, "compile", "no") == "yes",
        teacher=getattr(args, "teacher_folder", None),
    )


def _sample(args: argparse.Namespace) -> None:
    from .methods.blocks import make_block

    unfinished = args.output.with_name(f".{args.output.name}.checkpoint.safetensors")
    make_block(args.method, replace(_job(args), unfinished=unfinished), args.output)


def _trajectory(args: argparse.Namespace) -> None:
    from .methods.trajectories import trace

    trace(args.method, _job(args), args.output)


def _decode_modes(args: argparse.Namespace) -> None:
    from .methods.trajectories import decode_modes

    size = int(args.size)
    decode_modes(args.modes, args.generator, args.classes, size, args.output, _device(args))


def _collect(args: argparse.Namespace) -> None:
    from .methods.blocks import collect

    collect(args.blocks, args.classes, args.output, args.manifest)


def _export(args: argparse.Namespace) -> None:
    from .reporting.export import export

    export(args.distilled, args.manifest, args.output, args.context)


def _pixels(args: argparse.Namespace) -> None:
    from .data.pixels import write_pixels

    write_pixels(_dataset(args), args.index, args.split, args.size, args.output)


def _evaluate(args: argparse.Namespace) -> None:
    from .evaluation.stage import evaluate

    evaluate(
        args.train,
        args.test,
        args.validation,
        protocol=args.protocol,
        network=args.network,
        generation_seed=args.generation_seed,
        training_seed=args.training_seed,
        flip=args.flip,
        device=args.device,
        threads=args.threads,
        context={**args.context, **{key: args.made[key] for key in ("revision", "inputs")}},
        output=args.output,
        predictions=args.output.with_suffix(".safetensors"),
        teacher=args.teacher_folder,
        teacher_classes=args.teacher_classes,
        labels=args.labels or [],
    )


def _relabel(args: argparse.Namespace) -> None:
    from .evaluation.relabel import relabel

    relabel(
        args.train,
        protocol=args.protocol,
        teacher=args.teacher_folder,
        teacher_classes=args.teacher_classes,
        generation_seed=args.generation_seed,
        part=args.part,
        parts=args.parts,
        flip=args.flip,
        device=args.device,
        threads=args.threads,
        output=args.output,
    )


def _tables(args: argparse.Namespace) -> None:
    from .reporting.tables import tables

    tables(
        args.runs,
        args.scores,
        output_dir=args.output.parent,
        paper=args.paper,
        reported=args.reported,
        title=args.title,
    )


def _cost(args: argparse.Namespace) -> None:
    from .reporting.cost import cost

    cost(args.runs, args.scores, args.output)


def _claims(args: argparse.Namespace) -> None:
    from .reporting.claims import claims

    claims(
        args.runs,
        args.scores,
        ledger=args.ledger,
        paper=args.paper,
        costs=args.costs,
        title=args.title,
        output=args.output,
    )


def _claims_of_measures(args: argparse.Namespace) -> None:
    from .reporting.claims import claims_of_measures

    claims_of_measures(
        args.runs,
        args.scores,
        ledger=args.ledger,
        paper=args.paper,
        measures=args.by_class,
        title=args.title,
        output=args.output,
    )


def _embed(args: argparse.Namespace) -> None:
    from .metrics.stage import embed

    embed(args.distilled, args.generator, int(args.size), args.output, _device(args))


def _measure(args: argparse.Namespace) -> None:
    from .metrics.stage import measure

    samples = dict(zip(args.slugs, args.embedded, strict=True))
    judged = dict(zip(args.slugs, args.judged, strict=True)) if args.judged else None
    measure(
        args.latents,
        args.index,
        samples,
        args.of,
        args.output,
        args.points,
        judged,
        args.judged_originals,
    )


def _judge(args: argparse.Namespace) -> None:
    from .metrics.judging import judge

    judge(
        args.distilled,
        args.teacher,
        args.teacher_folder,
        args.teacher_classes,
        args.output,
        _device(args),
    )


def _judge_originals(args: argparse.Namespace) -> None:
    from .metrics.judging import judge_originals

    folder = args.teacher_folder
    judge_originals(_dataset(args), args.index, args.teacher, folder, args.output, _device(args))


def _measures_table(args: argparse.Namespace) -> None:
    from .metrics.summary import summarise

    summarise(args.measures, args.runs, args.output.parent)


def _sweep_plot(args: argparse.Namespace) -> None:
    from .reporting.comparisons import accuracy_over_ipc, accuracy_over_labels
    from .reporting.plots import accuracy_over
    from .reporting.tables import load_results

    results = load_results(args.results)
    match args.over:
        case "ipc":
            accuracy_over_ipc(results, args.output)
        case "labels":
            accuracy_over_labels(results, args.output)
        case setting:
            accuracy_over(results, args.runs, setting, args.output)


def _cost_plot(args: argparse.Namespace) -> None:
    import pandas as pd

    from .reporting.cost_plot import accuracy_over_cost
    from .reporting.tables import load_results

    costs = pd.read_csv(args.costs, dtype={"dataset": str, "run": str}, keep_default_na=False)
    accuracy_over_cost(load_results(args.results), costs, args.output)


def _trade_off(args: argparse.Namespace) -> None:
    import pandas as pd

    from .reporting.plots import trade_off

    trade_off(pd.read_csv(args.results), args.output)


def _sample_map(args: argparse.Namespace) -> None:
    from .reporting.plots import sample_map

    sample_map(args.mapped, {run["run"]: run["label"] for run in args.runs}, args.output)


def _tune_rung(args: argparse.Namespace) -> None:
    from .tuning.rungs import choose

    choose(args.grid, args.keep, args.scores or [], args.output)


def _tune_sample(args: argparse.Namespace) -> None:
    from .tuning.trials import sample

    sample(args.method, _job(args), args.rung, args.slot, args.output)


def _tune_proxy(args: argparse.Namespace) -> None:
    from .tuning.trials import proxy

    proxy(
        args.distilled,
        args.latents,
        args.index,
        args.generator,
        int(args.size),
        args.teacher_folder,
        args.output,
        _device(args),
    )


def _tune_train(args: argparse.Namespace) -> None:
    from .tuning.trials import train

    train(
        args.distilled,
        args.validation,
        protocol=args.protocol,
        network=args.network,
        flip=args.flip,
        device=args.device,
        threads=args.threads,
        output=args.output,
    )


def _tune_report(args: argparse.Namespace) -> None:
    from .tuning.report import report

    report(args.tunings, args.runs, args.slugs, args.title, args.output, args.overlay)


def _tune_surface(args: argparse.Namespace) -> None:
    import pandas as pd

    from .tuning.surface import surface

    surface(pd.read_csv(args.results), args.tuning, args.output)


def _trade_off_images(args: argparse.Namespace) -> None:
    from .reporting.plots import trade_off_images

    trade_off_images(args.measured, args.runs, args.space, args.output)


def _trade_off_over_stops(args: argparse.Namespace) -> None:
    from .reporting.plots import trade_off_over_stops

    trade_off_over_stops(args.measured, args.runs, args.space, args.output)


def _images_over_stops(args: argparse.Namespace) -> None:
    from .reporting.figures import over_stops

    over_stops(args.runs, args.sets, args.decoded, args.output)


def _trajectories(args: argparse.Namespace) -> None:
    from .reporting.figures import trajectories

    trajectories(args.runs, args.recorded, args.decoded, args.output)


def _modes_and_samples(args: argparse.Namespace) -> None:
    from .reporting.figures import modes_and_samples

    modes_and_samples(args.decoded, args.distilled, args.output)


def _exhibit(args: argparse.Namespace) -> None:
    from .reporting.gallery.exhibit import RealImages, exhibit

    real = None
    if args.embedded:
        embedded = dict(zip(args.slugs, args.embedded, strict=True))
        real = RealImages(_dataset(args), args.index, args.latents, embedded)
    exhibit(
        dict(zip(args.slugs, args.sets, strict=True)),
        args.classes,
        args.of,
        args.output,
        modes=dict(zip(args.guided or [], args.mode_images or [], strict=True)),
        real=real,
    )


def _gallery(args: argparse.Namespace) -> None:
    from .reporting.gallery.page import gallery

    gallery(args.exhibits, args.runs, args.results, args.title, args.output, args.small)


def _settings_table(args: argparse.Namespace) -> None:
    from .reporting.settings_table import settings_table

    settings_table(args.manifests, args.runs, args.output)


def _tables_page(args: argparse.Namespace) -> None:
    from .reporting.tables_page import tables_page

    tables_page(args.markdown, args.title, args.output)


def _show(args: argparse.Namespace) -> None:
    from .reporting.tables import print_table

    print_table(args.results)


def _grid(args: argparse.Namespace) -> None:
    from .reporting.figures import grid

    grid(args.distilled, args.output)


def _overview(args: argparse.Namespace) -> None:
    from .reporting.figures import accuracy_overview

    accuracy_overview(args.results, args.output)


def _verify(args: argparse.Namespace) -> int:
    from .base.records import print_verdict

    return 0 if print_verdict(args.tree) else 1


def _plan(args: argparse.Namespace) -> None:
    from .planning.config import preflight, read_configs, resolve
    from .planning.plan import plan, table

    config = resolve(read_configs(args.configs))
    preflight(config)
    device = config.device if args.device == "auto" else args.device
    args.device = device
    device = _device(args)
    print(table(plan(config, Path.cwd(), device), device))


def _schema(args: argparse.Namespace) -> None:
    import yaml

    from .planning.config import schema

    header = "# Made from the registries by `mgd3 schema`; a test checks that it is current.\n"
    sys.stdout.write(header + yaml.safe_dump(schema(), sort_keys=False, allow_unicode=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mgd3", description="Dataset distillation with mode-guided diffusion, stage by stage."
    )
    parser.add_argument("--version", action="version", version=__version__)
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    def stage(name: str, run: Any, doc: str, *names: str) -> None:
        sub = stages.add_parser(name, help=doc, description=doc)
        for argument in names:
            name = argument.removesuffix("?")
            optional = name != argument or name in _OPTIONAL
            if name in _POSITIONAL:
                sub.add_argument(name, **_ARGUMENTS[name])
            else:
                sub.add_argument(f"--{name}", required=not optional, **_ARGUMENTS[name])
        sub.set_defaults(run=run)

    data, index = "dataset", "index"
    run_on = ("device", "threads")
    stage("fetch-dataset", _fetch_dataset, "fetch, check and unpack an archive of images",
          "name", "folder", "url?")  # fmt: skip
    stage("index", _index, "list every image with its class and split", data, "output")
    training = (data, index, "generator", "folder", *run_on)
    stage("train-vae", _train_vae, "train a small VAE", *training)
    stage("train-generator", _train_generator, "train a small DiT on its latents", *training)
    stage("finetune-generator", _finetune_generator, "go on training a DiT on a data set",
          data, index, "base", "generator", "folder", *run_on)  # fmt: skip
    stage("convert", _convert, "a checkpoint of the original code to a pipeline folder",
          "family", "checkpoint", "folder", "vae", "heads", "config")  # fmt: skip
    stage("fetch-generator", _fetch_generator, "download a generator from the Hugging Face Hub",
          "generator", "folder")  # fmt: skip
    stage(
        "train-teacher", _train_teacher, "train a classifier on real images",
        "teacher", "train", "test?", "validation?", "flip", "folder", *run_on,
    )  # fmt: skip
    stage("fetch-teacher", _fetch_teacher, "torchvision's ImageNet-1K weights as a teacher",
          "teacher", "folder", "file")  # fmt: skip
    stage(
        "latents", _latents, "encode the train images of some classes",
        data, "generator", "classes", "size", "flip", "precision?", "output", *run_on,
    )  # fmt: skip
    stage(
        "modes", _modes, "find k = IPC modes per class",
        "latents", "mirrored?", index, "discovery", "pca", "draw", "ipc",
        "generation-seed", "output", "threads",
    )  # fmt: skip
    making = (data, index, "method", "settings", "classes", "ipc", "generation-seed", "generator?",
              "modes", "teacher-folder?", "batch", "output", *run_on)  # fmt: skip
    stage("sample", _sample, "make the images of some classes with a method", *making, "compile")
    stage("trajectory", _trajectory, "how the first images of some classes came to be", *making)
    stage("decode-modes", _decode_modes, "modes of some classes as images",
          "modes", "generator", "classes", "size", "output", *run_on)  # fmt: skip
    stage("collect", _collect, "join blocks to one distilled set",
          "blocks", "classes", "output", "manifest")  # fmt: skip
    stage("export", _export, "a distilled set as PNG folders, one tensor file and a card",
          "distilled", "manifest", "context?", "output")  # fmt: skip
    stage("pixels", _pixels, "a split of real images at an evaluation's size",
          data, index, "split", "size", "output")  # fmt: skip
    stage(
        "relabel", _relabel, "store a teacher's labels of a distilled set",
        "train", "teacher-folder", "teacher-classes", "protocol", "part", "parts",
        "generation-seed", "flip", "output", *run_on,
    )  # fmt: skip
    stage(
        "evaluate", _evaluate, "train a network on a distilled set and test it",
        "train", "test", "validation?", "teacher-folder?", "teacher-classes", "labels", "protocol",
        "network", "generation-seed", "training-seed",
        "flip", "context", "output", *run_on,
    )  # fmt: skip
    stage("tables", _tables, "mean and std, gains, published figures",
          "runs", "scores", "paper", "reported", "title", "output")  # fmt: skip
    stage("cost", _cost, "seconds and memory of each run", "runs", "scores", "output")
    claimed = ("runs", "scores", "ledger", "paper", "title", "output")
    stage("claims", _claims, "what of the paper's claims on accuracy and time is reproduced",
          "costs", *claimed)  # fmt: skip
    stage("claims-of-measures", _claims_of_measures, "the same of its claims on diversity",
          "by-class", *claimed)  # fmt: skip
    stage("embed", _embed, "a distilled set as latents",
          "distilled", "generator", "size", "output", *run_on)  # fmt: skip
    stage(
        "measure", _measure, "diversity, representativeness, coverage of distilled sets",
        "latents", index, "embedded", "slugs", "of", "judged", "judged-originals", "output",
        "points", "threads",
    )  # fmt: skip
    judging = ("teacher", "teacher-folder", "output", *run_on)
    stage("judge", _judge, "a teacher's features and classes of a distilled set",
          "distilled", "teacher-classes", *judging)  # fmt: skip
    stage("judge-originals", _judge_originals, "a teacher's features of the training images",
          data, index, *judging)  # fmt: skip
    stage("measures-table", _measures_table, "the measures by method and by class",
          "measures", "runs", "output")  # fmt: skip
    stage("tune-rung", _tune_rung, "the settings of a rung: the best of the one before",
          "grid", "keep", "scores?", "output")  # fmt: skip
    stage(
        "tune-sample", _tune_sample, "make the distilled set of a rung's slot",
        "rung", "slot", data, index, "method", "settings", "classes", "ipc", "generation-seed",
        "generator", "modes", "batch", "output", *run_on, "compile",
    )  # fmt: skip
    stage(
        "tune-proxy", _tune_proxy, "judge a distilled set without training",
        "distilled", "latents", index, "generator", "size", "teacher-folder", "output", *run_on,
    )  # fmt: skip
    stage(
        "tune-train", _tune_train, "train on a distilled set, test on held-out training images",
        "distilled", "validation", "protocol", "network", "flip", "output", *run_on,
    )  # fmt: skip
    stage("tune-report", _tune_report, "what was tried, and the chosen settings as an overlay",
          "tunings", "runs", "slugs", "title", "output", "overlay")  # fmt: skip
    stage("tune-surface", _tune_surface, "a heat map of a tuning", "results", "tuning", "output")
    stage("grid", _grid, "a picture of a distilled set", "distilled", "output")
    stage("overview", _overview, "a picture of the table", "results", "output")
    stage("sweep-plot", _sweep_plot, "accuracy over a setting", "results", "runs", "over", "output")
    stage("cost-plot", _cost_plot, "accuracy over seconds", "results", "costs", "output")
    stage("trade-off", _trade_off, "representativeness against diversity", "results", "output")
    stage("sample-map", _sample_map, "samples among the originals", "mapped", "runs", "output")
    stage("trade-off-images", _trade_off_images, "representativeness and diversity by class",
          "measured", "runs", "space", "output")  # fmt: skip
    stage("trade-off-over-stops", _trade_off_over_stops, "the same by t_SG",
          "measured", "runs", "space", "output")  # fmt: skip
    stage("images-over-stops", _images_over_stops, "the same images under several t_SG",
          "runs", "sets", "decoded", "output")  # fmt: skip
    stage("trajectories", _trajectories, "what samplers predict on their way",
          "runs", "recorded", "decoded", "output")  # fmt: skip
    stage("modes-and-samples", _modes_and_samples, "modes beside the samples they guided",
          "decoded", "distilled", "output")  # fmt: skip
    stage("exhibit", _exhibit, "images beside their modes and the nearest real images",
          data, index, "classes", "slugs", "sets", "embedded?", "latents?", "guided?",
          "mode-images?", "of", "output", "threads")  # fmt: skip
    stage("gallery", _gallery, "the same as one page for a browser",
          "results", "exhibits", "runs", "title", "output", "small")  # fmt: skip
    stage("settings-table", _settings_table, "settings, hashes and versions of distilled sets",
          "manifests", "runs", "output")  # fmt: skip
    stage("tables-page", _tables_page, "tables as a page for a browser",
          "markdown", "title", "output")  # fmt: skip
    stage("show", _show, "print a table of results", "results")
    stage("verify", _verify, "check a tree of results against the hashes in its records", "tree")
    stage("plan", _plan, "what a configuration will cost: one batch of each stage, timed here",
          "configs", *run_on)  # fmt: skip
    stage("schema", _schema, "print the schema of the configuration")
    return parser


_POSITIONAL = {"configs", "results", "tree", "measures", "manifests", "markdown"}
_OPTIONAL = {"device", "threads", "modes", "pca", "batch", "compile", "flip", "file", "vae"}
_OPTIONAL |= {"draw", "heads", "config", "teacher-classes", "labels", "judged", "judged-originals"}


def _json(shape: str) -> dict[str, Any]:
    """An argument that is JSON of a shape: a key of `_SHAPES`."""

    def parse(text: str) -> Any:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise argparse.ArgumentTypeError(f"not JSON: {text[:80]!r} ({error})") from error
        if not _SHAPES[shape](value):
            raise argparse.ArgumentTypeError(f"not {shape}: {text[:80]!r}")
        return value

    return {"type": parse, "help": f"JSON: {shape}"}


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "a registry name in quotes, or an object with a name": lambda v: isinstance(
        v.get("name") if isinstance(v, dict) else v, str
    ),
    "a list of names": lambda v: isinstance(v, list) and all(isinstance(n, str) for n in v),
    "an object": lambda v: isinstance(v, dict),
    "a list of objects": lambda v: isinstance(v, list) and all(isinstance(n, dict) for n in v),
}


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


_PATH: dict[str, Any] = {"type": Path}
_PATHS: dict[str, Any] = {"type": Path, "nargs": "+"}
_INT: dict[str, Any] = {"type": _count}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "dataset": _json("a registry name in quotes, or an object with a name"),
    "index": _PATH,
    "output": _PATH,
    "name": {"help": "of a data set"},
    "url": {"help": "a mirror of the archive"},
    "generator": {"help": "a name of the registry to train or fetch; elsewhere a pipeline folder"},
    "folder": _PATH,
    "base": {**_PATH, "help": "pipeline folder of the generator to start from"},
    "family": {"choices": ["dit", "ldm"], "help": "what the checkpoint is of"},
    "checkpoint": {**_PATH, "help": ".pt or .ckpt"},
    "vae": {**_PATH, "help": "folder of the VAE of a dit"},
    "config": {**_PATH, "help": "YAML file of an ldm; cin256-v2's values without it"},
    "heads": {**_INT, "help": "attention heads of a dit of unusual width"},
    "classes": _json("a list of names"),
    "latents": _PATHS,
    "mirrored": {**_PATHS, "help": "latents of the mirrored images"},
    "draw": {
        "choices": ["mean", "sample"],
        "default": "mean",
        "help": "what of an image's posterior is clustered",
    },
    "precision": {
        "choices": ["float32", "bfloat16"],
        "default": "float32",
        "help": "of the encoder; what is written is float32",
    },
    "discovery": {"choices": list(DISCOVERIES)},
    "pca": {**_INT, "help": "components in which to cluster"},
    "ipc": _INT,
    "generation-seed": _INT,
    "training-seed": _INT,
    "method": {},
    "settings": _json("an object"),
    "modes": _PATH,
    "batch": {"default": "auto"},
    "compile": {"choices": ["yes", "no"], "default": "no", "help": "the network that samples"},
    "blocks": _PATHS,
    "manifest": _PATH,
    "split": {"choices": SPLITS},
    "size": {
        "help": "side in pixels; 256-224: resized to 256, the central 224 cut out; "
        "224-tensor, 224-tensor-aliased: resized as a tensor"
    },
    "teacher": {"help": "a teacher's name"},
    "teacher-folder": {**_PATH, "help": "of a trained or fetched teacher"},
    "teacher-classes": {
        **_json("a list of names"),
        "help": "JSON list: what the teacher calls the classes",
    },
    "labels": {**_PATHS, "help": "all parts of the stored labels"},
    "part": {**_INT, "help": "of the parts that the labels' epochs are cut into, from 0"},
    "parts": _INT,
    "file": {**_PATH, "help": "weights on this machine, instead of fetching them"},
    "train": _PATH,
    "test": _PATH,
    "validation": _PATH,
    "protocol": {},
    "network": {},
    "flip": {
        "action": "store_true",
        "help": "mirrored images keep their class; of latents: encode the mirrored images",
    },
    "context": {**_json("an object"), "help": "JSON object: what made the set"},
    "runs": _json("a list of objects"),
    "scores": _PATHS,
    "embedded": _PATHS,
    "slugs": _json("a list of names"),
    "of": _json("an object"),
    "measures": _PATHS,
    "points": {**_PATH, "help": "output: the coordinates of the map"},
    "costs": {**_PATH, "help": "what `cost` wrote"},
    "ledger": {**_PATH, "help": "the claims, YAML"},
    "by-class": {**_PATH, "help": "a metrics_classes.csv"},
    "mapped": {**_PATH, "help": "the coordinates of the map"},
    "grid": {**_json("a list of objects"), "help": "JSON list: every setting to try"},
    "keep": {**_INT, "help": "settings of the rung"},
    "rung": {**_PATH, "help": "the settings of a rung"},
    "slot": {**_INT, "help": "which of them, from 0"},
    "tunings": _json("a list of objects"),
    "overlay": {**_PATH, "help": "output: a configuration's runs with the chosen ones"},
    "tuning": {"help": "the id of one"},
    "over": {"help": "what varies: t_sg, lambda, ipc or labels"},
    "judged": {**_PATHS, "help": "a teacher's judgement of each set"},
    "judged-originals": {**_PATH, "help": "its features of the training images"},
    "measured": {**_PATH, "help": "measures of every image"},
    "space": {"choices": ["latent", "map"]},
    "sets": {**_PATHS, "help": "distilled sets, one for each of the runs"},
    "recorded": {**_PATHS, "help": "trajectories, one for each of the runs"},
    "guided": {**_json("a list of names"), "help": "JSON list: runs that have modes"},
    "mode-images": {**_PATHS, "help": "their modes, decoded"},
    "exhibits": {**_PATHS, "help": "what `exhibit` wrote"},
    "small": {**_PATH, "help": "output: the page in a size that a report can hold"},
    "markdown": {**_PATHS, "help": "tables, .md"},
    "manifests": {**_PATHS, "help": "of distilled sets"},
    "decoded": {**_PATH, "help": "decoded modes"},
    "paper": {**_PATH, "help": "published figures, CSV"},
    "reported": {**_PATH, "help": "figures of independent reruns, CSV"},
    "title": {},
    "distilled": _PATH,
    "configs": {**_PATHS, "help": "YAML files; later ones win, as with --configfile"},
    "results": {**_PATH, "help": "a results.csv"},
    "tree": {**_PATH, "help": "a folder of results"},
    "device": {"default": "auto", "help": "auto, cpu or cuda"},
    "threads": {"type": int, "default": None},
}


# Arguments that name files a stage reads. `generator` may be a folder of them.
_READ = ("index", "latents", "modes", "blocks", "labels", "train", "test", "validation", "scores",
         "paper", "reported", "distilled", "results", "embedded", "measures", "mapped",
         "mirrored", "rung", "judged", "judged_originals", "measured", "sets", "recorded",
         "decoded", "costs", "ledger", "by_class", "mode_images", "exhibits",
         "manifests", "markdown")  # fmt: skip
_NOT_SETTINGS = {*_READ, "stage", "run", "output", "manifest", "folder", "base", "device",
                 "threads", "batch", "compile", "overlay", "small"}  # fmt: skip


# Stages whose `generator` is a pipeline folder.
_FROM_FOLDER = ("latents", "sample", "trajectory", "decode-modes", "embed", "tune-sample",
                "tune-proxy")  # fmt: skip
# Stages that write a picture as PNG and as SVG.
_WITH_SVG = ("overview", "cost-plot", "sweep-plot", "trade-off", "sample-map", "trade-off-images",
             "trade-off-over-stops", "images-over-stops", "trajectories",
             "modes-and-samples", "tune-surface")  # fmt: skip
# Stages whose files lie in several folders: the part of the generator beside which the record lies.
_PARTS = {"train-vae": "vae", "train-generator": "transformer",
          "finetune-generator": "transformer"}  # fmt: skip


def _written(args: argparse.Namespace) -> list[Path]:
    """What a stage writes: files, or folders of them."""
    from .generators.registry import DIT_FILES, VAE_FILES
    from .teachers import TEACHER_FILES

    match args.stage:
        case "train-vae":
            return [args.folder / file for file in VAE_FILES]
        case "train-generator":
            return [args.folder / file for file in DIT_FILES]
        case "finetune-generator":
            return [args.folder / file for file in (*VAE_FILES, *DIT_FILES)]
        case "fetch-generator":
            return [args.folder]
        case "train-teacher" | "fetch-teacher":
            return [args.folder / file for file in TEACHER_FILES]
        case "collect":
            return [args.output, args.manifest]
        case "evaluate" | "tune-train":
            return [args.output, args.output.with_suffix(".safetensors")]
        case "tables":
            return [args.output.with_suffix(suffix) for suffix in (".csv", ".md", ".tex")]
        case "cost" | "claims" | "claims-of-measures" | "settings-table":
            return [args.output, args.output.with_suffix(".md")]
        case "measure":
            return [args.output, args.points]
        case "gallery":
            return [args.output, args.small]
        case "measures-table":
            names = ("metrics.csv", "metrics.md", "metrics_classes.csv")
            return [args.output.with_name(name) for name in names]
        case "tune-report":
            return [args.output, args.output.with_suffix(".md"), args.overlay]
        case name if name in _WITH_SVG:
            return [args.output, args.output.with_suffix(".svg")]
    return [args.output] if "output" in args else []


def _read(args: argparse.Namespace) -> list[Path]:
    """The files that a stage reads."""
    from .generators.registry import VAE_FILES, folder_files
    from .methods import get_method
    from .teachers import TEACHER_FILES

    files = [args.manifest] if args.stage == "export" else []
    for name in _READ:
        value = getattr(args, name, None) or []
        files += value if isinstance(value, list) else [value]
    for tuning in getattr(args, "tunings", []):
        files += [Path(file) for rung in tuning["scores"] for file in rung]
        files.append(Path(tuning["chosen"]))
    if args.stage == "train-generator":
        files += [args.folder / file for file in VAE_FILES]
    if base := getattr(args, "base", None):
        files += [base / file for file in folder_files(base)]
    if folder := getattr(args, "teacher_folder", None):
        files += [folder / file for file in TEACHER_FILES]
    if isinstance(getattr(args, "generator", None), Path):
        whole = args.stage not in ("latents", "embed", "decode-modes", "tune-proxy")
        if args.stage == "sample":
            # Another method's job may be training the rest of the folder meanwhile.
            whole = "generator" in get_method(args.method).needs
        parts = folder_files(args.generator) if whole else VAE_FILES
        files += [args.generator / file for file in parts if (args.generator / file).is_file()]
    return files


def _recorded(args: argparse.Namespace) -> AbstractContextManager[Any]:
    """The record of what a stage makes, as a context to run it in."""
    from .base import records

    written = _written(args)
    if not written:
        return nullcontext()
    record = records.record_of(written[0])
    if args.stage == "fetch-generator":
        record = records.part_record(args.folder)
    if args.stage in _PARTS:
        record = records.part_record(args.folder / _PARTS[args.stage])
    settings = {k: v for k, v in vars(args).items() if k not in _NOT_SETTINGS}
    return records.recorded(
        record,
        args.stage,
        settings=json.loads(json.dumps(settings, default=str)),
        inputs=_read(args),
        outputs=written,
        more=records.sampling_of(args.blocks) if args.stage == "collect" else None,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage. A mistake that the user can mend is one message and exit status 2."""
    from .base.device import claim_gpu, is_out_of_memory, keep_freed_memory, prepare

    args = _parser().parse_args(argv)
    if isinstance(getattr(args, "generator", None), str) and args.stage in _FROM_FOLDER:
        args.generator = Path(args.generator)
    threads = getattr(args, "threads", None)
    prepare(threads, online=args.stage.startswith("fetch"))
    if getattr(args, "device", None) in ("auto", "cuda"):
        claim_gpu()
    if args.stage in (
        "train-teacher",
        "train-vae",
        "train-generator",
        "finetune-generator",
        "sample",
        "tune-sample",
        "trajectory",
        "latents",
    ):
        keep_freed_memory()
    try:
        with _recorded(args) as args.made:
            return args.run(args) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        mended = UserError(
            f"not enough memory for {args.stage}: {error}",
            "use a machine with more memory; on a cluster, raise this rule's `mem_mb`",
        )
        print(f"error: {mended}", file=sys.stderr)
        return 2


def console() -> NoReturn:
    """The command `mgd3`: `main`, in a process of its own."""
    process.run(main)


if __name__ == "__main__":
    console()
