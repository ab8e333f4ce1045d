import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
folder = tempfile.mkdtemp()
os.mkdir(os.path.join(folder, "json"))
os.mkdir(os.path.join(folder, "csv"))
with open(os.path.join(folder, "json", "a.json"), "w") as out:
    for n in range(3):
        out.write(json.dumps({"n": n, "s": f"row {n}"}) + "\n")
with open(os.path.join(folder, "csv", "a.csv"), "w") as out:
    out.write("n,price\n0,1.5\n2,3.25\n")
rows = spark.read.schema("n INT, s STRING").json(os.path.join(folder, "json"))
prices = spark.read.schema("n INT, price DOUBLE").option("header", "true").csv(os.path.join(folder, "csv"))
rows.join(prices, "n", "left").orderBy("n").show()
rows.filter(F.col("n") > 0).orderBy("n").show()
print(spark.read.format("json").schema("n INT").load(os.path.join(folder, "json")).agg(F.sum("n").alias("n")).collect())
spark.stop()
