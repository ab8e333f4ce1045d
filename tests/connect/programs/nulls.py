"""na.drop and na.fill, which take NaN for null and only touch columns of a value's kind; and what is empty."""

import datetime

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
rows = [(1, 1.5, "a", True), (None, float("nan"), None, None), (3, None, "c", False)]
df = spark.createDataFrame(rows, "i INT, d DOUBLE, s STRING, b BOOLEAN")
df.na.drop().show()
df.na.drop(subset=["d"]).show()
df.na.drop(thresh=3).show()
filled = df.na.fill(0.9, subset=["i", "d", "s"])
filled.show()
print([field.dataType.simpleString() for field in filled.schema.fields])
df.na.fill(0).show()
df.na.fill("none").show()
df.na.fill("none", subset=["i", "s"]).show()
df.na.fill(True).show()
df.na.fill({"i": 7.8, "s": "x"}).show()
df.filter(df.i.isin([])).show()
df.filter(~df.i.isin([])).select("i").show()
df.select(F.expr("i + 1 -- one more"), "s").show()
left = spark.createDataFrame([(1, 2)], "a INT, b INT")
right = spark.createDataFrame([(4, 3, 5)], "b INT, a INT, c INT")
left.unionByName(right.drop("c")).orderBy("a").show()
for frame in [right, right.select("a", "c")]:
    try:
        left.unionByName(frame).collect()
        print("fine")
    except AnalysisException:
        print("AnalysisException")
base = datetime.datetime(2024, 1, 1)
times = spark.createDataFrame([(1,)], "n INT")
for delta in [datetime.timedelta(milliseconds=-500), datetime.timedelta(days=-1, milliseconds=-250), datetime.timedelta(hours=30)]:
    times.select((F.lit(base) + F.lit(delta)).cast("string").alias("t")).show()
spark.stop()
