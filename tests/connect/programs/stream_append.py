import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
source, target = os.path.join(folder, "in"), os.path.join(folder, "out")
os.mkdir(source)


def add(name, rows):
    with open(os.path.join(source, name), "w") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def run():
    events = spark.readStream.schema("id INT, kind STRING").json(source)
    kinds = spark.createDataFrame([("a", "alpha"), ("b", "beta")], "kind STRING, word STRING")
    query = (
        events.filter(F.col("id") > 1)
        .join(kinds, "kind")
        .select("id", "word")
        .writeStream.format("json")
        .option("path", target)
        .option("checkpointLocation", os.path.join(folder, "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


add("1.json", [{"id": 1, "kind": "a"}, {"id": 2, "kind": "b"}])
run()
add("2.json", [{"id": 3, "kind": "a"}, {"id": 4, "kind": "c"}])
run()
spark.read.schema("id INT, word STRING").json(target).orderBy("id").show()
spark.stop()
