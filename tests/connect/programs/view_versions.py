"""A view keeps what it was made of, whatever gets the names it was made from."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
a = spark.createDataFrame([(1,), (2,)], "n INT")
b = spark.createDataFrame([(10,), (20,)], "n INT")
a.createOrReplaceTempView("t")
spark.table("t").filter("n > 1").createOrReplaceTempView("v")
spark.sql("SELECT n + 1 AS m FROM t").createOrReplaceTempView("w")
b.createOrReplaceTempView("T")
spark.table("v").show()
spark.table("w").orderBy("m").show()
spark.table("t").orderBy("n").show()
for step in range(3):
    spark.table("t").withColumn(f"k{step}", F.lit(step)).createOrReplaceTempView("t")
spark.sql("SELECT *, n * 2 AS twice FROM t").createOrReplaceTempView("t")
spark.table("t").orderBy("n").show()
spark.sql("CREATE OR REPLACE TEMPORARY VIEW q AS SELECT n FROM t WHERE n > 10")
spark.table("q").withColumn("z", F.lit(1)).createOrReplaceTempView("q")
spark.table("q").show()
spark.stop()
