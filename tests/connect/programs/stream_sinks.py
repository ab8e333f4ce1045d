import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
source = os.path.join(folder, "in")
os.mkdir(source)
with open(os.path.join(source, "a.json"), "w") as out:
    for number, kind in enumerate(["a", "b", "a", "c"]):
        out.write(json.dumps({"id": number, "kind": kind, "price": number / 2}) + "\n")
schema = "id INT, kind STRING, price DOUBLE"
events = spark.readStream.schema(schema).json(source)


def write(name, **options):
    return (
        events.filter("id > 0")
        .writeStream.options(checkpointLocation=os.path.join(folder, "checkpoint-" + name), **options)
        .trigger(availableNow=True)
    )


def path(name):
    return os.path.join(folder, name)


write("json").format("json").start(path("json")).awaitTermination()
spark.read.schema(schema).json(path("json")).orderBy("id").show()
write("csv", header="true").format("csv").option("path", path("csv")).start().awaitTermination()
spark.read.option("header", "true").schema(schema).csv(path("csv")).orderBy("id").show()
write("parquet").format("parquet").partitionBy("kind").start(path("parquet")).awaitTermination()
spark.read.parquet(path("parquet")).select("id", "kind", "price").orderBy("id").show()
print(sorted(name for name in os.listdir(path("parquet")) if name.startswith("kind=")))
write("console").format("console").option("truncate", "false").start().awaitTermination()
counts = events.groupBy("kind").agg(F.count("*").alias("n"))
for mode in ["complete", "update"]:
    query = (
        counts.writeStream.format("memory").queryName("counts_" + mode).outputMode(mode).trigger(availableNow=True).start()
    )
    query.awaitTermination()
    spark.table("counts_" + mode).orderBy("kind").show()
spark.stop()
