import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
for number, rows in enumerate([[("a", 1), ("b", 2)], [("a", 30)]]):
    path = os.path.join(folder, f"{number}.json")
    with open(path, "w") as out:
        out.writelines(json.dumps({"k": key, "ts": f"2024-01-01T10:{minute:02d}:00Z"}) + "\n" for key, minute in rows)
    os.utime(path, (1700000000 + number, 1700000000 + number))
events = spark.readStream.schema("k STRING, ts TIMESTAMP").option("maxFilesPerTrigger", 1).json(folder)
counts = events.withWatermark("ts", "1 minute").groupBy(F.window("ts", "10 minutes"), "k").count()
query = counts.writeStream.format("memory").queryName("counted").trigger(availableNow=True).start()
query.awaitTermination()
progress = query.recentProgress
with_rows = [p for p in progress if p.numInputRows > 0]
print([(p.batchId, p.numInputRows, p.name) for p in with_rows])
last = query.lastProgress
print(last.id == progress[0].id, str(last.id) == query.id, str(last.runId) == query.runId)
print(last["batchId"] == last.batchId, len(last.timestamp), last.batchDuration >= 0, sorted(last.durationMs)[:1])
first = with_rows[0]
print(first.eventTime["min"], first.eventTime["max"], with_rows[1].eventTime["watermark"])
operator = with_rows[1].stateOperators[0]
print(operator.operatorName, operator.numRowsTotal, operator.numRowsUpdated, operator.numRowsDroppedByWatermark)
print(operator.memoryUsedBytes > 0, operator.commitTimeMs >= 0, operator.allUpdatesTimeMs >= 0)
source = first.sources[0]
print(source.numInputRows, source.startOffset is not None, source.endOffset is not None)
print(first.inputRowsPerSecond is not None, first.processedRowsPerSecond is not None)
print(isinstance(first.sink.description, str), json.loads(first.json)["batchId"], "batchId" in first.prettyJson)
spark.stop()
