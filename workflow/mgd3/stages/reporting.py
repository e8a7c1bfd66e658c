"""Jobs of the reporting: tables, claims, cost, settings, export, and the pictures of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UserError
from ..base.shapes import misfit
from . import fields, formats
from .contract import Job, Positional
from .fields import Choice, Json, OutFile, OutFolder, Registered, rows
from .metrics import by_run

_RUN = {"method": str, "generator": (str, None)}
_SWEPT = {**_RUN, "settings": dict}
Rows = Annotated[list[dict[str, Any]], rows(**_RUN)]
Swept = Annotated[list[dict[str, Any]], rows(**_SWEPT)]
Labelled = Annotated[list[dict[str, Any]], rows()]
Results = Annotated[formats.AnyFile, Positional(), "a results.csv"]
Table = Annotated[Path, OutFile(".csv", also=[".md"])]
Picture = Annotated[Path, OutFile(".png", also=[".svg"])]
Page = Annotated[Path, OutFile(".html")]
Paper = Annotated[formats.AnyFile, "published figures, CSV"]
Ledger = Annotated[formats.AnyFile, "the claims, YAML"]
Decoded = Annotated[formats.ImageSet, "decoded modes"]
Sets = Annotated[formats.ImageSets, "distilled sets, one for each of the runs"]
Sizes = Annotated[
    list[dict[str, Any]],
    Json([{"dataset": str, "size": int}], "a JSON list of objects with dataset, size"),
    "side of the images of each data set, pixels",
]
Space = Annotated[str, Choice(lambda: ("latent", "map"))]


def _swept(name: str) -> None:
    from ..reporting.sweeps import SWEPT_FIGURES

    if name not in (known := (*SWEPT_FIGURES, "ipc", "labels")):
        raise UserError("no figure shows it", f"choose {', '.join(known)}")


class View(Job, version=1):
    """Show one configuration's reports under their name."""

    report: Annotated[Path, fields.Path_(), "the folder of the reports, which need not be there"]
    output: Annotated[Path, OutFile(first=False)]

    def run(self) -> None:
        from ..reporting.view import show

        show(self.report, self.output)


class Tables(Job, version=4):
    """Mean and std, gains, published figures."""

    runs: Rows
    scores: formats.AnyFiles
    paper: Paper
    reported: Annotated[formats.AnyFile, "figures of independent reruns, CSV"]
    sizes: Sizes
    title: fields.Title
    output: Annotated[Path, OutFile(".csv", also=[".md", ".tex"])]

    def run(self) -> None:
        from ..reporting.tables import tables

        tables(
            self.runs,
            self.scores,
            output=self.output,
            paper=self.paper,
            reported=self.reported,
            sizes={entry["dataset"]: entry["size"] for entry in self.sizes},
            title=self.title,
        )


class Cost(Job, version=2):
    """Seconds and memory of each run."""

    runs: Rows
    scores: formats.AnyFiles
    output: Table

    def run(self) -> None:
        from ..reporting.cost import cost

        cost(self.runs, self.scores, self.output)


class Claims(Job, version=2):
    """What of the paper's claims on accuracy and time is reproduced."""

    costs: Annotated[formats.AnyFile, "what `cost` wrote"]
    runs: Rows
    scores: formats.AnyFiles
    ledger: Ledger
    paper: Paper
    title: fields.Title
    output: Table

    def run(self) -> None:
        from ..reporting.claims import claims

        claims(
            self.runs,
            self.scores,
            ledger=self.ledger,
            paper=self.paper,
            costs=self.costs,
            title=self.title,
            output=self.output,
        )


class ClaimsOfMeasures(Job, version=2):
    """The same of its claims on diversity."""

    by_class: Annotated[formats.AnyFile, "a metrics_classes.csv"]
    runs: Rows
    scores: formats.AnyFiles
    ledger: Ledger
    paper: Paper
    title: fields.Title
    output: Table

    def run(self) -> None:
        from ..reporting.claims import claims_of_measures

        claims_of_measures(
            self.runs,
            self.scores,
            ledger=self.ledger,
            paper=self.paper,
            measures=self.by_class,
            title=self.title,
            output=self.output,
        )


class SettingsTable(Job, version=1):
    """Settings, hashes and versions of distilled sets."""

    manifests: Annotated[formats.Manifests, Positional(), "of distilled sets"]
    runs: Swept
    output: Table

    def run(self) -> None:
        from ..reporting.settings_table import settings_table

        settings_table(self.manifests, self.runs, self.output)


class TablesPage(Job, version=1):
    """Tables as a page for a browser."""

    markdown: Annotated[formats.AnyFiles, Positional(), "tables, .md"]
    title: fields.Title
    output: Page

    def run(self) -> None:
        from ..reporting.tables_page import tables_page

        tables_page(self.markdown, self.title, self.output)


class Export(Job, version=2):
    """A distilled set as PNG folders, one tensor file and a card."""

    distilled: formats.Collected
    manifest: formats.Manifest
    context: Annotated[
        dict[str, Any],
        Json({"dataset?": str, "run?": str, "label?": str, "generator?": (str, None)},
             "a JSON object"),
        "JSON object: what made the set",
    ] | None = None  # fmt: skip
    output: Annotated[Path, OutFolder(part="")]

    def run(self) -> None:
        from ..reporting.export import export

        export(self.distilled, self.manifest, self.output, self.context)


class Grid(Job, version=2):
    """A picture of a distilled set."""

    distilled: formats.ImageSet
    output: Annotated[Path, OutFile(".png", ".svg")]

    def run(self) -> None:
        from ..reporting.figures import grid

        grid(self.distilled, self.output)


class Overview(Job, version=2):
    """A picture of the table."""

    results: Results
    output: Picture

    def run(self) -> None:
        from ..reporting.figures import accuracy_overview

        accuracy_overview(self.results, self.output)


class SweepPlot(Job, version=3):
    """Accuracy over a setting."""

    results: Results
    runs: Swept
    over: Annotated[str, Registered(_swept), "what varies: t_sg, lambda, ipc or labels"]
    output: Picture

    def run(self) -> None:
        from ..reporting.comparisons import accuracy_over_ipc, accuracy_over_labels
        from ..reporting.plots import accuracy_over
        from ..reporting.tables import load_results

        if clause := misfit(self.runs, [{"settings": {f"{self.over}?": float}}], "runs"):
            raise UserError(f"argument --runs: {clause}", "sweep numbers")
        results = load_results(self.results)
        match self.over:
            case "ipc":
                accuracy_over_ipc(results, self.output)
            case "labels":
                accuracy_over_labels(results, self.output)
            case setting:
                accuracy_over(results, self.runs, setting, self.output)


class CostPlot(Job, version=3):
    """Accuracy over seconds."""

    results: Results
    costs: Annotated[formats.AnyFile, "what `cost` wrote"]
    output: Picture

    def run(self) -> None:
        from ..reporting.cost import load_costs
        from ..reporting.cost_plot import accuracy_over_cost
        from ..reporting.tables import load_results

        accuracy_over_cost(load_results(self.results), load_costs(self.costs), self.output)


class TradeOff(Job, version=3):
    """Representativeness against diversity."""

    results: Annotated[formats.AnyFile, Positional(), "a metrics_classes.csv"]
    output: Picture

    def run(self) -> None:
        from ..metrics.summary import load_classes
        from ..reporting.plots import trade_off

        shown = ("diversity_01", "representativeness_01")
        trade_off(load_classes(self.results, shown), self.output)


class SampleMap(Job, version=3):
    """Samples among the originals."""

    mapped: Annotated[formats.Points, "the coordinates of the map"]
    runs: Labelled
    output: Picture

    def run(self) -> None:
        from ..reporting.plots import sample_map

        labels = {run["run"]: run["label"] for run in self.runs}
        sample_map(self.mapped, labels, self.output)


class TradeOffImages(Job, version=3):
    """Representativeness and diversity by class."""

    measured: Annotated[formats.Measured, "measures of every image"]
    runs: Labelled
    space: Space
    output: Picture

    def run(self) -> None:
        from ..reporting.plots import trade_off_images

        trade_off_images(self.measured, self.runs, self.space, self.output)


class TradeOffOverStops(Job, version=3):
    """The same by t_SG."""

    measured: Annotated[formats.Measured, "measures of every image"]
    runs: Swept
    space: Space
    output: Picture

    def run(self) -> None:
        from ..reporting.plots import trade_off_over_stops

        trade_off_over_stops(self.measured, self.runs, self.space, self.output)


class ImagesOverStops(Job, version=2):
    """The same images under several t_SG."""

    runs: Swept
    sets: Sets
    decoded: Decoded
    output: Picture

    def run(self) -> None:
        from ..reporting.figures import over_stops

        by_run([run["run"] for run in self.runs], self.sets, "sets")
        over_stops(self.runs, self.sets, self.decoded, self.output)


class Trajectories(Job, version=2):
    """What samplers predict on their way."""

    runs: Swept
    recorded: Annotated[formats.Recorded, "trajectories, one for each of the runs"]
    decoded: Decoded
    output: Picture

    def run(self) -> None:
        from ..reporting.figures import trajectories

        by_run([run["run"] for run in self.runs], self.recorded, "recorded")
        trajectories(self.runs, self.recorded, self.decoded, self.output)


class ModesAndSamples(Job, version=2):
    """Modes beside the samples they guided."""

    decoded: Decoded
    distilled: formats.ImageSet
    output: Picture

    def run(self) -> None:
        from ..reporting.figures import modes_and_samples

        modes_and_samples(self.decoded, self.distilled, self.output)


class Exhibit(Job, version=1):
    """Images beside their modes and the nearest real images."""

    dataset: fields.Dataset
    index: formats.Index
    classes: fields.Classes
    slugs: fields.Names
    sets: Sets
    embedded: formats.Embedded | None = None
    latents: formats.Latents | None = None
    guided: Annotated[fields.Names, "JSON list: runs that have modes"] | None = None
    mode_images: Annotated[formats.ImageSets, "their modes, decoded"] | None = None
    of: fields.Of
    output: Annotated[Path, OutFile(".safetensors")]
    threads: fields.Threads | None = None

    def run(self) -> None:
        from ..data import make_dataset
        from ..reporting.gallery.exhibit import RealImages, exhibit

        real = None
        if self.embedded:
            if not self.latents:
                raise UserError("--embedded needs --latents", "give the originals' latents")
            embedded = by_run(self.slugs, self.embedded, "embedded")
            real = RealImages(make_dataset(self.dataset), self.index, self.latents, embedded)
        exhibit(
            by_run(self.slugs, self.sets, "sets"),
            self.classes,
            self.of,
            self.output,
            modes=by_run(self.guided or [], self.mode_images or [], "mode-images"),
            real=real,
        )


class Gallery(Job, version=1):
    """The same as one page for a browser."""

    results: Results
    exhibits: Annotated[formats.Exhibits, "what `exhibit` wrote"]
    runs: Swept
    title: fields.Title
    output: Page
    small: Annotated[Path, OutFile(".html"), "output: the page in a size that a report can hold"]

    def run(self) -> None:
        from ..reporting.gallery.page import gallery

        gallery(self.exhibits, self.runs, self.results, self.title, self.output, self.small)
