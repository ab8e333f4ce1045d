"""Stands for the `test/service.py` that kafka-python's source distribution leaves out: processes, started and watched."""

import re
import subprocess
import threading
import time


class ExternalService:
    """A broker that runs already."""

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
    """A process whose output is kept, and waited for."""

    def __init__(self, args, env):
        self.args, self.env = args, env
        self.process, self.lines = None, []

    def start(self):
        self.process = subprocess.Popen(self.args, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()

    def wait_for(self, pattern, timeout=30):
        """Whether the process says this in time."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if any(re.search(pattern, line) for line in list(self.lines)):
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.05)
        return False

    def dump_logs(self):
        print("".join(self.lines))

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
