"""Stands for the `test/service.py` that kafka-python's source distribution leaves out: starts nothing.

The integration tests run against a broker that is there already (KAFKA_URI), for which their fixtures need these two
names and what is called on them.
"""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    def close(self):
        pass

    def stop(self):
        pass

    def dump_logs(self):
        pass


class SpawnedService:
    def __init__(self, *_arguments, **_options):
        raise RuntimeError("these tests run against a broker that is there already; set KAFKA_URI")
