from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.getOrCreate()
orders = spark.createDataFrame([(1, 10, 5.0), (2, 11, 7.5), (3, 10, 1.0), (4, 99, 2.0)], "id INT, customer INT, total DOUBLE")
customers = spark.createDataFrame([(10, "Ada"), (11, "Alan"), (12, "Grace")], "id INT, name STRING")
joined = orders.join(customers, orders.customer == customers.id)
joined.select(orders.id, customers.name, "total").orderBy(orders.id).show()
orders.join(customers.withColumnRenamed("id", "customer"), "customer", "left").orderBy("id").show()
customers.join(orders, customers.id == orders.customer, "left_anti").show()
orders.alias("o").join(customers.alias("c"), F.col("o.customer") == F.col("c.id"), "inner").groupBy("c.name").agg(F.sum("o.total").alias("spent")).orderBy("name").show()
print(joined.drop(customers.id).orderBy("id").collect())
spark.stop()
