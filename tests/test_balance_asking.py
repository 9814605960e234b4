"""Tags by asking a server: a real one, in a process of its own."""

import pytest
from chat_server import chat_server, count

from goku_cli.balance.asked import read_class, tag_by_asking
from goku_cli.balance.taxonomy import Taxonomy
from goku_cli.chat.settings import ServerSettings
from goku_cli.chat.spending import Spending
from goku_cli.errors import Fault
from goku_cli.manifest.store import Manifest

CLASSES = (("human", "man"), ("human", "half-selfie"), ("animals", "dogs"), ("machines", "dogs"))


def test_an_answer_names_one_class():
    assert read_class("human / half-selfie", CLASSES) == ("human", "half-selfie")
    assert read_class("**Human / Man**.", CLASSES) == ("human", "man")
    assert read_class("the class is: animals / dogs", CLASSES) == ("animals", "dogs")
    assert read_class("half-selfie", CLASSES) == ("human", "half-selfie")
    for answer in ("dogs", "human", "a cat", "human / man or animals / dogs"):
        with pytest.raises(Fault, match="it names"):
            read_class(answer, CLASSES)


def test_a_server_tags_and_is_asked_once(tmp_path):
    found = {"human": {"subcategories": {"man": ["man"], "kid": ["kid"]}}}
    with chat_server(tmp_path) as url, Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        manifest.insert("captions", [{"clip": c, "kind": "merged", "text": f"a man {c}"} for c in "abc"])
        manifest.insert("selections", [{"name": "all", "clip": c, "weight": 1.0} for c in "abc"])

        def tag(model):
            spending = Spending(ServerSettings(in_flight=2))
            return tag_by_asking(manifest, "all", Taxonomy(4.0, found), url=url, model=model, spending=spending)

        assert tag("classifies").done == 3 and tag("classifies").skipped == 3
        rows = manifest.query('SELECT DISTINCT "primary", subcategory, tagger FROM tags')
        assert rows == [{"primary": "human", "subcategory": "man", "tagger": "classifies@1"}]
        assert tag("good").reasons == {"no usable answer": 3}  # a caption is no class
        assert count(url)["requests"] == 6
