from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
times = spark.sql(
    "SELECT TIMESTAMP '2024-01-01T12:00:00.5Z' AS t, array(named_struct('at', TIMESTAMP '2024-07-01T00:00:00Z')) AS inside, "
    "TIMESTAMP_NTZ '2024-01-01 12:00:00' AS local"
)
for zone in ["UTC", "America/New_York", "Asia/Kolkata", "+05:30"]:
    spark.conf.set("spark.sql.session.timeZone", zone)
    times.withColumn("text", F.col("t").cast("string")).withColumn("hour", F.hour("t")).show(truncate=False)
    print(times.toPandas()["t"][0])
spark.stop()
