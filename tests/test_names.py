"""Names and addresses as they are given: manifests in any folder, by links too, and URLs byte by byte."""

import http.server
import os
import subprocess
import threading
from pathlib import Path

import pytest
from films import film, picture, table

from goku_cli.errors import UsageError
from goku_cli.ingest.fetch import as_given
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.beside import beside
from goku_cli.manifest.store import Manifest, parse_reference


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("a/b.duckdb#480p", "a/b.duckdb", "480p"), ("a/b.duckdb", "a/b.duckdb", None),
        ("a/b.duckdb#", "a/b.duckdb", None), ("data.2024", "data.2024", None),
        ("take #1/my.duckdb", "take #1/my.duckdb", None), ("take #1/my.duckdb#480p", "take #1/my.duckdb", "480p"),
        ("set #2.duckdb", "set #2.duckdb", None), ("set #2.duckdb#x y", "set #2.duckdb", "x y"),
        ("data.2024#480p\n", "data.2024", "480p"), (" a b /my.duckdb", " a b /my.duckdb", None),
    ],
)  # fmt: skip
def test_a_reference_is_a_path_and_a_name(text, path, name):
    assert parse_reference(text) == (Path(path), name)


def test_what_is_there_is_a_path(tmp_path):
    (tmp_path / "a#b").touch()
    assert parse_reference(f"{tmp_path}/a#b") == (tmp_path / "a#b", None)
    assert parse_reference(f"{tmp_path}/a#c") == (tmp_path / "a", "c")
    for nothing in ("", "#480p", "  "):
        with pytest.raises(UsageError, match="empty reference"):
            parse_reference(nothing)


def test_manifests_that_differ_share_no_folder():
    names = ["my.duckdb", "data.2024", "data.2025", "data.db", "data", "my.v2.duckdb"]
    assert beside(Path("x/my.duckdb"), "latents") == Path("x/my.latents")
    assert len({beside(Path(name), "files") for name in names}) == len(names)


def test_what_lies_beside_a_link_lies_beside_the_file(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "project").mkdir()
    link = tmp_path / "project" / "my.duckdb"
    link.symlink_to(Path("..") / "disk" / "my.duckdb")
    with Manifest(link, create=True) as manifest:
        assert manifest.path == tmp_path / "disk" / "my.duckdb"
    assert (tmp_path / "disk" / "my.duckdb").is_file() and link.is_symlink()
    assert beside(link, "files") == tmp_path / "disk" / "my.files"


@pytest.mark.parametrize("folder", ["take #1", "ü n i 日本's", "[2024] 100%, $x;a=b", "dot.dir.v1"])
def test_every_folder_works_as_typed_and_through_a_pipe(tmp_path, folder):
    (tmp_path / folder).mkdir()
    picture(tmp_path / folder / "p [1] #3.png", 1)
    at = f"{folder}/my.duckdb"
    pipe = subprocess.run(
        ["bash", "-c", 'goku ingest "$0" -m "$1" --rules none | goku split | goku filter --tier none', folder, at],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (pipe.returncode, pipe.stdout) == (0, f"{at}#none\n"), pipe.stderr
    assert sorted(os.listdir(tmp_path)) == [folder]
    assert table(tmp_path / at, "SELECT count(*) FROM selections WHERE reason IS NULL") == [(1,)]


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h/o/folder%2Ffile.mp4?alt=media", None), ("http://h/s.mp4?sig=a%2Bb%2Fc%3D&x=1%2C2&t=a+b&e=", None),
        ("http://h/tilde%7Eq%27.mp4?b=%7E%27(1)", None), ("http://h/a[1].mp4", None),
        ("http://h/a;b,c:d@e!$&'()*.mp4", None), ("http://u:p@h:80/x?y=%20z", None), ("http://h/with space é.mp4", "http://h/with%20space%20%C3%A9.mp4"),
        ("http://h/frag.mp4#t=10", "http://h/frag.mp4"), ("http://h?x=1", "http://h/?x=1"),
        ("http://münchen.de:8/a", "http://xn--mnchen-3ya.de:8/a"), ("http://h/100%.mp4", None),
    ],
)  # fmt: skip
def test_addresses_go_over_the_wire_as_given(url, sent):
    assert as_given(url) == (sent or url)


def test_a_server_is_asked_byte_by_byte_also_where_it_sends_one(tmp_path):
    content, asked = film(tmp_path / "a.mp4", [(1, 8)]).read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", "/signed.mp4?sig=a%2Bb%7E%27")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(0 if self.path.startswith("/moved") else len(content)))
            self.end_headers()
            if not self.path.startswith("/moved"):
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        media = find_media([f"{at}/a%2Fb.mp4?x=%7E&y=1%2C2", f"{at}/moved"])
        assert ingest(manifest, media, load_rules("none"), allow_private=True, workers=1).done == 2
    server.shutdown()
    assert set(asked) == {"/a%2Fb.mp4?x=%7E&y=1%2C2", "/moved", "/signed.mp4?sig=a%2Bb%7E%27"}
