import os
import tempfile

from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
source = os.path.join(folder, "in")
os.mkdir(source)


def start(name, expression):
    numbers = spark.readStream.schema("n INT").json(source)
    return numbers.selectExpr(expression + " AS n").writeStream.format("memory").queryName(name).start()


spark.streams.resetTerminated()
good = start("good", "n")
print([query.name for query in spark.streams.active], spark.streams.get(good.id).runId == good.runId)
print(spark.streams.awaitAnyTermination(1))
bad = start("bad", "10 / (n - 1)")
print(sorted(query.name for query in spark.streams.active))
with open(os.path.join(folder, "next"), "w") as out:
    out.write('{"n": 1}\n')
os.rename(os.path.join(folder, "next"), os.path.join(source, "1.json"))
try:
    spark.streams.awaitAnyTermination()
except StreamingQueryException as error:
    print("StreamingQueryException", "DIVIDE_BY_ZERO" in str(error))
try:
    bad.awaitTermination()
except StreamingQueryException as error:
    print("StreamingQueryException", "DIVIDE_BY_ZERO" in str(error))
exception = bad.exception()
print(type(exception).__name__, "DIVIDE_BY_ZERO" in str(exception), good.exception())
print(bad.isActive, bad.status["message"].startswith("Terminated with exception"), spark.streams.get(bad.id))
spark.streams.resetTerminated()
print(spark.streams.awaitAnyTermination(1))
good.processAllAvailable()
print(spark.table("good").collect())
good.stop()
print(spark.streams.awaitAnyTermination(60), spark.streams.active)
spark.stop()
