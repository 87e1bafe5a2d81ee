"""Hourly means per station in Pathway: python ingest_pathway.py RECORDS.csv

Prints a line of JSON for each figure: the records a second on two workers, and the windows and
accepted records, by which the caller sees that the work was the same. The records come as CSV,
which Pathway reads in native code.
"""

import json
import os
import sys
import time

os.environ["PATHWAY_THREADS"] = "2"
os.environ.setdefault("PATHWAY_MONITORING_LEVEL", "none")

import pathway as pw  # noqa: E402  the number of threads is read on import


class Record(pw.Schema):
    time: int
    latitude: float
    longitude: float
    elevation: float
    value: float
    station: str


def main():
    begin = time.perf_counter()
    records = pw.io.csv.read(sys.argv[1], schema=Record, mode="static")
    r = pw.this
    good = records.filter(
        (r.station != "BLOCKED")
        & (r.value >= 213.15)
        & (r.value <= 323.15)
        & (r.latitude >= 20.0)
        & (r.latitude <= 55.0)
        & (r.longitude >= -130.0)
        & (r.longitude <= -60.0)
        & (r.elevation >= -100.0)
        & (r.elevation <= 5000.0)
    )
    # grouping by the hour does less work than the windows of pw.temporal, to the same end
    means = good.select(r.station, r.value, hour=r.time // 3600)
    means = means.groupby(r.station, r.hour).reduce(
        r.station, r.hour, mean=pw.reducers.avg(r.value), count=pw.reducers.count()
    )
    found = {"windows": 0, "accepted": 0}

    def take(key, row, time, is_addition):
        sign = 1 if is_addition else -1
        found["windows"] += sign
        found["accepted"] += sign * row["count"]

    pw.io.subscribe(means, take)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    seconds = time.perf_counter() - begin
    with open(sys.argv[1], "rb") as file:
        rows = sum(1 for _ in file) - 1
    figures = [
        ("rate", rows / seconds, "records/s"),
        ("windows", found["windows"], "windows"),
        ("accepted", found["accepted"], "records"),
    ]
    for case, value, unit in figures:
        line = {"bench": "ingest", "case": case, "value": value, "unit": unit}
        print(json.dumps(line | {"reference": None, "ratio": None}), flush=True)


main()
