"""Captions to the states of a text encoder, one row per token; equal captions are encoded once."""

import hashlib
import json
from pathlib import Path

from goku_cli.encode.clip import as_stored
from goku_cli.manifest.shards import checksum
from goku_cli.manifest.store import Manifest, Row
from goku_cli.model.text.encoders import TextEncoder, as_int8, text_fingerprint
from goku_cli.publish import sha256
from goku_cli.recipe import fingerprint
from goku_cli.stage import Rows

# What training may draw: the caption that was chosen, with and without what was appended to it.
TEXTS = """
SELECT DISTINCT said.text FROM captions AS said JOIN captions AS merged USING (clip) JOIN selections USING (clip)
WHERE name = ? AND reason IS NULL AND merged.kind = 'merged' AND starts_with(merged.text, said.text) ORDER BY 1
"""

TOGETHER = 64
"""Captions that pass the encoder at once, neighbors in length."""


def selected_texts(manifest: Manifest, selection: str) -> list[str]:
    """Return the distinct captions of a selection."""
    return [row["text"] for row in manifest.query(TEXTS, [selection])]


def text_id(text: str) -> str:
    """Return the id of a caption's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def text_encoder_row(name: str, dtype: str) -> Row:
    """Return the encoder's row; its id names the encoder, the type in which its states are stored and, when it lies in
    a folder, the bytes of its files."""
    kind, _, source = name.partition(":")
    files = _files(Path(source)) if source else []
    named = [text_fingerprint(kind if files else name), [[path.name, sha256(path)] for path in files], dtype]
    return {"id": fingerprint(named), "kind": "text", "name": name, "settings": json.dumps({"dtype": dtype})}


def _files(folder: Path) -> list[Path]:
    """Return the files of an encoder's folder, or of a pipeline's parts; none of a name on the hub."""
    parts = [folder / part for part in ("text_encoder", "tokenizer") if (folder / part).is_dir()] or [folder]
    return [path for part in parts for path in sorted(part.glob("*")) if path.is_file()]


def encode_texts(model: TextEncoder, encoder: str, dtype: str, texts: list[str]) -> list[Rows]:
    """Encode captions together; more tokens than the encoder takes are cut off.

    Raises:
        Fault: INTERNAL, when states are not finite in the type in which they are stored.
    """
    found = []
    for text, states_MD in zip(texts, model.encode_all(texts), strict=True):
        exact = as_stored(states_MD, "float32" if dtype == "int8" else dtype, "its text states hold")
        stored = as_int8(exact) if dtype == "int8" else exact
        key = text_id(text)
        row = {
            "text_id": key, "encoder": encoder, "key": key, "tokens": len(stored), "full_tokens": model.count(text),
            "crc": checksum(stored),
        }  # fmt: skip
        found.append(Rows(insert={"text_states": [row]}, tensors={key: stored}))
    return found
