"""Makes golden.jsonl of json, csv and avro with real Spark 4.3, beside this file.

Run it with a Python that has pyspark 4.3.0 (and Java 17), in any folder, for all or some of them:

    TZ=UTC SPARK_AVRO=spark-avro_2.13-4.2.0.jar python golden.py [json] [csv] [avro]

A case of text is a schema, options, a record, the row that Spark made of it and whether Spark took it as corrupt; one of
Avro a row and what to_avro made of it, or bytes and what from_avro made of them. testing.rs says how values are written. Left out: answers that Python cannot hold (years beyond 9999, keys of maps that come
twice) or that depend on the day (times without a date), and texts that differ on purpose (digits that are not ASCII,
hexadecimal doubles).
"""
import datetime
import decimal
import json
import os
import pathlib
import sys
import tempfile

from pyspark.sql import Row, SparkSession, functions as F
from pyspark.sql.avro.functions import from_avro, to_avro

HERE = pathlib.Path(__file__).parent
KINDS = sys.argv[1:] or ["json", "csv", "avro"]
TODAY = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
CORRUPT = "_corrupt_record"
SCRATCH = pathlib.Path(tempfile.mkdtemp())
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.jars", os.environ.get("SPARK_AVRO", ""))
    .getOrCreate()
)


def marked(value):
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return "f:" + repr(value)
    if isinstance(value, (bytes, bytearray)):
        return "x:" + bytes(value).hex()
    if isinstance(value, decimal.Decimal):
        return "d:" + str(value)
    if isinstance(value, datetime.datetime):
        return "t:" + value.strftime("%Y-%m-%dT%H:%M:%S.%f")
    if isinstance(value, datetime.date):
        return "D:" + value.isoformat()
    if isinstance(value, Row):
        return {name: marked(part) for name, part in zip(value.__fields__, value)}
    if isinstance(value, dict):
        return {"map": [[marked(key), marked(part)] for key, part in value.items()]}
    return [marked(part) for part in value]


def from_json(schema, options, record):
    frame = spark.createDataFrame([(record,)], "v string").select(F.from_json("v", schema, options))
    return [row for (row,) in frame.collect() if row is not None]


def read_csv(schema, options, record):
    path = SCRATCH / "in.csv"
    path.write_bytes(record.encode())
    return spark.read.schema(schema).options(**options, columnNameOfCorruptRecord=CORRUPT).csv(str(path)).collect()


cases = {kind: [] for kind in KINDS}


def case(kind, read, schema, options, record):
    try:
        rows = [marked(row) for row in read(f"{schema}, {CORRUPT} string", options, record)]
    except Exception:  # a value that Python cannot hold
        return
    row = rows[0] if rows else None
    malformed = row is not None and row.pop(CORRUPT) is not None
    if len(rows) > 1 or TODAY in json.dumps(row):
        return
    answer = {"schema": schema, "options": options, "record": record, "row": row, "malformed": malformed}
    if answer not in cases[kind]:
        cases[kind].append(answer)


def J(schema, records, options={}):
    for record in records if "json" in KINDS else []:
        case("json", from_json, schema, options, record)


def T(schema, records, options={}):
    for record in records if "csv" in KINDS else []:
        case("csv", read_csv, schema, options, record)




def v(values):
    return ['{"a":%s,"z":1}' % value for value in values]


J("a int, z int", v(['1','-1','1.0','1.5','"12"','" 12"','true','null','2147483648','1e2','-0','{}','[]','[1]','""','NaN','"x"','01','+1','1.','.5','0x1','1e0']))
J("a bigint, z int", v(['9223372036854775807','9223372036854775808','1.0','"1"']))
J("a tinyint, z int", v(['127','128','-128','1.0']))
J("a smallint, z int", v(['32767','32768']))
J("a double, z int", v(['1','1.5','"1.5"','"NaN"','"Infinity"','"-Infinity"','"+Infinity"','"INF"','"+INF"','"-INF"','NaN','Infinity','-Infinity','INF','-INF','+INF','+Infinity','1e400','-1e400','true','null','""','"nan"','12345678901234567890123','1e-400','0.1','-0.0','1E5','1e+5','1.e5']))
J("a float, z int", v(['1','1.1','"1.5"','"NaN"','"Infinity"','1e39','16777217','3.4028236e38','NaN','-INF']))
J("a boolean, z int", v(['true','false','"true"','1','null','True','{}']))
J("a string, z int", v(['1','1.50','1E5','true','null','{"b": 1, "c":[1,2 ,3]}','[1, 2,{"x":"y"}]','"x\\n\\u00e9\\ud83d\\ude00"','"\\ud800"','"\\x"','"a\\/b"','NaN','""','-0','1.0','01',"'x'",'{"k":"v\\n"}','{"k":1.00e2,"k":2}','"\\u0000"','INF','{"a":NaN}','12345678901234567890','"tab\tx"','"ctl\x01x"']))
J("a binary, z int", v(['"AQID"','"AQI"','"AQI="','"!!"','1','""','null','"AQ ID"','"_-8="','"AQI=AQI="']))
J("a decimal(5,2), z int", v(['1','1.234','1.235','-1.235','999.99','1000','"1.5"','"x"','true','1e2','NaN','""','"1,000.5"','1e-3','999.995','"1e2"','null','{}']))
J("a decimal(38,0), z int", v(['12345678901234567890123456789012345678','123456789012345678901234567890123456789']))
J("a date, z int", v(['"2024-01-02"','"2024-1-2"','"2024-01-02T10:00:00"','"2024-01-02 10:00:00.5Z"','"2024"','"2024-01"','1','20000','"x"','""','"20240102"','" 2024-01-02 "','"2024-02-30"','true','null','"0000-01-01"','"10000-01-01"','"2024-01-02Z"','"2024-01-02 junk"','1.5']))
ts = ['"2024-01-02T03:04:05.123Z"','"2024-01-02T03:04:05.123456Z"','"2024-01-02T03:04:05.123456789Z"','"2024-01-02 03:04:05"','"2024-01-02T03:04:05"','"2024-01-02T03:04:05+02:00"','"2024-01-02T03:04:05+0200"','"2024-01-02T03:04:05+02"','"2024-01-02T03:04:05 Europe/Berlin"','"2024-01-02T03:04:05.5[Europe/Berlin]"','"2024-01-02"','"2024-01-02 03"','"2024-01-02 03:04"','"2024"','"2024-01"','"03:04:05"','"T03:04"','1704164645','1704164645.5','"1704164645"','-1','""','"x"','null','true','"2024-02-30T00:00:00Z"','"2024-01-02T24:00:00Z"','"2024-01-02T23:59:60Z"','"2024-1-2 3:4:5"','" 2024-01-02 03:04:05 "','"2024-01-02T03:04:05.Z"','"2024-01-02t03:04:05z"','"2024-01-02T03:04:05 UTC"','"2024-01-02T03:04:05GMT+1"','"2024-01-02T03:04:05UTC+01:00"','"2024-01-02T03:04:05PST"','"2024-01-02T03:04:05+18:01"','"2024-01-02T03:04:05+1:30"','"2024-01-02T03:04:05+01:30:15"','"12024-01-02T03:04:05Z"','"+12024-01-02T03:04:05Z"','"-0001-01-02T03:04:05Z"','"0001-01-01T00:00:00Z"','99999999999999','9223372036854775808','"2024-01-02T03:04:05.1234567Z"','"2024-01-02T03:04:05 Z"','"2024-01-02T03:04:05,123Z"','"2024-01-02T03:04:05-00:00"','1.7e9','"2024-01-02T03:04:5Z"','"2024-01-02T"','"2024-01-02T03:04Z"','"2024-01-02Z"','{}']
J("a timestamp, z int", v(ts)); J("a timestamp_ntz, z int", v(ts))
J("a timestamp, z int", v(['"2024-03-31 02:30:00"','"2024-10-27 02:30:00"','"2024-01-02 03:04:05"']),{"timeZone":"Europe/Berlin"})
J("a timestamp, z int", v(['"02/01/2024 03:04"','"2024-01-02T03:04:05Z"','"2/1/2024 03:04"','"02/01/2024 03:04 x"','"02/01/2024"','1','"31/02/2024 00:00"']),{"timestampFormat":"dd/MM/yyyy HH:mm"})
J("a timestamp_ntz, z int", v(['"02/01/2024 03:04"','"2024-01-02T03:04:05"']),{"timestampNTZFormat":"dd/MM/yyyy HH:mm","timestampFormat":"dd/MM/yyyy HH:mm"})
J("a date, z int", v(['"02/01/2024"','"2024-01-02"','"2/1/2024"']),{"dateFormat":"dd/MM/yyyy"})
J("a struct<b:int,c:string>, z int", v(['{"b":1,"c":"x"}','{"b":"bad","c":"x"}','{}','null','1','"x"','[]','{"b":1,"b":2}','{"b":1','[{"b":1}]','""']))
J("a array<int>, z int", v(['[1,2]','[]','[1,"x",3]','[null]','1','{"b":1}','null','"x"','[1,2','[[1]]','""']))
J("a array<struct<b:int>>, z int", v(['[{"b":1},{"b":"x"},{"b":3}]','{"b":1}','[1]']))
J("a map<string,int>, z int", v(['{"x":1,"y":2}','{"x":"bad","y":2}','{}','null','[]','1','{"x":null}','""']))
top = ['','  ','null','[]','{}','1','"x"','[{"a":1},{"a":2}]','[{"a":1}]','{"a":1}','{"a":1} ','{"a":1}x','{"a":1}{"a":2}','{"a":1,}','{"a":1','{"a":','{"a"','{','{"a":1}}','{a:1}',"{'a':1}","{'a':'x'}",'{"A":1}','{"a":1,"a":2}','{"a":1,"a":"x"}','{"a":"x","a":1}','{"a":1,"a":null}','{"b":{"c":[1,2,{"d":1}]},"a":7}','{"b":tru,"a":7}','{"b":"\\x","a":7}','{"a":7,"b":"\\x"}','{"a":7,"b":tru}','{"\\u0061":5}','{"a":7 "z":1}','{"a":7,,"z":1}','{"":1,"a":2}','// c\n{"a":1}','{"a":1}// c','\ufeff{"a":1}','{"a":7,"b":"x\ty"}','{"b":"x\ty","a":7}','{"b":01,"a":7}','{"b":NaN,"a":7}','{"b":1.,"a":7}','{"b":-,"a":7}','{"b":{"c":1,},"a":7}','{"b":{"c":1]},"a":7}','{"b":"\\ud800","a":7}','{"b":[1,2}','{"z":1,"a":"x","q":[}','{"z":1,"a":"x"','{"z":3}junk','tru','nul','[1]','[[]]','[null]','[{"a":1},null]','[{"a":1},3]','{"a":1}]','\x00','{"a":1}\x00', '{"_corrupt_record":"hey","a":1}','{"b":1e,"a":7}','{"b":+1,"a":7}','{"b":INF,"a":7}','{"b":Infinity,"a":7}','{"b":12a,"a":7}','{"b":nullx,"a":7}','{"b":"x"y,"a":7}','{"a":7x}','{"a":7}\n{"a":8}']
J("a int, z int", top)
J("a decimal(10,2), z int", v(['"1,000.5"','" 1.5"','"1.5 "','"+1.5"','".5"','"5."','"1e-30"','1e30','1e-30','"0x1"','"1_0"',]))
J("a date, z int", v(['"12345"','"-5"','"+5"','"99999999"','"2024-01-02T"','"2024-01-02T junk"','"12024-01-02"','"1234567-01-02"','"-2024-01-02"','"+2024-01-02"','"2024-"','"2024-1-"','"024-01-02"','"2024-001-02"','"99999999999"','"2024-13-01"']))
J("a timestamp, z int", v(['"1234567-01-02 00:00:00"','"123456-01-02 00:00:00"','"2024-01-02 03:04:05.123456789123"','"2024-01-02 03:04:"','"2024-01-02 3:4:5.1 +1:3"','"2024-01-02 03:04:05 +1"','"2024-01-02 03:04:05 +1:5"','"2024-01-02 03:04:05UT+5"','"2024-01-02 03:04:05 utc"','"2024-01-02 03:04:05-18:00"','"2024-01-02 03:04:05EST"','"2024-01-02 03:04:05 BST"','"2024-01-02 03:04:05+0130"','"2024-01-02 03:04:05+013015"','"2024-01-02 03:04:05+01:3015"','"2024-01-02 03:04:05+130"','"2024-01-02 03:04:05."','"2024-01-02 03:04:05. Z"','"2024-01-02 03:04:05.1Europe/Berlin"','"2024-01-02  03:04:05"','"2024-01-02\\t03:04:05"','"2024-1-02T3:04:05Z"','9223372036854775807','9223372036855','" 03:04"','"024-01-02 03:04:05"','"2024-01-02 003:04:05"']))
J("a int, z int", ['{"z":1,"d":' + "1" * n + "}" for n in (1000, 1001)])
S = "a int, b string, c double"
T(S,['1,x,1.5','1,x','1','','1,x,1.5,9',' 1,x,1.5','1, x ,1.5','1,"x,y",2','1,"x""y",2','1,"x\\"y",2','1,"",2','1,,2',',,','""','x,y,z','1,"x','1,x"y,2','1,"x"y,2','1,"x\\ny",2','1,\'x\',2','+1,x,1','1.0,x,1','1,x,NaN','1,x,Inf','1,x,-Inf','1,x,Infinity','1,x,1e3','1,x,1d','1,x, 1.5','1,null,1','1,\\,,2','1,a\\nb,2','#1,x,2','1,x,""','"1","x","2"','1,"x" ,2','1, "x",2','1,x,','1,"a\\\\b",2','1,"a\\b",2','1,a""b,2','   ','1,"x"','1,x,1_0','1,"x""",2','1,"""x",2','1,"a"b"c",2'])
T("a boolean, b string",['true,x','TRUE,x','True,x','1,x','t,x',' true,x','false,"false"'])
T("a tinyint, b smallint",['127,32767','128,32768'])
T("a decimal(10,2), b string",['1.5,x','"1,000.5",x','1e2,x','1.235,x','123456789,x',' 1,x','abc,x'])
T("a date, b timestamp",['2024-01-02,2024-01-02T03:04:05Z','2024-1-2,2024-01-02 03:04:05','20240102,1704164645','2024-01-02T10:00:00,2024-01-02T03:04:05.123456+02:00','x,x','2024-01-02 x,2024-01-02',' 2024-01-02, 2024-01-02 03:04:05','2024,2024','12345,123'])
T("a date, b timestamp_ntz",['2024-01-02,2024-01-02T03:04:05Z','2024-01-02,2024-01-02T03:04:05'])
T("a date, b timestamp",['02/01/2024,02/01/2024 03:04','2024-01-02,2024-01-02T03:04:05Z'],{"dateFormat":"dd/MM/yyyy","timestampFormat":"dd/MM/yyyy HH:mm"})
T(S,['1,NA,2','NA,x,NA','1,"NA",2','1,,2','1,"",2'],{"nullValue":"NA"})
T(S,['1;x;2','1;"x;y";2',"1;x,y;2"],{"sep":";"})
T(S,["1,'x,y',2","1,'x''y',2","1,'x\\'y',2"],{"quote":"'"})
T(S,['1,"x""y",2','1,"x\\"y",2'],{"escape":'"'})
T(S,[' 1 , x , 2 ','1," x ",2'],{"ignoreLeadingWhiteSpace":"true","ignoreTrailingWhiteSpace":"true"})
T(S,['#c,x,2','1,x,2'],{"comment":"#"})
T("a binary, b string",['AQID,x','"",x',',x'])
T("a float, b bigint",['1.1,9223372036854775807','1e39,9223372036854775808','NaN,1'])
T("a string, b string",['"",x',',x','" ",x'],{"emptyValue":"E"})
T("a string",['','""','x','  '])

def W(columns, rows, schema=None):
    """Rows of columns, as records of the schema that to_avro derives, or of one that is given."""
    for row in rows if "avro" in KINDS else []:
        whole = F.struct("*")
        frame = spark.createDataFrame([row], columns)
        frame = frame.select("*", (to_avro(whole, schema) if schema else to_avro(whole)).alias("_value"))
        answer = marked(frame.collect()[0])
        value = answer.pop("_value")
        cases["avro"].append({"columns": columns, "schema": schema and json.loads(schema), "row": answer, "value": value})


def R(writer, values, options={}):
    """Values of a schema, in hexadecimal digits, as from_avro reads them."""
    for value in values if "avro" in KINDS else []:
        frame = spark.createDataFrame([(bytes.fromhex(value),)], "b binary")
        frame = frame.select(from_avro("b", json.dumps(writer), {"mode": "PERMISSIVE", **options}).alias("v"))
        answer = {"writer": writer, "options": options, "value": "x:" + value, "type": frame.schema["v"].dataType.simpleString()}
        cases["avro"].append({**answer, "read": marked(frame.collect()[0]["v"])})


def record(*fields, name="r"):
    return {"type": "record", "name": name, "fields": [dict(zip(("name", "type", "default"), field)) for field in fields]}


D, day, at = decimal.Decimal, datetime.date, datetime.datetime
W("a int, b string", [(1, "x"), (None, None), (-1, ""), (2**31 - 1, "é漢😀"), (-(2**31), "x" * 200)])
W("a int not null, b string not null", [(64, "x"), (-65, "")])
W("a tinyint, b smallint, c bigint, d boolean", [(-128, 300, 2**63 - 1, True), (1, -1, -(2**63), False), (None, None, None, None)])
W("a float, b double", [(1.5, -2.25), (0.0, float("inf")), (None, float("nan"))])
W("a binary, b date", [(b"\x00\xff", day(2024, 1, 2)), (b"", day(1969, 12, 31)), (None, None)])
W("a timestamp, b timestamp_ntz", [(at(2024, 1, 2, 3, 4, 5, 678901), at(2024, 1, 2, 3, 4, 5, 1)), (None, None)])
W("a decimal(5,2), b decimal(18,0), c decimal(38,10)", [(D("1.50"), D("123456789012345678"), D("-1.0000000001")), (D("-999.99"), D("0"), D("9" * 28)), (None, None, None)])
W("a array<int>, b array<string>", [([1, None, 3], ["x", None]), ([], []), (None, None)])
W("a map<string,int>", [({"k": 1},), ({"k": None},), ({},), (None,)])
W("a struct<b: int, c: struct<d: string, e: decimal(4,1)>>", [((1, ("x", D("1.5"))),), ((None, None),), (None,)])
W("a array<struct<b: int, c: array<string>>>, d map<string, struct<e: date>>", [([(1, ["x"]), None], {"k": (day(2024, 1, 2),)})])
given = json.dumps(record(
    ("n", ["null", "long"]), ("e", {"type": "enum", "name": "e", "symbols": ["A", "B"]}), ("d", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
    ("f", {"type": "fixed", "name": "f", "size": 2}), ("m", {"type": "long", "logicalType": "timestamp-millis"}), ("more", ["null", "string"])))
W("n bigint, e string, d decimal(9,2), f binary, m timestamp", [(1, "B", D("-1.28"), b"ab", at(2024, 1, 2, 3, 4, 5, 678901)), (None, "A", D("1.27"), b"\x00\x00", at(1969, 12, 31, 23, 59, 59, 999999))], given)

R(record(("a", "int"), ("b", "string")), ["020278", "020278ff", "0202", "", "02ff", "fffffffff00100", "ffffffffffffffffffff0100", "0201"])
R(record(("a", "long")), ["ffffffffffffffffff01", "feffffffffffffffff01", "80"], {"avroSchema": json.dumps(record(("a", "double")))})
R(record(("a", ["null", "int", "string"])), ["00", "0202", "040278", "06"])
R(record(("a", ["int", "long"]), ("b", ["float", "double"])), ["0002000000c03f", "020402000000000000f83f"])
R(record(("a", {"type": "array", "items": "int"})), ["0402040201020600", "03040204020600", "00", "0402", "feffffffffffffffff01"])
R(record(("a", {"type": "map", "values": "long"})), ["02026b0200", "0106026b0200", "00"])
R(record(("a", {"type": "enum", "name": "e", "symbols": ["A", "B"]})), ["00", "02", "04", "01"])
R(record(("a", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2})), ["02ff", "027f", "040080", "00", "067fffff"])
R(record(("a", {"type": "long", "logicalType": "timestamp-millis"}), ("b", {"type": "long", "logicalType": "local-timestamp-millis"})), ["d00fd00f"])
R(record(("a", {"type": "string", "logicalType": "uuid"}), ("b", {"type": "long", "logicalType": "nothing"})), ["027802"])
R("long", ["02", ""])
R(["null", "string"], ["00", "020278"])
R({"type": "array", "items": "string"}, ["02027800"])
old = record(("id", "int"), ("gone", {"type": "array", "items": record(("x", "string"), name="x")}), ("name", "string"))
new = record(("name", ["null", "string"], None), ("id", "long"), ("more", "string", "none"), ("last", ["null", "double"], None))
R(old, ["02000278", "02020278000279", "0202027800"], {"avroSchema": json.dumps(new)})
aliased = {"type": "record", "name": "r", "fields": [{"name": "ident", "aliases": ["id"], "type": "long"}]}
R(record(("id", "int")), ["04"], {"avroSchema": json.dumps(aliased)})
R(record(("a", "string")), ["0278"], {"avroSchema": json.dumps(record(("a", "bytes")))})
R(record(("s", record(("x", "int"), ("y", "int"), name="s"))), ["0204"], {"avroSchema": json.dumps(record(("s", record(("y", "long"), name="s"))))})

for kind, answers in cases.items():
    lines = [json.dumps(answer, separators=(",", ":")) + "\n" for answer in answers]
    (HERE / kind / "golden.jsonl").write_text("".join(lines))
spark.stop()
