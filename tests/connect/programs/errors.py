from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
for text in ["SELECT nothing FROM VALUES (1) AS t(a)", "SELECT * FROM no_such_table"]:
    try:
        spark.sql(text).collect()
    except AnalysisException as error:
        print("AnalysisException", type(error).__name__)
try:
    spark.range(3).select("missing").show()
except PySparkException as error:
    print(isinstance(error, AnalysisException))
print(spark.range(3).select(F.expr("id + 1 AS next")).collect())
spark.stop()
