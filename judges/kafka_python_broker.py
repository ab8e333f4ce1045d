"""Stands for Kafka's scripts under kafka-python's fixtures: starts our broker with what they configured.

    kafka_python_broker.py kafka-storage.sh ...                            nothing has to be prepared
    kafka_python_broker.py kafka-run-class.sh kafka.Kafka PROPERTIES       runs until it is terminated

The properties are those of the template in `kafka_python.py`; what is printed is what the fixtures wait for.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import certificates
from harness import wait_until_open

# As the fixtures have it.
USER, PASSWORD = "alice", "alice-secret"


def main():
    if sys.argv[1] != "kafka-run-class.sh":
        return
    read = dict(line.split("=", 1) for line in Path(sys.argv[3]).read_text().splitlines())
    folder, port = Path(read["tmp_dir"]), int(read["port"])
    file = folder / "settings.yml"
    file.write_text(json.dumps(settings(read, folder, port)))
    log = folder / "broker.log"
    with open(log, "wb") as out:
        process = subprocess.Popen([*json.loads(os.environ["JUDGES_BROKER"]), str(file)], stdout=out, stderr=out)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(process.pid, signal.SIGINT))
    wait_until_open(process, port, log)
    print(f"Replayed UserScramCredentialRecord creating new entry for {USER}")
    print("[KafkaRaftServer nodeId=0] Kafka Server started", flush=True)
    process.wait()


def settings(read, folder, port):
    password = folder / "password"
    password.write_text(PASSWORD)
    listener = {"name": "clients", "address": f"127.0.0.1:{port}", "protocol": read["transport"].lower()}
    listener["advertised"] = f"{read['host']}:{port}"
    if "SSL" in read["transport"]:
        tls = Path(read["ssl_dir"])
        certificates.sign(tls, tls / "ca-cert", tls / "ca-key", "broker")
        listener["tls"] = {"certificate": f"{tls}/broker.pem", "key": f"{tls}/broker.key"}
    if "SASL" in read["transport"]:
        listener["sasl"] = [read["sasl_mechanism"].lower()]
    return {
        "data_dir": str(folder / "broker"),
        "default_partitions": int(read["partitions"]),
        "listeners": [listener],
        "security": {
            "users": [{"name": USER, "password": f"${{file:{password}}}"}],
            "allow_everyone_if_no_acl_found": True,
        },
    }


if __name__ == "__main__":
    main()
