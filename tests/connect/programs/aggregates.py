from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
sales = spark.createDataFrame(
    [("north", "a", 10, 1.5), ("north", "b", 20, 2.5), ("south", "a", 5, 4.0), ("south", "a", 7, 0.5)],
    "region STRING, item STRING, amount INT, price DOUBLE",
)
sales.groupBy("region").agg(F.sum("amount"), F.avg("price").alias("mean"), F.max("item")).orderBy("region").show()
sales.groupBy("region", "item").count().orderBy("region", "item").show()
print(sales.agg({"amount": "max"}).collect())
print(sales.select(F.countDistinct("item").alias("items")).first()["items"])
sales.groupBy("region").agg(F.collect_list("amount").alias("all")).orderBy(F.desc("region")).show()
sales.rollup("region").agg(F.sum("amount").alias("total")).orderBy(F.col("total").desc()).show()
spark.stop()
