"""What every judge needs: a broker of its own, commands that end, and the list of what is known.

A judge is a test suite of somebody else's Kafka client, run against our broker. The outcome of each of its tests is
compared with a list (`expected/<judge>.tsv`): what is listed as passing must pass, what is listed as failing must
fail, and nothing may appear or vanish unnoticed.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PASS, FAIL, SKIP, NOT_APPLICABLE = "pass", "fail", "skip", "n/a"


class NotRun(Exception):
    """A judge could not be heard: a registry or a tool is missing. Says nothing about the broker."""


@dataclass
class Result:
    """Outcome of one foreign test: pass, fail, or skip where the suite itself left it out."""

    name: str
    outcome: str
    detail: str = ""


@dataclass
class Listed:
    """What `expected/<judge>.tsv` says about one test: pass, fail or n/a, and why."""

    outcome: str
    reason: str = ""


# A broker with access rules, in which everything is allowed that no rule forbids.
OPEN = {"allow_everyone_if_no_acl_found": True}
USER, PASSWORD = "judge", "judges-secret"


def secured(work):
    """Listeners with TLS and SASL, and the settings that go with them: what is not forbidden is allowed."""
    import certificates

    folder = certificates.make(work)
    password = folder / "password"
    password.write_text(PASSWORD)
    tls = {"certificate": str(folder / "broker.pem"), "key": str(folder / "broker.key")}
    mutual = tls | {"client_ca": str(folder / "ca.pem"), "client_auth": "required"}
    listeners = {
        "ssl": {"protocol": "ssl", "tls": mutual},
        "sasl_plaintext": {"protocol": "sasl_plaintext", "sasl": ["scram-sha-256", "scram-sha-512"]},
        "sasl_ssl": {"protocol": "sasl_ssl", "tls": tls, "sasl": ["plain", "scram-sha-256", "scram-sha-512"]},
    }
    security = {
        "users": [{"name": USER, "password": f"${{file:{password}}}"}],
        "super_users": [f"User:{USER}"],
        **OPEN,
    }
    return folder, listeners, security


@dataclass
class Bench:
    """Where a judge works, which broker it gets, and what is known about its tests."""

    judge: str
    work: Path
    command: list
    address: str | None
    listed: dict = field(default_factory=dict)
    fast: bool = False
    only: list = field(default_factory=list)

    @property
    def logs(self):
        path = self.work / "logs" / self.judge
        path.mkdir(parents=True, exist_ok=True)
        return path

    def wanted(self, name):
        """Whether to run a test: what is listed as not applicable is left out where a suite can leave it out."""
        if self.only:
            return any(part in name for part in self.only)
        listed = self.listed.get(name)
        return listed is None or listed.outcome != NOT_APPLICABLE

    @contextlib.contextmanager
    def broker(self, listeners=None, **settings):
        """A fresh broker on a free port, with its own data, until the end of the block. Yields HOST:PORT.

        `listeners` are those beside the plain one, by name, without their addresses; with them a dictionary of addresses
        is yielded, in which the plain one is "plaintext".
        """
        if self.address:
            if listeners:
                raise NotRun("--broker names one that runs already, but this needs one with listeners of its own")
            yield self.address
            return
        with tempfile_dir(self.work / "data") as folder:
            names = ["plaintext", *(listeners or {})]
            ports = dict(zip(names, free_ports(len(names))))
            addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
            settings |= {"data_dir": str(folder / "data"), "listen": addresses["plaintext"]}
            if listeners:
                plain = {"name": "plaintext", "address": addresses["plaintext"]}
                others = [{"name": name, "address": addresses[name], **more} for name, more in listeners.items()]
                settings["listeners"] = [plain, *others]
            # JSON is YAML too, which is what `highwater broker --config` reads.
            file = folder / "settings.yml"
            file.write_text(json.dumps(settings))
            log_path = self.logs / f"broker-{ports['plaintext']}.log"
            with open(log_path, "wb") as log:
                process = subprocess.Popen([*self.command, str(file)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            try:
                for port in ports.values():
                    wait_until_open(process, port, log_path)
                yield addresses if listeners else addresses["plaintext"]
                if process.poll() is not None:
                    raise RuntimeError(f"the broker ended by itself with {process.returncode}: {log_path}")
            finally:
                stop(process)


def free_ports(count):
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


@contextlib.contextmanager
def tempfile_dir(path):
    """An empty folder that is gone afterwards."""
    path = path / f"{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def wait_until_open(process, port, log_path, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the broker did not start: {log_path.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the broker does not listen on port {port} after {seconds} s: {log_path}")


def stop(process, seconds=20):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Ran:
    """How a command ended. `code` is None when it did not end in time and was killed."""

    code: int | None
    text: str
    errors: str = ""


def run(command, *, seconds, log=None, input=None, merge=True, **options):
    """Runs a command with a limit; kills it with all its children when the limit is reached.

    The text is what it printed (also on stderr if `merge`).
    """
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        start_new_session=True,
        **options,
    )
    try:
        out, err = process.communicate(input.encode() if input is not None else None, timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = None
    text = out.decode(errors="replace")
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        ended = f"no end after {seconds} s" if code is None else f"exit {code}"
        said = "" if err is None else "\n-- stderr\n" + err.decode(errors="replace")
        log.write_text(f"{' '.join(map(str, command))}\n{text}{said}\n-- {ended}\n")
    return Ran(code, text, "" if err is None else err.decode(errors="replace"))


def fetch(what, command, *, seconds=600, **options):
    """Runs the client of a package registry; a judge whose parts cannot be fetched is not run."""
    ran = tool(what, command, seconds=seconds, **options)
    if ran.code != 0:
        raise NotRun(f"{what} could not be fetched or built: {last_lines(ran.text)}")
    return ran.text


def tool(what, command, **options):
    if "/" not in str(command[0]) and shutil.which(str(command[0])) is None:
        raise NotRun(f"{what} needs `{command[0]}`, which is not installed")
    return run(command, **options)


def last_lines(text, count=3):
    return " / ".join(line.strip() for line in text.strip().splitlines()[-count:] if line.strip())


def venv(path, packages):
    """A Python environment with these packages from PyPI; returns its interpreter."""
    python = path / "bin" / "python"
    stamp = path / "packages"
    wanted = "\n".join(packages)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(path, ignore_errors=True)
        fetch("a Python environment", ["python3", "-m", "venv", path])
        fetch(", ".join(packages), [python, "-m", "pip", "install", "--quiet", *packages])
        stamp.write_text(wanted)
    return python


def read_list(path):
    """`name<TAB>outcome<TAB>reason` a line; comments begin with #."""
    listed = {}
    if not path.exists():
        return listed
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) not in (2, 3) or fields[1] not in (PASS, FAIL, NOT_APPLICABLE):
            raise SystemExit(f"{path}:{number}: expected name<TAB>pass|fail|n/a<TAB>reason, found {line!r}")
        name, outcome, reason = (*fields, "")[:3]
        if outcome != PASS and not reason.strip():
            raise SystemExit(f"{path}:{number}: {name} is listed as {outcome} without a reason")
        listed[name] = Listed(outcome, reason)
    return listed


def write_list(path, listed):
    lines = [f"{name}\t{entry.outcome}\t{entry.reason}".rstrip("\t") for name, entry in listed.items()]
    path.write_text("\n".join(lines) + "\n")


class Checks:
    """Tests of our own that drive a foreign program: each a function, named by what it asks of the broker."""

    def __init__(self):
        self.known = {}

    def check(self, name, fast=False, since=""):
        """`fast`: CI runs it too. `since`: the first release of the foreign program that can be asked."""

        def add(function):
            self.known[name] = (function, fast, since)
            return function

        return add

    def is_fast(self, name):
        return self.known[name][1] if name in self.known else False

    def run(self, bench, make, prefix="", release="", at_once=2):
        """Runs what is wanted, each with `make(name)` as its argument. What it asserts and does not hold is a failure."""
        from concurrent.futures import ThreadPoolExecutor

        def one(name):
            try:
                self.known[name][0](make(name))
            except (AssertionError, LookupError, ValueError) as failure:
                return Result(prefix + name, FAIL, f"{failure}" or type(failure).__name__)
            return Result(prefix + name, PASS)

        chosen = [name for name, (_, fast, since) in self.known.items() if release >= since and (fast or not bench.fast)]
        chosen = [name for name in chosen if bench.wanted(prefix + name)]
        with ThreadPoolExecutor(at_once) as pool:
            yield from pool.map(one, chosen)


class Program:
    """A foreign program that a check calls: it keeps a log of every call and asserts how it ends."""

    def __init__(self, log, address, seconds=60):
        self.log, self.address, self.seconds, self.calls = log, address, seconds, 0

    def call(self, command, input=None, fails=False, seconds=None, merge=True, **options):
        """What the command prints; asserts that it ends well, with `fails` that it does not (None: either)."""
        self.calls += 1
        log = self.log.with_name(f"{self.log.name}-{self.calls}.log")
        ran = run(command, seconds=seconds or self.seconds, log=log, input=input, merge=merge, **options)
        said = last_lines(ran.text + ran.errors)
        assert ran.code is not None, f"call {self.calls} did not end: {said}"
        assert fails is None or (ran.code != 0) == fails, f"call {self.calls} ended with {ran.code}: {said}"
        return ran.text


def expect(found, wanted, what):
    """Asserts equality and says both sides."""
    if found != wanted:
        raise AssertionError(f"{what}: expected {str(wanted)[:200]}, found {str(found)[:200]}")


def expect_in(part, text, what="output"):
    if part not in text:
        raise AssertionError(f"{what}: expected {part!r} in {last_lines(text, 6)[:300]!r}")


def file_name(name):
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name)
