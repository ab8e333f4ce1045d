import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
for number, rows in enumerate([[("ada", 0), ("ada", 3), ("alan", 1)], [("ada", 12), ("alan", 4)], [("zoe", 50)], [("zoe", 58)]]):
    path = os.path.join(folder, f"{number}.json")
    with open(path, "w") as out:
        out.writelines(json.dumps({"user": user, "ts": f"2024-01-01T10:{minute:02d}:00Z"}) + "\n" for user, minute in rows)
    os.utime(path, (1700000000 + number, 1700000000 + number))
events = spark.readStream.schema("user STRING, ts TIMESTAMP").option("maxFilesPerTrigger", 1).json(folder)
sessions = (
    events.withWatermark("ts", "10 minutes")
    .groupBy("user", F.session_window("ts", "5 minutes").alias("session"))
    .agg(F.count("*").alias("n"))
    .select("user", "session.start", "session.end", "n")
)
query = sessions.writeStream.format("memory").queryName("visits").trigger(availableNow=True).start()
query.awaitTermination()
spark.table("visits").orderBy("user", "start").show(truncate=False)
spark.stop()
