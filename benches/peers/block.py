"""A training step in PyTorch:
python block.py KIND SAMPLES POSITIONS WIDTH THREADS STEPS FOLDER WRITE [unlocked]

KIND is `block` (a GPT block; heads are 64 wide) or `attention` (full attention of WIDTH / 64 heads).
Tensors are read from FOLDER as raw single precision, and with WRITE = 1 the output and the gradients
are written beside them as `NAME.torch`. Prints a line of JSON for each figure: the milliseconds of every
step, the first of which is not given, and the peak of resident memory above what was resident before
there was any tensor, in MB.

MKL keeps to AVX2 on processors that are not Intel's. With `unlocked` it is told that this one is, and then
uses AVX-512; nothing is printed where that makes no difference, or where there is no C compiler.
"""

import json
import os
import shutil
import subprocess
import sys
import time

kind, samples, positions, width, threads, steps, folder, write = sys.argv[1:9]
samples, positions, width, threads, steps = map(int, (samples, positions, width, threads, steps))
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


if sys.argv[9:] == ["unlocked"] and "vendor.so" not in os.environ.get("LD_PRELOAD", ""):
    unlock()

import torch  # noqa: E402  the number of threads is read on import
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(threads)
HEAD = 64
HEADS = width // HEAD


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


def block():
    h, f, b, s = width, 4 * width, samples, positions
    at, ff = "block 0.attention", "block 0.feed-forward"
    tensors = {"x": read("x", b, s, h)}
    for part in (at, ff):
        tensors[f"{part}.norm.gain"] = read(f"{part}.norm.gain", h)
        tensors[f"{part}.norm.shift"] = read(f"{part}.norm.shift", h)
    # one map to queries, keys and values, as PyTorch's users write it
    query, pair = read(f"{at}.query.weight", h, h), read(f"{at}.key-value.weight", h, 2 * h)
    tensors["qkv"] = torch.cat([query, pair], 1).t().contiguous()
    tensors["qkv bias"] = torch.cat(
        [read(f"{at}.query.bias", h), read(f"{at}.key-value.bias", 2 * h)]
    )
    del query, pair
    for name, rows, columns in [
        (f"{at}.output", h, h),
        (f"{ff}.up", h, f),
        (f"{ff}.down", f, h),
    ]:
        tensors[name + ".weight"] = read(name + ".weight", rows, columns).t().contiguous()
        tensors[name + ".bias"] = read(name + ".bias", columns)
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    t = tensors

    def forward():
        x = t["x"]
        n = F.layer_norm(x, (h,), t[f"{at}.norm.gain"], t[f"{at}.norm.shift"])
        qkv = F.linear(n, t["qkv"], t["qkv bias"]).view(b, s, 3, HEADS, HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(b, s, h)
        x = x + F.linear(y, t[f"{at}.output.weight"], t[f"{at}.output.bias"])
        n = F.layer_norm(x, (h,), t[f"{ff}.norm.gain"], t[f"{ff}.norm.shift"])
        u = F.linear(n, t[f"{ff}.up.weight"], t[f"{ff}.up.bias"])
        u = F.gelu(u, approximate="tanh")
        return x + F.linear(u, t[f"{ff}.down.weight"], t[f"{ff}.down.bias"])

    def gradients():
        for name, tensor in t.items():
            grad = tensor.grad
            if name == "qkv":
                save(f"{at}.query.weight", grad[:h].t())
                save(f"{at}.key-value.weight", grad[h:].t())
            elif name == "qkv bias":
                save(f"{at}.query.bias", grad[:h])
                save(f"{at}.key-value.bias", grad[h:])
            elif grad.dim() == 2:
                save(name, grad.t())
            else:
                save(name, grad)

    return list(t.values()), forward, gradients, read("seed", b, s, h)


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

    def gradients():
        save("q", q.grad.transpose(1, 2))
        save("kv", torch.stack([k.grad.transpose(1, 2), v.grad.transpose(1, 2)], 2))

    return leaves, forward, gradients, seed


def main():
    before = resident("VmRSS")
    forget_peak()
    leaves, forward, gradients, seed = {"block": block, "attention": attention}[kind]()
    output = None
    for step in range(steps + 1):
        begin = time.perf_counter()
        output = None
        for leaf in leaves:
            leaf.grad = None
        output = forward()
        output.backward(seed)
        seconds = time.perf_counter() - begin
        if step > 0:
            figure("step", seconds * 1e3, "ms")
    figure("memory", (resident("VmHWM") - before) / 1e6, "MB")
    save("y", output.transpose(1, 2) if kind == "attention" else output)
    gradients()


def figure(case, value, unit):
    line = {"bench": "block", "case": case, "value": value, "unit": unit}
    print(json.dumps(line | {"reference": None, "ratio": None}), flush=True)


main()
