"""Wan's text encoder: umT5 states of true length, one row per token.

Wan attends to 512 rows without a mask, zero where the text has ended; that is for the model to say
(`ModelConfig.text_rows`), and nothing to store. Prompts are cleaned by diffusers' own function (entities, white space,
broken encodings), which is what the published pipeline does.
"""

from pathlib import Path

from goku_cli.errors import UsageError
from goku_cli.model.text.encoders import PretrainedEncoder, TextEncoder

ROWS = 512
"""Most tokens of a text, and the rows that Wan attends to (its text_len)."""


class Umt5Encoder(PretrainedEncoder):
    """A umT5 encoder with its tokenizer."""

    most_tokens = ROWS

    @staticmethod
    def cleaned(text: str) -> str:
        """Return a text as the published pipeline cleans it."""
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        return str(prompt_clean(text))


def load_umt5(folder: Path, name: str) -> TextEncoder:
    """Load from a pipeline's folder with text_encoder/ and tokenizer/, or from one folder that holds both.

    Raises:
        UsageError: there is no such encoder, or its weights are not safetensors.
    """
    from transformers import AutoTokenizer, UMT5EncoderModel

    model, tokenizer = folder / "text_encoder", folder / "tokenizer"
    if not model.is_dir():
        model = tokenizer = folder
    try:
        if not (model / "config.json").is_file():  # else transformers would take the path for a name on the hub
            raise OSError(f"no config.json in {model}")
        encoder = UMT5EncoderModel.from_pretrained(model, use_safetensors=True)
        return Umt5Encoder(encoder, AutoTokenizer.from_pretrained(tokenizer), name)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no umT5 with its tokenizer in {folder}; get them with: hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
            f" --include 'text_encoder/*' --include 'tokenizer/*' --local-dir {folder}"
        ) from error
