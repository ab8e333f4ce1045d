"""Columns of one name on both sides of a join, through all that may stand above it."""

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
l = spark.createDataFrame([(1, 10), (2, 20), (3, 30)], "id INT, x INT")
r = spark.createDataFrame([(1, 100), (2, 200), (4, 400)], "id INT, x INT")


def refused(make):
    try:
        make().collect()
        print("fine")
    except AnalysisException:
        print("AnalysisException")


used = l.join(r, "id")
used.select(r.x).orderBy(r.x).show()
used.select("id", l.x.alias("lx"), r.x.alias("rx")).orderBy("id").show()
used.orderBy("id").show()
used.filter(r.x > 100).select("id", l.x, r.x).show()
refused(lambda: used.select("x"))

outer = l.join(r, l.id == r.id, "left")
outer.withColumn("k", F.lit(1)).filter(r.id.isNull()).select(l.id, "k").show()
outer.orderBy(l.id).drop(r.id).select("id", l.x).show()
outer.drop(r.x).orderBy(l.id).select(r.id, "x").show()
outer.withColumn("s", l.x + F.coalesce(r.x, F.lit(0))).orderBy(l.id).limit(2).select(l.id, r.x, "s").show()
outer.groupBy(l.id).agg(F.sum(r.x)).orderBy("id").show()
outer.orderBy(l.id).select(l.x, r.x).filter(l.x > 10).agg(F.max(l.x), F.max(r.x).alias("m")).show()
print(outer.orderBy(l.id).columns, outer.orderBy(l.id).limit(1).collect()[0].asDict())
refused(lambda: outer.withColumn("k", F.lit(1)).filter("id > 1"))
refused(lambda: outer.select(l.id).withColumnRenamed("id", "n").select(r.id))

third = spark.createDataFrame([(1, 7), (3, 9)], "id INT, x INT")
both = used.join(third, "id", "full")
both.select("id", l.x, r.x, third.x).orderBy("id").show()
both.dropDuplicates(["id"]).select(third.x).orderBy(third.x).show()
spark.stop()
