#!/usr/bin/env python3
"""Asks a real Spark 4.3 what AUTO CDC flows make of changes: writes answers.txt for cases.txt.

    venv/bin/pip install 'pyspark[connect,pipelines]==4.3.0' 'pandas<3'          (Java 17 or later)
    javac -cp "$SPARK_HOME/jars/*" -d classes MergeCatalog.java && jar cf merge.jar -C classes .
    start-connect-server.sh --jars merge.jar --conf spark.sql.catalog.cat=MergeCatalog --conf spark.sql.session.timeZone=UTC
    venv/bin/python auto_cdc.py sc://127.0.0.1:15002

Spark merges changes into tables of formats that can be merged into; its wheel has none, so MergeCatalog.java is one: tables
in the memory of the server. All cases are flows of one pipeline, which is run once for each batch.

An answer has the columns of the table, then its rows after each batch in the order of their text, columns separated by
blanks, a struct as {field: value}.
"""
import json
import math
import os
import subprocess
import sys
import tempfile
import time

from pyspark.sql import SparkSession

HERE = os.path.dirname(os.path.abspath(__file__))


def cases():
    found = []
    for line in open(os.path.join(HERE, "cases.txt"), encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("=== "):
            found.append([line[4:]])
        elif line.startswith("> "):
            found[-1].append(json.loads(line[2:]))
        elif line and not line.startswith("#"):
            found[-1].append(line)
    return [(name, schema, clauses, steps) for name, schema, clauses, *steps in found]


def text(value):
    if value is None:
        return "null"
    if hasattr(value, "asDict"):
        return "{" + ", ".join(f"{name}: {text(inner)}" for name, inner in value.asDict().items()) + "}"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value)
    return str(value)


def main(server):
    spark = SparkSession.builder.remote(server).getOrCreate()
    folder, tag = tempfile.mkdtemp(), int(time.time())
    asked, flows = cases(), []
    for at, (name, schema, clauses, steps) in enumerate(asked):
        path = f"{folder}/in/{at}"
        os.makedirs(path)
        spark.sql(f"CREATE TABLE in_{tag}_{at} ({schema}) USING json OPTIONS (path '{path}')").collect()
        flows.append(f"CREATE STREAMING TABLE cat.ns.t_{tag}_{at} FLOW AUTO CDC FROM STREAM default.in_{tag}_{at} {clauses};")
    os.makedirs(f"{folder}/p/transformations")
    with open(f"{folder}/p/transformations/flows.sql", "w", encoding="utf-8") as file:
        file.write("\n".join(flows))
    with open(f"{folder}/p/spark-pipeline.yml", "w", encoding="utf-8") as file:
        file.write(f"name: p{tag}\nstorage: file://{folder}/storage\ncatalog: spark_catalog\ndatabase: default\n"
                   "libraries:\n  - glob:\n      include: transformations/**\n")
    answers = [[] for _ in asked]
    for step in range(max(len(steps) for *_, steps in asked)):
        for at, (_, schema, _, steps) in enumerate(asked):
            if step < len(steps):
                # Columns here are named without commas inside their types.
                names = [column.split()[0] for column in schema.split(", ")]
                with open(f"{folder}/in/{at}/{step}.json", "w", encoding="utf-8") as file:
                    file.writelines(json.dumps(dict(zip(names, row))) + "\n" for row in steps[step])
        pipelines = os.path.join(os.path.dirname(sys.executable), "spark-pipelines")
        subprocess.run([pipelines, "--remote", server, "run"], cwd=f"{folder}/p", check=True)
        for at, (*_, steps) in enumerate(asked):
            if step < len(steps):
                rows = spark.table(f"cat.ns.t_{tag}_{at}")
                if step == 0:
                    answers[at].append(rows.schema.simpleString())
                answers[at].append(f"> {step + 1}")
                answers[at] += sorted(" ".join(text(value) for value in row) for row in rows.collect())
    with open(os.path.join(HERE, "answers.txt"), "w", encoding="utf-8") as file:
        for (name, *_), answer in zip(asked, answers):
            file.write("\n".join([f"=== {name}", *answer, "", ""]))
    os._exit(0)


main(sys.argv[1])
