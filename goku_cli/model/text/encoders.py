"""Text encoders: states of true length, one row per token and no padding.

The paper uses FLAN-T5-XL (`t5:google/flan-t5-xl`, or a folder), Wan umT5-XXL (`umt5:FOLDER`, see `umt5.py`). Two need
no download: `words` (`words.py`) for small vocabularies, and the default, which reads bytes and is *drawn, not
trained*: a small T5 whose relative-position biases are made sharp, so that its heads look at fixed offsets and its
states are random features of short byte sequences. Equal bytes give equal states on every machine, and the
transformer's cross-attention learns to read them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from goku_cli.errors import UsageError
from goku_cli.model.text import words

MAX_TOKENS = 256
TINY: dict[str, Any] = {"d_model": 96, "d_kv": 24, "d_ff": 192, "num_heads": 4, "num_layers": 2}
TINY_SEED = 20250210
POSITION_SHARPNESS = 4.0


class TextEncoder(Protocol):
    """What a text encoder is to the rest of goku."""

    name: str
    dim: int
    """Width of its states."""
    most_tokens: int
    """What is longer is cut."""
    model: torch.nn.Module
    """What lies on a device; a module without weights, where there are none."""

    def encode(self, text: str) -> Tensor:
        """Return the states (tokens, dim) of one text, at most `most_tokens`, end mark included."""

    def encode_all(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the states of several, which may pass a model together."""

    def count(self, text: str) -> int:
        """Return how many tokens a text has, end mark included, before it is cut."""


class PretrainedEncoder:
    """A transformer that encodes text, with its tokenizer."""

    most_tokens = MAX_TOKENS
    """What is longer is cut."""

    def __init__(self, model: torch.nn.Module, tokenizer: object, name: str) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.dim = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def encode(self, text: str) -> Tensor:
        """Return the states (tokens, dim) of one text, at most `most_tokens`, end mark included."""
        return self.encode_all([text])[0]

    @torch.no_grad()
    def encode_all(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the states (tokens, dim), float32, of each text, filled up to one length and encoded together."""
        given = self.tokenizer(  # type: ignore[operator]
            [self.cleaned(text) for text in texts], truncation=True, max_length=self.most_tokens, padding=True,
            return_tensors="pt",
        ).to(next(self.model.parameters()).device)  # fmt: skip
        mask_BM = given["attention_mask"]
        states_BMD = self.model(input_ids=given["input_ids"], attention_mask=mask_BM).last_hidden_state
        return [states[mask].float() for states, mask in zip(states_BMD, mask_BM.bool(), strict=True)]

    @staticmethod
    def cleaned(text: str) -> str:
        """Return a text as the tokenizer is given it."""
        return text

    def count(self, text: str) -> int:
        """Return how many tokens a text has, end mark included, before it is cut."""
        return len(self.tokenizer(text)["input_ids"])  # type: ignore[operator]


def load_text_encoder(name: str) -> TextEncoder:
    """Return the encoder of a name: `words`, `tiny`, `bert:` or `umt5:` with a folder, `t5:` with one or a hub name.

    Raises:
        UsageError: no such encoder, or its weights are not on disk and the hub cannot be reached.
    """
    if name == "tiny":
        return _tiny()
    if name == "words":
        return words.WordEncoder()
    kind, _, source = name.partition(":")
    if kind not in ("t5", "bert", "umt5") or not source:
        raise UsageError(f'unknown text encoder "{name}"; known: tiny, words, t5:FOLDER, t5:google/flan-t5-xl, '
                         "bert:FOLDER, umt5:FOLDER")  # fmt: skip
    if kind == "umt5":
        from goku_cli.model.text.umt5 import load_umt5

        return load_umt5(Path(source), name)
    return _pretrained(kind, source, name)


def _pretrained(kind: str, source: str, name: str) -> TextEncoder:
    """Load a T5 encoder, or one of BERT's class such as MiniLM, which reads short texts well and is small."""
    import transformers

    try:
        model: Any = {"t5": transformers.T5EncoderModel, "bert": transformers.BertModel}[kind]
        weights = model.from_pretrained(source, use_safetensors=True)
        return PretrainedEncoder(weights, transformers.AutoTokenizer.from_pretrained(source), name)
    except (OSError, ValueError) as error:
        where = source if Path(source).exists() else "the Hugging Face cache and hub"
        raise UsageError(f"no {kind} weights for {name} in {where}; get them with: hf download {source}") from error


def _tiny() -> TextEncoder:
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    config = T5Config(vocab_size=384, feed_forward_proj="gated-gelu", dropout_rate=0.0, **TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TINY_SEED)
        model = T5EncoderModel(config)
        first: Any = model.encoder.block[0]
        bias = first.layer[0].SelfAttention.relative_attention_bias.weight
        torch.nn.init.normal_(bias, std=POSITION_SHARPNESS)
    return PretrainedEncoder(model, ByT5Tokenizer(extra_ids=0), "tiny")


def text_fingerprint(name: str) -> str:
    """Return a string that names the encoder in every row: its name, and for one of our own its recipe."""
    own = {"tiny": [TINY, TINY_SEED, POSITION_SHARPNESS], "words": [words.WIDTH, words.NEIGHBOR, words.PLACE]}
    return f"{name}:{json.dumps(own[name])}" if name in own else name


def as_int8(states_MD: np.ndarray) -> np.ndarray:
    """Return text states as bytes (M, D + 4): each row in steps of a 127th of its largest number, which stands, as the
    four bytes of a little-endian float32, at its end."""
    step_M1 = np.maximum(np.abs(states_MD).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny).astype("<f4")
    return np.concatenate((np.rint(states_MD / step_M1).astype(np.int8), step_M1.view(np.int8)), axis=1)


def from_stored(stored: np.ndarray) -> Tensor:
    """Return text states (M, D), float32, of a tensor of a shard: as it is, or from bytes."""
    if stored.dtype != np.int8:
        return torch.from_numpy(stored).float()
    step_M1 = np.ascontiguousarray(stored[:, -4:]).view("<f4")
    return torch.from_numpy(stored[:, :-4] * step_M1)
