"""Training steps of GPT blocks in PyTorch on a device, in bf16:
python device.py DEVICE SAMPLES POSITIONS WIDTH HEAD LAYERS STEPS FOLDER

Tensors are read from a folder as raw single precision. The results of single precision, to which both sides are
compared, are written there as `NAME.torch`; how far those of bf16 are from them is printed, and the milliseconds of
every step in bf16, the first of which is not given, and the peak of the memory that PyTorch has taken on the device.
All parameters are in bf16 (`bf16`), or in single precision and cast where they are used (`autocast`).
"""

import json
import os
import sys
import time

import torch

from blocks import Blocks

name, *numbers = sys.argv[1:8]
samples, positions, width, head, layers, steps = map(int, numbers)
folder = sys.argv[8]
device = torch.device(name)
gpu = device.type == "cuda"


def read(dtype):
    def tensor(name, *shape):
        with open(os.path.join(folder, name), "rb") as file:
            bytes = bytearray(file.read())
        numbers = torch.frombuffer(bytes, dtype=torch.float32).view(shape)
        # what flows begins rounded on both sides
        flows = torch.bfloat16 if name in ("x", "seed") else dtype
        return numbers.to(device).to(flows).to(dtype)

    return tensor


def figure(case, value, unit):
    line = {"bench": "device", "case": case, "value": value, "unit": unit}
    print(json.dumps(line | {"reference": None, "ratio": None}), flush=True)


def finish():
    if gpu:
        torch.cuda.synchronize()


def run(case, dtype, count, autocast=False):
    """Steps; the output and the gradients of the last one."""
    load = read(dtype)
    blocks = Blocks(torch, load, samples, positions, width, head, layers)
    seed = load("seed", samples, positions, width)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    for step in range(count + 1):
        finish()
        begin = time.perf_counter()
        for tensor in blocks.tensors.values():
            tensor.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output = blocks.forward()
        output.backward(seed.to(output.dtype))
        finish()
        if step > 0:
            figure(f"step, {case}", (time.perf_counter() - begin) * 1e3, "ms")
    if gpu and count > 0:
        figure(f"memory, {case}", torch.cuda.max_memory_allocated() / 1e6, "MB")
    return {"y": output.detach()} | {name: g.detach() for name, g in blocks.gradients()}


torch.backends.cuda.matmul.allow_tf32 = False
truth = run("f32", torch.float32, 0)
for name, tensor in truth.items():
    with open(os.path.join(folder, name + ".torch"), "wb") as file:
        file.write(tensor.float().contiguous().cpu().numpy().tobytes())
for case, dtype, autocast in (
    ("bf16", torch.bfloat16, False),
    ("autocast", torch.float32, True),
):
    found = run(case, dtype, steps, autocast)
    pairs = ((found[name].float(), truth[name]) for name in truth)
    apart = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    figure(f"difference, {case}", apart, "of 1")
    del found
