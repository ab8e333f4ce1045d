import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
source, target = os.path.join(folder, "in"), os.path.join(folder, "out")
os.mkdir(source)
for number, minutes in enumerate([[0, 1, 6], [12, 25]]):
    with open(os.path.join(source, f"{number}.json"), "w") as out:
        for minute in minutes:
            out.write(json.dumps({"ts": f"2024-01-01T10:{minute:02d}:00Z", "v": minute}) + "\n")
events = spark.readStream.schema("ts TIMESTAMP, v INT").option("maxFilesPerTrigger", 1).json(source)
counts = (
    events.withWatermark("ts", "5 minutes")
    .groupBy(F.window("ts", "10 minutes"))
    .agg(F.count("*").alias("n"), F.sum("v").alias("v"))
    .select("window.start", "n", "v")
)
query = (
    counts.writeStream.format("parquet")
    .option("checkpointLocation", os.path.join(folder, "checkpoint"))
    .trigger(availableNow=True)
    .start(target)
)
query.awaitTermination()
spark.read.parquet(target).orderBy("start").show(truncate=False)
print(len(query.recentProgress) >= 2, query.lastProgress["batchId"] >= 1)
spark.stop()
