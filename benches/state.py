"""Measures state that is larger than its memory: a GROUP BY with millions of keys, its memory, its speed, its restart.

    state.py [--keys N,N] [--memory SIZE,SIZE] [--rows-per-batch N] [--passes N] [--binary FILE] [--scratch DIR]

    SELECT k, count(*), sum(v) FROM STREAM ev GROUP BY k          output mode update, checkpoint on the local disk

Keys come from `rate-micro-batch` in a scattered order: the first pass over them makes each group, the others change
each once more, every pass in another order. Beside every case the same rows run with 8 keys: what that process needs is
the baseline, and what a case needs beyond it is compared with the memory it was given. What is printed, for each case: rows a second and CPU
microseconds a row of the first pass and of all others together (a snapshot of many keys falls into one of several passes,
and has to count), the peak of resident memory beyond the baseline, and how long a new process takes from its start to its
first batch, the batch not counted.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# Neither this nor what is a multiple of ten more has a factor in common with powers of ten: each pass meets every key once.
SCATTER = 2_654_435_761
BASELINE_KEYS = 8

SQL = """CREATE TABLE ev (timestamp TIMESTAMP, value BIGINT) USING `rate-micro-batch`
  OPTIONS (rowsPerBatch '{rows}', numPartitions '2');
CREATE SINK out USING noop OPTIONS (outputMode 'update');
CREATE FLOW totals AS INSERT INTO out
  SELECT k, count(*) AS n, sum(v) AS total
  FROM (SELECT value * ({scatter} + 10 * (value DIV {keys})) % {keys} AS k, value AS v FROM STREAM ev) GROUP BY k;
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", default="1000000,20000000", help="how many groups, with commas")
    parser.add_argument("--memory", default="256MiB,4GiB", help="memory of the state, with commas")
    parser.add_argument("--rows-per-batch", type=int, default=500_000)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--binary", default=str(HERE.parent / "target/release/highwater"))
    parser.add_argument("--scratch", help="where the folder of checkpoints is made and removed")
    given = parser.parse_args()
    if not os.access(given.binary, os.X_OK):
        parser.error(f"{given.binary} is no program: run `make build`, or name one by --binary")
    if given.passes < 2:
        parser.error(f"--passes {given.passes}, expected 2 or more: the first makes the groups, the others change them")
    return given


class Process:
    """A run of the query, looked at from outside."""

    def __init__(self, binary, folder):
        self.folder = folder
        self.status = folder / "st/queries/totals.json"
        self.before = self.progress()
        self.began = time.time()
        command = [binary, "run", str(folder / "p"), "--storage", str(folder / "st"), "--trigger", "1 millisecond"]
        self.errors = tempfile.TemporaryFile()
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors)

    def progress(self):
        try:
            return json.loads(self.status.read_text()).get("lastProgress")
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def batch(self):
        progress = self.progress()
        return -1 if progress is None else progress["batchId"]

    def wait_for(self, batch):
        while self.batch() < batch:
            if self.child.poll() is not None:
                self.errors.seek(0)
                sys.exit(f"the query ended with {self.child.returncode}:\n{self.errors.read().decode()}")
            time.sleep(0.02)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        lines = pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        self.child.wait()


def measure(given, keys, memory, rows):
    """One case: speed of each pass, peak memory, time of a restart."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=given.scratch, prefix="highwater-state-"))
    try:
        (folder / "p").mkdir()
        (folder / "p/spark-pipeline.yml").write_text(
            f"name: state\nstorage: {folder}/st\nlibraries:\n  - glob:\n      include: '*.sql'\n"
        )
        (folder / "p/highwater.yml").write_text(f"state:\n  memory: {memory}\n")
        (folder / "p/q.sql").write_text(SQL.format(rows=given.rows_per_batch, scatter=SCATTER, keys=keys))
        process = Process(given.binary, folder)
        passes, batch = [], 0
        process.wait_for(0)  # what a process does once is not counted
        for until in (1, given.passes):
            began, cpu, last = time.time(), process.cpu_seconds(), rows * until // given.rows_per_batch - 1
            process.wait_for(last)
            count = (last - batch) * given.rows_per_batch
            passes.append((count / (time.time() - began), (process.cpu_seconds() - cpu) / count * 1e6))
            batch = last
        result = {"passes": passes, "peak_mib": process.peak_mib()}
        process.stop()
        done = process.batch()
        process = Process(given.binary, folder)
        process.wait_for(done + 1)
        first = process.progress()
        # The status may already be that of a later batch: those between are as long as the one that is seen.
        batches = (first["batchId"] - done) * first["durationMs"]["triggerExecution"] / 1000
        result["restart_s"] = max(0.0, time.time() - process.began - batches)
        process.stop()
        return result
    finally:
        shutil.rmtree(folder)


def main():
    given = arguments()
    all_keys = [int(keys) for keys in given.keys.split(",")]
    rows = max(all_keys)
    baseline = measure(given, BASELINE_KEYS, given.memory.split(",")[0], rows)
    rate, cost = baseline["passes"][-1]
    print(f"baseline, {BASELINE_KEYS} keys: {rate:,.0f} rows/s, {cost:.2f} us CPU a row, {baseline['peak_mib']:.0f} MiB")
    print("| keys | memory | first pass (rows/s) | CPU (us) | later passes (rows/s) | CPU (us) | beyond the baseline (MiB) | restart (s) |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for memory in given.memory.split(","):
        for keys in all_keys:
            found = measure(given, keys, memory, rows)
            (first, first_cost), (later, later_cost) = found["passes"]
            beyond = found["peak_mib"] - baseline["peak_mib"]
            print(
                f"| {keys:,} | {memory} | {first:,.0f} | {first_cost:.2f} | {later:,.0f} | {later_cost:.2f} |"
                f" {beyond:.0f} | {found['restart_s']:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
