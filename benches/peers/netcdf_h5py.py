"""Reads a variable with h5py: python netcdf_h5py.py FILE VARIABLE REPEATS

Prints the median of the seconds as a line of JSON. The file is open before the clock starts.
"""

import json
import statistics
import sys
import time

import h5py


def main():
    path, name, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
    seconds = []
    for _ in range(repeats):
        with h5py.File(path, "r") as file:
            variable = file[name]
            begin = time.perf_counter()
            values = variable[...]
            seconds.append(time.perf_counter() - begin)
            del values
    line = {"bench": "netcdf", "case": name, "value": statistics.median(seconds), "unit": "s"}
    print(json.dumps(line | {"reference": None, "ratio": None}))


main()
