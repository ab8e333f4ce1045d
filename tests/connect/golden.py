#!/usr/bin/env python3
"""Golden output of the programs: what they print on a real Spark 4.3.

    golden.py --against sc://127.0.0.1:15302 [--only TEXT] [--check]

Each program of programs/ is run with SPARK_REMOTE set to the server; what it prints goes to golden/NAME.txt. With --check
nothing is written: the output is compared with what is there, and the exit code says whether all is the same. Run it with
the Python that has pyspark-client (scripts/setup-connect makes one).
"""

import argparse
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def output(program: pathlib.Path, remote: str) -> tuple[str, str, int]:
    environment = {**os.environ, "SPARK_REMOTE": remote, "TZ": "UTC"}
    run = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return run.stdout, run.stderr, run.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", required=True, help="the address of the server")
    parser.add_argument("--only", default="", help="programs whose name contains this")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    arguments = parser.parse_args()
    failed = []
    for program in sorted((HERE / "programs").glob("*.py")):
        if arguments.only not in program.name:
            continue
        printed, errors, code = output(program, arguments.against)
        golden = HERE / "golden" / f"{program.stem}.txt"
        if code != 0:
            failed.append(program.stem)
            print(f"{program.stem}: exit code {code}\n{errors[-2000:]}", file=sys.stderr)
        elif not arguments.check:
            golden.write_text(printed)
        elif not golden.exists() or golden.read_text() != printed:
            failed.append(program.stem)
            expected = golden.read_text() if golden.exists() else "nothing"
            print(f"{program.stem}: expected\n{expected}found\n{printed}", file=sys.stderr)
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "all as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
