"""One job on Apache Flink, several rounds in one JVM: the first is cold, the others are warm.

    flink.py SCRATCH_DIR ROUNDS < JOB      prints a line of JSON a round; run by `engines.py`

A job is JSON: `setup`, statements before the clock starts; `query`, what is measured, with {out} where its files go;
`check`, one SELECT over the result, which gives one row, or null; `batch`, whether the query is to run as a batch, which is
not measured. The query must end by itself: sources are bounded.

Flink gets what is known to be its best here: a cluster that is up before the clock starts, as many slots as cores, object
reuse, mini-batches (which also let it aggregate in two phases), the split of DISTINCT aggregates, RocksDB with incremental
checkpoints, the parallel garbage collector. Most of these are the settings of Nexmark's own authors. A checkpoint comes
every three seconds, exactly once: the other engines commit ten batches a run whatever it takes, and of 5 million events no
work takes Flink much longer than ten such intervals on two cores, so that it never commits more often than they do.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
import urllib.request

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError
from usage import cpu_seconds, peak_bytes

# Spark has 4 GB of heap: here RocksDB and the network have their part of it outside the heap.
MEMORY = {"heap": "3g", "rocksdb": "768m", "network": "128m"}
CHECKPOINT_SECONDS = 3
OPENED = ["java.util", "java.lang", "java.lang.reflect", "java.net", "java.nio", "java.text", "java.time"]

SETTINGS = {
    "execution.checkpointing.interval": f"{CHECKPOINT_SECONDS} s",
    "execution.checkpointing.mode": "EXACTLY_ONCE",
    "execution.checkpointing.incremental": "true",
    "state.backend.type": "rocksdb",
    "taskmanager.memory.managed.size": MEMORY["rocksdb"],
    "taskmanager.memory.network.min": MEMORY["network"],
    "taskmanager.memory.network.max": MEMORY["network"],
    "pipeline.object-reuse": "true",
    "table.local-time-zone": "UTC",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "2 s",
    "table.exec.mini-batch.size": "50000",
    "table.optimizer.distinct-agg.split.enabled": "true",
    "rest.address": "127.0.0.1",
    "rest.bind-address": "127.0.0.1",
    "rest.bind-port": "0",
}


def start(scratch):
    """A JVM with Flink's classes, and the door into it."""
    home = pathlib.Path(sys.prefix)
    libraries = next(home.glob("lib/python*/site-packages/pyflink/lib"))
    logging = scratch / "log4j.properties"
    logging.write_text("rootLogger.level = ERROR\nrootLogger.appenderRef.err.ref = err\nappender.err.type = Console\n"
                       "appender.err.name = err\nappender.err.target = SYSTEM_ERR\nappender.err.layout.type = PatternLayout\n")
    options = [f"-Xmx{MEMORY['heap']}", "-XX:+UseParallelGC", f"-Dlog4j.configurationFile={logging}", "-Duser.timezone=UTC"]
    options += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    port, process = launch_gateway(
        jarpath=str(next(home.glob("share/py4j/py4j*.jar"))),
        classpath=f"{libraries}/*:{home.parent}/jars/*",
        javaopts=options,
        die_on_exit=True,
        return_proc=True,
        redirect_stderr=sys.stderr,
    )
    return JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True)), process


class Cluster:
    """Flink's small cluster in that JVM, up before anything is measured, as Spark's session is."""

    def __init__(self, jvm, scratch):
        self.jvm = jvm
        cores = os.cpu_count()
        folders = {"execution.checkpointing.dir": (scratch / "flink-checkpoints").as_uri(), "io.tmp.dirs": str(scratch)}
        self.settings = SETTINGS | folders | {"parallelism.default": str(cores)}
        builder = getattr(jvm.org.apache.flink.runtime.minicluster, "MiniClusterConfiguration$Builder")()
        builder.setConfiguration(self.configuration()).setNumTaskManagers(1).setNumSlotsPerTaskManager(cores)
        self.cluster = jvm.org.apache.flink.runtime.minicluster.MiniCluster(builder.build())
        self.cluster.start()
        port = self.cluster.getRestAddress().get().getPort()
        self.settings |= {"execution.target": "remote", "rest.port": str(port)}

    def configuration(self):
        configuration = self.jvm.org.apache.flink.configuration.Configuration()
        for name, value in self.settings.items():
            configuration.setString(name, value)
        return configuration

    def tables(self, batch=False):
        settings = self.jvm.org.apache.flink.table.api.EnvironmentSettings.newInstance()
        settings = (settings.inBatchMode() if batch else settings.inStreamingMode()).withConfiguration(self.configuration())
        return self.jvm.org.apache.flink.table.api.TableEnvironment.create(settings.build())

    def stop(self):
        self.cluster.close()


def checked(cluster, tables, check):
    """The one row of the check, by a batch job over what the query has committed."""
    batch = cluster.tables(batch=True)
    batch.registerCatalog("measured", tables.getCatalog("default_catalog").get())
    batch.useCatalog("measured")
    rows = batch.executeSql(check).collect()
    row = rows.next()
    rows.close()
    return [row.getField(place) for place in range(row.getArity())]


def checkpoints(cluster, result):
    """How many checkpoints the query has completed, as the cluster tells."""
    job = result.getJobClient().get().getJobID().toString()
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.settings['rest.port']}/jobs/{job}/checkpoints") as answer:
        return json.load(answer)["counts"]["completed"]


def run(cluster, job, out, pid):
    tables = cluster.tables(batch=job.get("batch", False))
    for statement in job["setup"]:
        tables.executeSql(statement.replace("{out}", str(out)))
    began, cpu = time.time(), cpu_seconds(pid)
    # `await` is a word of Python's.
    result = tables.executeSql(job["query"].replace("{out}", str(out)))
    getattr(result, "await")()
    used = {"wall": time.time() - began, "cpu": cpu_seconds(pid) - cpu, "memory": peak_bytes(pid)}
    if not job.get("batch"):
        used |= {"checkpoints": checkpoints(cluster, result)}
    return used | {"result": checked(cluster, tables, job["check"]) if job["check"] else None}


def main():
    job, rounds = json.load(sys.stdin), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="flink-", dir=sys.argv[1]) as scratch:
        scratch = pathlib.Path(scratch)
        gateway, process = start(scratch)
        try:
            cluster = Cluster(gateway.jvm, scratch)
            for round_ in range(rounds):
                print(json.dumps(run(cluster, job, scratch / f"round-{round_}", process.pid)), flush=True)
            cluster.stop()
        except Py4JJavaError as error:
            # What went wrong is said by the first words of each cause; the rest is where.
            sys.exit("\n".join(line for line in str(error).splitlines() if line.startswith((": ", "Caused by: "))))
        finally:
            gateway.shutdown()
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
