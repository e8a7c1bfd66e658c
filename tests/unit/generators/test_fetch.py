"""Fetching from the Hub: what arrives, what is checked, what is said. A small server stands in for
the Hub and speaks its protocol; the stage runs as a user calls it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mgd3.generators.dit import DiTGenerator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
BIN = "transformer/diffusion_pytorch_model.bin"


class Hub(ThreadingHTTPServer):
    """Serves one repository `owner/tiny`; `cut` breaks each answer of a file after so many bytes.

    Attributes:
        files: path -> the bytes it lists.
        served: path -> other bytes that it sends.
        ranges: (path, where the request began) of each download.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files, self.served = files, {}
        self.cut: dict[str, int] = {}
        self.ranges: list[tuple[str, int]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def listing(self) -> bytes:
        siblings = []
        for path, content in self.files.items():
            entry = {
                "rfilename": path,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            }
            if not path.endswith(".json"):
                sha = hashlib.sha256(content).hexdigest()
                entry |= {"blobId": "0" * 40}
                entry |= {"lfs": {"sha256": sha, "size": len(content), "pointerSize": 134}}
            siblings.append(entry)
        model = {"id": "owner/tiny", "modelId": "owner/tiny", "sha": COMMIT, "siblings": siblings}
        return json.dumps(model).encode()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if "/owner/tiny" not in path:
            code = "GatedRepo" if "gated" in path else "RepoNotFound"
            return self._refuse(403 if code == "GatedRepo" else 401, code)
        if path.startswith("/api/models/owner/tiny"):
            if not path.endswith((COMMIT, "/main", "tiny")):
                return self._refuse(404, "RevisionNotFound")
            content, name, start = self.server.listing(), "", 0
        else:
            name = path.removeprefix(f"/owner/tiny/resolve/{COMMIT}/")
            content = self.server.served.get(name, self.server.files[name])
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
            start = int(match[1])
            self.server.ranges.append((name, start))
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut.get(name, len(body))])
        if name in self.server.cut:
            self.close_connection = True
        return None


@pytest.fixture
def hub(dit_folder: Path) -> Iterator[Hub]:
    files = {
        str(file.relative_to(dit_folder)): file.read_bytes()
        for file in dit_folder.rglob("*")
        if file.is_file()
    }
    server = Hub(files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(
    folder: Path, address: str, name: str = f"dit:owner/tiny@{COMMIT}", **environment: str
) -> tuple[int, str]:
    command = [sys.executable, "-m", "mgd3.cli", "fetch-generator"]
    done = subprocess.run(
        [*command, "--generator", name, "--folder", str(folder)],
        env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(folder) + "-home", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_fetched_loads_and_says_where_it_came_from(hub, dit_folder, tmp_path):
    index = json.loads(hub.files["model_index.json"])
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    hub.files["model_index.json"] = json.dumps(index).encode()
    status, output = fetch(tmp_path / "got", hub.address, "dit:owner/tiny")
    assert status == 0, output
    got = DiTGenerator.load(tmp_path / "got")
    stock = DiTGenerator.load(dit_folder)
    for one, other in zip(
        got.transformer.parameters(), stock.transformer.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    record = json.loads((tmp_path / "got" / "fetched.json").read_text())
    assert record[WEIGHTS]["commit"] == COMMIT
    assert record[WEIGHTS]["hash"] == hashlib.sha256(hub.files[WEIGHTS]).hexdigest()
    assert json.loads((tmp_path / "got" / "model_index.json").read_text())["safety_checker"] == [
        None,
        None,
    ]
    assert not (tmp_path / "got" / ".download").exists()


def test_a_repository_without_safetensors_is_read_without_executing_it(hub, dit_folder, tmp_path):
    weights = load_file(dit_folder / WEIGHTS)
    torch.save(weights, tmp_path / "weights.bin")
    del hub.files[WEIGHTS]
    hub.files[BIN] = (tmp_path / "weights.bin").read_bytes()
    status, output = fetch(tmp_path / "got", hub.address)
    assert status == 0, output
    converted = load_file(tmp_path / "got" / WEIGHTS)
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in weights.items())


def test_an_interrupted_download_goes_on_where_it_stopped(hub, tmp_path):
    step = len(hub.files[WEIGHTS]) // 6
    hub.cut[WEIGHTS] = step
    status, output = fetch(tmp_path / "got", hub.address)
    assert status == 2
    assert "cannot fetch owner/tiny" in output
    assert "Traceback" not in output
    assert not (tmp_path / "got" / WEIGHTS).exists()
    assert [start for name, start in hub.ranges if name == WEIGHTS] == [0, step, 2 * step, 3 * step]
    hub.cut.clear()
    hub.ranges.clear()
    status, output = fetch(tmp_path / "got", hub.address)
    assert status == 0, output
    assert [start for name, start in hub.ranges if name == WEIGHTS] == [4 * step]
    assert len([name for name, _ in hub.ranges if name == "model_index.json"]) == 0, "not again"
    assert (tmp_path / "got" / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_other_bytes_than_the_hub_lists_are_refused_and_not_kept(hub, tmp_path):
    content = bytearray(hub.files[WEIGHTS])
    content[-1] ^= 1
    hub.served[WEIGHTS] = bytes(content)
    status, output = fetch(tmp_path / "got", hub.address)
    assert status == 2
    assert f"{WEIGHTS} of owner/tiny arrived damaged" in output
    assert not (tmp_path / "got" / WEIGHTS).exists()
    hub.served.clear()
    assert fetch(tmp_path / "got", hub.address)[0] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dit:owner/other", "the Hub has no repository 'owner/other'"),
        ("dit:owner/gated", "owner/gated is gated"),
        ("dit:owner/tiny@v9", "owner/tiny has no revision 'v9'"),
        ("sd:owner/tiny", "owner/tiny at main has no file unet/config.json"),
        ("mnist-dit", "'mnist-dit' is not fetched from the Hub"),
    ],
)
def test_what_cannot_be_had_is_named(hub, tmp_path, name, message):
    status, output = fetch(tmp_path / "got", hub.address, name)
    assert status == 2
    assert message in output
    assert "->" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_out_of_reach_is_one_message_with_the_way_around(tmp_path, environment):
    status, output = fetch(tmp_path / "got", "http://127.0.0.1:9", "dit", **environment)
    assert status == 2
    assert "cannot fetch facebook/DiT-XL-2-256 from the Hugging Face Hub" in output
    assert "hf download facebook/DiT-XL-2-256 --revision eab87f77" in output
    assert "give its path as the `generator`" in output
    assert "Traceback" not in output
