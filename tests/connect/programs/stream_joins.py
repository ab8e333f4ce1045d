import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()


def source(name, batches):
    path = os.path.join(folder, name)
    os.mkdir(path)
    for number, rows in enumerate(batches):
        with open(os.path.join(path, f"{number}.json"), "w") as out:
            for key, minute in rows:
                out.write(json.dumps({"k": key, "t": f"2024-01-01T10:{minute:02d}:00Z"}) + "\n")
        os.utime(os.path.join(path, f"{number}.json"), (1700000000 + number, 1700000000 + number))
    return spark.readStream.schema("k STRING, t TIMESTAMP").option("maxFilesPerTrigger", 1).json(path)


def run(name, rows):
    query = rows.writeStream.format("memory").queryName(name).trigger(availableNow=True).start()
    query.awaitTermination()
    found = spark.table(name)
    found.orderBy(*found.columns).show(truncate=False)


clicks = source("clicks", [[("a", 1), ("b", 2)], [("a", 4), ("c", 5)], [("z", 40)], [("z", 58)]])
shows = source("shows", [[("a", 0), ("b", 1), ("d", 3)], [("c", 4), ("e", 6)], [("y", 40)], [("y", 59)]])
clicks = clicks.withColumnRenamed("t", "clicked").withWatermark("clicked", "5 minutes")
shows = shows.withColumnRenamed("t", "shown").withColumnRenamed("k", "key").withWatermark("shown", "5 minutes")
soon = F.expr("k = key AND clicked >= shown AND clicked <= shown + INTERVAL 10 MINUTES")
run("inner_join", clicks.join(shows, soon).select("k", "shown", "clicked"))
left = shows.join(clicks, soon, "left_outer").select(F.col("key").alias("k"), "shown", "clicked")
run("left_join", left)
names = spark.createDataFrame([("a", "Ada"), ("c", "Cay")], "k STRING, name STRING")
run("static_left", shows.withColumnRenamed("key", "k").join(names, "k", "left").select("k", "shown", "name"))
spark.stop()
