"""ImageNet's subsets by wnid: order, layouts, counts; what classes mean elsewhere."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fake_imagenet import flatten_val, make_imagenet, picture
from mgd3.base.errors import UserError
from mgd3.data import make_dataset
from mgd3.data.imagenet import imagenet_wnids, shared_blocks, subsets
from mgd3.data.index import Index, write_index
from mgd3.data.meaning import Meaning
from mgd3.planning.config import preflight, resolve

NETTE = subsets()["imagenette"]
WOOF = subsets()["imagewoof"]


def raw(*datasets, **more):
    return {
        "name": "test",
        "datasets": list(datasets),
        "ipc": [2],
        "generation_seeds": [0],
        "runs": [{"method": "random"}],
        "evaluation": [{"protocol": "hard-small", "networks": ["convnet3"]}],
        **more,
    }


def dataset(name: str, root: Path, **settings):
    return make_dataset({"name": name, "root": str(root), "incomplete": "warn", **settings})


def index_of(data, path: Path) -> Index:
    write_index(data, path)
    return Index.read(path)


@pytest.fixture(scope="module")
def woof(tmp_path_factory) -> Path:
    return make_imagenet(tmp_path_factory.mktemp("imagenet"), [*WOOF, NETTE[0]])


def test_labels_follow_the_list_and_label_rows_the_thousand():
    assert {key: len(wnids) for key, wnids in subsets().items()} == {
        "imagenette": 10, "imagewoof": 10, "imageidc": 10, "imagenet100": 100, "imagenet1k": 1000,
        **{f"imagenet-{letter}": 10 for letter in "abcde"},
    }  # fmt: skip
    assert list(WOOF) != sorted(WOOF)
    assert subsets()["imageidc"] == subsets()["imagenet100"][:10]
    order = {wnid: i for i, wnid in enumerate(imagenet_wnids())}
    assert [order[w] for w in WOOF] == [193, 182, 258, 162, 155, 167, 159, 273, 207, 229]
    assert [order[w] for w in NETTE] == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    assert [order[w] for w in subsets()["imagenet-e"]] == [
        816, 96, 100, 145, 739, 713, 783, 76, 688, 326
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 50])
def test_every_subset_is_a_union_of_blocks(size):
    blocks = shared_blocks(size)
    assert sorted(w for b in blocks for w in b) == sorted(imagenet_wnids())
    assert max(map(len, blocks)) <= size
    for wnids in subsets().values():
        assert all(set(b) <= set(wnids) or not set(b) & set(wnids) for b in blocks)


def test_the_index_lists_the_subsets_classes_in_label_order(woof, tmp_path):
    data = dataset("imagewoof", woof)
    assert (data.size, data.flip, data.validation_fraction) == (256, True, 0)
    index = index_of(data, tmp_path / "x")
    assert index.classes == list(WOOF)
    assert set(index.table["class"]) == set(WOOF), "the root's other class is none of its"
    images, labels = index.split("train")
    assert [images[6 * i].split("/")[1] for i in range(10)] == list(WOOF)
    assert labels == [i for i in range(10) for _ in range(6)]
    assert len(index.split("test")[0]) == 20
    assert index.split("validation")[0] == []


def flat_root(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    root = make_imagenet(tmp_path / "flat", WOOF, train=2, val=3)
    return root, flatten_val(root)


def class_numbers() -> dict[str, int]:
    """A permutation of 1 .. 1000 as the devkit's, not the order of wnids."""
    numbers = list(range(1, 1001))
    random.Random(0).shuffle(numbers)
    return dict(zip(imagenet_wnids(), numbers, strict=True))


def write_truth(folder: Path, truth: dict[str, str]) -> None:
    numbers = class_numbers()
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{numbers[wnid]}\n" for _, wnid in sorted(truth.items())]
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(lines))


def write_kaggle(root: Path, truth: dict[str, str]) -> None:
    rows = [f"{name[:-5]},{wnid} 1 2 3 4 {wnid} 5 6 7 8 \n" for name, wnid in truth.items()]
    random.Random(1).shuffle(rows)
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(rows))


def write_listed(root: Path, truth: dict[str, str]) -> None:
    lines = [f"{name} {wnid}\n" for name, wnid in truth.items()]
    (root / "val" / "val_labels.txt").write_text("".join(lines))


def write_matlab(root: Path, truth: dict[str, str]) -> None:
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    write_truth(folder, truth)
    rows = np.array(
        [(number, wnid, f"words of {wnid}") for wnid, number in class_numbers().items()],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)],
    )
    savemat(folder / "meta.mat", {"synsets": rows.reshape(-1, 1)})


def write_synsets(root: Path, truth: dict[str, str]) -> None:
    write_truth(root, truth)
    ordered = sorted(class_numbers().items(), key=lambda pair: pair[1])
    (root / "synsets.txt").write_text("".join(f"{wnid} some words\n" for wnid, _ in ordered))


@pytest.mark.parametrize("write", [write_kaggle, write_listed, write_matlab, write_synsets])
def test_a_flat_validation_folder_is_labelled_by_its_ground_truth(tmp_path, write):
    root, truth = flat_root(tmp_path)
    write(root, truth)
    data = dataset("imagewoof", root)
    data.preflight(2)
    table = index_of(data, tmp_path / "x").table
    test = table[table["split"] == "test"]
    held = dict(zip(test["image"], test["class"], strict=True))
    assert held == {f"val/{name}": wnid for name, wnid in truth.items()}


def test_a_ground_truth_that_cannot_be_right_is_refused(tmp_path):
    root, truth = flat_root(tmp_path)

    def look() -> None:
        dataset("imagewoof", root).preflight(1)

    with pytest.raises(UserError, match="no ground truth is beside it"):
        look()
    write_truth(root, truth)
    with pytest.raises(UserError, match="no class list"):
        look()
    (root / "synsets.txt").write_text("\n".join(imagenet_wnids()))
    with pytest.raises(UserError, match="is sorted, so its order is not the devkit's"):
        look()
    write_synsets(root, truth)
    short = (root / "ILSVRC2012_validation_ground_truth.txt").read_text().splitlines()[:-1]
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(short))
    with pytest.raises(UserError, match=r"ILSVRC2012_val_00000030\.JPEG is unknown"):
        look()
    (root / "ILSVRC2012_validation_ground_truth.txt").unlink()
    write_kaggle(root, dict(list(truth.items())[:-2]))
    with pytest.raises(UserError, match="has no wnid for 2 images"):
        look()


def test_missing_wnid_folders_are_listed_before_any_job(woof, tmp_path):
    config = resolve(raw("imagenette", imagenet_root=str(woof)))
    with pytest.raises(UserError, match="train lacks 9 of 10 class folders: n02102040") as caught:
        preflight(config)
    assert "and 4 more" in str(caught.value)
    with pytest.raises(UserError, match="no ImageNet at nowhere"):
        preflight(resolve(raw("imagenette", imagenet_root="nowhere")))
    with pytest.raises(UserError, match="'imagenette' takes no root"):
        resolve(raw({"name": "imagenette", "root": str(woof)}))
    preflight(resolve(raw("imagewoof", imagenet_root=str(woof))))


def test_other_counts_than_the_known_ones_stop_unless_allowed(woof, tmp_path, capsys):
    with pytest.raises(UserError) as caught:
        write_index(dataset("imagewoof", woof, incomplete="fail"), tmp_path / "x")
    for words in (
        f"class {WOOF[0]} has 6 train images instead of 732 to 1300",
        f"class {WOOF[9]} has 2 test images instead of 50",
        "incomplete: warn",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "x").exists()
    write_index(dataset("imagewoof", woof), tmp_path / "x")
    assert "warning: imagewoof is not complete" in capsys.readouterr().err


def test_imagenets_own_counts_bring_no_complaint():
    import pandas as pd

    counts = dict.fromkeys(imagenet_wnids(), 1300)
    for wnid in imagenet_wnids()[::9]:
        counts[wnid] = 1300 - 167
    counts[imagenet_wnids()[1]] -= sum(counts.values()) - 1_281_167
    rows = [("train", w) for w, n in counts.items() for _ in range(n)]
    rows += [("test", w) for w in counts for _ in range(50)]
    table = pd.DataFrame(rows, columns=["split", "class"])
    source = dataset("imagenet1k", Path("x")).source
    assert source.complaints(table) == []
    assert source.complaints(table.iloc[1:]) == ["1,281,166 train images instead of 1,281,167"]


def test_an_unreadable_header_stops_or_is_left_out(tmp_path, capsys):
    root = make_imagenet(tmp_path / "i", WOOF, train=3)
    (root / "train" / WOOF[0] / "bad.JPEG").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1 file\(s\) are not readable"):
        index_of(dataset("imagewoof", root), tmp_path / "x")
    index = index_of(dataset("imagewoof", root, undecodable="skip"), tmp_path / "x")
    assert len(index.images(WOOF[0], "train")) == 3
    assert "bad.JPEG" in capsys.readouterr().err


def own(root: Path, *names: str) -> Path:
    for folder in ("train", "val"):
        for name in names:
            (root / folder / name).mkdir(parents=True)
            for k in range(3):
                picture(k).save(root / folder / name / f"{k}.png")
    return root


def test_a_flat_validation_folder_may_have_its_wnids_in_its_names(tmp_path):
    root = make_imagenet(tmp_path / "i", WOOF)
    truth = flatten_val(root)
    for name, wnid in truth.items():
        (root / "val" / name).rename(root / "val" / name.replace(".JPEG", f"_{wnid}.JPEG"))
    index = index_of(dataset("imagewoof", root), tmp_path / "x")
    keys, labels = index.split("test")
    assert [WOOF[label] for label in labels] == [key[-14:-5] for key in keys]
    assert len(keys) == len(truth)
    # A name that is no wnid of ImageNet-1K.
    file = root / keys[0]
    file.rename(file.with_name("ILSVRC2012_val_00000001_n00000001.JPEG"))
    with pytest.raises(UserError, match="names n00000001, which is no class of ImageNet-1K"):
        index_of(dataset("imagewoof", root), tmp_path / "y")


def test_imagenets_classes_mean_their_wnids():
    assert dataset("imagewoof", Path("x")).meanings[WOOF[3]].wnid == WOOF[3]
    assert make_dataset("mnist").meanings == {}


def test_own_folders_named_by_a_wnid_mean_it(tmp_path):
    root = own(tmp_path / "o", NETTE[0], "n99999999", "cat")
    data = make_dataset({"name": "mine", "root": str(root)})
    assert {name: m.wnid for name, m in data.meanings.items()} == {NETTE[0]: NETTE[0]}


def test_classes_tsv_gives_each_folder_a_meaning(tmp_path):
    root = own(tmp_path / "o", "fish", "größe 2", "truck")
    file = tmp_path / "classes.tsv"
    file.write_text(
        f'class\twnid\tprompt\nfish\t{NETTE[0]}\t\ntruck\t\ta red "truck"\ngröße 2\tnew\tsize\n'
    )
    choice = {"name": "mine", "root": str(root), "classes": str(file), "validation_fraction": 0}
    data = make_dataset(choice)
    data.preflight(1)
    assert data.meanings["fish"].wnid == NETTE[0]
    assert data.meanings["truck"] == Meaning(None, 'a red "truck"')
    assert data.meanings["größe 2"] == Meaning(None, "size", new=True)
    assert data.source.classes() == sorted(["fish", "größe 2", "truck"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class\tlabel\nfish\t1\n", "columns"),
        ("class\twnid\nfish\tn99999999\n", "line 2: 'n99999999' is no wnid"),
        ("class\twnid\nfish\tnew\nfish\tnew\n", "line 3: class 'fish' is listed twice"),
        ("class\twnid\tprompt\nfish\t\t\n", "line 2: class 'fish' has no wnid and no prompt"),
        ("class\twnid\nfish\tnew\n", "1 class folders have no row .*\n    truck"),
        (
            "class\twnid\nfish\tnew\ntruck\tnew\nfox\tnew\n",
            "1 rows have no class folder",
        ),
        (None, "no file"),
    ],
)
def test_what_is_wrong_with_classes_tsv_is_named_before_any_job(tmp_path, text, words):
    root = own(tmp_path / "o", "fish", "truck")
    file = tmp_path / "classes.tsv"
    if text is not None:
        file.write_text(text)
    choice = {"name": "mine", "root": str(root), "classes": str(file), "validation_fraction": 0}
    with pytest.raises(UserError, match=words):
        preflight(resolve(raw(choice)))


@pytest.mark.parametrize("unknown", [["cat"], ["cat", "größe", "truck"]])
def test_every_class_a_generator_cannot_be_told_of_is_listed(tmp_path, unknown):
    from mgd3.generators.conditions import require_conditions
    from mgd3.generators.registry import get_generator

    data = make_dataset({"name": "mine", "root": str(own(tmp_path / "o", NETTE[0], *unknown))})
    for generator in ("dit", "sd"):
        with pytest.raises(UserError) as caught:
            require_conditions(generator, get_generator(generator), data)
        assert [name for name in unknown if name not in str(caught.value)] == []
        assert NETTE[0] not in str(caught.value)
