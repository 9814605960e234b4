"""Is what runs on this GPU right? Kernels and blocks against references, Wan against diffusers', bf16 against fp32."""

import itertools
import time

import torch
from lines import arguments, attempt, report
from transformer import TEXT_WIDTH, goku_config, wan  # bench/transformer.py

from goku_cli.checkup.kernels import BOUND, check_kernels, check_model, difference
from goku_cli.model.network.packing import pack, patchify
from goku_cli.model.network.transformer import Goku
from goku_cli.model.weights.wan import weights_from_wan
from goku_cli.train.distributed.optimizer import make_optimizer
from goku_cli.train.recipe import TrainConfig

DIMS = {"heads": 4, "head": 64, "ffn": 1024, "layers": 4}
STEPS, FEW = 50, 3


def wan_like_diffusers(device: torch.device, dtype: torch.dtype) -> float:
    """Return how far our class is from diffusers', with its weights, in one dtype."""
    torch.manual_seed(0)
    theirs = wan(DIMS).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    ours = Goku(goku_config(DIMS, True)).eval()
    ours.load_state_dict(weights_from_wan(theirs.state_dict(), DIMS["layers"]))
    latent, text = torch.randn(16, 5, 16, 24), torch.randn(77, TEXT_WIDTH)
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        packed = pack([latent], [text]).to(device)
        found = ours.to(device)(packed, torch.tensor([0.3], device=device))
        given = latent[None].to(device), torch.tensor([700.0], device=device), text[None].to(device)
        exact = theirs.to(device)(*given, return_dict=False)[0][0]
    return difference(-found.cpu(), patchify([exact.float().cpu()]))


def losses(device: torch.device, steps: int, bf16: bool, compiled: bool) -> list[float]:
    """Return the losses of some steps of a small model on the same few samples."""
    torch.manual_seed(0)
    model = Goku(goku_config(DIMS, False)).to(device).train()
    if compiled:
        for block in model.blocks:
            block.compile(dynamic=True)
    optimizer = make_optimizer(model, TrainConfig(steps=steps, tokens_per_step=1, lr=1e-3))
    shapes = [(1, 16, 16)] * 4 + [(3, 16, 24)]
    x_1 = [torch.randn(16, *shape) for shape in shapes]
    texts = [torch.randn(n, TEXT_WIDTH) for n in (5, 17, 40, 3, 60)]
    found = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x_0 = [torch.randn(z.shape, generator=generator) for z in x_1]
        t_B = torch.rand(len(shapes), generator=generator)
        pairs = list(zip(x_1, x_0, strict=True))
        x_t = pack([t * z + (1 - t) * e for (z, e), t in zip(pairs, t_B, strict=True)], texts).to(device)
        target = patchify([z - e for z, e in pairs]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            v = model(x_t, t_B.to(device))
        loss = (v.float() - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.detach())
    return torch.stack(found).tolist()


def main() -> None:
    """Report every comparison; `right` says whether it keeps to its bound."""
    options = arguments(__doc__)
    for verdict in itertools.chain(check_kernels(options.device, timed=not options.smoke), check_model(options.device)):
        figures = {"difference": verdict.difference, "bound": verdict.bound, "ms": 1000 * verdict.seconds or None}
        told = {"failed": verdict.problem} if verdict.problem else {"right": verdict.right, **figures}
        report(verdict.name, **told)
    for dtype in (torch.float32, torch.bfloat16):
        case = f"Wan as diffusers' in {str(dtype).removeprefix('torch.')}"
        with attempt(case):
            found = wan_like_diffusers(options.device, dtype)
            report(case, right=found <= BOUND[dtype], difference=found, bound=BOUND[dtype])
    exact: list[float] = []
    steps = FEW if options.smoke else STEPS
    for bf16, compiled in ((False, False), (True, False), (True, True)):
        case = f"{steps} steps in {'bf16' if bf16 else 'fp32'}{', compiled' if compiled else ''}"
        with attempt(case):
            started = time.perf_counter()
            found = losses(options.device, steps, bf16, compiled)
            exact = exact or found
            apart = max(abs(a - b) / b for a, b in zip(found, exact, strict=True))
            report(case, right=apart <= 0.02, difference=apart, bound=0.02, loss=found[-1],
                   seconds=time.perf_counter() - started)  # fmt: skip


if __name__ == "__main__":
    main()
