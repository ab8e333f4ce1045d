"""What stands beside Highwater in the benches: Apache Spark and Apache Flink, installed once, and run as programs of their
own; and the options that the benches share.

Versions are pinned. Flink is the newest that has a Kafka connector (5.0.0, for 2.2). Its Parquet format (`flink-parquet`)
could not be had when this was written, so that it writes Avro files with Snappy: the same rows in a format by rows, which
is taken to cost it less than Parquet. Spark's Kafka connector for 4.3 could not be had either: Spark reads files.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ENGINES = ("highwater", "flink", "spark")
SPARK = "pyspark==4.3.0"
# The jars of Flink without its Python API, which a bench in SQL has no use for, and the door from Python into a JVM.
FLINK = ["apache-flink-libraries==2.2.1", "py4j==0.10.9.7"]
FLINK_JARS = {
    "org.apache.flink:flink-sql-connector-kafka": "5.0.0-2.2",
    "org.apache.flink:flink-avro": "2.2.1",
    "org.xerial.snappy:snappy-java": "1.1.10.8",
}
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def note(text):
    print(text, file=sys.stderr, flush=True)


def add_binary(parser):
    parser.add_argument("--binary", default=str(HERE.parent / "target/release/highwater"))


def check_binary(parser, given):
    if not os.access(given.binary, os.X_OK):
        parser.error(f"{given.binary} is no program: run `make build`, or name one by --binary")


def add_names(parser, option, what, names, default=None):
    """An option that takes some of `names`, with commas, as a list; all of them unless a default says otherwise."""

    def some(text):
        given = text.split(",")
        unknown = [name for name in given if name not in names]
        if unknown:
            parser.error(f"no {what} '{unknown[0]}'; there are {', '.join(names)}")
        return given

    parser.add_argument(option, type=some, default=list(default or names), help=f"which, with commas, of {', '.join(names)}")


def add_measuring(parser, events):
    parser.add_argument("--events", type=int, default=events)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", help="where the folder of events, results and checkpoints is made and removed")


def home(name):
    """The folder of an engine, which SPARK_DIR or FLINK_DIR may name."""
    return pathlib.Path(os.environ.get(f"{name.upper()}_DIR", pathlib.Path.home() / f".cache/highwater-{name}"))


def python(folder, packages, module):
    """A Python of its own with these packages, made once."""
    program = folder / "venv/bin/python"
    if not program.exists() or subprocess.run([program, "-c", f"import {module}"], capture_output=True).returncode:
        note(f"installing {' '.join(packages)} in {folder} ...")
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([folder / "venv/bin/pip", "install", "-q", *packages], check=True)
    return str(program)


def flink_python():
    """A Python beside Flink's jars and the connectors it does not bring, all made once."""
    folder = home("flink")
    program = python(folder, FLINK, "py4j, pyflink.version")
    mark = folder / "jars" / ("complete-" + "-".join(FLINK_JARS.values()))
    if not mark.exists():
        if shutil.which("mvn") is None:
            sys.exit("Flink's connectors are fetched by `mvn`, which is not installed: install it, or name other --engines")
        note(f"fetching {', '.join(FLINK_JARS)} into {folder} ...")
        shutil.rmtree(folder / "jars", ignore_errors=True)
        wanted = "".join(
            "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
                *name.split(":"), version
            )
            for name, version in FLINK_JARS.items()
        )
        (folder / "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>benches</groupId>'
            "<artifactId>flink</artifactId><version>1</version><packaging>pom</packaging>"
            f"<dependencies>{wanted}</dependencies></project>\n"
        )
        subprocess.run(["mvn", "-q", "-B", COPY, f"-DoutputDirectory={folder}/jars"], cwd=folder, check=True)
        mark.touch()
    return program


class Refused(Exception):
    """An engine that cannot do it, in its own words."""


def rounds_of(engine, command, job):
    """What a program of an engine prints, a line of JSON a round."""
    if shutil.which("java") is None:
        sys.exit(f"{engine} needs Java 17, and there is no `java`: install it, or name other --engines")
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, input=json.dumps(job))
    if done.returncode:
        raise Refused(f"{engine} failed:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def flink(job, scratch, rounds):
    """A job as flink.py has it: one cold round and so many warm ones in the same JVM."""
    return rounds_of("Flink", [flink_python(), HERE / "flink.py", scratch, str(rounds + 1)], job)


def flink_topic(broker, topic):
    """The options of a table of Flink over a topic of JSON, from its beginning to its end."""
    return (
        f"'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{broker}',"
        " 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json',"
        " 'json.timestamp-format.standard' = 'ISO-8601'"
    )


def spark(job, scratch, rounds):
    """A job as spark.py has it, likewise."""
    return rounds_of("Spark", [python(home("spark"), [SPARK], "pyspark"), HERE / "spark.py", scratch, str(rounds + 1)], job)
