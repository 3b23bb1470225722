"""The loads: pgbench, idle clients, large results. Each returns plain figures."""
import glob
import os
import re
import selectors
import signal
import socket
import struct
import subprocess
import tempfile
import time


def can_perf():
    probe = ["perf", "stat", "-e", "raw_syscalls:sys_enter", "--", "true"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


# ---- pgbench ----

def pgbench_args(bed, target, clients, script="-S", protocol="simple", user="app"):
    """Two threads. But pgbench waits for its Parse without serving the other clients of that thread, which may hold all
    servers of the pool in their transactions (any transaction pooling stops there): then a thread for each client."""
    blocks = script != "-S" and protocol == "prepared"
    return [f"{bed.bin}/pgbench", "-n", "-h", "127.0.0.1", "-p", str(target.port), "-U", user, "-c", str(clients),
            "-j",
            str(clients if blocks else min(clients, 2)), "-M", protocol, "app"] + (["-S"] if script == "-S" else [])


def run_pgbench(argv, limit, cwd):
    env = {**os.environ, "PGPASSWORD": "secret"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=env) as load:
        try:
            out, err = load.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            load.kill()
            out, err = load.communicate()
            err += f"\nerror: pgbench did not end within {limit} s\n"
        return load.returncode, out, err


def figure(text, pattern):
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def count_errors(code, out, err):
    """Failed transactions, and everything that pgbench complains about."""
    lines = [line for line in err.splitlines() if "error" in line.lower() or "aborted" in line.lower()]
    return int(figure(out, r"number of failed transactions: (\d+)")) + max(len(lines), int(code != 0)), lines[:1]


def percentile_99(directory):
    """In ms, from pgbench's log of a sample of transactions; the third field is the time in us."""
    times = []
    for path in glob.glob(f"{directory}/pgbench_log.*"):
        with open(path, encoding="ascii") as f:
            times += [int(line.split(" ", 3)[2]) for line in f]
    times.sort()
    return times[int(len(times) * 0.99)] / 1000 if times else 0.0


def pgbench(bed, target, clients, seconds, script, protocol, user="app", connect=False):
    """One run. CPU is that of the process in between, logins of this run included."""
    with tempfile.TemporaryDirectory(dir=bed.dir) as log_dir:
        argv = pgbench_args(bed, target, clients, script, protocol, user) + ["-T", str(seconds), "-l"]
        argv += ["--sampling-rate", "0.2" if script == "-S" and not connect else "1"]
        argv += ["-C"] if connect else []
        before = target.cpu_ns()
        code, out, err = run_pgbench(argv, seconds + 15, log_dir)
        cpu_ns = target.cpu_ns() - before
        errors, examples = count_errors(code, out, err)
        done = figure(out, r"transactions actually processed: (\d+)")
        return {
            "tps": figure(out, r"tps = ([\d.]+)"), "latency_ms": figure(out, r"latency average = ([\d.]+) ms"),
            "p99_ms": percentile_99(log_dir), "cpu_us": cpu_ns / 1000 / done if done and target.pid else None,
            "transactions": done, "errors": errors, "examples": examples,
        }


def pgbench_settings(bed, target, seconds, megabytes, clients=3):
    """For each work_mem a pgbench of its own, all at once: their sums."""
    argv = pgbench_args(bed, target, clients, "-S", "prepared") + ["-T", str(seconds)]
    before = target.cpu_ns()
    runs = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PGOPTIONS": f"-c work_mem={size}MB"}) for size in megabytes]
    texts = [run.communicate(timeout=seconds + 60) for run in runs]
    cpu_ns = target.cpu_ns() - before
    counts = [count_errors(run.returncode, *text) for run, text in zip(runs, texts)]
    done = sum(figure(out, r"transactions actually processed: (\d+)") for out, _ in texts)
    return {"tps": sum(figure(out, r"tps = ([\d.]+)") for out, _ in texts), "cpu_us": cpu_ns / 1000 / done if done else None,
            "errors": sum(n for n, _ in counts), "examples": [e for _, some in counts for e in some][:1]}


# ---- system calls ----

def syscalls_by_perf(bed, target, clients, script, protocol):
    """A run of its own, as tracing costs time; counted in its middle, so without logins: a rate divided by TPS."""
    argv = pgbench_args(bed, target, clients, script, protocol) + ["-T", "2"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as load:
        time.sleep(0.6)
        count = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", str(target.pid), "--", "sleep", "1"]
        rate = figure(subprocess.run(count, capture_output=True, text=True, check=False).stderr, r"(?m)^(\d+),")
        tps = figure(load.communicate(timeout=60)[0], r"tps = ([\d.]+)")
    return rate / tps if tps else None


def syscalls_by_strace(bed, target, clients, script, protocol):
    """Logins included, and slow: every call stops the process. For a cross-check, or where perf may not."""
    with subprocess.Popen(["strace", "-f", "-c", "-p", str(target.pid)], stderr=subprocess.PIPE, text=True) as tracer:
        time.sleep(0.3)
        done = pgbench(bed, target, clients, 2, script, protocol)["transactions"]
        tracer.send_signal(signal.SIGINT)
        calls = figure(tracer.communicate()[1], r"(?m)^100\.00\s+\S+\s+(?:\S+\s+)?(\d+)\s.*total")
    return calls / done if done else None


# ---- our own small client ----

def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


def startup():
    body = struct.pack("!I", 3 << 16) + b"user\0app\0database\0app\0\0"
    return struct.pack("!I", len(body) + 4) + body


READY = b"Z\0\0\0\x05I"


def wait_ready(waiting, seconds=30):
    """Reads until each socket's last message is ReadyForQuery."""
    selector, tails = selectors.DefaultSelector(), dict.fromkeys(waiting, b"")
    for s in waiting:
        selector.register(s, selectors.EVENT_READ)
    deadline = time.monotonic() + seconds
    while tails:
        for key, _ in selector.select(max(0, deadline - time.monotonic())):
            got = key.fileobj.recv(65536)
            tails[key.fileobj] = (tails[key.fileobj] + got)[-6:]
            if not got:
                raise RuntimeError("an idle client was thrown out")
            if tails[key.fileobj] == READY:
                selector.unregister(key.fileobj)
                del tails[key.fileobj]
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(tails)} idle clients got no ReadyForQuery")


def open_clients(port, n):
    clients = []
    while len(clients) < n:
        batch = []
        for _ in range(min(200, n - len(clients))):
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(startup())
            batch.append(s)
        wait_ready(batch)
        clients += batch
    return clients


def query_each(clients):
    for at in range(0, len(clients), 200):
        for s in clients[at:at + 200]:
            s.sendall(message(b"Q", b"SELECT 1\0"))
        wait_ready(clients[at:at + 200])


def idle_memory(target, few, many):
    """Bytes of Pss for one more idle client: after its login, and after a query and another rest."""
    clients = open_clients(target.port, few)
    figures = []
    try:
        time.sleep(0.5)
        low = target.pss_kb()
        query_each(clients)
        time.sleep(0.5)
        low_after_query = target.pss_kb()
        clients += open_clients(target.port, many - few)
        time.sleep(0.5)
        figures.append((target.pss_kb() - low) * 1024 / (many - few))
        query_each(clients)
        time.sleep(0.5)
        figures.append((target.pss_kb() - low_after_query) * 1024 / (many - few))
    finally:
        for s in clients:
            s.close()
    time.sleep(0.5)
    return figures


# ---- large results ----

ROW_BYTES = 1000


def rows_query(megabytes):
    return f"SELECT repeat('x', {ROW_BYTES}) FROM generate_series(1, {megabytes * 1000000 // ROW_BYTES})"


def large_copy(bed, target, megabytes):
    """COPY to stdout into psql, thrown away there."""
    before, start = target.cpu_ns(), time.monotonic()
    done = subprocess.run([f"{bed.bin}/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(target.port), "-U", "app", "-d", "app",
                           "-c", f"COPY ({rows_query(megabytes)}) TO STDOUT"], stdout=subprocess.DEVNULL, check=False)
    seconds = time.monotonic() - start
    return {"mb_s": megabytes / seconds, "cpu_s_gb": (target.cpu_ns() - before) / 1e9 / megabytes * 1000,
            "errors": int(done.returncode != 0)}


def large_select(bed, target, megabytes):
    """The same rows as a plain result, to a client that does nothing but read."""
    (client,) = open_clients(target.port, 1)
    buffer, view = bytearray(1 << 20), None
    view = memoryview(buffer)
    before, start, total, tail = target.cpu_ns(), time.monotonic(), 0, b""
    client.sendall(message(b"Q", rows_query(megabytes).encode() + b"\0"))
    while tail != READY:
        n = client.recv_into(buffer)
        if n == 0:
            break
        total += n
        tail = (tail + bytes(view[max(0, n - 6):n]))[-6:]
    seconds = time.monotonic() - start
    client.close()
    return {"mb_s": megabytes / seconds, "cpu_s_gb": (target.cpu_ns() - before) / 1e9 / megabytes * 1000,
            "errors": int(total < megabytes * 1000000)}
