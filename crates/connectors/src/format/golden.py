"""Makes json/golden.jsonl and csv/golden.jsonl with real Spark 4.3, beside this file.

Run it with a Python that has pyspark 4.3.0 (and Java 17), in any folder:

    TZ=UTC python golden.py

A case is a schema, options, a record, the row that Spark made of it and whether Spark took it as corrupt. testing.rs
says how values are written. Left out: answers that Python cannot hold (years beyond 9999, keys of maps that come
twice) or that depend on the day (times without a date), and texts that differ on purpose (digits that are not ASCII,
hexadecimal doubles).
"""
import datetime
import decimal
import json
import os
import pathlib
import tempfile

from pyspark.sql import Row, SparkSession, functions as F

HERE = pathlib.Path(__file__).parent
TODAY = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
CORRUPT = "_corrupt_record"
SCRATCH = pathlib.Path(tempfile.mkdtemp())
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
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


cases = {"json": [], "csv": []}


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
    for record in records:
        case("json", from_json, schema, options, record)


def T(schema, records, options={}):
    for record in records:
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

for kind, answers in cases.items():
    lines = [json.dumps(answer, separators=(",", ":")) + "\n" for answer in answers]
    (HERE / kind / "golden.jsonl").write_text("".join(lines))
spark.stop()
