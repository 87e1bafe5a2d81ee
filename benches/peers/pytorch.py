"""A side that PyTorch takes: tensors from files, steps that are timed, memory, and results to files.

Tensors are read from a folder as raw single precision, and the output and the gradients are written beside them as
`NAME.torch`, if that is asked for. A line of JSON is printed for each figure: the milliseconds of every step, the
first of which is not given, and the peak of resident memory above what was resident before there was any tensor, in
MB.

MKL keeps to AVX2 on processors that are not Intel's. With `unlocked` it is told that this one is, and then
uses AVX-512; nothing is printed where that makes no difference, or where there is no C compiler.
"""

import json
import os
import shutil
import subprocess
import sys
import time


def unlock(folder):
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


def resident(key):
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) * 1024


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class Side:
    """From the arguments THREADS STEPS FOLDER WRITE [unlocked]; PyTorch is not imported before."""

    def __init__(self, bench, arguments):
        threads, steps, self.folder, write, *extra = arguments
        self.bench, self.steps, self.write = bench, int(steps), write == "1"
        os.environ["OMP_NUM_THREADS"] = threads
        if extra == ["unlocked"] and "vendor.so" not in os.environ.get("LD_PRELOAD", ""):
            unlock(self.folder)
        import torch  # the number of threads is read on import

        torch.set_num_threads(int(threads))
        self.torch = torch

    def read(self, name, *shape):
        torch = self.torch
        # kept in memory of its own: the file is not to be part of what is resident
        with open(os.path.join(self.folder, name), "rb") as file:
            bytes = bytearray(file.read())
        return torch.frombuffer(bytes, dtype=torch.float32).view(shape).clone()

    def save(self, name, tensor):
        if self.write:
            with open(os.path.join(self.folder, name + ".torch"), "wb") as file:
                file.write(tensor.detach().contiguous().numpy().tobytes())

    def figure(self, case, value, unit):
        line = {"bench": self.bench, "case": case, "value": value, "unit": unit}
        print(json.dumps(line | {"reference": None, "ratio": None}), flush=True)

    def measure(self, prepare):
        """Steps of what `prepare` gives: leaves, the forward pass, what saves the output and the gradients, and the
        cotangent of the output."""
        before = resident("VmRSS")
        forget_peak()
        leaves, forward, results, seed = prepare()
        output = None
        for step in range(self.steps + 1):
            begin = time.perf_counter()
            output = None
            for leaf in leaves:
                leaf.grad = None
            output = forward()
            output.backward(seed)
            seconds = time.perf_counter() - begin
            if step > 0:
                self.figure("step", seconds * 1e3, "ms")
        self.figure("memory", (resident("VmHWM") - before) / 1e6, "MB")
        results(output)
