from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
df = spark.createDataFrame([(1, "alpha", None), (2, "beta", 3), (3, None, 4)], "k INT, s STRING, n INT")
df.withColumn("k", F.col("k") * 10).withColumn("upper", F.upper("s")).drop("n").show()
df.select("k", F.when(F.col("n").isNull(), "none").when(F.col("n") > 3, "many").otherwise("few").alias("size")).show()
df.withColumnRenamed("s", "text").select("text", F.length("text").alias("letters")).show()
df.na.fill({"n": 0, "s": "?"}).show()
df.na.drop().show()
df.select(F.concat(F.col("s"), F.lit("-"), F.col("k").cast("string")).alias("joined"), F.col("k").between(2, 3).alias("mid")).show()
df.toDF("a", "b", "c").selectExpr("a + 1 AS a1", "coalesce(c, 0) AS c").show()
df.filter(F.col("s").like("%a") | F.col("k").isin(3, 4)).select("k").show()
spark.stop()
