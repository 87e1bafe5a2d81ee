"""Evoformer attention in its plain form in PyTorch, forward and back:
python evoformer.py BATCH ROWS LENGTH HEADS WIDTH THREADS STEPS FOLDER WRITE [unlocked]

Tensors are read from FOLDER as raw single precision: q, k, v and seed [B, N, L, H, D], mask [B, N, L] of 0 and 1, and
bias [B, L, L, H]. With WRITE = 1 the output and the gradients are written beside them as `NAME.torch`. Prints a line
of JSON for each figure: the milliseconds of every step, the first of which is not given, and the peak of resident
memory above what was resident before there was any tensor, in MB.

MKL keeps to AVX2 on processors that are not Intel's. With `unlocked` it is told that this one is, and then
uses AVX-512; nothing is printed where that makes no difference, or where there is no C compiler.
"""

import json
import os
import shutil
import subprocess
import sys
import time

*extents, threads, steps, folder, write = sys.argv[1:10]
b, n, l, h, d = map(int, extents)
threads, steps = int(threads), int(steps)
os.environ["OMP_NUM_THREADS"] = str(threads)


def unlock():
    """Starts this program again with MKL's question about the vendor answered, or ends it."""
    library = os.path.join(folder, "vendor.so")
    with open("/proc/cpuinfo") as file:
        processor = file.read()
    if "GenuineIntel" in processor or "avx512f" not in processor or not shutil.which("cc"):
        sys.exit()
    source = "int mkl_serv_intel_cpu_true(void) { return 1; }"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(command, input=source.encode(), check=True)
    os.environ["LD_PRELOAD"] = library
    os.execv(sys.executable, [sys.executable, *sys.argv])


if sys.argv[10:] == ["unlocked"] and "vendor.so" not in os.environ.get("LD_PRELOAD", ""):
    unlock()

import torch  # noqa: E402  the number of threads is read on import

torch.set_num_threads(threads)


def resident(key):
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) * 1024


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def read(name, *shape):
    # kept in memory of its own: the file is not to be part of what is resident
    with open(os.path.join(folder, name), "rb") as file:
        return torch.frombuffer(bytearray(file.read()), dtype=torch.float32).view(shape).clone()


def save(name, tensor):
    if write == "1":
        with open(os.path.join(folder, name + ".torch"), "wb") as file:
            file.write(tensor.detach().contiguous().numpy().tobytes())


def figure(case, value, unit):
    line = {"bench": "evoformer", "case": case, "value": value, "unit": unit}
    print(json.dumps(line | {"reference": None, "ratio": None}), flush=True)


def attention(q, k, v, mask, bias):
    """Scores of all rows, both biases in place, softmax, and the mean of the values."""
    q, k, v = (x.transpose(2, 3) for x in (q * d**-0.5, k, v))
    scores = q @ k.transpose(3, 4)
    scores += mask
    scores += bias
    return (scores.softmax(-1) @ v).transpose(2, 3)


def main():
    before = resident("VmRSS")
    forget_peak()
    q, k, v = (read(name, b, n, l, h, d).requires_grad_(True) for name in "qkv")
    mask = (1e9 * (read("mask", b, n, l) - 1)).view(b, n, 1, 1, l)
    # as the kernels of DeepSpeed4Science take it
    bias = read("bias", b, l, l, h).permute(0, 3, 1, 2).contiguous().unsqueeze(1)
    bias.requires_grad_(True)
    seed = read("seed", b, n, l, h, d)
    leaves, output = [q, k, v, bias], None
    for step in range(steps + 1):
        begin = time.perf_counter()
        output = None
        for leaf in leaves:
            leaf.grad = None
        output = attention(q, k, v, mask, bias)
        output.backward(seed)
        seconds = time.perf_counter() - begin
        if step > 0:
            figure("step", seconds * 1e3, "ms")
    figure("memory", (resident("VmHWM") - before) / 1e6, "MB")
    save("y", output)
    for name, leaf in zip("qkv", leaves):
        save(name, leaf.grad)
    save("bias", bias.grad.squeeze(1).permute(0, 2, 3, 1))


main()
