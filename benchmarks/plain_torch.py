"""DCGAN's training step in eager PyTorch, channels last: what `step_time.py` compares with.

The networks, the order of the updates and the batch are those of the recipe `dcgan`: one batch of
generated images serves both updates, the discriminator's comes first.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn


class Generator(nn.Module):
    """Noise to images of 28x28."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(128, 4 * 4 * 128, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in (128, 64, 32)])
        up = {"kernel_size": 4, "stride": 2, "padding": 1}
        self.up1 = nn.ConvTranspose2d(128, 64, **up, bias=False)
        self.up2 = nn.ConvTranspose2d(64, 32, **up, bias=False)
        self.up3 = nn.ConvTranspose2d(32, 1, **up)

    def forward(self, z):
        x = self.dense(z).view(-1, 128, 4, 4).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.norms[0](x))
        x = F.relu(self.norms[1](self.up1(x)[:, :, :7, :7]))
        x = F.relu(self.norms[2](self.up2(x)))
        return torch.tanh(self.up3(x))


def discriminator():
    """Images of 28x28 to logits; a side of 7 becomes one of 4."""
    down = {"kernel_size": 4, "stride": 2, "bias": False}
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, **down, padding=1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2),
        nn.ZeroPad2d((1, 2, 1, 2)),
        nn.Conv2d(64, 128, **down),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(4 * 4 * 128, 1),
    )


def step_times(steps):
    """Milliseconds of each step, on images that are in memory."""
    torch.manual_seed(0)
    g = Generator().to(memory_format=torch.channels_last)
    d = discriminator().to(memory_format=torch.channels_last)
    g_adam = torch.optim.Adam(g.parameters(), 2e-4, betas=(0.5, 0.999))
    d_adam = torch.optim.Adam(d.parameters(), 2e-4, betas=(0.5, 0.999))
    images = torch.rand(2560, 1, 28, 28).to(memory_format=torch.channels_last) * 2 - 1
    times = []
    for i in range(steps):
        start = time.perf_counter()
        x_real = images[(i % 20) * 128 :][:128]
        x_fake = g(torch.randn(128, 128))
        d_loss = F.softplus(-d(x_real)).mean() + F.softplus(d(x_fake.detach())).mean()
        d_adam.zero_grad()
        d_loss.backward()
        d_adam.step()
        g_loss = F.softplus(-d(x_fake)).mean()
        g_adam.zero_grad()
        g_loss.backward()
        g_adam.step()
        d_loss.item(), g_loss.item()
        times.append(1000 * (time.perf_counter() - start))
    return times
