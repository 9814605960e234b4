"""`goku play`: what the page does, with the page where gradio is installed, and with a real browser where there is one.

gradio wants an older pillow than the one that is pinned; CONTRIBUTING.md says how to install it beside.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from drawable import make_checkpoint
from in_process import goku

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.media.sample_files import read_shown
from goku_cli.sample.generate import Generator
from goku_cli.sample.play import Asked, Player

CHROMIUM = Path("/usr/bin/chromium")
ASKED = Asked("a red circle", steps=2, guidance=3.0, solver="euler", size="", frames=0, seed=7, any_seed=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("play")
    make_checkpoint(folder / "plain")
    return folder


@pytest.fixture
def player(folder, tmp_path):
    path = tmp_path / "s.duckdb"
    Manifest(path, create=True).close()
    return Player(Generator.load(folder / "plain"), folder / "plain", path, "ema")


def ignored(done, total):
    """Progress that nobody watches."""


def rows(path):
    with Manifest(path, read_only=True) as manifest:
        return manifest.query("SELECT samples.*, command, status FROM samples JOIN runs ON runs.id = run ORDER BY run")


def test_what_is_drawn_is_kept_as_goku_sample_keeps_it(player, folder):
    moved = []
    kept = player.draw(ASKED, lambda done, total: moved.append((done, total)))
    assert moved == [(1, 2), (2, 2)]
    assert read_shown(kept.path).shape[0] == 9
    words = ("sample", str(folder / "plain"), "-m", "other.duckdb", "-p", "a red circle", "--seed", "7", "--steps", "2")
    assert goku(player.path.parent, *words).returncode == 0
    (mine,), (sampled,) = rows(player.path), rows(player.path.with_name("other.duckdb"))
    assert (mine["command"], mine["status"], mine["name"]) == ("play", "ok", f"play-{sampled['name']}")
    for column in ("latent_sha256", "prompt", "seed", "settings", "checkpoint", "frames", "height", "width", "fps"):
        assert mine[column] == sampled[column]


def test_the_gallery_is_newest_first_and_of_its_own_folder(player, tmp_path):
    player.draw(ASKED, ignored)
    player.draw(replace(ASKED, prompt="a cat", frames=1), ignored)
    assert player.draw(ASKED, ignored).remarks == ["this was drawn before"]
    outside = {"id": "x", "prompt": "x", "path": "s.samples/../secret.png"}
    (tmp_path / "secret.png").write_bytes(b"x")
    with Manifest(player.path) as manifest:
        manifest.insert("samples", [outside])
    assert [row["prompt"] for row in player.past()] == ["a cat", "a red circle"]


def test_any_seed_is_told(player):
    kept = [player.draw(replace(ASKED, any_seed=True, frames=1), ignored) for _ in range(2)]
    assert len({one.seed for one in kept}) == 2
    assert {row["seed"] for row in rows(player.path)} == {one.seed for one in kept}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": ""}, "type a prompt"),
        ({"frames": 6}, "4k\\+1"),
        ({"motion": "fast"}, "a motion score is a number, not fast"),
        ({"image": "absent.png"}, "--image absent.png cannot be read"),
        ({"solver": "ddim"}, "cannot sample a flow checkpoint"),
    ],
)
def test_what_cannot_be_drawn_is_told(player, changes, says):
    with pytest.raises(UsageError, match=says):
        player.draw(replace(ASKED, **changes), ignored)
    assert player.past() == []


@contextlib.contextmanager
def held(path):
    """The manifest is open in another process."""
    script = f"from goku_cli.manifest.store import *; m = Manifest(Path({str(path)!r})); print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout.readline()
    yield
    process.communicate(b"\n")


def test_a_manifest_that_is_held_is_told_before_the_work_and_costs_no_clip_after_it(player):
    with held(player.path), pytest.raises(GokuError, match="is held by process"):
        player.draw(ASKED, pytest.fail)
    with contextlib.ExitStack() as stack:
        kept = player.draw(ASKED, lambda done, total: done == 1 and stack.enter_context(held(player.path)))
    assert kept.path.exists() and "has no row yet: draw its seed again" in kept.remarks[0]
    assert player.draw(ASKED, ignored).remarks == []
    assert len(player.past()) == 1


def test_stopping_gives_up_what_is_being_drawn(player):
    stopping = threading.Thread(target=player.stop)

    def moved(done, total):
        if done == 1:
            stopping.start()
            time.sleep(0.2)

    with pytest.raises(GokuError, match="the page was closed"):
        player.draw(ASKED, moved)
    stopping.join(5)
    assert player.past() == []


def test_without_gradio_it_says_what_to_install(folder):
    with patch("goku_cli.cli.play.find_spec", return_value=None):
        done = goku(folder, "play", "plain", "-m", "s.duckdb")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install '.[play]'" in done.stderr


@pytest.fixture
def page(folder, tmp_path):
    """The command at work; yields its process and address."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = ["goku", "play", str(folder / "plain"), "-m", str(tmp_path / "s.duckdb"), "--port", port]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address == f"http://127.0.0.1:{port}/", process.stderr.read()
        yield process, address
    finally:
        process.kill()
        process.wait()


def status(address, **headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_browser_draws_and_nothing_leaves_the_machine(page, folder, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}")
    process, address = page
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab, asked = browser.new_page(), []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        button = tab.get_by_role("button", name="Draw")
        button.click()
        tab.get_by_text("type a prompt").wait_for()
        tab.get_by_label("Prompt", exact=True).fill("a red <b>circle</b>")
        tab.get_by_label("Steps").fill("2")
        button.click()
        result = tab.locator("video[src]:not(.gallery-item *)")
        result.wait_for()
        fields, shown = tab.get_by_label("Prompt", exact=True).bounding_box(), result.bounding_box()
        assert shown["x"] > fields["x"] + fields["width"] and shown["width"] > fields["width"]  # side by side
        caption = tab.locator(".caption-label")
        caption.wait_for()
        (row,) = rows(tmp_path / "s.duckdb")
        assert (row["prompt"], row["name"]) == ("a red <b>circle</b>", f"play-{row['name'].partition('-')[2]}")
        assert caption.inner_text() == f"{row['prompt']} · seed {row['seed']}"
        tab.locator(".gallery-item button").first.click()
        tab.get_by_text(row["name"]).wait_for()
        browser.close()
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    for secret in (folder / "plain" / "config.json", tmp_path / "s.duckdb"):
        assert status(f"{address}gradio_api/file={secret}") == 403
    assert status(address, Host="example.org") == 400
    os.kill(process.pid, signal.SIGINT)
    said = process.communicate(timeout=10)
    assert (process.returncode, said[0]) == (0, "")
    assert "Traceback" not in said[1] and said[1].endswith("play: ended\n")
