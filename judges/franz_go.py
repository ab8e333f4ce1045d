"""The tests of franz-go's client (Go), from the module proxy: pkg/kgo.

Consumer groups that hand records from topic to topic while members come and go, plain and in transactions, are the
heart of them. The number of records is lowered by the suite's own knob.
"""

import json
import os
import re
import shutil

from harness import FAIL, PASS, PASSWORD, SKIP, USER, NotRun, Result, fetch, run, secured

TITLE = "franz-go's client tests (Go)"
MODULE, VERSION = "github.com/twmb/franz-go", "v1.22.1"
FAST = ["TestGroupETL", "TestTxnEtl"]
SECONDS = 420
# A run of its own for each: they are long, and a panic in one takes the others of its process along.
# Need a listener with SASL beside the plain one.
SECURE = ["TestSCRAMAuth", "TestSCRAMAuthBadCredentials"]
ALONE = ["TestGroupETL", "TestTxnEtl", "TestShareGroupETL"]
KNOBS = {"KGO_TEST_RF": "1", "KGO_LOG_LEVEL": "none", "KGO_TEST_RECORDS": "50000", "KGO_TEST_UNSAFE": "1"}
FAST_KNOBS = {"KGO_TEST_RECORDS": "10000"}


def is_fast(name):
    return name.split("/")[0] in FAST


def prepare(work):
    folder = work / f"franz-go-{VERSION}"
    binary = folder / "kgo.test"
    if not binary.exists():
        # Outside of a module, so that nothing of this repository is asked for its dependencies.
        environment = os.environ | {"GOFLAGS": "-mod=mod"}
        text = fetch(MODULE, ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"], cwd=work, env=environment)
        source = json.loads(text[text.index("{") :])["Dir"]
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder, copy_function=shutil.copyfile)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        fetch("franz-go's tests", ["go", "test", "-c", "-o", binary, "./pkg/kgo"], cwd=folder, env=environment)
    return folder, binary


def judge(prepared, bench):
    folder, binary = prepared
    text = run([binary, "-test.list", "."], seconds=60, cwd=folder / "pkg/kgo").text
    names = [line for line in text.split() if line.startswith("Test")]
    if not names:
        raise NotRun(f"{binary} lists no tests: {text}")
    wanted = [name for name in names if bench.wanted(name) or any(bench.wanted(n) for n in children(bench, name))]
    if bench.fast:
        wanted = [name for name in wanted if is_fast(name)]
    together = [name for name in wanted if name not in ALONE + SECURE]
    for chosen in filter(None, [together] + [[name] for name in ALONE if name in wanted]):
        with bench.broker() as address:
            yield from run_tests(folder, binary, bench, {"KGO_SEEDS": address}, chosen)
    if chosen := [name for name in SECURE if name in wanted]:
        _, listeners, security = secured(bench.work)
        with bench.broker(listeners, security=security) as addresses:
            seeds = {"KGO_SEEDS": addresses["plaintext"], "KGO_TEST_SCRAM_SEEDS": addresses["sasl_plaintext"]}
            yield from run_tests(folder, binary, bench, seeds | {"KGO_TEST_SCRAM": f"{USER}:{PASSWORD}:256"}, chosen)


def children(bench, name):
    return [listed for listed in bench.listed if listed.startswith(name + "/")]


def run_tests(folder, binary, bench, seeds, names):
    environment = os.environ | seeds | KNOBS | (FAST_KNOBS if bench.fast else {})
    log = bench.logs / f"{names[0]}.log"
    command = [binary, "-test.v=test2json", "-test.timeout", f"{SECONDS}s", "-test.run", f"^({'|'.join(names)})$"]
    ran = run(command, seconds=SECONDS + 30, log=log, cwd=folder / "pkg/kgo", env=environment)
    events = run(["go", "tool", "test2json"], seconds=60, input=ran.text, cwd=folder).text
    yield from outcomes(events, names, ran)


def outcomes(events, names, ran):
    said, ended, began = {}, {}, set(names)
    for line in events.splitlines():
        event = json.loads(line)
        name = event.get("Test")
        if not name:
            continue
        began.add(name)
        if event["Action"] == "output":
            said.setdefault(name, []).append(event["Output"].strip())
        elif event["Action"] in (PASS, FAIL, SKIP):
            ended[name] = event["Action"]
    for name in sorted(began):
        lines = [line for line in said.get(name, []) if re.match(r"\w+_test\.go:\d+", line)]
        telling = [line for line in lines if not re.search("deleting|DELETING|completed in", line)]
        outcome, detail = ended.get(name), " ".join(telling[:1])
        if outcome is None:
            detail = f"no end within {SECONDS} s" if "test timed out" in ran.text or ran.code is None else "no outcome"
        # The suite leaves out what the broker does not offer: that is a lack of the broker.
        if outcome == SKIP and "broker does not support" in " ".join(lines):
            outcome = FAIL
        yield Result(name, outcome or FAIL, "" if outcome == PASS else detail)
