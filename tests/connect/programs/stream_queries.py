import os
import tempfile

from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
rate = spark.readStream.format("rate").option("rowsPerSecond", 10).load()
print(rate.schema.simpleString())
query = (
    rate.select("value")
    .writeStream.format("memory")
    .queryName("ticks")
    .option("checkpointLocation", os.path.join(tempfile.mkdtemp(), "checkpoint"))
    .start()
)
print(query.isActive, [active.name for active in spark.streams.active], spark.streams.get(query.id).name)
query.awaitTermination(1)
query.stop()
print(query.isActive, spark.streams.active, query.status["message"])
print(spark.table("ticks").schema.simpleString())
spark.stop()
