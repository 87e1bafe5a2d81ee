"""A training step in PyTorch:
python block.py KIND SAMPLES POSITIONS WIDTH THREADS STEPS FOLDER WRITE [unlocked]

KIND is `block` (a GPT block; heads are 64 wide) or `attention` (full attention of WIDTH / 64 heads); what is read,
written and printed is that of `pytorch.py`.
"""

import sys

from blocks import Blocks
from pytorch import Side

kind, samples, positions, width = sys.argv[1:5]
samples, positions, width = map(int, (samples, positions, width))
side = Side("block", sys.argv[5:])
read, save, torch = side.read, side.save, side.torch

import torch.nn.functional as F  # noqa: E402  after the side has set the threads

HEAD = 64
HEADS = width // HEAD


def block():
    blocks = Blocks(torch, read, samples, positions, width, HEAD, 1)

    def results(output):
        save("y", output)
        for name, grad in blocks.gradients():
            save(name, grad)

    leaves = list(blocks.tensors.values())
    return leaves, blocks.forward, results, read("seed", samples, positions, width)


def attention():
    b, s = samples, positions
    q = read("q", b, s, HEADS, HEAD).transpose(1, 2).contiguous()
    pair = read("kv", b, s, 2, HEADS, HEAD)
    k, v = (pair[:, :, i].transpose(1, 2).contiguous() for i in range(2))
    del pair
    leaves = [q.requires_grad_(True), k.requires_grad_(True), v.requires_grad_(True)]
    seed = read("seed", b, s, HEADS, HEAD).transpose(1, 2).contiguous()

    def forward():
        return F.scaled_dot_product_attention(q, k, v)

    def results(output):
        save("y", output.transpose(1, 2))
        save("q", q.grad.transpose(1, 2))
        save("kv", torch.stack([k.grad.transpose(1, 2), v.grad.transpose(1, 2)], 2))

    return leaves, forward, results, seed


side.measure({"block": block, "attention": attention}[kind])
