import json
import os
import tempfile
import threading

from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQueryListener

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "a.json"), "w") as out:
    out.writelines(json.dumps({"n": number}) + "\n" for number in range(5))


class Noted(StreamingQueryListener):
    def __init__(self):
        self.started, self.rows, self.ended = [], 0, []
        self.is_over = threading.Event()

    def onQueryStarted(self, event):
        self.started.append((event.name, str(event.id), str(event.runId)))

    def onQueryProgress(self, event):
        self.rows += event.progress.numInputRows

    def onQueryIdle(self, event):
        pass

    def onQueryTerminated(self, event):
        self.ended.append((str(event.id), event.exception is None, event.errorClassOnException))
        self.is_over.set()


def run(name, expression):
    numbers = spark.readStream.schema("n INT").json(folder).selectExpr(expression + " AS n")
    return numbers.writeStream.format("memory").queryName(name).trigger(availableNow=True).start()


noted = Noted()
spark.streams.addListener(noted)
query = run("heard", "n")
query.awaitTermination()
print(noted.is_over.wait(60))
print(noted.started == [("heard", query.id, query.runId)], noted.rows, noted.ended == [(query.id, True, None)])
noted.is_over.clear()
failing = run("failing", "10 / (n - n)")
print(noted.is_over.wait(60), noted.ended[1][:2] == (failing.id, False))
spark.streams.removeListener(noted)
run("unheard", "n").awaitTermination()
print(len(noted.started), len(noted.ended))
spark.stop()
