"""Apache Kafka's own Java tools, of more than one release: `kafka-clients` underneath, as Maven Central has them.

What is asked of them is in `java_checks.py`; here is how they come here and are called. Two releases, since they
speak different versions of the protocol: the last of the line with ZooKeeper, and a present one.
"""

import shutil

import java_checks
from harness import OPEN, NotRun, Program, fetch, file_name

TITLE = "Apache Kafka's tools (Java)"
VERSIONS = ["3.9.2", "4.3.1"]
VERSION = ", ".join(VERSIONS)
FAST = True
# Short-lived programs: most of what they cost is starting up.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -Xmx256m"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>judges</groupId><artifactId>java</artifactId><version>1</version><packaging>pom</packaging><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{version}</version><exclusions>
<exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion></exclusions></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
</dependencies></project>
"""


def is_fast(name):
    version, check = name.split(": ", 1)
    return version == VERSIONS[-1] and java_checks.CHECKS.is_fast(check)


def prepare(work):
    return {version: tools(work, version) for version in VERSIONS}


def judge(folders, bench):
    for version, folder in folders.items():
        if bench.fast and version != VERSIONS[-1]:
            continue
        with bench.broker(security=OPEN) as address:
            make = lambda name: Tools(bench.logs / file_name(f"{version}-{name}"), address, folder, version)
            yield from java_checks.CHECKS.run(bench, make, prefix=f"{version}: ", release=version)


class Tools(Program):
    """The scripts of one Kafka release, pointed at the broker."""

    def __init__(self, log, address, folder, version):
        super().__init__(log, address, seconds=90)
        self.folder, self.version = folder, version
        self.old = version.startswith("3.")

    def __call__(self, tool, *arguments, server="--bootstrap-server", **options):
        return self.call([self.folder / "bin" / f"{tool}.sh", server, self.address, *arguments], **options)

    def config(self, **properties):
        """A properties file; dots are written as underscores."""
        path = self.log.with_name(f"{self.log.name}-{self.calls + 1}.properties")
        path.write_text("".join(f"{name.replace('_', '.')}={value}\n" for name, value in properties.items()))
        return path


def tools(work, version):
    """A folder like that of a Kafka release: `libs` with its jars and `bin` with the scripts that start its tools."""
    folder = work / f"kafka-{version}"
    if not (folder / "complete").exists():
        if shutil.which("java") is None:
            raise NotRun("Kafka's tools need `java`, which is not installed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "pom.xml").write_text(POM.format(version=version))
        fetch(f"Apache Kafka {version}", ["mvn", "-q", "-B", PLUGIN, f"-DoutputDirectory={folder}/libs"], cwd=folder)
        (folder / "complete").touch()
    # Each time: a new check may call one that was not there.
    scripts(folder, version)
    return folder


def scripts(folder, version):
    """The names of Kafka's own scripts, for suites that call them."""
    (folder / "bin").mkdir(exist_ok=True)
    log4j = folder / "log4j.properties"
    log4j.write_text(
        "log4j.rootLogger=WARN, err\nlog4j.appender.err=org.apache.log4j.ConsoleAppender\n"
        "log4j.appender.err.Target=System.err\nlog4j.appender.err.layout=org.apache.log4j.PatternLayout\n"
    )
    options = f"{JAVA_OPTIONS} -Dlog4j.configuration=file:{log4j}"
    runner = folder / "bin" / "kafka-run-class.sh"
    runner.write_text(f'#!/bin/sh\nexec java {options} -cp "{folder}/libs/*:$CLASSPATH" "$@"\n')
    runner.chmod(0o755)
    for name, main_class in classes(version).items():
        script = folder / "bin" / f"{name}.sh"
        script.write_text(f'#!/bin/sh\nexec java {options} -cp "{folder}/libs/*" {main_class} "$@"\n')
        script.chmod(0o755)


def classes(version):
    """The main class of each script; some moved out of Kafka's core with 4.0."""
    old = version.startswith("3.")
    tools_package = "org.apache.kafka.tools."
    core = "kafka.admin." if old else tools_package
    return {
        "kafka-topics": tools_package + "TopicCommand",
        "kafka-configs": "kafka.admin.ConfigCommand",
        "kafka-acls": core + "AclCommand",
        "kafka-broker-api-versions": core + "BrokerApiVersionsCommand",
        "kafka-cluster": tools_package + "ClusterTool",
        "kafka-console-consumer": tools_package + "consumer.ConsoleConsumer",
        "kafka-console-producer": "kafka.tools.ConsoleProducer" if old else tools_package + "ConsoleProducer",
        "kafka-console-share-consumer": tools_package + "consumer.ConsoleShareConsumer",
        "kafka-consumer-groups": tools_package + "consumer.group.ConsumerGroupCommand",
        "kafka-consumer-perf-test": tools_package + "ConsumerPerformance",
        "kafka-delete-records": tools_package + "DeleteRecordsCommand",
        "kafka-features": tools_package + "FeatureCommand",
        "kafka-get-offsets": tools_package + "GetOffsetShell",
        "kafka-groups": tools_package + "GroupsCommand",
        "kafka-leader-election": tools_package + "LeaderElectionCommand",
        "kafka-log-dirs": tools_package + "LogDirsCommand",
        "kafka-metadata-quorum": tools_package + "MetadataQuorumCommand",
        "kafka-producer-perf-test": tools_package + "ProducerPerformance",
        "kafka-reassign-partitions": tools_package + "reassign.ReassignPartitionsCommand",
        "kafka-share-consumer-perf-test": tools_package + "ShareConsumerPerformance",
        "kafka-share-groups": tools_package + "consumer.group.ShareGroupCommand",
        "kafka-transactions": tools_package + "TransactionsCommand",
        "kafka-verifiable-consumer": tools_package + "VerifiableConsumer",
        "kafka-verifiable-share-consumer": tools_package + "VerifiableShareConsumer",
        "kafka-verifiable-producer": tools_package + "VerifiableProducer",
        "transactional-message-copier": tools_package + "TransactionalMessageCopier",
        "log-compaction-tester": tools_package + "LogCompactionTester",
        "client-compatibility-test": tools_package + "ClientCompatibilityTest",
        "kafka-e2e-latency": tools_package + "EndToEndLatency",
    }
