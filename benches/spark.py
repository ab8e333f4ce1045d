"""One work on Apache Spark, several rounds in one JVM: the first is cold, the others are warm.

    spark.py WORK EVENTS_DIR SCRATCH_DIR ROUNDS      prints a line of JSON a round

Spark gets what is known to be its best here: as many shuffle partitions as cores, RocksDB with changelog checkpoints.
"""

import json
import os
import sys
import time

from jvm import cpu_seconds, peak_bytes
from pyspark.sql import SparkSession
from works import COLUMNS, WORKS


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


def run(spark, work, events_dir, out):
    events = spark.readStream.schema(COLUMNS).option("maxFilesPerTrigger", 1).json(events_dir)
    if work["watermark"]:
        events = events.withWatermark("ts", work["watermark"])
    events.createOrReplaceTempView("events")
    query = (
        spark.sql(work["query"].format(events="events"))
        .writeStream.format("parquet")
        .option("path", f"{out}/table")
        .option("checkpointLocation", f"{out}/checkpoint")
        .outputMode("append")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def main():
    name, events_dir, scratch, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    work = WORKS[name]
    spark = start(os.cpu_count())
    jvm = spark.sparkContext._gateway.proc.pid
    for round_ in range(rounds):
        out = f"{scratch}/spark-{name}-{round_}"
        began, cpu = time.time(), cpu_seconds(jvm)
        run(spark, work, events_dir, out)
        wall, cpu = time.time() - began, cpu_seconds(jvm) - cpu
        spark.read.parquet(f"{out}/table").createOrReplaceTempView("result")
        row = spark.sql(work["check"].format(result="result")).first()
        result = [row["n"], row["whole"], row["amount"]]
        print(json.dumps({"wall": wall, "cpu": cpu, "memory": peak_bytes(jvm), "result": result}), flush=True)


main()
