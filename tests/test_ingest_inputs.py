"""What `goku ingest` can be pointed at besides files and folders: globs, lists, stdin, tars, URLs."""

import http.server
import io
import json
import shutil
import subprocess
import tarfile
import threading

import pyarrow
import pyarrow.parquet
import pytest
from films import film, picture, table

from goku_cli.errors import GokuError, UsageError
from goku_cli.ingest.fetch import is_public
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        yield opened


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    film(folder / "a.mp4", [(1, 24)])
    picture(folder / "p.png", 2)
    return folder


def run(manifest, *names, **options):
    return ingest(manifest, find_media(names), load_rules("none"), workers=1, **options)


def column(manifest, sql):
    return [next(iter(row.values())) for row in manifest.query(sql)]


def named(*words):
    return [found.name.rpartition("/")[2] for found in find_media(words)]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gone.mp4", "no file or folder at"),
        ("*.xyz", r"nothing matches \*.xyz"),
        ("file:///etc/passwd", "type the path: /etc/passwd"),
        ("file:///home/a%20b.mp4", "type the path: /home/a b.mp4"),
        ("ftp://host/a.mp4", "not fetched, only http, https, s3; download it first"),
        ("wrong.csv", r"wrong.csv has no column path, .*; it has: a, b"),
        ("wrong.parquet", "is not a parquet list"),
    ],
)
def test_a_wrong_word_is_answered(tmp_path, monkeypatch, word, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "wrong.parquet").write_text("x")
    with pytest.raises(UsageError, match=said):
        find_media([word])


def test_globs_reach_any_depth_in_order(raw, monkeypatch):
    monkeypatch.chdir(raw)
    (raw / "sub" / "deeper").mkdir(parents=True)
    for name in ("sub/c.mp4", "sub/deeper/b.mp4", "[x].mp4"):
        shutil.copy(raw / "a.mp4", raw / name)
    assert named("**/*.mp4") == ["[x].mp4", "a.mp4", "c.mp4", "b.mp4"]
    assert named("s*/[a-c].mp4") == ["c.mp4"]
    assert named("[x].mp4") == ["[x].mp4"]


def test_lists_name_files_and_say_more(manifest, raw):
    (raw / "l.csv").write_text('Path,caption,license\na.mp4,"a ""red"" bus, moving",mit\ngone.mp4,x,\n,nothing,\n')
    (raw / "l.jsonl").write_text('{"image": "p.png", "text": "a cat", "origin": "my phone"}\nno json\n{"a": 1}\n')
    assert run(manifest, raw, raw / "l.csv", raw / "l.jsonl").done == 2
    rows = manifest.query("SELECT text, license, origin FROM sidecars JOIN source_paths USING (item) ORDER BY text")
    assert [tuple(row.values()) for row in rows] == [('a "red" bus, moving', "mit", None), ("a cat", None, "my phone")]
    assert sorted(column(manifest, "SELECT cause FROM failures")) == ["name", "name", "name", "vanished"]
    again = run(manifest, raw / "l.csv")
    assert (again.skipped, again.failed) == (1, 2)


def test_a_file_named_often_is_one_item(manifest, raw):
    paths = [f"{number}.png" for number in range(3000)] + ["p.png"] * 9000
    pyarrow.parquet.write_table(pyarrow.table({"URL": paths, "TEXT": ["x"] * 12_000}), raw / "l.parquet")
    outcome = run(manifest, raw / "l.parquet")
    assert (outcome.done, outcome.failed) == (1, 3000)
    assert column(manifest, "SELECT text FROM sidecars") == ["x"]


def test_a_hostile_list_stops_nothing(manifest, raw):
    rows = [
        {"path": "a\0b.mp4"}, {"path": "half \ud800.mp4"}, {"path": "x" * 5000 + ".mp4"}, {"path": "."},
        {"path": "p.png", "caption": "half \udc80\ud800", "license": "\ud800 mit", "origin": "my\0 phone"},
    ]  # fmt: skip
    (raw / "l.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n" + "[" * 100_000)
    (raw / "l.csv").write_bytes(b'path,license\na.mp4,caf\xe9\n\xff.mp4,x\n"unclosed,y\n')
    run(manifest, raw / "l.jsonl", raw / "l.csv")
    licenses = column(manifest, "SELECT license FROM source_paths ORDER BY license")
    assert (licenses, column(manifest, "SELECT text FROM sidecars")) == (["caf", "mit"], [])
    causes = ["name", "name", "name", "name", "not a regular file", "sidecar", "unreadable", "vanished"]
    assert sorted(column(manifest, "SELECT cause FROM failures")) == causes


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\0"])
def test_names_come_through_stdin(raw, tmp_path, mark):
    words = ["goku", "ingest", "-", "-m", str(tmp_path / "s.duckdb"), "--rules", "none"]
    done = subprocess.run(words, input=mark.join(["a.mp4", "p.png"]), cwd=raw, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert table(tmp_path / "s.duckdb", "SELECT count(*) FROM sources") == [(2,)]


def test_nothing_through_stdin_says_so(tmp_path):
    words = ["goku", "ingest", "-", "-m", str(tmp_path / "s.duckdb")]
    done = subprocess.run(words, input="", capture_output=True, text=True)
    assert done.returncode == 1 and "in -; name another folder" in done.stderr


def shard(path, files):
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_members_of_a_tar_are_kept_by_content(manifest, raw):
    video, image = (raw / "a.mp4").read_bytes(), (raw / "p.png").read_bytes()
    told = json.dumps({"caption": "from json", "url": "http://e.org/1.png", "license": "cc-by"}).encode()
    member_of = {"0/1.png": image, "0/1.txt": b"from txt", "0/1.json": told, "../../2.mp4": video, "3.png": image}
    shard(raw / "s.tar", member_of)
    assert run(manifest, raw).done == 2 + 3
    assert run(manifest, raw / "s.tar").skipped == 3
    rows = manifest.query("SELECT item, path, origin, license FROM source_paths WHERE item <> path ORDER BY item")
    assert [row["item"] for row in rows] == [f"{raw}/s.tar!{name}" for name in ("../../2.mp4", "0/1.png", "3.png")]
    kept = manifest.path.with_suffix(".files")
    assert all(row["path"].startswith(f"{kept}/") for row in rows) and rows[1]["path"] == rows[2]["path"]
    assert (rows[1]["origin"], rows[1]["license"]) == ("http://e.org/1.png", "cc-by")
    assert rows[2]["origin"] == rows[2]["item"]
    assert column(manifest, "SELECT text FROM sidecars") == ["from json"]
    assert sorted(path.suffix for path in kept.rglob("*.*")) == [".mp4", ".png"]
    assert manifest.value("SELECT count(*) FROM sources") == 2 and manifest.verify() == []


def test_a_tar_that_is_cut_gives_what_is_whole(manifest, raw):
    image = (raw / "p.png").read_bytes()
    whole = shard(raw / "s.tar", {f"{number}.png": image for number in range(4)}).read_bytes()
    (raw / "cut.tar").write_bytes(whole[: 2 * (512 + (len(image) + 511) // 512 * 512) + 600])
    (raw / "none.tar").write_bytes(b"x" * 5000)
    run(manifest, raw / "cut.tar", raw / "none.tar")
    assert len(column(manifest, "SELECT item FROM source_paths")) == 2
    assert sorted(column(manifest, "SELECT cause FROM failures")) == ["truncated", "truncated", "unreadable"]


def test_an_img2dataset_folder_gives_captions_and_origins(manifest, raw):
    (raw / "p.txt").write_text("the text")
    (raw / "p.json").write_text(json.dumps({"caption": "the caption", "url": "http://e.org/p", "status": "success"}))
    (raw / "a.mp4.TXT").write_text("beside a.mp4")
    run(manifest, raw)
    assert sorted(column(manifest, "SELECT text FROM sidecars")) == ["beside a.mp4", "the caption"]
    assert column(manifest, "SELECT origin FROM source_paths WHERE origin IS NOT NULL") == ["http://e.org/p"]


VIDEO = ("/a.mp4", "/again.mp4", "/noai.mp4", "/cut.mp4", "/flaky.mp4")


class Answers(http.server.BaseHTTPRequestHandler):
    """Gives a video or a picture, and answers that are wrong in different ways."""

    def do_GET(self):
        hits, files = self.server.hits, self.server.files
        hits[self.path] = count = hits.get(self.path, 0) + 1
        body = files["a.mp4"] if self.path in VIDEO else files["p.png"] if self.path == "/p.png" else b"<html>no</html>"
        moved = {"/moved.mp4": "/a.mp4", "/inside.mp4": "file:///etc/passwd", "/circle.mp4": "/circle.mp4"}
        status = 302 if self.path in moved else 404 if self.path == "/gone.mp4" else 200
        self.send_response(503 if self.path == "/flaky.mp4" and count < 3 else status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", moved.get(self.path, ""))
        self.send_header("X-Robots-Tag", "noai" if self.path == "/noai.mp4" else "all")
        self.end_headers()
        self.wfile.write(body[:100] if self.path == "/cut.mp4" and count < 9 else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(raw):
    """A real server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.hits, server.files = {}, {name: (raw / name).read_bytes() for name in ("a.mp4", "p.png")}
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_urls_are_fetched_once_and_are_one_source(manifest, web):
    urls = [f"{web.address}/{name}.mp4" for name in ("a", "again", "moved", "flaky")]
    assert run(manifest, *urls, allow_private=True).done == 4
    assert web.hits == {"/a.mp4": 2, "/again.mp4": 1, "/moved.mp4": 1, "/flaky.mp4": 3}
    assert run(manifest, *urls, allow_private=True).skipped == 4
    assert sum(web.hits.values()) == 7
    assert column(manifest, "SELECT origin FROM source_paths ORDER BY origin") == sorted(urls)
    assert manifest.value("SELECT count(*) FROM sources") == 1 and manifest.verify() == []
    (path,) = manifest.path.with_suffix(".files").rglob("*.mp4")
    assert path.read_bytes() == web.files["a.mp4"]
    path.unlink()  # what is lost is fetched again
    assert run(manifest, urls[0], allow_private=True).done == 1 and path.exists()


def test_what_is_wrong_with_an_address_is_a_failure(manifest, web):
    causes = {
        "page": "not media", "gone": "network", "cut": "network", "noai": "permission", "inside": "network",
        "circle": "network",
    }  # fmt: skip
    run(manifest, *(f"{web.address}/{name}.mp4" for name in causes), allow_private=True)
    rows = manifest.query("SELECT item, cause FROM failures")
    assert {row["item"].rpartition("/")[2].removesuffix(".mp4"): row["cause"] for row in rows} == causes
    assert not list(manifest.path.with_suffix(".files").rglob("*.*"))
    assert run(manifest, f"{web.address}/cut.mp4", allow_private=True).failed == 1
    assert run(manifest, f"{web.address}/cut.mp4", allow_private=True).done == 1  # the ninth answer is whole


def test_a_list_may_hold_urls_and_their_captions(manifest, web, raw):
    (raw / "l.csv").write_text(f"url,caption\n{web.address}/p.png,a cat\nfile:///etc/passwd,x\n")
    assert (run(manifest, raw / "l.csv", allow_private=True).done, web.hits) == (1, {"/p.png": 1})
    assert column(manifest, "SELECT text FROM sidecars") == ["a cat"]
    assert column(manifest, "SELECT cause FROM failures") == ["name"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_not_fetched_unasked(manifest, web, host):
    outcome = run(manifest, f"http://{host}:{web.server_port}/a.mp4")
    with pytest.raises(GokuError, match="is not a public address; --allow-private fetches it"):
        outcome.check("ingest", strict=False)
    assert not web.hits


def test_which_addresses_are_public():
    public = ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"]
    private = [
        "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1",
        "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ]  # fmt: skip
    assert [address for address in public + private if is_public(address)] == public
