from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.appName("word count").getOrCreate()
lines = spark.createDataFrame([("the cat and the dog",), ("The bird",)], ["line"])
words = lines.select(F.explode(F.split(F.lower("line"), " ")).alias("word"))
words.groupBy("word").count().orderBy(F.desc("count"), "word").show()
pandas = words.groupBy("word").agg(F.count("*").alias("n")).orderBy("word").toPandas()
print(list(pandas.columns), pandas["n"].tolist())
spark.stop()
