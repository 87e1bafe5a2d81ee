#!/usr/bin/env python3
"""Measures a model that `advect run language` wrote with Hugging Face's transformers, and compares.

    python3 scripts/against-transformers.py OUT TEXT

OUT is the directory of the run, TEXT the text that it learned (.bz2 is unpacked). The test part and the windows
are those of OUT/config.toml, and bits a byte are compared with OUT/scores.json: exit code 1 if they differ by
more than one part in a hundred thousand. Needs `pip install torch transformers`.
"""

import bz2
import json
import math
import pathlib
import sys
import tomllib

import torch
import transformers

out, text = map(pathlib.Path, sys.argv[1:3])
config = tomllib.loads((out / "config.toml").read_text())
data = text.read_bytes()
data = list(bz2.decompress(data) if text.suffix == ".bz2" else data)
context, test = config["model"]["context"], config["text"]["test"]
first = len(data) - test
starts = [s for s in range(first, len(data), context) if s + context < len(data)]
transformers.logging.set_verbosity_error()
model = transformers.AutoModelForCausalLM.from_pretrained(out / "model").eval()
nats = 0.0
with torch.no_grad():
    for at in range(0, len(starts), 16):
        windows = torch.tensor([data[s : s + context + 1] for s in starts[at : at + 16]])
        logits = model(windows[:, :-1]).logits.double()
        rows = logits.reshape(-1, logits.shape[-1])
        nats += torch.nn.functional.cross_entropy(rows, windows[:, 1:].reshape(-1), reduction="sum").item()
theirs = nats / (len(starts) * context) / math.log(2)
ours = json.loads((out / "scores.json").read_text())["test_bits"]
print(f"{type(model).__name__}: {theirs:.6f} bits a byte here, {ours:.6f} there")
sys.exit(abs(theirs / ours - 1) > 1e-5)
