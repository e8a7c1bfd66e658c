"""The gallery shows each image with its own mode and its nearest real image, and runs no name."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mgd3.base.artifacts import load_tensors, save_tensors, tensor_metadata
from mgd3.base.errors import UserError
from mgd3.cli import main
from mgd3.data import make_dataset
from mgd3.data.index import Index, write_index
from mgd3.reporting.gallery import page as pages
from mgd3.reporting.gallery.exhibit import RealImages, exhibit, nearest
from mgd3.reporting.gallery.page import Edition, gallery
from mgd3.reporting.tables.results import COLUMNS
from workplace import own_images

OF = {"dataset": "own", "ipc": 3, "generation_seed": 0}
RUNS = [
    {"run": "random", "label": "random real images", "method": "random", "generator": None,
     "settings": {"selection": "seeded"}},
    {"run": "guided", "label": "MGD3 (λ=1)", "method": "mgd3", "generator": "tiny-dit",
     "settings": {"lambda": 1, "t_sg": 10, "clamp": None}},
]  # fmt: skip


def a_set(path: Path, classes: list[str], each: int, seed: int, size: int = 16) -> np.ndarray:
    """A set in no order, of random pixels; the images by class, [classes, each, 3, S, S]."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (len(classes), each, 3, size, size), dtype=np.uint8)
    order = rng.permutation(len(classes) * each)
    labels = np.repeat(np.arange(len(classes)), each)[order]
    # Within a class the order is that of the file.
    by_class = np.stack([images.reshape(-1, 3, size, size)[order][labels == c]
                         for c in range(len(classes))])  # fmt: skip
    tensors = {
        "images": torch.from_numpy(images.reshape(-1, 3, size, size)[order]),
        "labels": torch.from_numpy(labels),
    }
    save_tensors(path, tensors, {"classes": classes})
    return by_class


def results(path: Path) -> Path:
    rows = [
        {"dataset": "own", "ipc": 3, "run": run["run"], "label": run["label"], "protocol": "hard",
         "network": "net", "n": 3, "last_mean": 90.0 + r, "last_std": 0.5}
        for r, run in enumerate(RUNS)
    ]  # fmt: skip
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)
    return path


def page_of(part: Path, runs: list[dict[str, Any]] = RUNS, title: str = "mine") -> str:
    """The page of one part; the small one lies beside it."""
    folder = part.parent
    table = results(folder / "results.csv")
    gallery([part], runs, table, title, folder / "page.html", folder / "small.html")
    return (folder / "page.html").read_text()


class Reader(HTMLParser):
    """Tags, and what stands in each strip of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.headings: list[str] = []
        self.strips: list[dict[str, Any]] = []
        self._in = ""
        self._class = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag in ("h3", "h4"):
            self.headings.append("")
            self._in = "heading"
        elif tag == "li" and "data-k" in found:
            self.strips.append({"at": (self._class, self.headings[-1]), "text": ""})
            self._in = "strip"
        elif tag == "img":
            self.strips[-1][found["class"].split()[0]] = (decoded(found["src"]), found["alt"])

    def handle_data(self, data):
        if self._in == "heading":
            self.headings[-1] += data
        elif self.strips and self._in == "strip":
            self.strips[-1]["text"] += data + " "

    def handle_endtag(self, tag):
        if tag == "h3":
            self._class = self.headings[-1]
        if tag in ("h3", "h4", "li"):
            self._in = ""


def decoded(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def test_nearest_is_what_comparing_all_with_all_finds():
    rng = np.random.default_rng(0)
    samples, originals = rng.normal(size=(5, 7)), rng.normal(size=(40, 7))
    samples[3] = originals[11]
    rows, distances = nearest(samples, originals)
    for k, sample in enumerate(samples):
        all_of_them = [sum((sample - x) ** 2) ** 0.5 for x in originals]
        assert rows[k] == all_of_them.index(min(all_of_them))
        assert distances[k] == pytest.approx(min(all_of_them))
    assert (rows[3], distances[3]) == (11, 0)


@pytest.fixture
def real(tmp_path: Path) -> RealImages:
    """Folders of real images with latents that are made up, and embeddings near known ones."""
    own_images(tmp_path / "data", {"b": 8, "a": 6})
    own_images(tmp_path / "data", {"b": 2, "a": 2}, "val")
    dataset = make_dataset({"name": "own", "root": str(tmp_path / "data"), "size": 32})
    write_index(dataset, tmp_path / "index.parquet")
    index = Index.read(tmp_path / "index.parquet")
    rng = np.random.default_rng(3)
    tensors, images = {}, {}
    for name in index.classes:
        keys = dataset.source.training_images(name)[::-1]  # another order than the index's
        z = torch.from_numpy(rng.normal(size=(len(keys), 2, 2, 2)).astype(np.float32))
        tensors |= {f"mean/{name}": z, f"logvar/{name}": z - 1}
        images[name] = keys
    none = {name: [] for name in index.classes}
    header = {"classes": index.classes, "images": images, "undecodable": none}
    save_tensors(tmp_path / "latents.safetensors", tensors, header)
    embedded = {}
    for r, run in enumerate(RUNS):
        own = {}
        for name in index.classes:
            train = index.images(name, "train")
            chosen = [images[name].index(train[(k + r) % len(train)]) for k in range(3)]
            own[name] = tensors[f"mean/{name}"][chosen] + 0.001
        embedded[run["run"]] = tmp_path / f"embedded_{run['run']}.safetensors"
        save_tensors(embedded[run["run"]], own, {"classes": [*own]})
    files = [tmp_path / "latents.safetensors"]
    return RealImages(dataset, tmp_path / "index.parquet", files, embedded)


def test_each_image_stands_with_its_mode_and_its_nearest_real_image(tmp_path, real):
    classes = ["a", "b"]
    made = {r["run"]: a_set(tmp_path / f"{r['run']}.st", classes, 3, k) for k, r in enumerate(RUNS)}
    # Modes list the classes in another order.
    modes = a_set(tmp_path / "modes.st", classes[::-1], 3, 9)[::-1]
    part = tmp_path / "part.safetensors"
    sets = {run: tmp_path / f"{run}.st" for run in made}
    exhibit(sets, classes, OF, part, modes={"guided": tmp_path / "modes.st"}, real=real)

    text = page_of(part)
    strips = Reader(text).strips
    assert len(strips) == 2 * 2 * 3
    index = Index.read(real.index)
    for c, name in enumerate(classes):
        for r, run in enumerate(RUNS):
            own = [s for s in strips if s["at"][0].startswith(name) and s["at"][1] == run["label"]]
            assert len(own) == 3
            train = index.images(name, "train")
            for k, strip in enumerate(own):
                assert np.array_equal(strip["made"][0], made[run["run"]][c, k])
                assert strip["made"][1] == f"image {k + 1}"
                key = train[(k + r) % len(train)]
                picture = np.asarray(real.dataset.source.open(key)).transpose(2, 0, 1)
                assert np.array_equal(strip["near"][0], picture)
                assert key in strip["near"][1] and Path(key).name in strip["text"]
                if run["run"] == "guided":
                    assert np.array_equal(strip["mode"][0], modes[c, k])
                else:
                    assert "mode" not in strip
    about = tensor_metadata(part)
    assert about["originals"] == {name: len(index.images(name, "train")) for name in classes}
    item = about["nearest"]["random"]["a"][0]
    assert item["distance"] == pytest.approx(0.001 * 8**0.5, rel=1e-2) and 0 < item["ratio"] < 0.1
    assert "91.0 ± 0.5" in text and "λ 1" in text and "t_SG 10" in text and "clamp None" not in text
    assert "left out" not in text


def test_a_page_needs_nothing_else_and_lets_nothing_else_run(tmp_path):
    a_set(tmp_path / "set.st", ["a", "b"], 2, 0)
    exhibit({"random": tmp_path / "set.st"}, ["a", "b"], OF, tmp_path / "part.st")
    text = page_of(tmp_path / "part.st")
    assert not re.search(r"(src|href|url|action)\s*[=(]\s*[\"']?(?!data:)[\w/#.]", text)
    assert "http" not in text.replace("http-equiv", "") and "style=" not in text
    (policy,) = re.findall(r'Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert (tmp_path / "small.html").read_text() == text, "it is small already"
    assert page_of(tmp_path / "part.st") == text


HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onclick='x", "&lt;b&gt;",
    "line\nfeed", "</section></main>", "漢字 é 😀", "{0} %s {{x}}", "-->", "]]>",
]  # fmt: skip


def test_names_are_text_whatever_they_hold(tmp_path):
    a_set(tmp_path / "set.st", HOSTILE, 1, 0)
    run = {
        **RUNS[0],
        "label": "<b onmouseover=x>",
        "generator": "./<i>",
        "settings": {"path": "<u>"},
    }
    exhibit({"random": tmp_path / "set.st"}, HOSTILE, OF, tmp_path / "part.st")
    reader = Reader(page_of(tmp_path / "part.st", [run], "</title><script>"))
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("script") == 1 and not {"b", "i", "u"} & {
        tag for tag, attrs in reader.tags if attrs
    }
    assert not any(name.startswith("on") for _, attrs in reader.tags for name in attrs)
    shown = [text for text in reader.headings if text != run["label"]]
    assert shown == HOSTILE
    assert len(reader.strips) == len(HOSTILE) == tags.count("img")


def test_a_page_says_what_it_leaves_out(tmp_path):
    classes = [f"c{c}" for c in range(12)]
    made = a_set(tmp_path / "set.st", classes, 14, 0)
    exhibit({"random": tmp_path / "set.st"}, classes[:10], OF, tmp_path / "part.st")
    assert load_tensors(tmp_path / "part.st")["made/random/c0"].shape == (10, 3, 16, 16)
    text = page_of(tmp_path / "part.st")
    assert "the first 10 of 12 classes; the first 10 of 14 images" in text
    strips = Reader(text).strips
    assert len(strips) == 100
    assert np.array_equal(strips[-1]["made"][0], made[9, 9])


def test_a_page_for_a_report_is_small_and_says_where_the_whole_is(tmp_path, monkeypatch):
    classes = ["a", "b", "c", "d"]
    a_set(tmp_path / "set.st", classes, 6, 0, size=128)
    exhibit({"random": tmp_path / "set.st"}, classes, OF, tmp_path / "part.st")
    limit = 100_000
    monkeypatch.setattr(pages, "SMALL", Edition(limit, 96, "More elsewhere."))
    whole = page_of(tmp_path / "part.st")
    small = (tmp_path / "small.html").read_text()
    assert len(small.encode()) <= limit < len(whole.encode())
    assert "More elsewhere" in small and "More elsewhere" not in whole
    assert "images of 128 pixels shrunk to 96" in small and "shrunk" not in whole
    strips = Reader(whole).strips, Reader(small).strips
    assert len(strips[0]) == 24 and strips[0][0]["made"][0].shape == (3, 128, 128)
    assert strips[1][0]["made"][0].shape == (3, 96, 96)
    # As large as it can be, and not long in one direction and short in the other.
    found = re.search(r"first (\d) of 4 classes; the first (\d) of 6 images", small)
    shown = tuple(map(int, found.groups()))
    assert len(strips[1]) == shown[0] * shown[1] and min(shown) >= 2, shown
    size = len(small) / len(strips[1])
    assert len(small) + size * max(shown) > limit * 0.9


def test_images_are_smaller_rather_than_fewer(tmp_path, monkeypatch):
    classes = ["a", "b", "c"]
    a_set(tmp_path / "set.st", classes, 2, 0, size=300)
    exhibit({"random": tmp_path / "set.st"}, classes, OF, tmp_path / "part.st")
    assert load_tensors(tmp_path / "part.st")["made/random/c"].shape == (2, 3, 256, 256)
    for limit, side in ((2_000_000, 256), (200_000, 128)):
        monkeypatch.setattr(pages, "LARGE", (Edition(limit, 256), Edition(limit, 128)))
        text = page_of(tmp_path / "part.st")
        strips = Reader(text).strips
        assert len(strips) == 6 and strips[0]["made"][0].shape == (3, side, side)
        assert f"images of 300 pixels shrunk to {side}. What" in text


def test_something_is_always_shown(tmp_path, monkeypatch):
    a_set(tmp_path / "set.st", ["a", "b"], 3, 0)
    exhibit({"random": tmp_path / "set.st"}, ["a", "b"], OF, tmp_path / "part.st")
    monkeypatch.setattr(pages, "LARGE", (Edition(1, 256),))
    assert len(Reader(page_of(tmp_path / "part.st")).strips) == 1


def test_a_class_that_a_set_lacks_is_named(tmp_path):
    a_set(tmp_path / "set.st", ["a"], 1, 0)
    with pytest.raises(UserError, match="has no class 'b'"):
        exhibit({"random": tmp_path / "set.st"}, ["a", "b"], OF, tmp_path / "part.st")


def test_a_class_with_fewer_images_shows_those(tmp_path):
    labels = torch.tensor([0, 0, 0, 1])
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 1, 8, 8)
    tensors = {"images": images.contiguous(), "labels": labels}
    save_tensors(tmp_path / "set.st", tensors, {"classes": ["a", "b"]})
    exhibit({"random": tmp_path / "set.st"}, ["a", "b"], OF, tmp_path / "part.st")
    strips = Reader(page_of(tmp_path / "part.st")).strips
    assert [s["at"][0] for s in strips] == ["a", "a", "a", "b"]
    assert [int(s["made"][0][0, 0, 0]) for s in strips] == [0, 1, 2, 3]


def test_both_stages_from_the_command_line(tmp_path, real):
    for k, run in enumerate(RUNS):
        a_set(tmp_path / f"{run['run']}.st", ["a", "b"], 3, k)
    a_set(tmp_path / "modes.st", ["a", "b"], 3, 9)
    choice = json.dumps({"name": "own", "root": str(tmp_path / "data"), "size": 32})
    sets = [str(tmp_path / f"{run['run']}.st") for run in RUNS]
    part, table = str(tmp_path / "part.safetensors"), str(results(tmp_path / "r.csv"))
    status = main(
        ["exhibit", "--dataset", choice, "--index", str(real.index), "--classes", '["b"]',
         "--slugs", '["random", "guided"]', "--sets", *sets, "--latents", str(real.latents[0]),
         "--embedded", *map(str, real.embedded.values()), "--guided", '["guided"]',
         "--mode-images", str(tmp_path / "modes.st"), "--of", json.dumps(OF), "--output", part]
    )  # fmt: skip
    assert status == 0
    page = tmp_path / "page.html"
    command = ["gallery", table, "--exhibits", part, "--runs", json.dumps(RUNS), "--title", "mine"]
    assert main([*command, "--output", str(page), "--small", str(tmp_path / "small.html")]) == 0
    assert len(Reader(page.read_text()).strips) == 6
    record = json.loads((tmp_path / "part.provenance.json").read_text())
    assert {"modes.st", "random.st", "latents.safetensors", "index.parquet"} <= {
        Path(name).name for name in record["inputs"]
    }
