"""A TCP proxy on loopback that does to connections what networks do to them, while a test runs.

    with FaultProxy(cluster.ports["primary"]) as faults:      # between pgweir and a node, or a client and pgweir
        weir = pgweir(databases={"app": f"host=127.0.0.1 port={faults.port} dbname=app"})
        faults.down.stall()           # what the far side says stays here, until faults.down.go()
        faults.up.piece = 1           # what the near side says comes in segments of one byte
        faults.reset()                # RST to both sides of all connections

"Near" connected to the proxy, "far" is the port behind it. `up` is what near says to far, `down` the other way. Everything
holds for all connections, those of later too, except reset(), end() and inject(), which act on those there are.
One thread with an event loop; what a test calls returns when it is done.
"""
import asyncio
import contextlib
import random
import socket
import struct
import threading

CHUNK = 65536
CALL_S = 10  # a call that takes longer is a mistake of ours


class Way:
    """One direction: what is done to its bytes."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.delay_s = 0.0  # before each chunk is passed on
        self.bytes_per_s = 0  # 0: as they come
        self.piece = 0  # bytes of the segments that are passed on; 0: as they come
        self.rewrite = None  # bytes -> bytes, called with each chunk as it comes
        self.passed = 0
        self._going = None

    def _begin(self):
        self._going = asyncio.Event()
        self._going.set()

    def stall(self):
        """From now on nothing is passed; it is kept, and the sender is not told."""
        self.proxy.call(self._going.clear)

    def go(self):
        self.proxy.call(self._going.set)

    def end(self):
        """Ends this direction of the connections there are, as shutdown(SHUT_WR) does; the other goes on."""
        self.proxy.call(lambda: [link.end(self) for link in self.proxy.links])

    def inject(self, data):
        """Says this in the name of the sender, on all connections there are."""
        self.proxy.call(lambda: [link.target(self).send(data) for link in self.proxy.links])

    async def carry(self, link):
        loop = asyncio.get_running_loop()
        source, target = link.source(self), link.target(self)
        while data := await loop.sock_recv(source, CHUNK):
            if self.rewrite:
                data = self.rewrite(data)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            size = self.piece or (max(1, self.bytes_per_s // 20) if self.bytes_per_s else len(data))
            for at in range(0, len(data), max(1, size)):
                await self._pass(loop, target, data[at:at + size])
        await self._going.wait()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    async def _pass(self, loop, target, data):
        await self._going.wait()
        if self.bytes_per_s:
            await asyncio.sleep(len(data) / self.bytes_per_s)
        elif self.piece:
            await asyncio.sleep(0)  # each a segment of its own: the others get a turn in between
        await loop.sock_sendall(target, data)
        self.passed += len(data)


class Link:
    """A connection through the proxy: its two sockets."""

    def __init__(self, proxy, near, far):
        self.proxy, self.near, self.far, self.tasks = proxy, near, far, []
        for s in (near, far):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def source(self, way):
        return self.near if way is self.proxy.up else self.far

    def target(self, way):
        return self.far if way is self.proxy.up else self.near

    def end(self, way):
        with contextlib.suppress(OSError):
            self.target(way).shutdown(socket.SHUT_WR)

    def reset(self):
        for s in (self.near, self.far):
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def run(self):
        self.tasks = [asyncio.ensure_future(way.carry(self)) for way in (self.proxy.up, self.proxy.down)]
        try:
            await asyncio.wait(self.tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in self.tasks:
                task.cancel()
            self.proxy.links.discard(self)
            try:
                await asyncio.gather(*self.tasks, return_exceptions=True)
            finally:
                self.near.close()
                self.far.close()


def listen_low(host):
    """Below the ephemeral ports: one of those may be anybody's by the time that accept() wants it back."""
    while True:
        try:
            return socket.create_server((host, random.randrange(20000, 32000)))
        except OSError:
            pass


class FaultProxy:
    def __init__(self, port, host="127.0.0.1", own_port=None):
        self.to, self.links, self.host = port, set(), host
        self.up, self.down = Way(self), Way(self)
        self.accepted, self._refused = 0, 0
        self._listener = socket.create_server((host, own_port)) if own_port else listen_low(host)
        self.port = self._listener.getsockname()[1]
        self._loop, self._accepting = asyncio.new_event_loop(), None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self._begin)

    def call(self, function):
        """Runs it in the loop's thread."""
        async def there():
            return function()
        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(CALL_S)

    def _begin(self):
        self.up._begin()
        self.down._begin()
        self._open()

    def _open(self):
        self._listener.setblocking(False)
        self._accepting = asyncio.ensure_future(self._accept())

    async def _accept(self):
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            self.accepted += 1
            asyncio.ensure_future(self._connect(near))

    async def _connect(self, near):
        far = socket.socket()
        far.setblocking(False)
        near.setblocking(False)
        try:
            await self._loop.sock_connect(far, ("127.0.0.1", self.to))
        except (OSError, asyncio.CancelledError):
            near.close()
            far.close()
            return
        link = Link(self, near, far)
        self.links.add(link)
        await link.run()

    def refuse(self):
        """New connections are refused from now on, until there was an accept() for each refuse()."""
        def deafen():
            self._refused += 1
            if self._refused == 1:
                self._accepting.cancel()
                self._listener.close()
        self.call(deafen)

    def accept(self):
        def hear():
            self._refused -= 1
            if self._refused == 0:
                self._listener = socket.create_server((self.host, self.port))
                self._open()
        self.call(hear)

    def stall(self):
        """Nothing passes in either direction."""
        self.up.stall()
        self.down.stall()

    def go(self):
        self.up.go()
        self.down.go()

    def reset(self):
        """RST to both sides of all connections there are."""
        self.call(lambda: [link.reset() for link in self.links])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        def end():
            self._accepting.cancel()
            self._listener.close()
            for link in self.links:
                link.reset()
        self.call(end)

        async def rest():
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        asyncio.run_coroutine_threadsafe(rest(), self._loop).result(2 * CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()
