//! Programs whose streams go to other systems, and programs that are interrupted.

use std::fs;

use super::{HEAD, printed, server};
use crate::broker::TestBroker;

#[test]
#[ignore = "needs PySpark's client from PyPI: make connect-test"]
fn a_stream_goes_through_kafka_and_delta() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    let (_running, address) = server(folder.path());
    let body = r#"
import os
folder, bootstrap = os.path.dirname(os.path.abspath(__file__)), "BOOTSTRAP"
source = os.path.join(folder, "in")
os.mkdir(source)
with open(os.path.join(source, "a.json"), "w") as out:
    out.writelines('{"id": %d, "word": "w%d"}\n' % (n, n) for n in range(3))
events = spark.readStream.schema("id INT, word STRING").json(source)
def run(rows, name, **options):
    checkpoint = os.path.join(folder, "checkpoint-" + name)
    writer = rows.writeStream.options(checkpointLocation=checkpoint, **options).trigger(availableNow=True)
    return writer
to_kafka = events.select(F.col("id").cast("string").alias("key"), F.to_json(F.struct("id", "word")).alias("value"))
kafka = {"kafka.bootstrap.servers": bootstrap}
run(to_kafka, "kafka", topic="words", **kafka).format("kafka").start().awaitTermination()
topic = spark.readStream.format("kafka").options(subscribe="words", startingOffsets="earliest", **kafka).load()
print(topic.schema.simpleString())
read = topic.select(F.from_json(F.col("value").cast("string"), "id INT, word STRING").alias("v"), "topic").select("v.*", "topic")
run(read, "delta").format("delta").start(os.path.join(folder, "delta")).awaitTermination()
run(read, "delta").format("delta").start(os.path.join(folder, "delta")).awaitTermination()
print(spark.read.format("delta").load(os.path.join(folder, "delta")).orderBy("id").collect())
batch = spark.read.format("kafka").options(subscribe="words", **kafka).load()
print(batch.count())
query = run(read, "table").toTable("words")
query.awaitTermination()
print(spark.table("words").count(), query.lastProgress["numInputRows"])
"#;
    let body = body.replace("BOOTSTRAP", &broker.address);
    let program = folder.path().join("program.py");
    fs::write(&program, format!("{HEAD}{body}")).unwrap();
    assert_eq!(
        printed(&program, &address).unwrap_or_else(|error| panic!("{error}")),
        "struct<key:binary,value:binary,topic:string,partition:int,offset:bigint,timestamp:timestamp,timestampType:int>\n\
         [Row(id=0, word='w0', topic='words'), Row(id=1, word='w1', topic='words'), Row(id=2, word='w2', \
         topic='words')]\n3\n3 3\n"
    );
}

/// The program ends only if what it interrupts does: the server's one batch thread would be busy for hours otherwise.
#[test]
#[ignore = "needs PySpark's client from PyPI: make connect-test"]
fn an_interrupt_ends_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (_running, address) = server(folder.path());
    let body = r#"
import threading
numbers = spark.range(1000000)
def endless():
    return numbers.crossJoin(numbers.withColumnRenamed("id", "other")).agg(F.sum(F.col("id") * F.col("other") % 7)).collect()
def waiting():
    query.awaitTermination()
def interrupted(work, stop):
    ended = []
    def run():
        try:
            ended.append(work())
        except Exception as error:
            ended.append("OPERATION_CANCELED" in str(error))
    thread = threading.Thread(target=run)
    thread.start()
    while not ended:
        stop()
        thread.join(0.2)
    return ended[0]
print(interrupted(endless, spark.interruptAll))
def tagged():
    spark.addTag("long")
    return endless()
print(interrupted(tagged, lambda: spark.interruptTag("long")))
query = spark.readStream.format("rate").load().writeStream.format("memory").queryName("rate").start()
print(interrupted(waiting, spark.interruptAll))
print([query.name for query in spark.streams.active], spark.range(5).count())
spark.stop()
"#;
    let program = folder.path().join("program.py");
    fs::write(&program, format!("{HEAD}{body}")).unwrap();
    let printed = printed(&program, &address).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(printed, "True\nTrue\nTrue\n['rate'] 5\n");
}
