"""A vision-language model in this process, from a folder of safetensors; nothing is fetched, no code of it is run."""

import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from goku_cli.chat.asking import MAX_TOKENS, TEMPERATURE
from goku_cli.errors import UsageError
from goku_cli.recipe import fingerprint


class LocalModel:
    """A model that was loaded once; threads take turns.

    Raises:
        UsageError: the folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        weights = sorted(folder.glob("*.safetensors"))
        if not (folder / "config.json").is_file() or not weights:
            get = f"hf download Qwen/Qwen2.5-VL-3B-Instruct --local-dir {folder}"
            raise UsageError(f"{folder} holds no config.json and *.safetensors of a model; get one with: {get}")
        self.name = folder.resolve().name
        facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
        self.identity = fingerprint([(folder / "config.json").read_text(), facts])
        self._turn = threading.Lock()
        self._model, self._processor = _load(folder)

    def complete(self, prompt: str, images: Sequence[bytes], attempt: int) -> str:
        """Return a chat completion as a server would."""
        pictures = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
        content = [{"type": "image", "image": picture} for picture in pictures] + [{"type": "text", "text": prompt}]
        with self._turn, torch.inference_mode():
            inputs = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
                return_tensors="pt",
            ).to(self._model.device)  # fmt: skip
            torch.manual_seed(attempt)
            sampling = {"do_sample": True, "temperature": TEMPERATURE} if attempt else {"do_sample": False}
            asked = inputs["input_ids"].shape[1]
            tokens = self._model.generate(**inputs, max_new_tokens=MAX_TOKENS, **sampling)[0, asked:]
        text = self._processor.decode(tokens, skip_special_tokens=True)
        choice = {"message": {"content": text}, "finish_reason": "length" if self._cut_off(tokens) else "stop"}
        usage = {"prompt_tokens": asked, "completion_tokens": len(tokens)}
        return json.dumps({"choices": [choice], "usage": usage})

    def _cut_off(self, tokens: torch.Tensor) -> bool:
        ends = self._model.generation_config.eos_token_id
        return len(tokens) == MAX_TOKENS and int(tokens[-1]) not in (ends if isinstance(ends, list) else [ends])


def _load(folder: Path) -> tuple[Any, Any]:
    known: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        processor = AutoProcessor.from_pretrained(folder, **known)
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True, dtype="auto", **known)
    except (OSError, ValueError, KeyError) as error:
        told = " ".join(str(error).split())[:200]
        raise UsageError(f"{folder} is no vision-language model that transformers loads: {told}") from error
    return model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval(), processor
