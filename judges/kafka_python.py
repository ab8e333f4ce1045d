"""kafka-python's integration tests, from its source distribution on PyPI, against a broker that runs already.

The suite can be pointed at one (KAFKA_URI); what its source distribution leaves out is `test/service.py`, the helper
that starts a Java Kafka, of which that mode needs the names only (`kafka_python_service.py`).
"""

import os
import shutil
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from harness import FAIL, PASS, SKIP, NotRun, Result, fetch, run, venv

TITLE = "kafka-python's integration tests (Python)"
VERSION = "3.0.12"
FAST = ["test_producer_integration", "test_consumer_integration"]
SECONDS = 900
# The version the suite is told it talks to: it leaves out what that one does not have.
KAFKA_VERSION = "4.1.0"
# What the suite configures its own cluster with, as far as its tests need it.
CLUSTER = {"default_partitions": 4, "group_min_session_timeout_ms": 1000}
PACKAGES = [
    f"kafka-python=={VERSION}",
    "crc32c==2.9.post0",
    "lz4==4.4.5",
    "python-snappy==0.7.3",
    "zstandard==0.25.0",
    "pytest==8.4.2",
    "pytest-mock==3.15.1",
    "pytest-timeout==2.4.0",
    "py==1.11.0",
]


def is_fast(name):
    return name.split("::")[0] in FAST


def prepare(work):
    folder = work / f"kafka_python-{VERSION}"
    python = venv(work / f"kafka-python-{VERSION}-env", PACKAGES)
    if not (folder / "test").exists():
        pip = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "-d", work]
        fetch("kafka-python's source", [*pip, f"kafka-python=={VERSION}"])
        with tarfile.open(work / f"kafka_python-{VERSION}.tar.gz") as archive:
            archive.extractall(work, filter="data")
        # The installed package is tested, not the source beside the tests.
        shutil.rmtree(folder / "kafka")
        # What makes a package of the folder is left out too; without it Python's own `test` comes first.
        (folder / "test" / "__init__.py").touch()
        shutil.copy(Path(__file__).with_name("kafka_python_service.py"), folder / "test" / "service.py")
    return folder, python


def judge(prepared, bench):
    folder, python = prepared
    report = bench.logs / "report.xml"
    report.unlink(missing_ok=True)
    (bench.work / "no-kafka-here").mkdir(exist_ok=True)
    files = sorted(folder.glob("test/integration/test_*.py"))
    chosen = [path for path in files if not bench.fast or path.stem in FAST]
    with bench.broker(**CLUSTER) as address:
        environment = os.environ | {
            "KAFKA_URI": f"kafka://{address}",
            "KAFKA_VERSION": KAFKA_VERSION,
            "KAFKA_ROOT": str(bench.work / "no-kafka-here"),
        }
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120", f"--junitxml={report}"]
        ran = run([*command, *chosen], seconds=SECONDS, log=bench.logs / "pytest.log", cwd=folder, env=environment)
    if not report.exists():
        raise NotRun(f"pytest wrote no report, see {bench.logs}/pytest.log: {ran.text[-300:]}")
    yield from outcomes(report)


def outcomes(report):
    """The tests of a JUnit report; names are file::test[parameters]."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname').rsplit('.', 1)[-1]}::{case.get('name')}"
        outcome, detail = PASS, ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, detail = FAIL, child.get("message", "").splitlines()[0][:200]
            elif child.tag == "skipped":
                outcome, detail = SKIP, child.get("message", "")
        yield Result(name, outcome, detail)
