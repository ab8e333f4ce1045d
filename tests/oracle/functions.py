#!/usr/bin/env python3
"""Asks a real Spark 4.3 for the type, value and column name of every expression in a file, functions.txt by default.

    functions.py sc://127.0.0.1:15002 > functions.tsv
    functions.py sc://127.0.0.1:15002 json_functions.txt > json_functions.tsv
    functions.py sc://127.0.0.1:15002 functions.txt functions.tsv > new.tsv    keeps the answers that are in functions.tsv

Columns of the answer, separated by tabs, with \\\\, \\t and \\n escaped: the session's time zone, what is selected from
(empty: nothing), the expression, its type, its value as Spark's cast to STRING writes it (NULL for no value) or
`ERROR <condition>`, and the name Spark gives the column.
"""
import os
import sys

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession


def escape(text):
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def cases(path):
    zone, relation = "UTC", ""
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("@from"):
            relation = line[len("@from"):].strip()
        elif line.startswith("@zone "):
            zone = line[len("@zone "):]
        elif line and not line.startswith("#"):
            yield zone, relation, line


def condition(error):
    name = error.getCondition() if hasattr(error, "getCondition") else None
    return "ERROR " + (name or str(error).split("\n")[0][:80])


def answer(spark, relation, expression):
    tail = f" FROM {relation}" if relation else ""
    try:
        frame = spark.sql(f"SELECT {expression}{tail}")
        field = frame.schema.fields[0]
        name, kind = field.name, field.dataType.simpleString()
    except PySparkException as error:
        return "", condition(error), ""
    try:
        row = frame.selectExpr(f"CAST(`{name.replace('`', '``')}` AS STRING)").collect()[0]
        value = "NULL" if row[0] is None else row[0]
    except PySparkException as error:
        value = condition(error)
    return kind, value, name


def answers(path):
    """The answers there are, escaped: what was asked to what came."""
    lines = (line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8"))
    return {tuple(fields[:3]): fields[3:] for fields in lines}


def main():
    spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
    # One partition, so that aggregates take the rows in the order in which they are written.
    spark.conf.set("spark.sql.leafNodeDefaultParallelism", "1")
    file = sys.argv[2] if len(sys.argv) > 2 else "functions.txt"
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), file)
    known = answers(sys.argv[3]) if len(sys.argv) > 3 else {}
    for zone, relation, expression in cases(path):
        spark.conf.set("spark.sql.session.timeZone", zone)
        asked = [escape(field) for field in (zone, relation, expression)]
        found = known.get(tuple(asked)) or [escape(field) for field in answer(spark, relation, expression)]
        print("\t".join(asked + found), flush=True)
    spark.stop()
    os._exit(0)


main()
