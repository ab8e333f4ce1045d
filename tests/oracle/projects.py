#!/usr/bin/env python3
"""Makes project folders of the streaming cases, for the test that runs them on both engines (tests/spark).

    projects.py OUT PREFIX      OUT/0, OUT/1, ...: many cases a project; OUT/cases.tsv lists them

Each case that Spark answers in append mode becomes a streaming table PREFIX_N; each step of its input a file of the tables
it has rows for, read one a batch. Left out are cases whose rows JSON cannot hold and those whose settings differ from one
engine to the other by design. Needs no Spark.
"""
import json
import os
import re
import sys
import zlib

import streams

# Types that a file of JSON does not hold, or not so that both engines write the same.
NOT_IN_JSON = re.compile(r"\b(interval|void|variant|map<)")


def is_answered(answer):
    """Whether Spark has an answer to the end, and one with columns of their own."""
    if not answer or not answer[0].startswith("columns "):
        return False
    if any(re.match(r"\d+ failed", line) for line in answer):
        return False
    kinds = answer[0][len("columns "):]
    try:
        names = [name for name, _ in streams.columns(f"({kinds})")]
    except ValueError:
        # A column that nobody named has the text of its expression, which is no name for a table's column.
        return False
    return not NOT_IN_JSON.search(kinds) and len({name.lower() for name in names}) == len(names)


def known_to_differ():
    """The cases whose rows are not Spark's, `family / name [mode]`: streams.known says why."""
    with open(os.path.join(os.path.dirname(streams.HERE), "streams.known"), encoding="utf-8") as file:
        return {line.split("\t")[0] for line in file if not line.startswith("#")}


def chosen():
    """The cases with what they read, by family."""
    differs = known_to_differ()
    for file in sorted(os.listdir(streams.HERE)):
        if not file.endswith(".txt") or file == "refusals.txt":
            continue
        answers = streams.known(os.path.join(streams.HERE, file[:-4] + ".golden"))
        for case in streams.cases(os.path.join(streams.HERE, file)):
            own = {key for key in case.conf if key != "spark.sql.session.timeZone"}
            title = f"{file[:-4]} / {case.name} [append]"
            if "append" in case.modes and not own and title not in differs and is_answered(answers.get(f"{case.name} [append]")):
                yield file[:-4], case


def renamed(case, number):
    """The case with tables of its own names, so that many can stand in one project."""
    own = {name: f"c{number}_{name}" for name in [*case.tables, *case.static]}
    query = "\n".join(case.query)
    for name, new in own.items():
        query = re.sub(rf"\b(STREAM\s*\(?\s*|FROM\s+|JOIN\s+){name}\b(?!\s*\.)", rf"\g<1>{new}", query, flags=re.I)
        if not re.search(rf"(\bAS|\))\s+{name}\b", query, flags=re.I):
            query = re.sub(rf"\b{name}\.", f"{new}.", query)
    return own, query


def write(path, text, at=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    if at is not None:
        # Files are read in the order of their times.
        os.utime(path, (at, at))


def inputs(folder, case, own):
    """The files of all tables, and the statements that name them."""
    statements, files = [], 0
    for step in case.steps:
        for part in step:
            name, _, text = part.partition(":")
            files += 1
            rows = streams.lines(case.tables[name], text)
            if rows:
                write(os.path.join(folder, "input", own[name], f"{files:04}.json"), rows, 1_700_000_000 + files * 10)
    for name, schema in case.tables.items():
        path = os.path.join(folder, "input", own[name])
        os.makedirs(path, exist_ok=True)
        options = f"path '{path}', maxFilesPerTrigger '1'"
        statements.append(f"CREATE TABLE {own[name]} {schema} USING json OPTIONS ({options});")
    for name, (schema, rows) in case.static.items():
        path = os.path.join(folder, "input", own[name])
        write(os.path.join(path, "0.json"), streams.lines(schema, rows), 1_700_000_000)
        statements.append(f"CREATE TABLE {own[name]} {schema} USING json OPTIONS (path '{path}');")
    return statements


def project(folder, name, members):
    """A project of cases with the same settings."""
    conf = {**members[0][1].conf, "spark.sql.shuffle.partitions": "1"}
    yml = [f"name: {name}", f"storage: file://{folder}/storage", "catalog: spark_catalog", "database: default",
           "configuration:", *(f"  {key}: {json.dumps(value)}" for key, value in conf.items()),
           "libraries:", "  - glob:", "      include: transformations/**"]
    write(os.path.join(folder, "spark-pipeline.yml"), "\n".join(yml) + "\n")
    write(os.path.join(folder, "highwater.yml"), "trigger: available-now\ncatalog: [catalog.sql]\n")
    statements, tables = [], []
    for table, case in members:
        own, query = renamed(case, table.rpartition("_")[2])
        statements += inputs(folder, case, own)
        tables.append(f"-- {case.name}\nCREATE STREAMING TABLE {table} USING json AS\n{query};\n")
    write(os.path.join(folder, "catalog.sql"), "\n".join(statements) + "\n")
    write(os.path.join(folder, "transformations", "cases.sql"), "\n".join(tables))


# Cases of one project: each is a query of its own on the cluster.
TOGETHER = 40


def main():
    out, prefix = os.path.abspath(sys.argv[1]), sys.argv[2]
    groups, listed = {}, []
    # Mixed, so that the first projects have cases of every family; the same each time.
    mixed = sorted(chosen(), key=lambda found: zlib.crc32(found[1].name.encode()))
    for number, (family, case) in enumerate(mixed):
        settings = json.dumps(case.conf, sort_keys=True)
        groups.setdefault(settings, []).append((f"{prefix}_{number}", case, family))
    projects = [members[at:at + TOGETHER] for members in groups.values() for at in range(0, len(members), TOGETHER)]
    for at, members in enumerate(projects):
        project(os.path.join(out, str(at)), f"{prefix}_{at}", [(table, case) for table, case, _ in members])
        listed += [f"{table}\t{at}\t{family}: {case.name}" for table, case, family in members]
    write(os.path.join(out, "cases.tsv"), "\n".join(listed) + "\n")
    print(f"{len(listed)} cases in {len(projects)} projects")


if __name__ == "__main__":
    main()
