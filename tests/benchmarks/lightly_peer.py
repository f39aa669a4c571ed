"""The peer: the same network, heads and batch in PyTorch, with lightly's memory bank and loss.

Run by `tests.benchmarks.training_step` with a Python that has torch and lightly, which this project does not depend on:

    python3.11 -m venv peer && peer/bin/pip install torch torchvision lightly

It makes one training step for every line on stdin, and answers each with a line. What lightly leaves to the user is
written the way that is fastest here: both views in one encoder pass, channels last, and views drawn in the batch
(affine grid, per-image crop, flip and brightness) instead of by PIL in worker processes.
"""

import argparse
import sys

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import NNMemoryBankModule
from lightly.models.modules.heads import ProjectionHead
from torch import nn

_WIDTH = 128


def _encoder(pixels: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels, side = 3, pixels
    for _ in range(4):
        layers += [nn.Conv2d(channels, _WIDTH, 3, stride=2), nn.ReLU()]
        channels, side = _WIDTH, (side - 3) // 2 + 1
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(_WIDTH * side * side, _WIDTH), nn.ReLU())


def _views(images: torch.Tensor) -> torch.Tensor:
    """Two views of each image: random resized crop (area 0.2 to 1, ratio 3/4 to 4/3), flip, brightness 0.5 to 1.5."""
    images = torch.cat([images, images]).float() / 255
    count = len(images)
    area = torch.empty(count).uniform_(0.2, 1.0)
    ratio = torch.exp(torch.empty(count).uniform_(-0.2877, 0.2877))
    height, width = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
    down, right = ((torch.rand(count) * 2 - 1) * (1 - side) for side in (height, width))
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    theta = torch.stack([torch.stack([width * flip, zero, right], 1), torch.stack([zero, height, down], 1)], 1)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    views = nn.functional.grid_sample(images, grid, align_corners=False)
    brightness = torch.empty(count, 1, 1, 1).uniform_(0.5, 1.5)
    return (views * brightness).clamp(0, 1).contiguous(memory_format=torch.channels_last)


def main() -> None:
    """Answers until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--support-set", type=int, required=True)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-augmentation", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    encoder = _encoder(arguments.pixels).to(memory_format=torch.channels_last)
    head = ProjectionHead([(_WIDTH, _WIDTH, None, nn.ReLU()), (_WIDTH, _WIDTH, None, None)])
    bank = NNMemoryBankModule(size=(arguments.support_set, _WIDTH))
    criterion = NTXentLoss(temperature=0.1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()])
    images = torch.randint(0, 256, (arguments.batch, 3, arguments.pixels, arguments.pixels), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    still = _views(images)

    def project(views):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bfloat16"):
            return head(encoder(views)).float()

    draw = _views
    if arguments.compile:
        project, draw = torch.compile(project), torch.compile(draw)

    def step() -> float:
        views = still if arguments.no_augmentation else draw(images)
        first, second = project(views).chunk(2)
        nearest_first = bank(first.detach(), update=False)
        nearest_second = bank(second.detach(), update=True)
        loss = 0.5 * (criterion(nearest_first, second) + criterion(nearest_second, first))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    print(torch.__version__, flush=True)
    for _ in sys.stdin:
        print(step(), flush=True)


if __name__ == "__main__":
    main()
