"""Writes the tables of docs/broker-compatibility.md from the lists of the judges."""

from collections import Counter

from harness import FAIL, NOT_APPLICABLE, PASS, ROOT

PAGE = ROOT / "docs" / "broker-compatibility.md"
BEGIN, END = "<!-- begin: written by judges/run --update -->", "<!-- end -->"


def write(judges, lists):
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(judges, lists)}\n{END}{after}")


def tables(judges, lists):
    parts = [summary(judges, lists)]
    for name, judge in judges.items():
        parts.append(f"## {judge.TITLE}\n\n{judge.VERSION}. `judges/run {name}`\n\n{details(lists[name])}")
    return "\n".join(parts)


def summary(judges, lists):
    lines = ["| judge | version | pass | fail | not applicable |", "|---|---|--:|--:|--:|"]
    total = Counter()
    for name, judge in judges.items():
        count = Counter(entry.outcome for entry in lists[name].values())
        total += count
        lines.append(f"| {judge.TITLE} | {judge.VERSION} | {row(count)} |")
    lines.append(f"| all | | {row(total)} |")
    return "\n".join(lines) + "\n"


def row(count):
    return " | ".join(str(count[outcome]) for outcome in (PASS, FAIL, NOT_APPLICABLE))


def details(listed):
    """Failures and what is not applicable first, with the reason; then what passes, by name."""
    lines = []
    if any(entry.outcome != PASS for entry in listed.values()):
        lines += ["| test | | reason |", "|---|---|---|"]
        for outcome in (FAIL, NOT_APPLICABLE):
            for reason, names in grouped(listed, outcome).items():
                lines.append(f"| {'<br>'.join(map(cell, names))} | {outcome} | {cell(reason)} |")
        lines.append("")
    passing = [name for name, entry in listed.items() if entry.outcome == PASS]
    lines += [f"Pass ({len(passing)}):", ""] + [f"- {name}" for name in map(plain, passing)]
    return "\n".join(lines) + "\n"


def grouped(listed, outcome):
    by_reason = {}
    for name, entry in listed.items():
        if entry.outcome == outcome:
            by_reason.setdefault(entry.reason, []).append(name)
    return by_reason


def cell(text):
    return plain(text).replace("|", "\\|")


def plain(text):
    """As it is, whatever Markdown would make of it."""
    return "".join(f"\\{letter}" if letter in "_*<>[]`" else letter for letter in text)
