import json
import os
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

spark = SparkSession.builder.getOrCreate()
STEPS = 200


def shown(frame, *columns):
    frame.select(*columns).orderBy("id").show()
    print(len(frame.columns))


base = spark.range(4).withColumn("name", F.concat(F.lit("n-"), F.col("id").cast("string")))

# Columns that have nothing to do with each other.
wide = base
for number in range(STEPS):
    wide = wide.withColumn(f"c{number}", F.col("id") * number)
shown(wide, "id", "c0", "c1", f"c{STEPS - 1}")

# One column, changed again and again.
counted = base.withColumn("x", F.lit(0))
for number in range(60):
    counted = counted.withColumn("x", F.col("x") + F.col("id"))
shown(counted, "id", "name", "x")

# Each the sum of the two before it.
fibonacci = base.withColumn("f0", F.lit(0).cast("bigint")).withColumn("f1", F.lit(1).cast("bigint"))
for number in range(2, 30):
    fibonacci = fibonacci.withColumn(f"f{number}", F.col(f"f{number - 1}") + F.col(f"f{number - 2}"))
shown(fibonacci, "id", "f10", "f29")

# Replacements, some with a condition.
cleaned = base
for number in range(30):
    letter = chr(ord("a") + number % 26)
    cleaned = cleaned.withColumn("name", F.regexp_replace("name", letter, letter.upper()))
    cleaned = cleaned.withColumn("name", F.when(F.col("id") == number, F.lit("here")).otherwise(F.col("name")))
shown(cleaned, "id", "name")

# Conditions, as calls of filter and as one.
some = base
for number in range(20):
    some = some.filter(F.col("id") != number + 2)
shown(some, "id", "name")
none_of_them = F.lit(False)
for number in range(40):
    none_of_them = none_of_them | (F.col("id") == number + 3)
shown(base.filter(~none_of_them), "id")

# Conditions between new columns, and text of SQL.
mixed = base
for number in range(20):
    mixed = mixed.withColumn(f"m{number}", F.col("id") + number).filter(f"m{number} < 50 or id = 3").filter(
        F.col(f"m{number}") >= 0
    )
shown(mixed, "id", "m0", "m19")

# What is computed of other rows, and made of that.
lagged = base
over = Window.orderBy("id")
for number in range(1, 10):
    lagged = lagged.withColumn(f"lag{number}", F.lag("id", number).over(over))
    lagged = lagged.withColumn(f"diff{number}", F.col("id") - F.col(f"lag{number}"))
shown(lagged.filter(F.col("lag1").isNotNull()), "id", "lag1", "diff1", "lag2", "diff2")

# Names: renamed, dropped, chosen again and again.
named = base
for number in range(40):
    named = named.withColumnRenamed("name" if number == 0 else f"name{number - 1}", f"name{number}")
    named = named.withColumn("gone", F.lit(number)).drop("gone")
shown(named, "id", "name39")
chosen = base
for number in range(60):
    chosen = chosen.select("id", F.col("name").alias("name"), (F.col("id") + number).alias("last"))
shown(chosen, "id", "name", "last")

# Sides of a join stay what they are.
left = spark.createDataFrame([(1, "a"), (2, "b")], "id BIGINT, v STRING")
right = spark.createDataFrame([(1, "x"), (2, "y")], "id BIGINT, v STRING")
joined = left.join(right, left.id == right.id)
for number in range(30):
    joined = joined.withColumn(f"j{number}", F.concat(left.v, right.v, F.lit(str(number))))
joined.select(left.id, right.v, "j0", "j29").orderBy(left.id).show()

# Unions.
many = base
for number in range(20):
    many = many.union(base.filter(F.col("id") == number % 4))
many.groupBy("id").agg(F.count("*").alias("rows")).orderBy("id").show()

# What is not the same each time is computed once.
drawn = base.withColumn("r", F.rand()).withColumn("a", F.col("r")).withColumn("b", F.col("r"))
print(drawn.filter(F.col("a") != F.col("b")).count())
totals = base.agg(F.sum("id").alias("total")).withColumn("one", F.lit(1)).select("one")
totals.show()

# A stream has such columns, too.
source = tempfile.mkdtemp()
with open(os.path.join(source, "0.json"), "w") as out:
    for number in range(3):
        out.write(json.dumps({"value": number}) + "\n")
stream = spark.readStream.schema("value BIGINT").json(source)
for number in range(60):
    stream = stream.withColumn(f"s{number}", F.col("value") + number)
stream = stream.filter(F.col("s1") > 1).select("value", "s0", "s59")
query = stream.writeStream.format("memory").queryName("long_chains").trigger(availableNow=True).start()
query.awaitTermination()
spark.table("long_chains").orderBy("value").show()
spark.stop()
