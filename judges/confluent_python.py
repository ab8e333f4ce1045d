"""confluent-kafka for Python, a newer librdkafka than that of the other judges, from PyPI.

Its packages carry no integration tests, so these are ours: `confluent_checks.py`, each check in a process of its own.
"""

import json
from pathlib import Path

from harness import FAIL, OPEN, PASS, Result, file_name, last_lines, run, venv

TITLE = "confluent-kafka (Python)"
VERSION = "2.16.1"
FAST = True
SECONDS = 90
SCRIPT = Path(__file__).with_name("confluent_checks.py")
AT_ONCE = 2


def is_fast(_name):
    return True


def prepare(work):
    return venv(work / f"confluent-kafka-{VERSION}-env", [f"confluent-kafka=={VERSION}"])


def judge(python, bench):
    from concurrent.futures import ThreadPoolExecutor

    names = json.loads(run([python, SCRIPT], seconds=60, merge=False).text)
    with bench.broker(security=OPEN) as address, ThreadPoolExecutor(AT_ONCE) as pool:
        one = lambda name: outcome(name, python, bench.logs / f"{file_name(name)}.log", address)
        yield from pool.map(one, [name for name in names if bench.wanted(name)])


def outcome(name, python, log, address):
    ran = run([python, SCRIPT, address, name], seconds=SECONDS, log=log)
    if ran.code == 0:
        return Result(name, PASS)
    return Result(name, FAIL, f"no end after {SECONDS} s" if ran.code is None else last_lines(ran.text, 1))
