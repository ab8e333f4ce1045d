from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
spark.sql("SELECT 1 AS a, 'x' AS b, CAST(2.5 AS DOUBLE) AS c, NULL AS d").show()
print(spark.sql("SELECT id, id * 2 AS twice FROM (SELECT explode(sequence(1, 4)) AS id)").collect())
print(spark.sql("SELECT array(1, 2) AS list, named_struct('x', 1, 'y', 'z') AS s, DATE '2024-01-02' AS day").schema.simpleString())
print(spark.version)
spark.stop()
