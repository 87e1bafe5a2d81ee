"""DAPPER's filters on Lorenz-96 (Sakov 2008), one core, seconds for the given number of cycles.

Prints one JSON object a line: bench, case, value, unit. The median of three runs; the first ones
also load code, so one short run goes before.
"""

import os

# one core, as on the other side; must be set before numpy is loaded
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "agg"

import contextlib
import io
import json
import statistics
import sys
import time


def main(cycles: int) -> None:
    # DAPPER and its progress bars talk on standard output, which is for figures
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        import dapper as dpr
        import dapper.da_methods as da
        import dapper.mods as modelling
        from dapper.mods.Lorenz96.sakov2008 import HMM

    filters = {
        "LETKF N=7": lambda: da.LETKF(N=7, infl=1.04, rot=True, loc_rad=4),
        "square-root EnKF N=24": lambda: da.EnKF("Sqrt", N=24, infl=1.02, rot=True),
        "perturbed-observation EnKF N=40": lambda: da.EnKF("PertObs", N=40, infl=1.06),
    }

    def seconds(make, count):
        HMM.tseq = modelling.Chronology(0.05, dko=1, Ko=count - 1, BurnIn=0)
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            dpr.set_seed(3000)
            truth, observed = HMM.simulate()
            method = make()
            started = time.perf_counter()
            method.assimilate(HMM, truth, observed, liveplots=False)
            return time.perf_counter() - started

    for case, make in filters.items():
        seconds(make, 20)
        value = statistics.median(seconds(make, cycles) for _ in range(3))
        print(json.dumps({"bench": "filters", "case": case, "value": value, "unit": "s",
                          "reference": None, "ratio": None}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
