import datetime

from pyspark.sql import Row, SparkSession
from pyspark.sql import types as T

spark = SparkSession.builder.getOrCreate()
schema = T.StructType([
    T.StructField("name", T.StringType()),
    T.StructField("age", T.IntegerType()),
    T.StructField("born", T.DateType()),
    T.StructField("tags", T.ArrayType(T.StringType())),
])
people = spark.createDataFrame(
    [("Ada", 36, datetime.date(1815, 12, 10), ["math"]), ("Alan", 41, datetime.date(1912, 6, 23), []), ("Nobody", None, None, None)],
    schema,
)
people.printSchema()
people.show(truncate=False)
print(people.first())
print(spark.createDataFrame([Row(a=1, b=2.5), Row(a=2, b=None)]).orderBy("a", ascending=False).collect())
print(spark.createDataFrame([(1, "x")], "k INT, v STRING").schema.simpleString())
spark.stop()
