import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
for number, rows in enumerate([[(1, "x"), (1, "x"), (2, "y")], [(2, "y"), (3, "z")]]):
    with open(os.path.join(folder, f"{number}.json"), "w") as out:
        out.writelines(json.dumps({"id": i, "v": v, "ts": "2024-01-01T00:00:00Z"}) + "\n" for i, v in rows)
events = spark.readStream.schema("id INT, v STRING, ts TIMESTAMP").json(folder)
once = events.withWatermark("ts", "1 minute").dropDuplicates(["id", "ts"]).withColumn("id", F.col("id") * 10)
query = once.select("id", "v").writeStream.format("memory").queryName("once").trigger(availableNow=True).start()
query.awaitTermination()
spark.table("once").orderBy("id").show()
spark.stop()
