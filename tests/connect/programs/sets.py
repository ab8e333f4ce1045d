from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
a = spark.createDataFrame([(1, "x"), (2, "y"), (2, "y")], "k INT, v STRING")
b = spark.createDataFrame([("y", 2), ("z", 3)], "v STRING, k INT")
a.union(a).distinct().orderBy("k").show()
a.unionByName(b).orderBy("k", "v").show()
a.dropDuplicates(["k"]).orderBy("k").show()
a.intersect(b.select("k", "v")).show()
a.exceptAll(b.select("k", "v")).orderBy("k").show()
print(a.limit(2).count(), a.orderBy("k").tail(1), a.orderBy("k").take(1), a.isEmpty())
spark.stop()
