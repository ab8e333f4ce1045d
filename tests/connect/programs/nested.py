from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
df = spark.createDataFrame(
    [Row(id=1, who=Row(name="Ada", age=36), tags=["a", "b"]), Row(id=2, who=Row(name="Alan", age=41), tags=["c"])]
)
df.select("id", "who.name", df.who.age.alias("age"), F.size("tags").alias("n")).show()
df.select("id", F.explode("tags").alias("tag")).orderBy("id", "tag").show()
df.select(F.struct("id", "tags").alias("s")).select("s.id", F.col("s.tags")[0].alias("first")).show()
df.select(F.to_json("who").alias("json")).show(truncate=False)
df.select(F.from_json(F.lit('{"x": 1}'), "x INT").x.alias("x")).distinct().show()
print(df.filter(F.array_contains("tags", "c")).select("id").collect())
spark.stop()
