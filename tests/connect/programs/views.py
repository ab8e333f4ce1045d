from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
df = spark.createDataFrame([(1, 2.0), (2, 4.0), (3, 8.0)], "k INT, v DOUBLE")
df.createOrReplaceTempView("numbers")
spark.sql("SELECT sum(v) AS total FROM numbers WHERE k > 1").show()
spark.sql("CREATE OR REPLACE TEMPORARY VIEW big AS SELECT * FROM numbers WHERE v > 3")
spark.table("big").orderBy("k").show()
spark.sql("SELECT n.k, b.v FROM numbers n LEFT JOIN big b ON n.k = b.k ORDER BY n.k").show()
spark.conf.set("spark.sql.session.timeZone", "UTC")
print(spark.conf.get("spark.sql.session.timeZone"), spark.conf.get("no.such.key", "fallback"))
spark.stop()
