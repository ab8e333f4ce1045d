import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.errors import AnalysisException

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
for number, rows in enumerate([[(1, 0), (1, 2), (2, 1)], [(1, 4), (3, 30)], [(1, 31), (2, 32)]]):
    path = os.path.join(folder, f"{number}.json")
    with open(path, "w") as out:
        out.writelines(json.dumps({"id": i, "ts": f"2024-01-01T10:{minute:02d}:00Z"}) + "\n" for i, minute in rows)
    os.utime(path, (1700000000 + number, 1700000000 + number))
events = spark.readStream.schema("id INT, ts TIMESTAMP").option("maxFilesPerTrigger", 1).json(folder)
once = events.withWatermark("ts", "10 minutes").dropDuplicatesWithinWatermark(["id"])
query = once.writeStream.format("memory").queryName("within").trigger(availableNow=True).start()
query.awaitTermination()
rows = spark.table("within").collect()
print(len(rows), sorted(set(row.id for row in rows)))
try:
    spark.range(3).dropDuplicatesWithinWatermark(["id"]).collect()
except AnalysisException:
    print("a batch has no watermark")
spark.stop()
