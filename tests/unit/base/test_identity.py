"""Different things have different identities, the same thing has one, and both can be told."""

from __future__ import annotations

import enum
import json
from pathlib import Path

import pytest

from mgd3.base.identity import (
    LONGEST,
    Identity,
    Owner,
    bundle,
    component,
    difference,
    identity,
    leaf,
    plain,
    slug_in,
)

PIXELS = "0" * 64


def modes(**changed):
    given = {
        "owners": [Owner("discovery", "kmeans", 1)],
        "settings": {"ipc": 2, "seed": 0},
        "inputs": {"latents": PIXELS},
    }
    return identity("modes", changed.pop("version", 3), **(given | changed))


def test_digests_are_those_of_the_first_release():
    """Raising nothing, they may never change: every artefact in every cache would be lost."""
    latents = identity(
        "latents",
        2,
        owners=[Owner("generator", "dit", 1), Owner("discovery", "mine", 4, "my-package")],
        settings={
            "size": 256,
            "precision": "float32",
            "scale": 0.18215,
            "flip": False,
            "é": [1, 2],
        },
        inputs={"images": {"cat": PIXELS, "dog": "f" * 64}, "vae": PIXELS},
    )
    assert identity("index", 1).digest == GOLDEN[0]
    assert latents.digest == GOLDEN[1]
    assert identity("modes", 3, inputs={"latents": [latents, latents]}).digest == GOLDEN[2]
    assert latents.short == latents.digest[:12]


GOLDEN = [
    "9bcc0145917546cfa3c6ede5fef386cb0322142fafd565511ad74a7afe192bad",
    "7a2caa0d8f78dbd61683acff355ecb385ea2bb1faccc0d503a1eb1112778331d",
    "e24b58a60b21d131aa879f2f432bcdb5119bb83a01b7dc63783e9a41bf815239",
]


def test_the_digest_follows_from_the_description_as_it_is_read_back():
    one = modes(settings={"b": 1e-7, "a": (1, 2.0, None, True), "ß": {"z": 1, "y": "ü\ud800"}})
    read = Identity(json.loads(json.dumps(one.description)))
    assert read.digest == one.digest
    assert read == one
    assert len({read, one}) == 1
    assert not read.inputs


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", None, [1], {"1": 1}, [[1]], "True", ""])
def test_values_are_typed_strictly(value):
    others = [True, 1, 1.0, "1", None, [1], {"1": 1}, [[1]], "True", ""]
    same = [o for o in others if modes(settings={"x": o}) == modes(settings={"x": value})]
    assert same == [value]
    assert [type(o) for o in same] == [type(value)]


def test_one_value_has_one_identity_however_it_is_spelt():
    assert modes(settings={"x": -0.0}) == modes(settings={"x": 0.0})
    assert modes(settings={"x": (1, (2,))}) == modes(settings={"x": [1, [2]]})
    assert modes(settings={"a": 1, "b": {"d": 1, "c": 2}}) == modes(
        settings={"b": {"c": 2, "d": 1}, "a": 1}
    )
    assert modes(settings={"x": 0.1}) == modes(settings={"x": 1e-1})
    one, two = Owner("method", "a", 1), Owner("protocol", "a", 1)
    assert modes(owners=[one, two]) == modes(owners=[two, one])


def test_a_setting_at_its_neutral_value_is_left_out_and_no_other():
    before = modes()
    now = {"ipc": 2, "seed": 0, "pca": None}
    assert modes(settings=now, neutral={"pca": None}) == before
    assert modes(settings=now | {"pca": 5}, neutral={"pca": None}) != before
    assert modes(settings=now, neutral={}) != before
    assert modes(settings=now | {"pca": 0}, neutral={"pca": False}) != before, "0 is not False"
    assert modes(settings=now | {"pca": -0.0}, neutral={"pca": 0.0}) == before


def test_everything_that_is_named_enters():
    others = [
        modes(version=4),
        modes(owners=[Owner("discovery", "kmeans", 2)]),
        modes(owners=[Owner("discovery", "kmeans", 1, "theirs")]),
        modes(owners=[Owner("method", "kmeans", 1)]),
        modes(owners=[]),
        modes(settings={"ipc": 3, "seed": 0}),
        modes(settings={"ipc": 2, "seed": 0, "more": None}),
        modes(inputs={"latents": "1" * 64}),
        modes(inputs={"mirrored": PIXELS}),
        modes(inputs={"latents": [PIXELS]}),
        modes(inputs={"latents": {"a": PIXELS}}),
        modes(inputs={"latents": {"b": PIXELS}}),
        modes(inputs={"latents": [PIXELS, PIXELS]}),
    ]
    assert len({one.digest for one in (modes(), *others)}) == len(others) + 1
    assert bundle(["1" * 64, PIXELS]) != bundle([PIXELS, "1" * 64])


class Word(enum.StrEnum):
    A = "a"


@pytest.mark.parametrize(
    "value", [Path("x"), Word.A, {1: 2}, {1, 2}, float("nan"), float("inf"), b"x", 1j, [Path("x")]]
)
def test_what_is_no_plain_json_is_refused(value):
    with pytest.raises(TypeError, match="setting x"):
        modes(settings={"x": value})


@pytest.mark.parametrize("path", ["results/x", "f" * 63, "F" * 64, ""])
def test_a_path_is_no_input(path):
    with pytest.raises(TypeError, match="a path is no identity"):
        modes(inputs={"latents": path})


def test_a_difference_names_what_differs():
    assert difference(modes(), modes()) == []
    assert difference(modes(), modes(version=4)) == ["version of stage modes 3 -> 4"]
    assert difference(modes(), identity("latents", 1)) == ["stage modes -> latents"]
    assert difference(modes(), modes(settings={"ipc": 5, "new": "ü"})) == [
        "ipc 2 -> 5",
        'new (left at its neutral value) -> "ü"',
        "seed 0 -> (left at its neutral value)",
    ]
    assert difference(modes(), modes(owners=[Owner("discovery", "gmm", 2, "mine")])) == [
        "discovery kmeans (version 1) -> gmm of mine (version 2)"
    ]
    assert difference(modes(), modes(owners=[])) == ["discovery kmeans (version 1) -> none"]
    assert difference(modes(), modes(inputs={"latents": "1" * 64})) == [
        "latents holds something else"
    ]
    assert difference(modes(), modes(inputs={"mirrored": PIXELS})) == [
        "reads latents no more",
        "reads mirrored, too",
    ]
    assert difference(modes(settings={"x": 1}), modes(settings={"x": True})) == ["x 1 -> true"]


def test_a_difference_goes_into_the_inputs():
    def sample(version, **images):
        latents = identity("latents", version, inputs={"images": images})
        return identity("sample", 2, inputs={"modes": modes(inputs={"latents": latents})})

    cat = sample(1, cat=PIXELS, dog=PIXELS)
    assert difference(cat, sample(2, cat=PIXELS, dog=PIXELS)) == [
        "modes: latents: version of stage latents 1 -> 2"
    ]
    changed = sample(1, cat="1" * 64, emu=PIXELS)
    assert difference(cat, changed) == [
        "modes: latents: images, cat: holds something else",
        "modes: latents: images, dog: removed",
        "modes: latents: images, emu: added",
    ]
    many = sample(1, **{f"c{i}": PIXELS for i in range(10)})
    others = sample(1, **{f"c{i}": "1" * 64 for i in range(10)})
    assert difference(many, others) == [
        "modes: latents: images, c0, c1, c2 and 7 more: holds something else"
    ]


def test_a_difference_of_headers_goes_into_inputs_that_can_be_found():
    old, new = modes(), modes(version=4)
    one, two = (identity("sample", 1, inputs={"modes": of}) for of in (old, new))
    read = [Identity(of.description) for of in (one, two)]
    assert difference(*read) == ["modes holds something else"]
    known = {of.digest: Identity(of.description) for of in (old, new)}
    assert difference(*read, known.get) == ["modes: version of stage modes 3 -> 4"]


@pytest.mark.parametrize(
    "slug", ["mgd3", "x" * 149, "x" * 500, "é" * 100, "x" + "漢" * 100, "😀" * 40]
)
def test_components_of_paths_stay_short(slug):
    of = modes()
    name = leaf(slug, of, ".safetensors")
    assert len(name.encode()) <= LONGEST
    assert name.endswith(f"~{of.short}.safetensors")
    assert slug.startswith(name.partition("~")[0])
    assert len(component(slug).encode()) <= LONGEST
    assert (component(slug) == slug) == (len(slug.encode()) <= LONGEST)
    assert component(slug + "a") != component(slug + "b")


def test_plain_keeps_what_it_was_given():
    given = {"b": (1, -0.0), "a": [True]}
    assert json.dumps(plain(given)) == '{"a": [true], "b": [1, 0.0]}'
    assert given == {"b": (1, -0.0), "a": [True]}


def test_what_is_read_in_a_component_is_found_again():
    of = identity("modes", 1)
    for slug in ("gen0", "my~dit", "sd-v1.5", "a~0123456789ab"):
        assert slug_in(leaf(slug, of)) == slug
    assert slug_in("my~dit") == "my~dit", "no digits, none go"
