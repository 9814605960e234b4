"""Low-rank adapters (LoRA, Hu et al. 2021): a few thin matrices learn beside weights that stay as they are, so that one
small GPU can fine-tune a model whose optimizer it could not hold. The only module that imports peft.

A checkpoint has the adapters alone, from which a run goes on, and weights with the adapters added to them, which every
other command reads like any model's.
"""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from goku_cli.model.weights.checkpoint import write_weights
from goku_cli.train.distributed.checkpointer import ADAPTERS
from goku_cli.train.recipe import Lora


def add_adapters(model: nn.Module, settings: Lora) -> None:
    """Put adapters beside the linear layers that the recipe names, and freeze all else; the function stays the same."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = list(settings.targets)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets)  # type: ignore[arg-type]
    inject_adapter_in_model(config, model)


def merged(base: dict[str, Tensor], adapters: dict[str, Tensor], settings: Lora) -> dict[str, Tensor]:
    """Return weights W + (alpha / rank) B A, float32, of layers that have adapters A and B; the others unchanged."""
    found = {name: weight.float() for name, weight in base.items()}
    scale = settings.alpha / settings.rank
    for name, down in adapters.items():
        layer, _, part = name.partition(".lora_A.")
        if part:
            up = adapters[f"{layer}.lora_B.{part}"]
            found[f"{layer}.weight"] = found[f"{layer}.weight"] + scale * (up @ down)
    return found


def write_merged(folder: Path, base: dict[str, Tensor], settings: Lora) -> None:
    """Write whole weights beside each file of adapters of a checkpoint that is being made."""
    for path in folder.glob(f"{ADAPTERS}*.safetensors"):
        write_weights(folder, path.name.removeprefix(ADAPTERS), merged(base, load_file(path), settings))
