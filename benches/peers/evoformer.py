"""Evoformer attention in its plain form in PyTorch, forward and back:
python evoformer.py BATCH ROWS LENGTH HEADS WIDTH THREADS STEPS FOLDER WRITE [unlocked]

Tensors are q, k, v and seed [B, N, L, H, D], mask [B, N, L] of 0 and 1, and bias [B, L, L, H]; what is read, written
and printed is that of `pytorch.py`.
"""

import sys

from pytorch import Side

b, n, l, h, d = map(int, sys.argv[1:6])
side = Side("evoformer", sys.argv[6:])


def attention(q, k, v, mask, bias):
    """Scores of all rows, both biases in place, softmax, and the mean of the values."""
    q, k, v = (x.transpose(2, 3) for x in (q * d**-0.5, k, v))
    scores = q @ k.transpose(3, 4)
    scores += mask
    scores += bias
    return (scores.softmax(-1) @ v).transpose(2, 3)


def prepare():
    q, k, v = (side.read(name, b, n, l, h, d).requires_grad_(True) for name in "qkv")
    mask = (1e9 * (side.read("mask", b, n, l) - 1)).view(b, n, 1, 1, l)
    # as the kernels of DeepSpeed4Science take it
    bias = side.read("bias", b, l, l, h).permute(0, 3, 1, 2).contiguous().unsqueeze(1)
    bias.requires_grad_(True)
    seed = side.read("seed", b, n, l, h, d)

    def results(output):
        side.save("y", output)
        for name, leaf in zip("qkv", [q, k, v]):
            side.save(name, leaf.grad)
        side.save("bias", bias.grad.squeeze(1).permute(0, 2, 3, 1))

    return [q, k, v, bias], lambda: attention(q, k, v, mask, bias), results, seed


side.measure(prepare)
