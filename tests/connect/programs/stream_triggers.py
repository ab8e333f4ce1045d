import json
import os
import tempfile

from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
source, target = os.path.join(folder, "in"), os.path.join(folder, "out")
os.mkdir(source)
count = 0


def add(*numbers):
    global count
    path = os.path.join(folder, "next")
    with open(path, "w") as out:
        out.writelines(json.dumps({"n": number}) + "\n" for number in numbers)
    os.rename(path, os.path.join(source, f"{count}.json"))
    count += 1


def start(**trigger):
    numbers = spark.readStream.schema("n INT").json(source)
    return (
        numbers.writeStream.format("json")
        .option("checkpointLocation", os.path.join(folder, "checkpoint"))
        .trigger(**trigger)
        .start(target)
    )


def shown():
    return sorted(row.n for row in spark.read.schema("n INT").json(target).collect())


add(1, 2)
first = start(once=True)
first.awaitTermination()
print(shown(), first.isActive)
add(3)
second = start(availableNow=True)
print(second.awaitTermination(60), shown(), first.id == second.id, first.runId == second.runId)
third = start(processingTime="0 seconds")
for number in range(4, 7):
    add(number)
    third.processAllAvailable()
    print(shown())
print(third.awaitTermination(1), third.isActive)
third.stop()
add(7)
fourth = start(processingTime="1 second")
fourth.processAllAvailable()
print(shown(), fourth.status["message"] in ["Waiting for next trigger", "Waiting for data to arrive", "Processing new data"])
fourth.stop()
print(fourth.isActive, fourth.status["message"])
spark.stop()
