#!/usr/bin/env python3
"""Times CenterPoint-Pillar's 2D network (the one of network/mod.rs, random weights) in PyTorch on a GPU: FP16, channels-last, cuDNN's
choice of kernels tuned, in a CUDA graph. Called by `cargo bench --bench int8_network -- --gpu`. Needs torch with CUDA."""
import argparse

import torch
from torch import nn

GRID, PILLARS = 512, 12_000


def conv(inputs, outputs, kernel, stride=1, relu=True):
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=1 if kernel == 3 else 0)
    return nn.Sequential(layer, nn.ReLU(inplace=True)) if relu else layer


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks, self.ups, channels = nn.ModuleList(), nn.ModuleList(), 64
        for i, (width, repeats) in enumerate([(64, 3), (128, 5), (256, 5)]):
            layers = [conv(channels, width, 3, 2)] + [conv(width, width, 3) for _ in range(repeats)]
            self.blocks.append(nn.Sequential(*layers))
            self.ups.append([
                lambda w=width: conv(w, 128, 2, 2),
                lambda w=width: conv(w, 128, 1),
                lambda w=width: nn.Sequential(nn.ConvTranspose2d(w, 128, 2, 2), nn.ReLU(inplace=True)),
            ][i]())
            channels = width
        self.shared = conv(384, 64, 3)
        widths = [width for classes in [1, 2, 2, 1, 2, 2] for width in [classes, 2, 1, 3, 2, 2]]
        # The first convolutions of all branches as one, as we have them.
        self.first = conv(64, 64 * len(widths), 3)
        self.last = nn.ModuleList(conv(64, width, 3, relu=False) for width in widths)

    def forward(self, x):
        ups = []
        for block, up in zip(self.blocks, self.ups):
            x = block(x)
            ups.append(up(x))
        branches = self.first(self.shared(torch.cat(ups, 1))).chunk(len(self.last), 1)
        return [last(branch) for last, branch in zip(self.last, branches)]


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    network = Network().eval().cuda().half().to(memory_format=torch.channels_last)
    canvas = torch.zeros(1, 64, GRID, GRID)
    cells = torch.randperm(GRID * GRID)[:PILLARS]
    canvas.view(64, -1)[:, cells] = torch.rand(64, PILLARS)
    canvas = canvas.cuda().half().to(memory_format=torch.channels_last)
    for _ in range(5):
        network(canvas)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(canvas)
    times = []
    for _ in range(args.runs + 10):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    times = sorted(times[10:])
    name = f"PyTorch {torch.__version__.split('+')[0]} FP16, CUDA graph, resident"
    print(f"{name:48} {times[len(times) // 2]:8.3f} ({times[0]:.3f}) ms")


if __name__ == "__main__":
    main()
