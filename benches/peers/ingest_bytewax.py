"""Hourly means per station in Bytewax: python ingest_bytewax.py RECORDS.parquet

Prints a line of JSON for each figure: the records a second on two workers, and the windows and
accepted records, by which the caller sees that the work was the same.
"""

import json
import sys
import time
from datetime import datetime, timedelta, timezone

import bytewax.operators as op
import pyarrow.parquet as pq
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

WORKERS = 2
COLUMNS = ["time", "latitude", "longitude", "elevation", "value", "station"]
BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


class Groups(StatefulSourcePartition):
    """Every so many-th row group of the file."""

    def __init__(self, path, first):
        file = pq.ParquetFile(path)
        groups = range(first, file.num_row_groups, WORKERS)
        self.batches = file.iter_batches(8192, row_groups=list(groups), columns=COLUMNS)

    def next_batch(self):
        table = next(self.batches, None)
        if table is None:
            raise StopIteration()
        columns = [table.column(name) for name in COLUMNS]
        # pandas-free: integers and floats come out of Arrow in one go
        columns[0] = columns[0].cast("int64")
        return list(zip(*(column.to_pylist() for column in columns)))

    def snapshot(self):
        return None


class Records(FixedPartitionedSource):
    def __init__(self, path):
        self.path = path

    def list_parts(self):
        return [str(k) for k in range(WORKERS)]

    def build_part(self, step_id, for_part, resume_state):
        return Groups(self.path, int(for_part))


def good(record):
    _, latitude, longitude, elevation, value, station = record
    return (
        station != "BLOCKED"
        and 213.15 <= value <= 323.15
        and 20.0 <= latitude <= 55.0
        and -130.0 <= longitude <= -60.0
        and (elevation is None or -100.0 <= elevation <= 5000.0)
    )


class Count(StatelessSinkPartition):
    windows = 0
    accepted = 0

    def write_batch(self, items):
        for _, (_, (total, count)) in items:
            total / count
            Count.windows += 1
            Count.accepted += count


class Counter(DynamicSink):
    def build(self, step_id, worker_index, worker_count):
        return Count()


def add(sums, item):
    sums[0] += item[1]
    sums[1] += 1
    return sums


def merge(a, b):
    return [a[0] + b[0], a[1] + b[1]]


def keyed(record):
    at = datetime.fromtimestamp(record[0] // 1_000_000_000, timezone.utc)
    return record[5], (at, record[4])


def main():
    begin = time.perf_counter()
    flow = Dataflow("ingest")
    records = op.input("records", flow, Records(sys.argv[1]))
    accepted = op.filter("quality", records, good)
    pairs = op.map("key", accepted, keyed)
    # the two halves of the file are read side by side: one may be behind by some hours
    clock = EventClock(lambda item: item[0], wait_for_system_duration=timedelta(days=2))
    windower = TumblingWindower(length=HOUR, align_to=BEGIN)
    means = fold_window(
        "means", pairs, clock, windower, lambda: [0.0, 0], add, merge, ordered=False
    )
    op.output("out", means.down, Counter())
    cluster_main(flow, [], 0, worker_count_per_proc=WORKERS)
    seconds = time.perf_counter() - begin
    rows = pq.ParquetFile(sys.argv[1]).metadata.num_rows
    figures = [
        ("rate", rows / seconds, "records/s"),
        ("windows", Count.windows, "windows"),
        ("accepted", Count.accepted, "records"),
    ]
    for case, value, unit in figures:
        line = {"bench": "ingest", "case": case, "value": value, "unit": unit}
        print(json.dumps(line | {"reference": None, "ratio": None}))


main()
