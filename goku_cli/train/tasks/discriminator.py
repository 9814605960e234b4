"""The adversarial term of a VAE: a discriminator of patches of space and time, which learns beside the autoencoder.

PatchGAN (Isola et al. 2017) with convolutions over time and the hinge loss (Lim and Ye 2017). The term is weighted so
that it pulls at the pixels as strongly as the reconstruction does: VQGAN's adaptive weight (Esser et al. 2021, equation
7), at the decoder's output instead of its last layer as in EnCodec (Defossez et al. 2022), where it costs less.

Shapes: B clips of T frames of H x W pixels; T = 1 is an image.
"""

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS = 3
GROUPS = 8
BETAS = (0.5, 0.9)
"""Of the discriminator's Adam, as in VQGAN."""
WEIGHTS, MOMENTS = "discriminator.", "discriminator-adam."
"""What the names in its state begin with."""
SMALLEST = 1e-8
"""Added to a norm that is divided by."""


class Discriminator(nn.Module):
    """Scores for patches of a clip: high where they look real."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(3, width, (3, 4, 4), (1, 2, 2), 1), nn.LeakyReLU(0.2)]
        for _ in range(LAYERS - 1):
            layers += [nn.Conv3d(width, 2 * width, (3, 4, 4), (1, 2, 2), 1), nn.GroupNorm(GROUPS, 2 * width)]
            layers += [nn.LeakyReLU(0.2)]
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv3d(width, 1, 3, padding=1))

    def forward(self, video_B3THW: Tensor) -> Tensor:
        """Return the scores (B, 1, T, H/8, W/8) of clips in [-1, 1]."""
        scores: Tensor = self.layers(video_B3THW)
        return scores


class Adversary:
    """A discriminator and its optimizer, alike on all ranks."""

    def __init__(self, width: int, lr: float, device: torch.device) -> None:
        self.model = Discriminator(width).to(device)
        if torch.distributed.is_initialized():
            for weight in self.model.state_dict().values():
                torch.distributed.broadcast(weight, 0)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr, betas=BETAS)

    def learn(self, real_B3THW: Tensor, made_B3THW: Tensor) -> Tensor:
        """Do one step of telling clips from reconstructions; return the hinge loss (2 when it knows nothing)."""
        real, made = self.model(real_B3THW), self.model(made_B3THW.detach())
        loss = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        self.optimizer.zero_grad()
        loss.backward()
        if torch.distributed.is_initialized():
            for gradient in [p.grad for p in self.model.parameters() if p.grad is not None]:
                torch.distributed.all_reduce(gradient)
                gradient /= torch.distributed.get_world_size()
        self.optimizer.step()
        return loss.detach()

    def term(self, made_B3THW: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the autoencoder's loss for being told apart, as steep as its `reconstruction` loss of these clips."""
        self.model.requires_grad_(False)
        loss = -self.model(made_B3THW).mean()
        self.model.requires_grad_(True)
        (wanted,) = torch.autograd.grad(reconstruction, made_B3THW, retain_graph=True)
        (given,) = torch.autograd.grad(loss, made_B3THW, retain_graph=True)
        return (wanted.norm() / (given.norm() + SMALLEST)).detach() * loss

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs, by names that no weight of the autoencoder has."""
        moments = self.optimizer.state_dict()["state"]
        state = {f"{WEIGHTS}{name}": x for name, x in self.model.state_dict().items()}
        return state | {f"{MOMENTS}{i}.{name}": x for i, found in moments.items() for name, x in found.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        weights = {name.removeprefix(WEIGHTS): x for name, x in state.items() if name.startswith(WEIGHTS)}
        self.model.load_state_dict(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for key in (name for name in state if name.startswith(MOMENTS)):
            i, _, name = key.removeprefix(MOMENTS).partition(".")
            moments.setdefault(int(i), {})[name] = state[key]
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
