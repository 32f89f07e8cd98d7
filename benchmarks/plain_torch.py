"""Training steps and sampling in eager PyTorch: what `step_time.py` and `generate.py` compare with.

`dcgan`, channels last: the networks, the order of the updates and the batch are those of the
recipe; one batch of generated images serves both updates, the discriminator's comes first. `gpt`:
the network, the optimizer and the batch of the recipe, with PyTorch's fused attention.
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


def dcgan(steps):
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


class Block(nn.Module):
    """Attention of 4 heads and two dense layers, each added to its input."""

    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output_projection = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        parts = self.query_key_value(self.norms[0](x)).unflatten(-1, (3, 4, -1))  # B T 3 4 d
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output_projection(mixed.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.widen(self.norms[1](x)), approximate="tanh"))


class GPT(nn.Module):
    """Characters (B, 64) to logits (B, 64, 65)."""

    def __init__(self):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(65, 128), nn.Embedding(64, 128)
        self.blocks, self.norm = nn.Sequential(*(Block(128) for _ in range(4))), nn.LayerNorm(128)

    def forward(self, ids):
        x = self.blocks(self.embedding(ids) + self.positions.weight[: ids.shape[1]])
        return F.linear(self.norm(x), self.embedding.weight)


def gpt(steps):
    """Milliseconds of each step, on windows that are in memory."""
    torch.manual_seed(0)
    model = GPT()
    kernels = [p for m in model.modules() if isinstance(m, nn.Linear) for p in [m.weight]]
    others = [p for p in model.parameters() if all(p is not kernel for kernel in kernels)]
    groups = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, 1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    text = torch.randint(65, (1000, 65))
    times = []
    for i in range(steps):
        start = time.perf_counter()
        batch = text[(i % 80) * 12 :][:12]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        loss.item()
        times.append(1000 * (time.perf_counter() - start))
    return times


@torch.no_grad()
def write(texts, count):
    """Characters a second: each costs a pass over the last 64, and one logit a text is used."""
    torch.manual_seed(0)
    model, ids = GPT(), torch.zeros(texts, 1, dtype=torch.long)
    start = time.perf_counter()
    for _ in range(count):
        p = F.softmax(model(ids[:, -64:])[:, -1], dim=1)
        ids = torch.cat([ids, torch.multinomial(p, 1)], 1)
    return texts * count / (time.perf_counter() - start)
