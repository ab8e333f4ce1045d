from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
df = spark.sql("SELECT * FROM VALUES (TIMESTAMP '2024-01-01 10:03:00', 1), (TIMESTAMP '2024-01-01 10:07:30', 2), (TIMESTAMP '2024-01-01 10:11:00', 4) AS t(ts, v)")
df.groupBy(F.window("ts", "5 minutes")).agg(F.sum("v").alias("v")).select("window.start", "window.end", "v").orderBy("start").show()
df.select(F.date_format("ts", "HH:mm").alias("hm"), F.hour("ts").alias("h"), F.to_date("ts").alias("day")).show()
df.select(F.date_trunc("hour", "ts").alias("hour"), "v").groupBy("hour").sum("v").show()
spark.stop()
