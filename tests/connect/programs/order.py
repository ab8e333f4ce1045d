from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
df = spark.createDataFrame([(n * 7 % 10, n) for n in range(10)], "k INT, n INT")
print([row["n"] for row in df.orderBy("k").select("n").collect()])
print([row["k"] for row in df.sort(F.desc("k")).filter("k % 2 = 0").limit(3).collect()])
spark.sql("SELECT * FROM VALUES (3), (1), (2) AS t(a) ORDER BY a DESC").show()
df.orderBy(F.col("k").desc_nulls_last()).show(3)
df.orderBy("k").show(2, vertical=True)
spark.stop()
