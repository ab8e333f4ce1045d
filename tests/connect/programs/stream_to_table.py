import json
import os
import tempfile
import uuid

from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
source = os.path.join(folder, "in")
os.mkdir(source)
table = "kept_" + uuid.uuid4().hex
for number in range(3):
    with open(os.path.join(source, f"{number}.json"), "w") as out:
        out.write(json.dumps({"id": number, "word": "w" * number}) + "\n")
    events = spark.readStream.schema("id INT, word STRING").json(source)
    query = (
        events.writeStream.option("checkpointLocation", os.path.join(folder, "checkpoint"))
        .trigger(availableNow=True)
        .toTable(table, format="parquet")
    )
    query.awaitTermination()
spark.table(table).orderBy("id").show()
again = spark.readStream.table(table)
print(again.isStreaming, again.schema.simpleString())
query = again.writeStream.format("memory").queryName("again").trigger(availableNow=True).start()
query.awaitTermination()
print(sorted(row.id for row in spark.table("again").collect()))
# With options of its own it is the session's table, too.
words = "words_" + uuid.uuid4().hex
query = (
    spark.readStream.schema("id INT, word STRING")
    .json(source)
    .writeStream.option("checkpointLocation", os.path.join(folder, "words"))
    .option("timestampFormat", "yyyy-MM-dd HH:mm:ss")
    .trigger(availableNow=True)
    .toTable(words, format="json")
)
query.awaitTermination()
spark.table(words).orderBy("id").show()
spark.stop()
