"""The standard graph in PyTorch, and its matrix multiplication: a peer that needs neither this package nor TensorFlow.

    python benchmarks/torch_peer.py step float32 200 32 12      # dtype, side in px, batch, steps that are timed
    python benchmarks/torch_peer.py matmul bfloat16 4096

Prints one line of JSON.  The step is forward, backward and Adam on one gray batch that lies ready in memory, channels
last: neither input work nor augmentation, which is to the peer's advantage.  bfloat16 is autocast's, the counterpart of
Keras' mixed_bfloat16.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import nn

WARMUP_STEPS = 3


def standard_graph() -> nn.Sequential:
    """Five blocks of convolutions without bias, global average pooling, a hidden layer of 256, the logit."""
    layers: list[nn.Module] = []
    channels = 1
    for filters, convolutions in ((16, 2), (32, 2), (64, 2), (128, 2), (256, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters, eps=0.001)]
            layers.append(nn.ReLU(inplace=True))
            channels = filters
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(256, 256), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(256, 1)]
    return nn.Sequential(*layers)


def count_parameters(model: nn.Module) -> int:
    """As Keras counts them: with running mean and variance of each normalization, without PyTorch's step counter."""
    return sum(value.numel() for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked"))


def count_multiply_adds(model: nn.Module, size_px: int) -> int:
    """Of convolutions and dense layers, for one image forward, by hooks that see each layer's output."""
    counted: list[int] = []

    def see(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        counted.append(output.numel() * layer.weight[0].numel())

    hooks = [one.register_forward_hook(see) for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 1, size_px, size_px))
    for hook in hooks:
        hook.remove()
    return sum(counted)


def time_steps(dtype: torch.dtype, size_px: int, batch_size: int, num_steps: int) -> dict[str, float]:
    """Images per second of training steps behind a warm-up."""
    torch.manual_seed(0)
    model = standard_graph()
    counts = {"parameters": count_parameters(model), "multiply_adds": count_multiply_adds(model, size_px)}
    model = model.train().to(memory_format=torch.channels_last)
    optimizer, loss_of = torch.optim.Adam(model.parameters()), nn.BCEWithLogitsLoss()
    images = torch.randint(0, 256, (batch_size, 1, size_px, size_px), dtype=torch.uint8)
    labels = torch.randint(0, 2, (batch_size, 1)).float()
    began = 0.0
    for step in range(WARMUP_STEPS + num_steps):
        if step == WARMUP_STEPS:
            began = time.perf_counter()
        scaled = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = model(scaled)
        loss_of(logits.float(), labels).backward()
        optimizer.step()
    return {"images_per_s": num_steps * batch_size / (time.perf_counter() - began), **counts}


def time_matmul(dtype: torch.dtype, side: int) -> dict[str, float]:
    """The best of several square multiplications, GFLOP/s: what the machine can do, not what it mostly does."""
    left, right = (torch.rand(side, side).to(dtype) for _ in range(2))
    took: list[float] = []
    for _ in range(6):
        began = time.perf_counter()
        left @ right
        took.append(time.perf_counter() - began)
    return {"gflop_per_s": 2 * side**3 / min(took) / 1e9}


if __name__ == "__main__":
    what, precision, *numbers = sys.argv[1:]
    timed = {"step": time_steps, "matmul": time_matmul}[what]
    print(json.dumps(timed(getattr(torch, precision), *map(int, numbers))))
