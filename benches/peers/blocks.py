"""GPT blocks as PyTorch's users write them, with the names of our tensors. Maps to queries, keys and values are one."""


class Blocks:
    """`layers` blocks of a width, with heads of `head`; tensors are made by `read(name, *shape)`."""

    def __init__(self, torch, read, samples, positions, width, head, layers):
        self.torch, self.shape, self.head = torch, (samples, positions, width), head
        self.layers = layers
        h, f = width, 4 * width
        self.tensors = {"x": read("x", samples, positions, h)}
        for layer in range(layers):
            at, ff = self.parts(layer)
            for part in (at, ff):
                for name in ("gain", "shift"):
                    self.tensors[f"{part}.norm.{name}"] = read(f"{part}.norm.{name}", h)
            query, pair = read(f"{at}.query.weight", h, h), read(f"{at}.key-value.weight", h, 2 * h)
            self.tensors[f"{at}.qkv"] = torch.cat([query, pair], 1).t().contiguous()
            self.tensors[f"{at}.qkv bias"] = torch.cat(
                [read(f"{at}.query.bias", h), read(f"{at}.key-value.bias", 2 * h)]
            )
            del query, pair
            for name, rows, columns in [
                (f"{at}.output", h, h),
                (f"{ff}.up", h, f),
                (f"{ff}.down", f, h),
            ]:
                weight = read(name + ".weight", rows, columns).t().contiguous()
                self.tensors[name + ".weight"] = weight
                self.tensors[name + ".bias"] = read(name + ".bias", columns)
        for tensor in self.tensors.values():
            tensor.requires_grad_(True)

    @staticmethod
    def parts(layer):
        return f"block {layer}.attention", f"block {layer}.feed-forward"

    def forward(self):
        x = self.tensors["x"]
        for layer in range(self.layers):
            x = self.block(x, *self.parts(layer))
        return x

    def block(self, x, at, ff):
        F, t = self.torch.nn.functional, self.tensors
        b, s, h = self.shape
        n = F.layer_norm(x, (h,), t[f"{at}.norm.gain"], t[f"{at}.norm.shift"])
        qkv = F.linear(n, t[f"{at}.qkv"], t[f"{at}.qkv bias"])
        q, k, v = qkv.view(b, s, 3, h // self.head, self.head).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(b, s, h)
        x = x + F.linear(y, t[f"{at}.output.weight"], t[f"{at}.output.bias"])
        n = F.layer_norm(x, (h,), t[f"{ff}.norm.gain"], t[f"{ff}.norm.shift"])
        u = F.linear(n, t[f"{ff}.up.weight"], t[f"{ff}.up.bias"])
        u = F.gelu(u, approximate="tanh")
        return x + F.linear(u, t[f"{ff}.down.weight"], t[f"{ff}.down.bias"])

    def gradients(self):
        """Of our tensors, by name."""
        h = self.shape[-1]
        for name, tensor in self.tensors.items():
            grad, part = tensor.grad, name.removesuffix(".qkv").removesuffix(".qkv bias")
            kind = "bias" if name.endswith("bias") else "weight"
            if part != name:
                for which, rows in (("query", slice(0, h)), ("key-value", slice(h, None))):
                    yield f"{part}.{which}.{kind}", grad[rows].t() if kind == "weight" else grad[rows]
            else:
                yield name, grad.t() if grad.dim() == 2 else grad
