"""The report: what was measured on what, the tables, and each bar of the design with its verdict."""
import os
import platform
import subprocess
import time

import stage
import targets

PGWEIR, PEER, RELAY = "pgweir", "PgBouncer", "relay"
LOADS = {"select": "pgbench -S", "tpcb": "TPC-B"}


def command(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def number(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def spread(figures, key):
    """The median, and the least and the most where there is more than one run."""
    values = figures.get(key + "_all") or []
    if figures.get(key) is None:
        return "-"
    if len(values) < 2:
        return number(figures[key])
    return f"{figures[key]:.1f} ({min(values):.1f}-{max(values):.1f})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows] + [""]


def machine(bed, title, facts):
    """The head of a report: what was measured on what, and how."""
    model = command("sh", "-c", "sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1")
    return [
        f"# {title}, {time.strftime('%Y-%m-%d %H:%M')}", "",
        f"- pgweir `{bed.version}`, PgBouncer {bed.pgbouncer_version}, {command(bed.bin + '/postgres', '--version')}, "
        f"{command(bed.bin + '/pgbench', '--version')}",
        f"- {os.cpu_count()} CPUs ({model}), Linux {platform.release()}, load average {bed.load:.1f} before it"
        f" began (above 1: others were at work, the figures are ratios at best); {time.monotonic() - stage.STARTED:.0f} s in all",
        *facts, ""]


def machine_lines(bench):
    o = bench.o
    return machine(bench.bed, "pgweir beside PgBouncer", [
        f"- {o.runs} run{'s' * (o.runs > 1)} of {o.seconds:g} s each (TPC-B two thirds of it), order turning; medians, least and most in brackets."
        " All on loopback, nothing pinned: load, proxy and PostgreSQL share the CPUs",
        f"- Transaction pooling, {targets.POOL_SIZE} servers per node, trust, no TLS, 200 prepared statements; PgBouncer is one process, pgweir"
        " has one worker (and its control thread, which is counted) unless a row says otherwise. The relay has one server per"
        " client. pgweir routes reads over primary and replica; \"one node\" has the primary only, as PgBouncer has",
        "- CPU: the CPU clock of the proxy's process, all threads, its logins and probes included, divided by transactions."
        f" System calls: {'raw_syscalls of perf, 1 s in the middle of a run of its own' if bench.perf else 'strace -c'}."
        " p99: from pgbench's log (-S: a fifth of the transactions)"])


def pgbench_tables(bench):
    lines = []
    for load, protocol, clients, got in bench.rows:
        lines += [f"## {LOADS[load]}, {protocol}, {clients} client{'s' if clients > 1 else ''}", ""]
        lines += table(
            ["", "TPS", "latency ms", "p99 ms", "CPU us/transaction", "of PgBouncer's", "system calls/transaction", "errors"],
            [[name, number(f["tps"], 0), number(f["latency_ms"], 3), number(f["p99_ms"], 3), spread(f, "cpu_us"),
              ratio_text(f["cpu_us"], got[PEER]["cpu_us"]), number(f.get("syscalls"), 2), f["errors"]]
             for name, f in got.items()])
        lines += [f"- {name}: `{f['examples'][0][:200]}`" for name, f in got.items() if f["examples"]]
    return lines


def ratio_text(a, b):
    return f"{a / b:.2f}" if a and b else "-"


def connect_table(bench):
    lines = []
    for auth, got in bench.facts["connect"].items():
        lines += [f"## Connections, {auth}: pgbench -C -S, 16 clients", ""]
        lines += table(["", "connections/s", "CPU us/connection", "errors"],
                       [[n, number(f["tps"], 0), spread(f, "cpu_us"), f["errors"]] for n, f in got.items()])
        lines += [f"- {name}: `{f['examples'][0][:200]}`" for name, f in got.items() if f["examples"]]
    return lines


def label_table(bench):
    if not bench.facts["labels"]:
        return []
    return ["## Session settings: 20 x 3 clients, -S prepared, work_mem of 5 MB each, or 5 to 24 MB", ""] + table(
        ["", "TPS, equal", "TPS, different", "ratio", "CPU us, equal", "CPU us, different", "errors"],
        [[name, number(a["tps"], 0), number(b["tps"], 0), ratio_text(b["tps"], a["tps"]), spread(a, "cpu_us"),
          spread(b, "cpu_us"), a["errors"] + b["errors"]] for name, (a, b) in bench.facts["labels"].items()])


def bulk_table(bench):
    lines = []
    for name, got in bench.facts["bulk"].items():
        lines += [f"## Large results: {name}", ""]
        lines += table(["", "MB/s", "CPU s/GB", "errors"],
                       [[n, number(f["mb_s"], 0), number(f["cpu_s_gb"] if n != "direct" else None, 2), f["errors"]] for n, f in got.items()])
    return lines


def memory_table(bench):
    if not bench.facts["memory"]:
        return []
    few, many = bench.facts["idle"]
    return [f"## Memory per idle client: growth of Pss from {few} to {many} clients", ""] + table(
        ["", "bytes after login", "bytes after a query each"],
        [[name, f"{a:.0f}", f"{b:.0f}"] for name, (a, b) in bench.facts["memory"].items()])


class Bars:
    def __init__(self):
        self.rows = []

    def at_most(self, what, value, bar, unit="", how=""):
        if value is None or bar is None:
            self.rows.append([what, "-", how, "not measured"])
            return
        verdict = "pass" if value <= bar else "**MISSED**"
        self.rows.append([what, f"{value:.2f}{unit}", f"<= {bar:.2f}{unit}{how}", verdict])

    def at_least(self, what, value, bar, unit="", how=""):
        verdict = "pass" if value >= bar else "**MISSED**"
        self.rows.append([what, f"{value:.2f}{unit}", f">= {bar:.2f}{unit}{how}", verdict])


def select_bars(bars, bench):
    for load, protocol, clients, got in bench.rows:
        if load != "select":
            continue
        name, peer = f"-S {protocol}, {clients} clients", got[PEER]["cpu_us"]
        if clients == 64:
            for who in [PGWEIR, "pgweir, one node"]:
                own, floor = got[who]["cpu_us"], got[RELAY]["cpu_us"]
                what = f"CPU per transaction, {name}" + (", routing on" if who == PGWEIR else ", one node")
                bars.at_most(what, own, peer, " us", f" (PgBouncer's; ratio {own / peer:.2f})")
                bars.at_most(what, own, max(0.75 * peer, 1.25 * floor), " us",
                             f" (max of 0.75 x PgBouncer's, 1.25 x relay's {floor:.1f})")
                bars.at_most(f"system calls per transaction, {name}" + what[what.rindex(","):],
                             got[who].get("syscalls"), 0.5)
        if clients == 1:
            for who in [PGWEIR, "pgweir, one node"]:
                bars.at_most(f"latency, -S {protocol}, 1 client" + (", routing on" if who == PGWEIR else ", one node"),
                             got[who]["latency_ms"] * 1000, 1.05 * got[PEER]["latency_ms"] * 1000, " us",
                             " (1.05 x PgBouncer's)")


def other_bars(bars, bench):
    for auth, got in bench.facts["connect"].items():
        bars.at_least(f"connections per second, {auth}", got[PGWEIR]["tps"], got[PEER]["tps"], "/s", " (PgBouncer's)")
        bars.at_most(f"CPU per connection, {auth}", got[PGWEIR]["cpu_us"], got[PEER]["cpu_us"], " us", " (PgBouncer's)")
    for name, got in bench.facts["bulk"].items():
        bars.at_least(f"{name}: throughput", got[PGWEIR]["mb_s"], got[PEER]["mb_s"], " MB/s", " (PgBouncer's)")
        bars.at_most(f"{name}: CPU", got[PGWEIR]["cpu_s_gb"], 0.5 * got[PEER]["cpu_s_gb"], " s/GB", " (half PgBouncer's)")
    if PGWEIR in bench.facts["memory"]:
        login, query = bench.facts["memory"][PGWEIR]
        bars.at_most("memory per idle client, after login", login, 1024, " B")
        bars.at_most("memory per idle client, after a query", query, 1024, " B")


def label_bars(bars, bench):
    for name, (equal, different) in bench.facts["labels"].items():
        bars.at_least(f"20 labels over {targets.POOL_SIZE} servers, {name}", different["tps"], 0.8 * equal["tps"], "/s",
                      f" (0.8 x equal labels'; ratio {different['tps'] / equal['tps']:.2f})")


def truth_bars(bars, bench):
    sets = [g for _, _, _, g in bench.rows] + list(bench.facts["connect"].values()) + list(bench.facts["bulk"].values())
    sets += [{name: figures} for name, pair in bench.facts["labels"].items() for figures in pair]
    errors = sum(f["errors"] for got in sets for name, f in got.items() if name.startswith(PGWEIR))
    bars.at_most("errors through pgweir, all loads", errors, 0)
    for name, line in bench.facts["left"].items():
        bars.rows.append([f"nothing in flight at the end of {name}", line, "zeros", "**MISSED**"])
    if bench.facts["sums"] is not None:
        sums = bench.facts["sums"].split("|")
        agree = len(set(sums)) == 1
        bars.rows.append(["sums after TPC-B: accounts, branches, tellers, history", " ".join(sums), "equal",
                          "pass" if agree else "**MISSED**"])


def verdicts(title, bars):
    missed = sum(row[3] == "**MISSED**" for row in bars.rows)
    return [f"## {title}", "", f"{len(bars.rows) - missed} met, {missed} missed.", ""] + table(
        ["what", "pgweir", "bar", ""], bars.rows)


def bar_table(bench):
    bars = Bars()
    select_bars(bars, bench)
    other_bars(bars, bench)
    label_bars(bars, bench)
    truth_bars(bars, bench)
    return verdicts("Against the bars of the design (section 9)", bars) + [
        "Not measured here: scaling over workers, classification (bench-router), many users (bench-levels).", ""]


def tail_lines(bench):
    lines = []
    if bench.facts["strace"]:
        lines += ["System calls per transaction by strace -c, -S simple, 64 clients, logins included, slowed down: "
                  + ", ".join(f"{n} {number(v, 2)}" for n, v in bench.facts["strace"].items()), ""]
    return lines


def write(bench):
    return "\n".join(machine_lines(bench) + bar_table(bench) + pgbench_tables(bench) + label_table(bench)
                     + connect_table(bench) + bulk_table(bench) + memory_table(bench) + tail_lines(bench))
