"""Which text belongs to which medium, and what is a text: tars in any order, encodings, lists with stray marks."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from films import picture
from hypothesis import given
from hypothesis import strategies as st

from goku_cli.errors import UsageError
from goku_cli.ingest.archive import members
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.lists import read_list
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.sidecar import Said, caption_of
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.sample.prompts import Wish, read_prompts, requests
from goku_cli.wording import decoded, lines_of, unreadable

SAID = "a red fox – naïve café, 赤い狐 in snow"


def shard(path, names):
    """A tar of members whose content is their name."""
    with tarfile.open(path, "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            archive.addfile(info, io.BytesIO(name.encode()))
    return str(path)


def texts(path):
    """Medium -> the names of the texts that are said to be its own."""
    content = Path(path).read_bytes()
    return {
        found.name.partition("!")[2]: [content[at : at + size].decode() for _, at, size in found.member.texts]
        for found in members(path)
    }


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (["Mr. Bean 1.mp4", "Mr. Bean 1.txt", "Mr. Bean 2.mp4", "Mr. Bean 2.txt"],
         {"Mr. Bean 1.mp4": ["Mr. Bean 1.txt"], "Mr. Bean 2.mp4": ["Mr. Bean 2.txt"]}),
        (["a.mp4", "b.mp4", "a.txt", "b.txt"], {"a.mp4": ["a.txt"], "b.mp4": ["b.txt"]}),
        (["b.txt", "b.json", "a.mp4", "b.mp4"], {"a.mp4": [], "b.mp4": ["b.json", "b.txt"]}),
        (["._a.mp4", "a.mp4", "._a.txt", "a.txt", "._b.mp4", "b.mp4"], {"a.mp4": ["a.txt"], "b.mp4": []}),
        (["7.left.jpg", "7.right.jpg", "7.txt"], {"7.left.jpg": ["7.txt"], "7.right.jpg": ["7.txt"]}),
        (["7.jpg", "7.caption.txt"], {"7.jpg": ["7.caption.txt"]}),
        (["a.mp4", "a.mp4.txt"], {"a.mp4": ["a.mp4.txt"]}),
        (["x/1.jpg", "y/1.jpg", "x/1.txt"], {"x/1.jpg": ["x/1.txt"], "y/1.jpg": []}),
        (["v1.2 a.mp4", "v1.3 b.txt", "v1.txt"], {"v1.2 a.mp4": ["v1.txt"]}),
        (["Mr. Bean.mp4", "Mr. Smith.txt"], {"Mr. Bean.mp4": []}),
        (["a.b.mp4", "a.mp4", "a.txt", "a.b.txt"], {"a.b.mp4": ["a.b.txt"], "a.mp4": ["a.txt"]}),
    ],
)  # fmt: skip
def test_a_medium_in_a_tar_has_its_own_texts(tmp_path, names, own):
    assert texts(shard(tmp_path / "x.tar", names)) == own


@given(st.permutations(["1.jpg", "1.txt", "2.jpg", "2.json", "2.txt", "3 a.b.jpg", "3 a.b.txt", "4.jpg"]))
def test_the_order_in_a_tar_does_not_matter(tmp_path_factory, names):
    own = texts(shard(tmp_path_factory.mktemp("tar") / "x.tar", names))
    assert own == {"1.jpg": ["1.txt"], "2.jpg": ["2.json", "2.txt"], "3 a.b.jpg": ["3 a.b.txt"], "4.jpg": []}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_honored(encoding):
    assert decoded(SAID.encode(encoding)) == SAID


def test_utf_16_of_either_order_is_read():
    assert decoded(b"\xfe\xff" + SAID.encode("utf-16-be")) == decoded(b"\xff\xfe" + SAID.encode("utf-16-le")) == SAID


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (SAID, False), ("plain", False), ("Ünï – “quoted”", False), ("日本語", False), ("5 € and ½", False),
        (SAID.encode().decode("cp1252", "replace"), True), ("cafÃ©", True), ("â€œquotedâ€\x9d", True),
        ("lost \ufffd here", True), ("half \udce9", True),
    ],
)  # fmt: skip
def test_what_was_decoded_wrongly_is_told(text, wrong):
    assert bool(unreadable(text)) == wrong


@pytest.mark.parametrize(
    ("content", "encoding", "caption"),
    [
        (SAID.encode("utf-16"), "utf-8", SAID), ("naïve café".encode("cp1252"), "utf-8", None),
        ("naïve café".encode("cp1252"), "cp1252", "naïve café"), ("一只红色的狐狸".encode("gbk"), "utf-8", None),
        ("一只红色的狐狸".encode("gbk"), "gb18030", "一只红色的狐狸"), ("cafÃ©".encode(), "utf-8", None),
    ],
)  # fmt: skip
def test_a_sidecar_in_another_encoding_is_declared_or_left_out(content, encoding, caption):
    said = Said()
    said.read("a.txt", ".txt", len(content), content, encoding)
    assert [text for *_, text in said.captions] == ([caption] if caption else [])
    assert bool(said.wrong) == (caption is None)


@pytest.mark.parametrize(
    ("value", "caption", "wrong"),
    [
        ("a cat", "a cat", False), (["a man runs", "jogging"], "a man runs", False), (["", "b"], "b", False),
        ("['a man runs', 'b']", "a man runs", False), ('["a man runs"]', "a man runs", False), (None, None, False),
        (float("nan"), None, False), ("nan", None, False), ({"en": "a cat"}, None, True), (True, None, True),
        (0, None, True), ([1, 2], None, True), ("[sic] a cat", "[sic] a cat", False),
    ],
)  # fmt: skip
def test_a_cell_holds_a_caption_or_says_why_not(value, caption, wrong):
    assert caption_of(value)[0] == caption and bool(caption_of(value)[1]) == wrong


WRITTEN = [
    "a cat",
    '"wet" is what the sign says',
    '"unclosed quote by a user',
    'a dog 6" tall',
    "a fish",
    'closing" here',
]


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_a_stray_quotation_mark_swallows_no_row(tmp_path, suffix):
    mark = {"tsv": "\t", "csv": ","}[suffix]
    rows = [f"{i}.png{mark}{caption}" for i, caption in enumerate(WRITTEN)]
    (tmp_path / f"a.{suffix}").write_text("\n".join([f"path{mark}caption", *rows]))
    found = list(read_list(str(tmp_path / f"a.{suffix}")))
    assert [one.caption for one in found] == WRITTEN and not any(one.fault for one in found)


def listed(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [
        (one.name.rpartition("/")[2], one.caption, (one.fault or (0, one.wrong))[1])
        for one in read_list(str(path), encoding)
    ]


def test_a_quoted_cell_may_hold_separators_marks_and_lines(tmp_path):
    text = 'path,caption\r\n0.png,"one, ""two""\r\n\r\nthree"\r\n1.png,"four\nfive, six"\n2.png,seven\n'
    captions = [caption for _, caption, _ in listed(tmp_path / "a.csv", text)]
    assert captions == ['one, "two"\r\n\r\nthree', "four\nfive, six", "seven"]


def test_a_row_that_is_none_is_refused_with_its_line(tmp_path):
    long = "word " * 300_000
    found = listed(tmp_path / "a.csv", f"path,caption\n0.png,a, b\n1.png,{long}\n2.png,x\n3.png,y,\n")
    assert found[0][1:] == (None, "line 2 has 3 cells, its header 2; quote what holds ','")
    assert "line 3 has more than" in found[1][2]
    assert [one[:2] for one in found[2:]] == [("2.png", "x"), ("3.png", "y")]


def test_a_long_cell_costs_no_other_row(tmp_path):
    found = listed(tmp_path / "a.csv", f"path,caption\n0.png,{'word ' * 40_000}\n1.png,x\n")
    assert [one[0] for one in found] == ["0.png", "1.png"] and found[1][1] == "x"


def test_separators_and_encodings_of_tables(tmp_path):
    assert listed(tmp_path / "a.csv", "path;caption\n0.png;hello, you\n") == [("0.png", "hello, you", None)]
    assert listed(tmp_path / "a.csv", "path,caption\n0.png,hello\n".encode("utf-16")) == [("0.png", "hello", None)]
    latin = "path,caption\n0.png,naïve\n".encode("cp1252")
    ((_, caption, wrong),) = listed(tmp_path / "a.csv", latin)
    assert caption is None and "another encoding" in wrong
    assert listed(tmp_path / "a.csv", latin, "cp1252") == [("0.png", "naïve", None)]


def test_lines_of_json_and_columns_of_parquet(tmp_path):
    rows = [
        {"path": "0.png", "caption": ["a man runs", "b"]}, {"path": "1.png", "caption": {"en": "a cat"}},
        {"path": "2.png", "caption": float("nan")}, {"image": {"path": "3.png", "bytes": None}, "caption": "x"},
        {"path": "4.png", "caption": True}, {"path": 5}, {"path": "6.png", "caption": "a\u2028b"},
    ]  # fmt: skip
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    found = listed(tmp_path / "a.jsonl", text)
    assert [one[1] for one in found] == ["a man runs", None, None, "x", None, None, "a\u2028b"]
    assert [bool(one[2]) for one in found] == [False, True, False, False, True, True, False]
    pyarrow.parquet.write_table(pyarrow.table({"path": ["0.png"], "caption": [["one", "two"]]}), tmp_path / "a.parquet")
    assert [one.caption for one in read_list(str(tmp_path / "a.parquet"))] == ["one"]


def test_what_is_said_in_another_encoding_is_a_failure_and_the_picture_is_taken(tmp_path):
    (tmp_path / "raw").mkdir()
    for number, name in enumerate(("good", "wide", "old")):
        picture(tmp_path / "raw" / f"{name}.png", number)
    (tmp_path / "raw" / "good.txt").write_text(SAID)
    (tmp_path / "raw" / "wide.txt").write_bytes(SAID.encode("utf-16"))
    (tmp_path / "raw" / "old.txt").write_bytes("naïve".encode("cp1252"))
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:

        def run(encoding):
            return ingest(
                manifest, find_media([str(tmp_path / "raw")]), load_rules("none"), encoding=encoding, workers=1
            )

        assert run("utf-8").done == 3
        assert {row["text"] for row in manifest.query("FROM sidecars")} == {SAID}
        (failure,) = manifest.query("FROM failures")
        assert failure["cause"] == "sidecar" and "--encoding" in failure["reason"]
        run("cp1252")
        assert "naïve" in {row["text"] for row in manifest.query("FROM sidecars")}
    with pytest.raises(UsageError, match="no encoding"):
        find_media([str(tmp_path)], encoding="utf-9")


def test_prompts_with_a_mark_and_without_a_seed(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfa cat\x0csits\n" + b'{"prompt": "a dog", "seed": null}\n')
    rows = read_prompts(tmp_path / "p.txt")
    assert [row["prompt"] for row in rows] == ["a cat\x0csits", "a dog"]
    drawn = requests(rows, lambda prompt, seed, *_, **__: seed, Wish(seed=5))
    assert drawn == [5, 6]
    assert lines_of("a\r\nb\u2028c\x85d\n") == ["a", "b\u2028c\x85d", ""]
