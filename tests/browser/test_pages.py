"""The gallery and the report in a real browser: all is there, and nothing is asked of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chromium import Chromium

from mgd3.base.artifacts import save_tensors
from mgd3.reporting.gallery.exhibit import exhibit
from mgd3.reporting.gallery.page import gallery
from mgd3.reporting.tables.results import COLUMNS
from workplace import Workplace

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

CLASSES, RUNS, IPC = 10, 2, 2
PAGE, REPORT = "results/reports/tiny/gallery.html", "report.html"
# Of every piece of text that is seen: its contrast with what is behind it (WCAG 2).
CONTRASTS = """(() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.body.querySelectorAll("*")) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !e.checkVisibility() || e.closest("script, style, option, :disabled")) continue;
    const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.className]);
  }
  return found.sort((x, y) => x[0] - y[0]);
})()"""
# Of every picture: its width, and how many different values its pixels have.
PICTURES = """(() => [...document.images].map((image) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  if (!image.naturalWidth) return [0, 0];
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return [image.naturalWidth, new Set(data.filter((_, i) => i % 4 !== 3)).size];
}))()"""
SHOWN = "[...document.querySelectorAll('img.made')].filter((i) => i.checkVisibility()).length"
COUNT = "document.getElementById('count').value"


@pytest.fixture
def opened(made: Workplace, browser: Chromium) -> Chromium:
    """The gallery of the run."""
    browser.window(1280, 900)
    browser.open((made.path / PAGE).as_uri())
    return browser


def test_the_gallery_loads_with_every_image_and_asks_for_nothing(opened, made):
    assert opened.console == []
    assert opened.requests == [(made.path / PAGE).as_uri()]
    pictures = opened.run(PICTURES)
    # The image and its nearest real one of both methods, and the mode of one.
    assert len(pictures) == CLASSES * IPC * (2 * RUNS + 1)
    assert all(width == 32 and values > 1 for width, values in pictures)
    assert opened.run("[...document.images].every((i) => i.alt && i.complete)")
    assert opened.run("document.title").startswith("tiny")
    assert opened.run("getComputedStyle(document.images[0]).imageRendering") == "pixelated"


def test_a_request_would_be_seen(opened):
    """What the test above relies on: the policy stops it, and the console tells."""
    opened.run("fetch('http://127.0.0.1:9/').catch(() => 0)")
    assert any("Content Security Policy" in line for line in opened.console)


def test_real_images_are_their_own_nearest(opened):
    same = opened.run(
        """[...document.querySelectorAll('section.method[data-method="0"] figure')].every(
          (f) => f.querySelector(".made").src === f.querySelector(".near").src)"""
    )
    assert same


CLASS_NAMES = "[...document.querySelectorAll('h3 .name')].filter((h) => h.checkVisibility())"
MODES = "[...document.querySelectorAll('img.mode')].filter((i) => i.checkVisibility()).length"
FOCUS = "document.activeElement.id"


def test_filters_choose_by_keyboard(opened):
    assert opened.run(SHOWN) == CLASSES * RUNS * IPC
    assert opened.run(COUNT) == "40 of 40 images"
    opened.press("Tab")
    assert opened.run(FOCUS) == "class", "of one data set and IPC there is no choice"
    opened.press("ArrowDown")
    assert opened.run("document.getElementById('class').value") == "0"
    assert opened.run(SHOWN) == RUNS * IPC
    assert opened.run(f"{CLASS_NAMES}.map((h) => h.textContent)") == ["digit-0"]
    opened.press("Tab")
    opened.press("Tab")
    assert opened.run(FOCUS) == "next"
    opened.press("Enter")
    assert opened.run(f"{CLASS_NAMES}.map((h) => h.textContent)") == ["digit-1"]
    opened.press("Tab")
    assert opened.run(FOCUS) == "method"
    opened.press("ArrowDown")
    assert opened.run(COUNT) == "2 of 40 images" and opened.run(MODES) == 0
    opened.press("ArrowDown")
    assert opened.run(COUNT) == "2 of 40 images" and opened.run(MODES) == 2
    opened.press("Tab")
    opened.press("Tab")
    assert opened.run(FOCUS) == "modes"
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opened.press("Space")
    assert opened.run(MODES) == 0 and opened.run(SHOWN) == 2
    assert opened.console == []


@pytest.mark.parametrize("size", ["1", "3"])
def test_a_phone_need_not_scroll_sideways(opened, size):
    opened.window(360, 740, mobile=True)
    opened.run(f"size.value = '{size}'; controls.dispatchEvent(new Event('change'))")
    root = "document.documentElement"
    assert opened.run("innerWidth") == 360
    assert opened.run(f"{root}.scrollWidth") <= 360
    wide = opened.run(
        """[...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() &&
          !e.closest(".wide") && e.getBoundingClientRect().right > 360.5).map((e) => e.outerHTML)"""
    )
    assert wide == []


def test_light_and_dark_are_both_readable(opened):
    backgrounds = {}
    for scheme in ("light", "dark"):
        opened.scheme(scheme)
        backgrounds[scheme] = opened.run("getComputedStyle(document.body).backgroundColor")
        contrasts = opened.run(CONTRASTS)
        assert len(contrasts) > 100 and contrasts[0][0] >= 4.5, contrasts[:5]
    values = {name: sum(map(int, colour[4:-1].split(","))) for name, colour in backgrounds.items()}
    assert values["light"] > 600 and values["dark"] < 150, backgrounds


def test_without_script_everything_is_there(made, browser):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open((made.path / PAGE).as_uri())
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run(SHOWN) == CLASSES * RUNS * IPC
    assert not browser.run("controls.checkVisibility()")


def test_the_tables_are_readable_on_a_phone_in_light_and_dark(made, browser):
    browser.window(360, 740, mobile=True)
    page = (made.path / "results/reports/tiny/tables/tables.html").as_uri()
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        browser.open(page)
        assert browser.console == [] and browser.requests == [page]
        assert browser.run("document.documentElement.scrollWidth") <= 360
        contrasts = browser.run(CONTRASTS)
        assert len(contrasts) > 50 and contrasts[0][0] >= 4.5, contrasts[:5]
    titles = browser.run("[...document.querySelectorAll('h1')].map((h) => h.textContent)")
    assert titles[0] == "tiny" and len(titles) == 4
    rows = browser.run("document.querySelector('tbody').rows.length")
    assert rows == RUNS


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "line\nfeed", "漢字 é 😀"]
LONG = "a_name_without_any_space_that_is_as_long_as_a_name_of_a_folder_may_well_be" * 3


def two_of_each(folder: Path) -> Path:
    """A page of two data sets and two IPCs, of random pixels, without modes or real images."""
    run = {"run": "r", "label": LONG, "method": "random", "generator": None, "settings": {}}
    parts = []
    for dataset, classes in (("one", HOSTILE), ("two", [LONG, "b", "c"])):
        for ipc in (1, 12):
            count = len(classes) * ipc
            pixels = np.random.default_rng(ipc).integers(0, 256, (count, 3, 28, 28), np.uint8)
            labels = torch.arange(len(classes)).repeat_interleave(ipc)
            tensors = {"images": torch.from_numpy(pixels), "labels": labels}
            save_tensors(folder / "set.st", tensors, {"classes": classes})
            of = {"dataset": dataset, "ipc": ipc, "generation_seed": 0}
            parts.append(folder / f"{dataset}{ipc}.st")
            exhibit({"r": folder / "set.st"}, classes, of, parts[-1])
    pd.DataFrame(columns=COLUMNS).to_csv(folder / "results.csv", index=False)
    page = folder / "page.html"
    gallery(parts, [run], folder / "results.csv", "<b>two</b>", page, folder / "small.html")
    return page


def test_data_sets_and_ipcs_are_chosen_and_names_stay_text(tmp_path, browser):
    browser.window(360, 740, mobile=True)
    browser.open(two_of_each(tmp_path).as_uri())
    assert browser.console == [] and len(browser.requests) == 1
    assert browser.run(f"{CLASS_NAMES}.map((h) => h.textContent)") == HOSTILE
    options = "[...document.getElementById('class').options].map((o) => o.text)"
    assert browser.run(options)[1] == HOSTILE[0]
    assert browser.run(COUNT) == "4 of 4 images"
    browser.press("Tab")
    assert browser.run(FOCUS) == "dataset"
    browser.press("ArrowDown")
    assert browser.run(f"{CLASS_NAMES}.map((h) => h.textContent)") == [LONG, "b", "c"]
    assert browser.run("document.documentElement.scrollWidth") <= 360
    browser.press("Tab")
    assert browser.run(FOCUS) == "ipc"
    browser.press("ArrowDown")
    assert browser.run(COUNT) == "30 of 30 images"
    seen = "[...document.querySelectorAll('.note')].filter((n) => n.checkVisibility())"
    notes = browser.run(f"{seen}.map((n) => n.textContent)")
    assert any("the first 10 of 12 images of each class" in note for note in notes)
    assert any("no latent space" in note for note in notes)
    assert not browser.run("document.getElementById('modes').checkVisibility()")
    assert browser.console == []


# Snakemake's page brings this script of Tailwind's with it, which says so; nothing is fetched.
UNAVOIDABLE = "warning: cdn.tailwindcss.com should not be used in production."


def test_the_report_loads_with_its_results(made, browser):
    browser.window(1280, 900)
    report = made.path / REPORT
    browser.open(report.as_uri())
    browser.wait("document.querySelector('#app').innerText.includes('1. Results')")
    found = browser.run("Object.entries(results).map(([path, r]) => [path, r.data_uri.length])")
    names = {Path(path).name for path, size in found if size > 100}
    assert {"results.csv", "cost.csv", "settings.csv", "overview.png", "tables.html"} <= names
    assert "gallery_small.html" in names
    assert sum(name.startswith("mnist_") for name in names) == RUNS
    # As a reader goes: to a category, and to the gallery in it.
    app = "document.querySelector('#app')"
    browser.run(f"[...{app}.querySelectorAll('a')].find((a) => "
                "a.innerText.includes('2. Distilled images')).click()")  # fmt: skip
    row = f"[...{app}.querySelectorAll('tr')].find((r) => r.innerText.includes('the gallery'))"
    browser.wait(f"Boolean({row})")
    browser.run(f"{row}.querySelector('a').click()")
    browser.wait("Boolean(document.querySelector('iframe'))")
    inside = "document.readyState === 'complete' && document.images.length"
    assert browser.wait(inside, frame=True) == CLASSES * IPC * (2 * RUNS + 1)
    assert browser.run_in_frame(COUNT) == "40 of 40 images", "its script runs there, too"
    assert [line for line in browser.console if not line.startswith(UNAVOIDABLE)] == []
    assert browser.requests == [report.as_uri()]
