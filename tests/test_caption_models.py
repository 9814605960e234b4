"""Captions of models: two levels, servers that misbehave, replies that are never paid for twice, a model in here."""

import os
import signal
import sqlite3
import subprocess
import time

import pytest
from chat_server import GOOD, STRICT, chat_server, count
from films import film, picture
from tiny_vlm import make_tiny_vlm

from goku_cli.caption.caption import caption
from goku_cli.caption.prompts import load_prompts
from goku_cli.caption.settings import CaptionSettings
from goku_cli.chat.answer import read_answer
from goku_cli.chat.replies import Replies, reply_key
from goku_cli.chat.settings import ServerSettings
from goku_cli.chat.spending import Spending
from goku_cli.errors import Cause, Fault, GokuError, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.recipe import packaged


@pytest.fixture
def url(tmp_path):
    with chat_server(tmp_path) as found:
        yield found


def make_manifest(folder, pictures=0, seconds=0):
    """A manifest of small pictures that differ, and of one film."""
    with Manifest(folder / "m.duckdb", create=True) as opened:
        paths = [(f"p{n}", "image", picture(folder / f"{n}.png", n, height=32, width=48), 0) for n in range(pictures)]
        if seconds:
            paths.append(("v", "video", film(folder / "a.mp4", [(1, 24 * seconds)]), seconds * 1_000_000))
        facts = [(path, path.stat()) for _, _, path, _ in paths]
        opened.insert("sources", [{"id": name, "kind": kind} for name, kind, _, _ in paths])
        opened.insert("source_paths", [
            {"source": name, "path": str(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            for (name, *_), (path, status) in zip(paths, facts, strict=True)
        ])  # fmt: skip
        opened.insert("clips", [{"id": n, "source": n, "start_us": 0, "end_us": end} for n, _, _, end in paths])
        opened.insert("selections", [{"name": "all", "clip": n, "weight": 1.0, "reason": None} for n, *_ in paths])
        opened.insert(
            "scores", [{"clip": "v", "metric": "motion", "value": 6.6, "scorer": "dis@1", "run": 1}] * bool(seconds)
        )
    return folder / "m.duckdb"


def run(path, url, model="good", spending=None, **settings):
    """Caption with a server; return the outcome and the rows."""
    asking = CaptionSettings(f"openai:{url}", model=model, **settings)
    with Manifest(path) as opened:
        outcome = caption(opened, "all", asking, spending=spending)
        return outcome, opened.query("SELECT * FROM captions ORDER BY kind, at_us"), opened.query("FROM failures")


def test_a_video_gets_frame_and_video_captions_and_a_merged_one(tmp_path, url):
    outcome, rows, _ = run(make_manifest(tmp_path, seconds=3), url, key_frames=3, frame_captions=2)
    assert outcome.done == 1
    assert [row["kind"] for row in rows] == ["camera", "dense", "frame", "frame", "merged", "video"]
    texts = {row["kind"]: row["text"] for row in rows}
    assert texts["merged"] == f"{GOOD} motion score: 7." and texts["dense"] == GOOD
    assert texts["camera"].startswith("pan right, strength 0.")
    assert [row["at_us"] for row in rows if row["kind"] == "frame"] == [500_000, 2_500_000]
    assert rows[4]["model"].startswith("good prompts ") and rows[4]["conflict"] is None
    asked = {len(body["messages"][0]["content"]) - 1: body["messages"][0]["content"] for body in count(url)["bodies"]}
    assert sorted(asked) == [0, 1, 3]  # merging sees no picture
    assert "camera pans right" in asked[3][-1]["text"] and "6.6" in asked[3][-1]["text"]
    assert GOOD in asked[0][0]["text"] and "data:image/jpeg;base64," in asked[1][0]["image_url"]["url"]


def test_an_image_gets_one_caption(tmp_path, url):
    _, rows, _ = run(make_manifest(tmp_path, pictures=1), url)
    assert [(row["kind"], row["text"]) for row in rows] == [("frame", GOOD), ("merged", GOOD)]


def test_pictures_that_are_the_same_are_asked_about_once(tmp_path, url):
    path = make_manifest(tmp_path, pictures=6)
    with Manifest(path) as opened:
        opened.execute("DELETE FROM source_paths WHERE source <> 'p0'")
        opened.execute(
            "INSERT INTO source_paths SELECT p.* REPLACE (s.id AS source) FROM source_paths AS p, sources AS s"
        )
    assert run(path, url)[0].done == 6 and count(url)["requests"] == 1


@pytest.mark.parametrize(
    ("model", "cause"),
    [("refuses", Cause.REFUSED), ("empty", Cause.ANSWER), ("endless", Cause.ANSWER), ("broken", Cause.ANSWER),
     ("html", Cause.ANSWER), ("filtered", Cause.REFUSED), ("aborted", Cause.ANSWER), ("calls", Cause.ANSWER)],
)  # fmt: skip
def test_what_is_no_caption_is_asked_for_again_and_then_fails(tmp_path, url, model, cause):
    outcome, rows, failures = run(make_manifest(tmp_path, pictures=1), url, model)
    assert (outcome.done, outcome.failed, rows) == (0, 1, []) and failures[0]["cause"] == cause
    assert count(url)["requests"] == 3
    assert len({(body["seed"], body["temperature"] > 0) for body in count(url)["bodies"]}) in (0, 3)


@pytest.mark.parametrize("model", STRICT)
def test_parameters_that_a_server_refuses_are_left_out_from_then_on_and_told(tmp_path, url, model):
    spending = Spending(ServerSettings(in_flight=1))
    outcome, rows, _ = run(make_manifest(tmp_path, pictures=3), url, model, spending)
    assert outcome.done == 3 and rows[-1]["text"] == GOOD
    assert count(url)["requests"] == 3 + len(STRICT[model])
    for body in count(url)["bodies"]:
        assert not set(STRICT[model]) & set(body) and ("max_completion_tokens" in body) == ("max_tokens" not in body)
    assert f"without {', '.join(sorted(STRICT[model]))}, which the server refuses" in str(spending)
    told = Spending(ServerSettings(in_flight=1, without=tuple(STRICT[model])))
    path = make_manifest(tmp_path / "again", pictures=1)
    run(path, url, model, told)
    assert count(url)["requests"] == 4 + len(STRICT[model])
    with pytest.raises(UsageError, match="did you mean"):
        ServerSettings(without=("temperatur",))


def test_another_seed_may_answer_and_markup_goes(tmp_path, url):
    path = make_manifest(tmp_path, pictures=1)
    assert run(path, url, "shy")[1][-1]["text"] == GOOD
    assert run(path, url, "markdown")[1][-1]["text"] == GOOD
    _, rows, _ = run(path, url, "obeys")
    assert rows[-1]["conflict"].startswith('instruction-like text: "Ignore the video')


def test_a_busy_server_is_waited_for(tmp_path, url):
    outcome, _, _ = run(make_manifest(tmp_path, pictures=2), url, "busy")
    assert outcome.done == 2 and count(url)["requests"] >= 3


def test_a_server_that_is_slow_dead_or_locked_is_given_up(tmp_path, url, monkeypatch):
    monkeypatch.setattr("goku_cli.chat.server.RETRIES", 0)
    path = make_manifest(tmp_path, pictures=12)
    spending = Spending(ServerSettings(in_flight=2, timeout=0.5))
    outcome, _, failures = run(path, url, "silent", spending)
    assert outcome.done == 0 and {row["cause"] for row in failures} == {Cause.TIMEOUT} and 8 <= len(failures) < 12
    with pytest.raises(GokuError, match=r"does not answer any more \(timeout\); the other clips wait"):
        spending.finish()
    outcome, _, failures = run(path, url, "fails", Spending(ServerSettings(in_flight=2)))
    assert outcome.failed < 12 and "HTTP 500" in failures[-1]["reason"]
    spending = Spending(ServerSettings(in_flight=2))
    outcome, _, failures = run(path, url, "forbidden", spending)
    assert outcome.failed == 0 and "OPENAI_API_KEY" in (spending.stopped or "")


def test_wrong_servers_and_models_are_one_line(tmp_path, url):
    path = make_manifest(tmp_path, pictures=1)
    with pytest.raises(UsageError, match='has no model "goof".*did you mean "good"'):
        run(path, url, "goof")
    with pytest.raises(GokuError, match="lists no models; does the URL end in /v1"):
        run(path, url.replace("/v1", "/wrong"), model=None)
    with pytest.raises(GokuError, match="nothing answers at http://127.0.0.1:9/v1"):
        run(path, "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="is no server"):
        CaptionSettings("openai:localhost:8000")
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        CaptionSettings("openai:http://user:secret@localhost/v1")


def test_the_budget_and_the_rate_hold(tmp_path, url):
    path = make_manifest(tmp_path, pictures=12)
    spending = Spending(ServerSettings(in_flight=1, tokens_budget=330, price_in=1e4, price_out=1e5))
    outcome, rows, failures = run(path, url, spending=spending)
    assert (outcome.done, outcome.failed, len(rows), failures) == (3, 0, 6, [])
    assert str(spending) == "4 requests, 330 tokens, cost 6.00"  # the first asked for the list of models
    with pytest.raises(GokuError, match="330 tokens are spent of --tokens-budget 330"):
        spending.finish()
    started = time.monotonic()
    outcome, _, _ = run(path, url, spending=Spending(ServerSettings(rate=600)))
    assert (outcome.done, outcome.skipped) == (9, 3) and time.monotonic() - started > 0.9


def test_a_changed_prompt_asks_again(tmp_path, url):
    path = make_manifest(tmp_path, pictures=1)
    own = tmp_path / "prompts"
    own.mkdir()
    for source in packaged("prompts").glob("*.txt"):
        (own / source.name).write_text(source.read_text())
    assert run(path, url)[0].done == 1
    assert run(path, url, prompts=own)[0].skipped == 1
    (own / "frame.txt").write_text("What is this? {{}}")
    assert run(path, url, prompts=own)[0].done == 1
    assert count(url)["bodies"][-1]["messages"][0]["content"][-1]["text"] == "What is this? {}"
    (own / "video.txt").write_text("{frame} pictures")
    with pytest.raises(UsageError, match=r'video.txt: unknown placeholder {frame} \(did you mean "frames"'):
        load_prompts(own)
    (own / "video.txt").write_text("a brace: {")
    with pytest.raises(UsageError, match="is not a prompt"):
        load_prompts(own)
    (own / "merge.txt").unlink()
    (own / "video.txt").write_text("x")
    with pytest.raises(UsageError, match=r"no prompt at .*merge.txt"):
        load_prompts(own)


def goku(path, url, model, *more):
    words = ["goku", "caption", f"{path}#all", "--captioner", f"openai:{url}", "--model", model, "--in-flight", "1"]
    return subprocess.Popen([*words, "-j", "1", *more], stderr=subprocess.PIPE, text=True)


def test_a_kill_after_a_reply_pays_nothing_twice(tmp_path, url):
    path = make_manifest(tmp_path, pictures=6)
    process = goku(path, url, "hangs")
    while count(url)["requests"] < 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert goku(path, url, "hangs").wait() == 0
    seen = count(url)
    assert seen["requests"] == 7 and seen["answered"] == [1] * 6  # the one that hung was never answered
    with Manifest(path, read_only=True) as opened:
        assert opened.value("SELECT count(*) FROM captions WHERE kind = 'merged'") == 6


def test_a_server_that_dies_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("goku_cli.chat.server.RETRIES", 0)
    path = make_manifest(tmp_path, pictures=6)
    with chat_server(tmp_path) as url:
        outcome, _, failures = run(path, url, "dies", Spending(ServerSettings(in_flight=1)))
        assert outcome.done == 3 and {row["cause"] for row in failures} == {Cause.NETWORK}
    (tmp_path / "port").unlink()
    with chat_server(tmp_path) as url:  # at another address
        outcome, _, _ = run(path, url, "dies", Spending(ServerSettings(in_flight=1)))
        assert (outcome.done, outcome.skipped) == (3, 3) and count(url)["requests"] == 3


def test_a_key_is_in_no_file(tmp_path, url):
    path = make_manifest(tmp_path, pictures=1)
    words = ["goku", "caption", f"{path}#all", "--captioner", f"openai:{url}"]
    done = subprocess.run(words, env=os.environ | {"OPENAI_API_KEY": "sk-secret"}, capture_output=True, check=True)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file()) + done.stderr + done.stdout
    assert b"sk-secret" not in kept and b"2 requests, 110 tokens" in done.stderr


def test_a_file_that_changed_or_vanished_fails_alone(tmp_path, url):
    path = make_manifest(tmp_path, pictures=3)
    (tmp_path / "0.png").unlink()
    picture(tmp_path / "1.png", 9)
    outcome, _, failures = run(path, url)
    assert outcome.done == 1 and {row["cause"] for row in failures} == {Cause.VANISHED, Cause.CHANGED}


def test_replies_outlive_their_process_and_a_full_disk_stops(tmp_path):
    key = reply_key("m", "p", [b"1"], 0)
    assert len({key, reply_key("m", "p", [b"2"], 0), reply_key("m", "q", [b"1"], 0), reply_key("m", "p", [], 1)}) == 4
    with Replies(tmp_path / "m.duckdb") as replies:
        assert replies.get(key) is None
        replies.put(key, "one")
        replies.put(key, "two")
    with Replies(tmp_path / "m.duckdb") as replies:
        assert replies.get(key) == "two"
        replies._file.execute("PRAGMA query_only = ON")  # as on a disk that takes nothing more
        with pytest.raises(GokuError, match="cannot be kept"):
            replies.put("k", "x")
    (tmp_path / "n.replies.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(GokuError, match="move it away"):
        Replies(tmp_path / "n.duckdb")
    assert sqlite3.connect(tmp_path / "m.replies.sqlite").execute("SELECT count(*) FROM replies").fetchone() == (1,)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ('A sign reads "I can\'t breathe".', 'A sign reads "I can\'t breathe".'),
        ("A sorry dog cannot reach the ball.", "A sorry dog cannot reach the ball."),
        ("Here is the caption:\n\n- A dog.\n- A ball.", "A dog. A ball."),
        ("<think>It is a dog.</think>A dog.<|im_end|>", "A dog."),
        ('"A dog runs."', "A dog runs."),
        ('```json\n{"caption": "A dog runs."}\n```', "A dog runs."),
        ("# Caption\nA dog 3 < 4 and *fast*.\x00\x1b[2J", "Caption A dog 3 < 4 and fast."),
        ("Sure! Here's a description: A dog.", "A dog."),
    ],
)
def test_answers_become_plain_text(text, caption):
    assert read_answer(text) == caption


def test_an_answer_that_was_cut_off_ends_with_a_sentence():
    assert read_answer("A dog runs. It jum", cut_off=True) == "A dog runs."
    for text, cut in (("A dog ju", True), ('{"box": [1, 2]}', False), ("12 !", False), ("a " * 3000, False)):
        with pytest.raises(Fault):
            read_answer(text, cut_off=cut)


def test_a_model_in_this_process_captions_and_is_not_asked_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("goku_cli.chat.local.MAX_TOKENS", 6)
    monkeypatch.setattr("goku_cli.chat.local.LocalModel._cut_off", lambda *_: False)
    folder = make_tiny_vlm(tmp_path / "tiny")
    path = make_manifest(tmp_path, pictures=1, seconds=2)
    settings = CaptionSettings(f"transformers:{folder}", key_frames=2)
    with Manifest(path) as opened:
        assert caption(opened, "all", settings).done == 2
        rows = opened.query("FROM captions ORDER BY clip, kind")
        assert [row["kind"] for row in rows] == [
            "frame",
            "merged",
            "camera",
            "dense",
            "frame",
            "frame",
            "merged",
            "video",
        ]
        assert rows[0]["model"].startswith("tiny prompts ") and rows[0]["text"].isalpha()
        opened.execute("DELETE FROM receipts")
        monkeypatch.setattr("goku_cli.chat.local.LocalModel.complete", None)
        assert caption(opened, "all", settings).done == 2
        with pytest.raises(UsageError, match="holds no config.json"):
            caption(opened, "all", CaptionSettings(f"transformers:{tmp_path}"))
        (folder / "config.json").write_text("{}")
        with pytest.raises(UsageError, match="is no vision-language model"):
            caption(opened, "all", settings)
