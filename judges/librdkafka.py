"""librdkafka's own test suite, from the source that the crate `rdkafka-sys` brings: its C and C++ tests.

Each test number runs in a process of its own, a few at a time: most of them wait rather than work. Tests that its
authors mark as local (mock cluster, no broker) are not run, they say nothing about a broker.
"""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import java
from harness import FAIL, OPEN, PASS, PASSWORD, ROOT, SKIP, USER, NotRun, Result, fetch, run, secured

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
CLUSTER = {"default_partitions": 4, "security": OPEN}
# Tests that leave themselves out of a cluster without TLS or SASL, and some of all kinds beside them.
SECURE = {
    "ssl": ["0012_produce_consume", "0030_offset_commit"],
    "sasl_ssl": [
        "0012_produce_consume",
        "0030_offset_commit",
        "0081_admin",
        "0103_transactions",
        "0135_sasl_credentials",
        "0142_reauthentication",
    ],
}
SECURE_ONLY = ["0097_ssl_verify", "0135_sasl_credentials", "0142_reauthentication"]
GROUP_PROTOCOL = "classic"


# A change to the suite: these calls ask for three replicas whatever the cluster has; one node has one.
THREE_REPLICAS = re.compile(r"(create_topic(?:_wait_exists)?\([^;]*, [\w]+, )3((?:, 5000)?\);)")
# Calls of Kafka's tools take most of the time these tests have, so they get more of it.
SLOW = {"0119": 3}
# Left out by the suite's quick mode, which is on for all others.
NOT_QUICK = ["0082", "0098"]


def is_fast(_name):
    return False


def library(work):
    """librdkafka itself, built: the folder of its source."""
    source = work / CRATE
    if not list((source / "src").glob("librdkafka.so*")):
        fetch("librdkafka's source", ["cargo", "fetch", "--locked", "--quiet"], cwd=ROOT)
        found = sorted(crates_home().glob(f"registry/src/*/{CRATE}/librdkafka"))
        if not found:
            raise NotRun(f"cargo has fetched no {CRATE}: update CRATE in judges/librdkafka.py to what Cargo.lock has")
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(found[0], source)
        change(source / "tests")
        include = rapidjson(work)
        # As a system header: with warnings as errors configure would take it for broken.
        configure = ["./configure", "--disable-curl", "--disable-zstd", f"--CPPFLAGS=-isystem{include}"]
        fetch("librdkafka", configure, cwd=source)
        fetch("librdkafka", ["make", "-j2", "libs"], cwd=source, seconds=1800)
    return source


def performance(work):
    """Its program that measures, as a command."""
    source = library(work)
    fetch("rdkafka_performance", ["make", "-C", "examples", "rdkafka_performance"], cwd=source, seconds=1800)
    return [source / "examples" / "rdkafka_performance"]


def prepare(work):
    source = library(work)
    if not (source / "tests" / "test-runner").exists():
        fetch("librdkafka's tests", ["make", "-j2", "-C", "tests", "test-runner"], cwd=source, seconds=1800)
    # Of Kafka 3: the tools of 4 refuse segments as small as the suite wants them, before any broker is asked.
    kafka = java.tools(work, java.VERSIONS[0])
    programs = source / "tests" / "java"
    if not list(programs.glob("*.class")):
        sources = sorted(programs.glob("*.java"))
        fetch("librdkafka's Java producers", ["javac", "-cp", f"{kafka}/libs/*", "-d", programs, *sources])
    return source / "tests", kafka


def change(folder):
    changed = 0
    for path in [*folder.glob("0*.c"), *folder.glob("0*.cpp")]:
        text, count = THREE_REPLICAS.subn(r"\g<1>1\2", path.read_text())
        path.write_text(text)
        changed += count
    if changed == 0:
        raise NotRun("no test of librdkafka asks for three replicas: THREE_REPLICAS in judges/librdkafka.py is out of date")


def rapidjson(work):
    """The headers some of the C++ tests read JSON with; without them these leave themselves out."""
    folder = work / "rapidjson-dev"
    if not folder.exists():
        fetch("rapidjson-dev", ["apt-get", "download", "rapidjson-dev"], cwd=work)
        (package,) = work.glob("rapidjson-dev_*.deb")
        fetch("rapidjson-dev", ["dpkg-deb", "-x", package, folder])
    return folder / "usr/include"


def crates_home():
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
        names = [name for name in names if name not in SECURE_ONLY]
        with bench.broker(**CLUSTER, **settings) as address:
            suite = Suite(folder, kafka, bench, address, scenario)
            yield from suite.run(names)
    yield from judge_secured(folder, kafka, bench)


def judge_secured(folder, kafka, bench):
    certificates, listeners, security = secured(bench.work)
    # Its user is nobody special: some tests make rules for it and ask what it may do then.
    security |= {"super_users": [], "max_reauthentication_ms": 10_000}
    settings = CLUSTER | {"security": security}
    with bench.broker(listeners, **settings) as addresses:
        for protocol, names in SECURE.items():
            names = [name for name in names if bench.wanted(f"{protocol}: {name}")]
            suite = Suite(folder, kafka, bench, addresses[protocol], "default", f"{protocol}: ")
            suite.conf = {
                "security.protocol": protocol,
                "ssl.ca.location": certificates / "ca.pem",
                "ssl.certificate.location": certificates / "client.pem",
                "ssl.key.location": certificates / "client.key",
            }
            if protocol.startswith("sasl"):
                suite.conf |= {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": USER, "sasl.password": PASSWORD}
            yield from suite.run(names)


class Suite:
    """The suite, pointed at a broker and told its scenario. Results are named with a prefix."""

    def __init__(self, folder, kafka, bench, address, scenario, prefix=""):
        self.folder, self.kafka, self.bench, self.address = folder, kafka, bench, address
        self.scenario, self.prefix = scenario, prefix
        self.conf = {}

    def run(self, names):
        """Tests of one number share a process."""
        by_number = {}
        for name in names:
            by_number.setdefault(name[:4], []).append(name)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for results in pool.map(lambda number: self.run_number(number, by_number[number]), by_number):
                yield from results

    def run_number(self, number, names):
        kind = self.prefix.rstrip(": ") or self.scenario
        conf = self.bench.logs / f"{kind}.conf"
        lines = {"bootstrap.servers": self.address, **self.conf}
        if number in SLOW:
            conf = self.bench.logs / f"{kind}-{number}.conf"
            lines["test.timeout.multiplier"] = SLOW[number]
        conf.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        environment = os.environ | {
            "TESTS": number,
            "TEST_KAFKA_VERSION": KAFKA_VERSION,
            "TEST_CONSUMER_GROUP_PROTOCOL": GROUP_PROTOCOL,
            "RDKAFKA_TEST_CONF": str(conf),
            "KAFKA_PATH": str(self.kafka),
            "BROKERS": self.address,
            "LD_LIBRARY_PATH": f"{self.folder}/../src:{self.folder}/../src-cpp",
        }
        quick = [] if number in NOT_QUICK else ["-Q"]
        command = ["./test-runner", "-p1", "-L", *quick, "-s", self.scenario]
        log = self.bench.logs / f"{number}-{kind}.log"
        ran = run(command, seconds=SECONDS, log=log, cwd=self.folder, env=environment)
        return [outcome(name, ran, self.prefix) for name in names]


def outcome(name, ran, prefix):
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.text)
    if failed := re.search(rf'### Test "{name}(?: \([^"]*\))?" failed at (.*?): ###\n(.*)', text):
        return Result(prefix + name, FAIL, f"{failed.group(1).split(' at ')[0]}: {failed.group(2)}".strip())
    if skipped := re.search(rf"\[{name} .*WARN: SKIPPING TEST: (.*)", text):
        # With TLS and SASL there, what a test misses is something the broker does not say.
        return Result(prefix + name, FAIL if prefix else SKIP, skipped.group(1))
    if re.search(rf"Test {name} PASSED ===", text):
        return Result(prefix + name, PASS)
    ended = f"no end after {SECONDS} s" if ran.code is None else f"the runner ended with {ran.code}"
    return Result(prefix + name, FAIL, f"no outcome: {ended}")
