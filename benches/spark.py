"""One job on Apache Spark, several rounds in one JVM: the first is cold, the others are warm.

    spark.py SCRATCH_DIR ROUNDS < JOB      prints a line of JSON a round; run by `engines.py`

A job is JSON: `schema` and `files` of a stream `events`, a file a batch; `setup`, statements before the clock starts;
`watermark`, the column and the delay, if `events` itself has one; `query`, one SELECT, with the `mode`, `format` and
`partitions` of its sink; `check`, a SELECT over the result, `answer`, which gives one row.

Spark gets what is known to be its best here: as many shuffle partitions as cores, RocksDB with changelog checkpoints.
"""

import json
import os
import sys
import tempfile
import time

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from usage import cpu_seconds, peak_bytes


def start(cores):
    state = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    builder = SparkSession.builder.master(f"local[{cores}]").appName("benches")
    for name, value in {
        "spark.driver.memory": "4g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(cores),
        "spark.sql.streaming.stateStore.providerClass": state,
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    }.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def prepare(spark, job):
    events = spark.readStream.schema(job["schema"]).option("maxFilesPerTrigger", 1).json(job["files"])
    if job.get("watermark"):
        events = events.withWatermark(*job["watermark"])
    events.createOrReplaceTempView("events")
    for statement in job.get("setup", []):
        spark.sql(statement.replace("CREATE TEMPORARY", "CREATE OR REPLACE TEMPORARY"))


def run(spark, job, out):
    writer = spark.sql(job["query"]).writeStream.option("checkpointLocation", f"{out}/checkpoint")
    writer = writer.outputMode(job["mode"]).trigger(availableNow=True)
    if job["mode"] == "append":
        writer = writer.format(job["format"]).option("path", f"{out}/table").partitionBy(*job.get("partitions", []))
    else:
        # The sink of files takes no changes. A table that each batch writes anew is what the others have, too.
        writer = writer.foreachBatch(lambda rows, _: rows.write.mode("overwrite").format(job["format"]).save(f"{out}/table"))
    writer.start().awaitTermination()


def main():
    job, rounds = json.load(sys.stdin), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="spark-", dir=sys.argv[1]) as scratch:
        spark = start(os.cpu_count())
        jvm = spark.sparkContext._gateway.proc.pid
        try:
            for round_ in range(rounds):
                out = f"{scratch}/round-{round_}"
                prepare(spark, job)
                began, cpu = time.time(), cpu_seconds(jvm)
                run(spark, job, out)
                wall, cpu = time.time() - began, cpu_seconds(jvm) - cpu
                spark.read.format(job["format"]).load(f"{out}/table").createOrReplaceTempView("answer")
                result = list(spark.sql(job["check"]).first())
                print(json.dumps({"wall": wall, "cpu": cpu, "memory": peak_bytes(jvm), "result": result}), flush=True)
        except PySparkException as error:
            sys.exit(str(error).split("\nJVM stacktrace")[0])
        finally:
            spark.stop()


if __name__ == "__main__":
    main()
