import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "a.json"), "w") as out:
    for user, amount in [("ada", 3), ("alan", 4), ("ada", 5)]:
        out.write(json.dumps({"user": user, "amount": amount}) + "\n")
events = spark.readStream.schema("user STRING, amount BIGINT").json(folder)
print(events.isStreaming, events.schema.simpleString())
totals = events.groupBy("user").agg(F.sum("amount").alias("total"), F.count("*").alias("n"))
query = (
    totals.writeStream.format("memory").queryName("totals").outputMode("complete").trigger(availableNow=True).start()
)
query.awaitTermination()
spark.sql("SELECT * FROM totals ORDER BY user").show()
print(query.isActive, query.name, query.exception())
spark.stop()
