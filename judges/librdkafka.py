"""librdkafka's own test suite, from the source that the crate `rdkafka-sys` brings: its C and C++ tests.

Each test number runs in a process of its own, a few at a time: most of them wait rather than work. Tests that its
authors mark as local (mock cluster, no broker) are not run, they say nothing about a broker.
"""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

from harness import FAIL, PASS, ROOT, SKIP, NotRun, Result, fetch, run
import java

TITLE = "librdkafka's test suite (C, C++)"
VERSION = "2.12.1, of rdkafka-sys 4.10.0"
CRATE = "rdkafka-sys-4.10.0+2.12.1"
FAST = None
AT_ONCE = 3
SECONDS = 240
# The version the suite is told it talks to; some tests choose by it what they expect.
KAFKA_VERSION = "4.1.0"
# What the suite's own cluster (tests/scenarios/*.json) is given.
SCENARIOS = {"default": {}, "noautocreate": {"auto_create_topics": False}}
CLUSTER = {"default_partitions": 4}
GROUP_PROTOCOL = "classic"


def prepare(work):
    source = work / CRATE
    if not (source / "tests" / "test-runner").exists():
        fetch("librdkafka's source", ["cargo", "fetch", "--locked", "--quiet"], cwd=ROOT)
        found = sorted(crates_home().glob(f"registry/src/*/{CRATE}/librdkafka"))
        if not found:
            raise NotRun(f"cargo has fetched no {CRATE}: update CRATE in judges/librdkafka.py to what Cargo.lock has")
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(found[0], source)
        fetch("librdkafka", ["./configure", "--disable-curl", "--disable-zstd"], cwd=source)
        fetch("librdkafka", ["make", "-j2", "libs"], cwd=source, seconds=1800)
        fetch("librdkafka's tests", ["make", "-j2", "-C", "tests", "test-runner"], cwd=source, seconds=1800)
    return source / "tests", java.tools(work, java.VERSIONS[-1])


def crates_home():
    import os
    from pathlib import Path

    return Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))


def tests(folder):
    """(name, is local, scenarios) of every automatic test, out of the suite's own table."""
    table = (folder / "test.c").read_text().split("struct test tests[] = {")[1].split("{NULL}")[0]
    for entry in re.split(r"\b_TEST\(", table)[1:]:
        name, flags = entry.split(",")[0].strip(), entry
        if "TEST_F_MANUAL" in flags:
            continue
        scenario = re.search(r'\.scenario = "([^"]*)"', flags)
        yield name, "TEST_F_LOCAL" in flags, (scenario.group(1) if scenario else "default").split(",")


def judge(prepared, bench):
    folder, kafka = prepared
    table = list(tests(folder))
    for name, local, _ in table:
        if local:
            yield Result(name, SKIP, "no broker in it: the suite marks it local")
    for scenario, settings in SCENARIOS.items():
        names = [name for name, local, scenarios in table if not local and scenario in scenarios and bench.wanted(name)]
        numbers = sorted({name[:4] for name in names})
        if not numbers:
            continue
        with bench.broker(**CLUSTER, **settings) as address:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                def one(number):
                    chosen = [name for name in names if name.startswith(number)]
                    return run_number(folder, kafka, bench, address, scenario, number, chosen)
                for results in pool.map(one, numbers):
                    yield from results


def run_number(folder, kafka, bench, address, scenario, number, names):
    import os

    conf = bench.logs / f"{scenario}.conf"
    conf.write_text(f"bootstrap.servers={address}\n")
    environment = os.environ | {
        "TESTS": number,
        "TEST_KAFKA_VERSION": KAFKA_VERSION,
        "TEST_CONSUMER_GROUP_PROTOCOL": GROUP_PROTOCOL,
        "RDKAFKA_TEST_CONF": str(conf),
        "KAFKA_PATH": str(kafka),
        "BROKERS": address,
        "LD_LIBRARY_PATH": f"{folder}/../src:{folder}/../src-cpp",
    }
    log = bench.logs / f"{number}-{scenario}.log"
    command = ["./test-runner", "-p1", "-L", "-Q", "-s", scenario]
    ran = run(command, seconds=SECONDS, log=log, cwd=folder, env=environment)
    return [outcome(name, ran) for name in names]


def outcome(name, ran):
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.text)
    if failed := re.search(rf'### Test "{name}(?: \([^"]*\))?" failed at (.*?): ###\n(.*)', text):
        return Result(name, FAIL, f"{failed.group(1).split(' at ')[0]}: {failed.group(2)}".strip())
    if skipped := re.search(rf"\[{name} .*WARN: SKIPPING TEST: (.*)", text):
        return Result(name, SKIP, skipped.group(1))
    if re.search(rf"Test {name} PASSED ===", text):
        return Result(name, PASS)
    ended = f"no end after {SECONDS} s" if ran.code is None else f"the runner ended with {ran.code}"
    return Result(name, FAIL, f"no outcome: {ended}")
