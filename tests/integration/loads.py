"""Clients that work in the background while a test does something to the nodes."""
import os
import random
import re
import subprocess
import threading
import time

import psycopg2
from conftest import PASSWORDS, Cluster, wait_until


class Looping:
    """Clients of pgweir in threads, each doing one step() again and again; `errors` is what they were told.

        with Readers(weir, 4) as readers: ...      # at the end they are asked to stop, and must
    """

    def __init__(self, weir, clients=2, **connect):
        self.weir, self.connect_args = weir, connect
        self.errors, self.stopping = [], False
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]

    def _run(self, number):
        try:
            db = self.weir.connect(**self.connect_args)
            with db.cursor() as cursor:
                while not self.stopping:
                    self.step(cursor, number)
            db.close()
        except psycopg2.Error as e:
            self.errors.append((e.pgcode, str(e)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join(20)
        assert not any(t.is_alive() for t in self.threads), "a client got no answer within 20 s"


class Readers(Looping):
    """They ask which node answers. `answers` holds (node, when asked, seconds)."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.answers = []

    def step(self, cursor, number):
        asked = time.monotonic()
        cursor.execute(Cluster.WHO)
        node = Cluster.node_of(cursor.fetchone()[0])
        self.answers.append((node, asked, time.monotonic() - asked))

    def wait_all_from(self, *nodes, deadline_s=10.0, n=50):
        """Until n answers in a row came from just these nodes."""
        def settled():
            newest = self.answers[-n:]
            return len(newest) == n and {node for node, _, _ in newest} == set(nodes)
        wait_until(lambda: settled() or self.errors, deadline_s, f"reads come from {nodes} alone")
        assert self.errors == []

    def slowest(self, since=0.0):
        return max(seconds for _, asked, seconds in self.answers if asked + seconds > since)


class Writers(Looping):
    """They insert rows (client, n), n = 1, 2, 3 ...; `done[client]` is the last one acknowledged."""

    def __init__(self, weir, clients=1, table="written", pause_s=0.0, **connect):
        super().__init__(weir, clients, **connect)
        self.table, self.pause_s, self.done = table, pause_s, [0] * clients

    def step(self, cursor, number):
        cursor.execute(f"INSERT INTO {self.table} VALUES (%s, %s)", (number, self.done[number] + 1))
        self.done[number] += 1
        time.sleep(self.pause_s)


class Trouble:
    """Holds replicas back and lets them go at random, and restarts them, until the end of the block."""

    def __init__(self, cluster, *replicas, restarts=True, seed=1):
        self.cluster, self.replicas, self.restarts = cluster, replicas, restarts
        self.dice, self.stopping, self.done = random.Random(seed), threading.Event(), []
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.stopping.wait(self.dice.random() * 0.5):
            node = self.dice.choice(self.replicas)
            if self.restarts and self.dice.random() < 0.15:
                self.cluster.restart(node)
                self.done.append("restart")
                continue
            self.cluster.pause(node)
            self.stopping.wait(self.dice.random() * 1.5)
            self.cluster.resume(node)
            self.done.append("pause")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


class Pgbench:
    """pgbench in the background: with Pgbench(weir, cluster, "-S", "-c", 8) as load: ...; at the end no error."""

    def __init__(self, weir, cluster, *args, user="app_scram", seconds=60, env=None):
        self.command = [cluster.bin / "pgbench", "-n", "-h", "127.0.0.1", "-p", str(weir.port), "-U", user,
                        "-T", str(seconds), "-P", "1", *map(str, args), "app"]
        self.env = {**os.environ, "PGPASSWORD": PASSWORDS[user], **(env or {})}
        self.out = weir.dir / "pgbench.out"

    def __enter__(self):
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env)
        wait_until(lambda: "progress: 1" in self.text() or self.process.poll() is not None, 10, "pgbench runs")
        return self

    def text(self):
        return self.out.read_text()

    def progress(self):
        """Transactions per second, second by second."""
        return [float(x) for x in re.findall(r"^progress: .*?([\d.]+) tps", self.text(), re.M)]

    def __exit__(self, *_):
        code = self.process.poll()
        self.process.kill()
        self.process.wait()
        assert code is None and "error" not in self.text(), f"pgbench ended with {code}:\n{self.text()}"
