"""Several hosts that train one run, each a share of its seeds.

Seeds never meet, so nothing is exchanged while a step runs, and to JAX each host is alone. Between
intervals all send what they found to host 0, which sends it on to all; and host 0, which alone
prints and writes, is sent the states that it saves. What goes over the network is JSON and the
bytes of arrays.

Not `jax.distributed`: that ends every other process by an abort where a host cannot be reached or
is lost, and here each host is to end with a sentence.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

import numpy as np

from semvad_jax.files import BadInput, require

WAIT = 300.0  # seconds until all hosts have come
HELLO = 1000  # bytes at most of what a host says of itself
# a host that lost its power or its network closes nothing, and is given up after a minute: seconds,
# seconds, how often; milliseconds
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}

Value = TypeVar("Value")


class Place(NamedTuple):
    """Which host this is, of how many, and where host 0 waits for the others."""

    index: int
    count: int
    address: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Place":
        """I/N@ADDRESS:PORT. Raises ValueError for another text, with what is wrong."""
        which, _, where = text.partition("@")
        index, _, count = which.partition("/")
        address, _, port = where.rpartition(":")
        if not (index.isdecimal() and count.isdecimal() and address and port.isdecimal()):
            raise ValueError(f"{text} does not say I/N@ADDRESS:PORT, such as 0/2@node1:4321")
        place = cls(int(index), int(count), address.strip("[]"), int(port))
        if place.index >= place.count:
            raise ValueError(f"hosts of {count} are numbered from 0 to {place.count - 1}")
        return place


@dataclass(frozen=True)
class Hosts:
    """This host among all of a run's."""

    index: int = 0
    count: int = 1
    # of host 0 to the others in their order; of these to host 0
    connections: tuple[Connection, ...] = ()

    @property
    def first(self) -> bool:
        """Whether this is host 0, which prints and writes."""
        return self.index == 0

    def share(self, seeds: int) -> np.ndarray:
        """The numbers of this host's seeds, equally many on each; the last seed fills up."""
        size = -(-seeds // self.count)
        return np.minimum(np.arange(size) + self.index * size, seeds - 1)

    def exchange(self, value: Value) -> list[Value]:
        """What every host says at this point, in their order: values of JSON.

        Raises BadInput where a host has ended.
        """
        if self.count == 1:
            return [value]
        if not self.first:
            self._send(0, json.dumps(value).encode())
            return json.loads(self._receive(0))
        others = range(1, self.count)
        values = [value, *(json.loads(self._receive(host)) for host in others)]
        for host in others:
            self._send(host, json.dumps(values).encode())
        return values

    def of_all_seeds(self, values: Sequence[Value], seeds: int) -> list[Value]:
        """A value of JSON of each seed of the run, from those of every host's share."""
        return [one for share in self.exchange(list(values)) for one in share][:seeds]

    def agree(self, value: Any, otherwise: str) -> None:
        """Raises BadInput, "host I" and `otherwise`, on all hosts unless all say the same."""
        values = self.exchange(value)
        for host, other in enumerate(values):
            require(other == values[0], f"host {host} {otherwise}")

    def gather(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """At host 0 each array with those of the other hosts, of the same shape, behind it; None
        elsewhere. Raises BadInput where a host has ended.
        """
        if not self.first:
            for array in arrays:
                self._send(0, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
            return None
        if self.count == 1:
            return list(arrays)
        whole = []
        for own in arrays:
            received = (self._receive(host) for host in range(1, self.count))
            parts = [np.frombuffer(part, own.dtype).reshape(own.shape) for part in received]
            whole.append(np.concatenate([own, *parts]))
        return whole

    def _send(self, host: int, content: Any) -> None:
        with _ended(host):
            self._to(host).send_bytes(content)

    def _receive(self, host: int) -> bytes:
        with _ended(host):
            return self._to(host).recv_bytes()

    def _to(self, host: int) -> Connection:
        return self.connections[host - 1 if self.first else 0]


ALONE = Hosts()


@contextlib.contextmanager
def _ended(host: int) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        raise BadInput(
            f"host {host} has ended or cannot be reached any more; see what it says, and go on by "
            "the same command with --resume on every host"
        ) from None


@contextlib.contextmanager
def joined(place: Place | None) -> Iterator[Hosts]:
    """All hosts of a run, once all are there; ALONE without a place.

    Raises BadInput where they do not come within WAIT seconds, or do not fit together.
    """
    if place is None or place.count == 1:
        yield ALONE
        return
    with contextlib.ExitStack() as stack:
        connect = _accepted if place.index == 0 else _connected
        connections = connect(place, time.monotonic() + WAIT)
        for connection in connections:
            stack.enter_context(connection)
        yield Hosts(place.index, place.count, connections)


def _accepted(place: Place, until: float) -> tuple[Connection, ...]:
    """Host 0's connections: one to each other host, when all have come."""
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    try:
        server = socket.create_server((place.address, place.port), family=family)
    except OSError as error:
        raise BadInput(
            f"host 0 cannot wait for others at {place.address}:{place.port}: {_reason(error)}; "
            "give an address of this machine and a free port"
        ) from None
    others = "another host" if place.count == 2 else f"{place.count - 1} other hosts"
    print(f"waiting for {others} at {place.address}:{place.port} …", flush=True)
    found: dict[int, Connection] = {}
    with server:
        while len(found) < place.count - 1:
            missing = sorted(set(range(1, place.count)) - set(found))
            try:
                server.settimeout(max(until - time.monotonic(), 0.01))
                connection = _connection(server.accept()[0])
            except TimeoutError:
                raise BadInput(
                    f"host {missing[0]} of {place.count} did not come to "
                    f"{place.address}:{place.port} within {WAIT:.0f} seconds"
                ) from None
            came = _hello(connection)
            if came is None:
                connection.close()
                continue
            index, count = came
            require(
                count == place.count and index in missing,
                f"host {index} of {count} came to host 0 of {place.count}, which waits for host "
                f"{missing[0]}; give every host its own number of the same count",
            )
            found[index] = connection
    return tuple(found[index] for index in sorted(found))


def _hello(connection: Connection) -> tuple[int, int] | None:
    """Which host, of how many, has come; None where it is something else that came."""
    try:
        if not connection.poll(10):
            return None
        index, count = json.loads(connection.recv_bytes(HELLO))
        return int(index), int(count)
    except (EOFError, OSError, ValueError, TypeError):
        return None


def _connected(place: Place, until: float) -> tuple[Connection, ...]:
    """The connection of another host to host 0, when that is there."""
    while True:
        left = until - time.monotonic()
        try:
            reached = socket.create_connection((place.address, place.port), max(left, 0.01))
        except OSError as error:
            if left > 1 and not isinstance(error, socket.gaierror):  # a name that nobody knows
                time.sleep(1)
                continue
            raise BadInput(
                f"host 0 cannot be reached at {place.address}:{place.port}: {_reason(error)}; give "
                "the address that it waits at"
            ) from None
        connection = _connection(reached)
        with _ended(0):
            connection.send_bytes(json.dumps([place.index, place.count]).encode())
        return (connection,)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).partition(" (")[0]


def _connection(connected: socket.socket) -> Connection:
    connected.settimeout(None)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):  # not on every system
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(connected.detach())
