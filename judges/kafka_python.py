"""kafka-python's integration tests, from its source distribution on PyPI.

Most of them can be pointed at a broker that runs already (KAFKA_URI). Those of TLS and SASL start brokers of their own:
for them `kafka_python_broker.py` stands in the place of Kafka's scripts and starts ours with what they configure. The
source distribution leaves out `test/service.py`, which starts and watches processes; `kafka_python_service.py` is put
there.
"""

import json
import os
import shutil
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import java
from harness import FAIL, OPEN, PASS, SKIP, NotRun, Result, fetch, run, venv

TITLE = "kafka-python's integration tests (Python)"
VERSION = "3.0.12"
FAST = ["test_producer_integration", "test_consumer_integration"]
SECONDS = 900
# The version the suite is told it talks to: it leaves out what that one does not have.
KAFKA_VERSION = "4.1.0"
# What the suite configures its own cluster with, as far as its tests need it.
CLUSTER = {"default_partitions": 4, "group_min_session_timeout_ms": 1000, "security": OPEN}
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


# Tests that start brokers of their own.
SECURE = ["test_sasl_integration", "test_ssl_integration"]
# A change to the suite: our broker offers PLAIN, which sends the password itself, over TLS only.
PLAIN_OVER_TLS = (
    'kafka_broker_factory(transport="SASL_PLAINTEXT", ',
    'kafka_broker_factory(transport="SASL_SSL" if request.param == "PLAIN" else "SASL_PLAINTEXT", ',
)


# What the suite gives Kafka's own tools, which it lists topics with.
COMMAND_CONF = """security.protocol={transport}
sasl.mechanism={sasl_mechanism}
ssl.truststore.type=PEM
ssl.truststore.location={ssl_dir}/ca-cert
ssl.endpoint.identification.algorithm=
sasl.jaas.config={jaas_config}
"""


def is_fast(name):
    return name.split("::")[0] in FAST


def prepare(work):
    folder = work / f"kafka_python-{VERSION}"
    python = venv(work / f"kafka-python-{VERSION}-env", PACKAGES)
    archive = work / f"kafka_python-{VERSION}.tar.gz"
    if not archive.exists():
        pip = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "-d", work]
        fetch("kafka-python's source", [*pip, f"kafka-python=={VERSION}"])
    # Unpacked anew each time, so that what is put there is always of this version of the judge.
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as files:
        files.extractall(work, filter="data")
    # The installed package is tested, not the source beside the tests.
    shutil.rmtree(folder / "kafka")
    # What makes a package of the folder is left out too; without it Python's own `test` comes first.
    (folder / "test" / "__init__.py").touch()
    adapt(folder, python)
    return folder, python


def adapt(folder, python):
    """Puts our parts where the suite expects those that start a Java Kafka."""
    ours = Path(__file__).parent
    shutil.copy(ours / "kafka_python_service.py", folder / "test" / "service.py")
    sasl = folder / "test" / "integration" / "test_sasl_integration.py"
    text = sasl.read_text()
    if text.count(PLAIN_OVER_TLS[0]) != 1:
        raise NotRun("kafka-python's test_sasl_integration.py is not what judges/kafka_python.py changes")
    sasl.write_text(text.replace(*PLAIN_OVER_TLS))
    resources, scripts = folder / "servers/resources/default", folder / "servers/kafka/bin"
    for path in (resources, scripts):
        path.mkdir(parents=True)
    fields = ["host", "port", "transport", "sasl_mechanism", "ssl_dir", "tmp_dir", "partitions"]
    (resources / "kafka.properties").write_text("".join(f"{field}={{{field}}}\n" for field in fields))
    (resources / "kafka_server_jaas.conf").write_text("# not needed\n")
    (resources / "sasl_command.conf").write_text(COMMAND_CONF)
    for name in ["kafka-run-class.sh", "kafka-storage.sh"]:
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexec "{python}" "{ours}/kafka_python_broker.py" {name} "$@"\n')
        script.chmod(0o755)


def judge(prepared, bench):
    folder, python = prepared
    environment = os.environ | {"KAFKA_VERSION": KAFKA_VERSION, "KAFKA_ROOT": str(folder / "servers/kafka")}
    files = sorted(folder.glob("test/integration/test_*.py"))
    plain = [path for path in files if path.stem not in SECURE and (not bench.fast or path.stem in FAST)]
    with bench.broker(**CLUSTER) as address:
        yield from run_files(folder, python, bench, environment | {"KAFKA_URI": f"kafka://{address}"}, plain, "plain")
    if not bench.fast and not bench.address:
        topics = java.tools(bench.work, java.VERSIONS[0]) / "bin/kafka-topics.sh"
        shutil.copy(topics, folder / "servers/kafka/bin/kafka-topics.sh")
        environment |= {"JUDGES_BROKER": json.dumps(bench.command)}
        secure = [path for path in files if path.stem in SECURE]
        yield from run_files(folder, python, bench, environment, secure, "secure")


def run_files(folder, python, bench, environment, files, kind):
    report, log = bench.logs / f"{kind}.xml", bench.logs / f"{kind}.log"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120", f"--junitxml={report}", *files]
    ran = run(command, seconds=SECONDS, log=log, cwd=folder, env=environment)
    if not report.exists():
        raise NotRun(f"pytest wrote no report, see {log}: {ran.text[-300:]}")
    yield from outcomes(report)


def outcomes(report):
    """The tests of a JUnit report; names are file::test[parameters]."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname').removeprefix('test.integration.')}::{case.get('name')}"
        outcome, detail = PASS, ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, detail = FAIL, child.get("message", "").splitlines()[0][:200]
            elif child.tag == "skipped":
                outcome, detail = SKIP, child.get("message", "")
        yield Result(name, outcome, detail)
