from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
df = spark.createDataFrame([("a", 1), ("a", 3), ("b", 2), ("a", 2), ("b", 5)], "k STRING, v INT")
by = Window.partitionBy("k").orderBy("v")
df.select("k", "v", F.row_number().over(by).alias("n"), F.lag("v").over(by).alias("before")).orderBy("k", "v").show()
running = by.rowsBetween(Window.unboundedPreceding, Window.currentRow)
df.withColumn("sum", F.sum("v").over(running)).orderBy("k", "v").show()
df.withColumn("rank", F.rank().over(Window.orderBy(F.desc("v")))).orderBy("rank").show()
spark.stop()
