"""A training step in PyTorch:
python block.py KIND SAMPLES POSITIONS WIDTH THREADS STEPS FOLDER WRITE [unlocked]

KIND is `block` (a GPT block; heads are 64 wide) or `attention` (full attention of WIDTH / 64 heads); what is read,
written and printed is that of `pytorch.py`.
"""

import sys

from pytorch import Side

kind, samples, positions, width = sys.argv[1:5]
samples, positions, width = map(int, (samples, positions, width))
side = Side("block", sys.argv[5:])
read, save, torch = side.read, side.save, side.torch

import torch.nn.functional as F  # noqa: E402  after the side has set the threads

HEAD = 64
HEADS = width // HEAD


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

    def results(output):
        save("y", output)
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

    return list(t.values()), forward, results, read("seed", b, s, h)


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
