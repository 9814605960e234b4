"""What several test files share: small random weights of other people's models, where `goku` looks for them."""

import io
import json

import pytest
import torch

from goku_cli.vision.clip import encoder
from goku_cli.weights import AESTHETIC, CLIP, CRAFT, DINOV2, INCEPTION, RAFT, VGG16

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


class Published(torch.nn.Module):
    """The aesthetic predictor as its authors wrote it, dropout and all."""

    def __init__(self):
        super().__init__()
        linear, drop = torch.nn.Linear, torch.nn.Dropout
        self.layers = torch.nn.Sequential(
            linear(32, 1024), drop(0.2), linear(1024, 128), drop(0.2), linear(128, 64), drop(0.1), linear(64, 16),
            linear(16, 1),
        )  # fmt: skip


def empty_file():
    file = io.BytesIO()
    torch.save({}, file)
    file.seek(0)
    return file


@pytest.fixture(scope="session")
def image_weights(weights):
    """The same folder, with random weights of the networks that images are compared by: 100 MB."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchvision.models import alexnet

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)  # keep what it was made with
        net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=empty_file())
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
    torch.save(net.state_dict(), INCEPTION.place)
    layers = alexnet().features.state_dict()  # LPIPS takes either network; this one is the smaller
    torch.save({f"features.{name}": value for name, value in layers.items()}, VGG16.place)
    return weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder with small random weights of every model, as `goku` looks for them."""
    import easyocr
    import open_clip
    from easyocr.craft import CRAFT as Network
    from safetensors.torch import save_file
    from torchvision.models.optical_flow import raft_large
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    patch = pytest.MonkeyPatch()
    patch.setenv("GOKU_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    Dinov2Model(Dinov2Config(**size)).save_pretrained(DINOV2.place)
    BitImageProcessor().save_pretrained(DINOV2.place)
    CLIP.place.mkdir()
    described = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}}
    (CLIP.place / "open_clip_config.json").write_text(json.dumps(described))
    (CLIP.place / "small.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(CLIP.place / "small.json")
    save_file(open_clip.create_model("small").state_dict(), CLIP.place / "open_clip_model.safetensors")
    torch.save(Published().state_dict(), AESTHETIC.place)
    torch.save(raft_large(weights=None).state_dict(), RAFT.place)
    CRAFT.place.parent.mkdir()
    torch.save(Network(pretrained=False).state_dict(), CRAFT.place)
    patch.setitem(easyocr.config.detection_models["craft"], "md5sum", easyocr.utils.calculate_md5(str(CRAFT.place)))
    encoder.cache_clear()
    yield CLIP.place.parent
    patch.undo()
    encoder.cache_clear()
