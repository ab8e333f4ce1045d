from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
df = spark.range(0, 20, 3).withColumn("square", F.col("id") * F.col("id"))
df.filter((F.col("id") > 3) & (F.col("square") < 300)).show()
print(df.count(), df.columns)
print(spark.range(5).toPandas()["id"].tolist())
print(df.where("square % 2 = 0").select((F.col("id") + 1).alias("next"), "square").collect())
spark.stop()
