"""Too little of something: memory, descriptors. Who is there goes on, who comes is told or waits, and it ends with the need."""
import resource

import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import Deadline, PgError, RawPg, query


def waiting(weir):
    return sum(int(p["cl_waiting"]) for p in weir.show("POOLS"))


def test_memory_high_refuses_logins_and_critical_refuses_waiters(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="60s")
    holder, waiter, console = login(weir.port), login(weir.port), RawPg(weir.port).login("app_scram", "pgweir", "secret")
    holder.query("BEGIN; SELECT 1")
    waiter.send(query("SELECT 1"))
    wait_until(lambda: waiting(weir) == 1)
    weir.reload(memory_limit="1MB")
    error = error_of(waiter.read_until("Z"))
    assert (error.fields["S"], error.sqlstate) == ("ERROR", "53200")
    with pytest.raises(PgError) as refused:
        login(weir.port)
    assert refused.value.sqlstate == "53200"
    assert holder.rows("SELECT 1") == [["1"]]
    assert types(console.query("SHOW VERSION"))[-1] == "Z"
    weir.reload(memory_limit="1GB" if "asan" not in str(weir.binary) else "1000GB")
    weir.wait_log("level=none")
    holder.query("COMMIT")
    assert waiter.rows("SELECT 1") == [["1"]]
    assert login(weir.port).rows("SELECT 1") == [["1"]]


def test_without_descriptors_new_clients_wait_and_servers_are_still_opened(cluster, pgweir):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=4)
    most = weir.fds() + 120
    resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, (most, hard[1]))
    clients = []

    def one_more():
        clients.append(RawPg(weir.port, deadline_s=1))
        try:
            clients[-1].login("app_scram", "app", "secret")
            return None
        except Deadline:
            return True
    while len(clients) < 300 and not one_more():
        pass
    assert 40 < len(clients) < 121
    late, busy = clients.pop(), clients[:4]
    for c in busy:
        c.query("BEGIN; SELECT 1")  # four servers
    assert clients[10].send(query("SELECT 1")) is None
    for c in clients[20:40]:
        c.close()
    for c in busy:
        c.query("COMMIT")
    assert types(clients[10].read_until("Z")) == "TDCZ"
    late.close()
    wait_until(weir.takes_clients)
