"""Locations of pretrained weights: one folder, filled by the user, from which nothing is fetched.

A part that needs a file asks for it by name and gets its path, or one line that says what is missing, where it was
looked for and the command that gets it. Nothing falls back to another model.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from goku_cli.errors import GokuError


@dataclass(frozen=True)
class Weights:
    """A file or folder of weights."""

    name: str
    """Below the folder of weights."""
    command: str
    """Shell command that gets it; `{}` stands for its path."""
    used_by: str

    @property
    def place(self) -> Path:
        """Where it belongs."""
        return folder() / self.name

    def path(self) -> Path:
        """Return where it is.

        Raises:
            GokuError: it is not there.
        """
        if not self.place.exists():
            raise GokuError(
                f"no weights at {self.place}, for {self.used_by}; get them with: {self.command.format(self.place)}"
            )
        return self.place


def folder() -> Path:
    """Return the folder of weights: $GOKU_WEIGHTS, or one in the user's cache."""
    return Path(os.environ.get("GOKU_WEIGHTS") or Path.home() / ".cache" / "goku" / "weights")


DINOV2 = Weights(
    "dinov2-base",
    "hf download facebook/dinov2-base --local-dir {}",
    "goku filter --scorer dinov2, goku split --similarity dinov2",
)
CLIP = Weights(
    "clip-vit-large-patch14",
    "hf download timm/vit_large_patch14_clip_224.openai open_clip_config.json open_clip_model.safetensors"
    " --local-dir {}",
    "goku filter --scorer laion, clip-nsfw, clip-watermark, goku balance --tagger clip, goku eval --metric clip_score",
)
AESTHETIC = Weights(
    "sac+logos+ava1-l14-linearMSE.pth",
    "curl -L --create-dirs -o {} https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
    "sac%2Blogos%2Bava1-l14-linearMSE.pth",
    "goku filter --scorer laion",
)
RAFT = Weights(
    "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    "curl -L --create-dirs -o {} https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    "goku filter --scorer raft",
)
CRAFT = Weights(
    "easyocr/craft_mlt_25k.pth",
    "curl -L -o craft.zip --create-dirs --output-dir $(dirname {0}) "
    "https://github.com/JaidedAI/EasyOCR/releases/download/pre-v1.1.6/craft_mlt_25k.zip && unzip "
    "$(dirname {0})/craft.zip -d $(dirname {0})",
    "goku filter --scorer easyocr",
)
VGG16 = Weights(
    "vgg16-397923af.pth",
    "curl -L --create-dirs -o {} https://download.pytorch.org/models/vgg16-397923af.pth",
    "LPIPS, as a loss of goku train and in goku eval --metric lpips_diversity",
)
INCEPTION = Weights(
    "pt_inception-2015-12-05-6726825d.pth",
    "curl -L --create-dirs -o {} https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "goku eval --metric fid, sfid, inception_score, precision, recall, --bench imagenet256",
)
I3D = Weights(
    "i3d_torchscript.pt",
    "curl -L --create-dirs -o {} 'https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1'",
    "goku eval --metric fvd, --bench ucf101",
)
ALL = (DINOV2, CLIP, AESTHETIC, RAFT, CRAFT, VGG16, INCEPTION, I3D)
