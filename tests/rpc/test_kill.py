"""`haul cache serve` is killed with SIGKILL, again and again, while clients store, replace and delete.
What a client was told is there after the restart, with the right bytes; what it was told is deleted
is not; what it was not told may have happened or not, but never anything else.

Usage: test_kill.py path/to/haul
HAUL_TEST_SEED repeats a run as far as the machine does; HAUL_KILL_SECONDS makes it longer (12).
"""
import hashlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HAUL = sys.argv.pop(1)
SECONDS = float(os.environ.get("HAUL_KILL_SECONDS", "12"))
SEED = int(os.environ.get("HAUL_TEST_SEED", "0")) or random.SystemRandom().getrandbits(48)
CLIENTS, KEYS = 4, 120
CACHE_BYTES = 128 << 20
LOG_BYTES = 40 << 20  # of stores, then the cache is made anew: nothing is evicted
GONE = None


class Died(Exception):
    """The server ended while it was talked to."""


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        try:
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            raise Died from error
        self.buffer = b""

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Died from error

    def more(self):
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError as error:
            raise Died from error
        if not data:
            raise Died
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def block(self, count):
        while len(self.buffer) < count + 2:
            self.more()
        data, self.buffer = self.buffer[:count], self.buffer[count + 2:]
        return data

    def get(self, keys):
        self.send(b"get " + b" ".join(keys) + b"\r\n")
        found = {}
        while (line := self.line()) != b"END":
            word, key, flags, count = line.split()
            assert word == b"VALUE", line
            assert key not in found
            found[key] = (int(flags), self.block(int(count)))
        return found


def value_of(key, version, count):
    """Bytes that belong to this store and to no other."""
    return hashlib.shake_128(b"%s %d" % (key, version)).digest(count)


class Ledger:
    """Of one key: what was told, and what was asked since without an answer."""

    def __init__(self):
        self.told = GONE
        self.doubt = []

    def may_be(self):
        return [self.told] + self.doubt


class Client(threading.Thread):
    """Stores and deletes keys that nobody else has, and keeps the ledger of them."""

    def __init__(self, number, seed, shared):
        super().__init__()
        self.random = random.Random(seed)
        self.shared = shared
        self.ledgers = {b"%d:key:%d" % (number, i): Ledger() for i in range(KEYS)}
        self.version = 0
        self.bytes = 0
        self.wrong = None

    def again(self):
        """A thread runs once: another with the same ledger."""
        other = Client.__new__(Client)
        threading.Thread.__init__(other)
        for name in ("random", "shared", "ledgers", "version", "bytes", "wrong"):
            setattr(other, name, getattr(self, name))
        return other

    def size(self):
        kind = self.random.random()
        if kind < 0.01:
            return self.random.randrange(256 << 10, 700 << 10)  # an object of slices
        return self.random.randrange(6000 if kind < 0.8 else 60)

    def command(self):
        """One request: its bytes, the key, what the key is then, and whether there is an answer."""
        key = self.random.choice(list(self.ledgers))
        if self.random.random() < 0.2:
            return b"delete " + key + b"\r\n", key, GONE, True
        self.version += 1
        count = self.size()
        self.bytes += count + 512
        state = (self.version, count)
        quiet = self.random.random() < 0.1
        head = b"set %s %d 0 %d%s\r\n" % (key, self.version, count, b" noreply" if quiet else b"")
        return head + value_of(key, self.version, count) + b"\r\n", key, state, not quiet

    def batch(self, connection):
        """Some requests in one go; the answers come in their order."""
        sent, pending = b"", []
        for _ in range(self.random.choice((1, 1, 1, 4, 16))):
            data, key, state, answered = self.command()
            sent += data
            self.ledgers[key].doubt.append(state)
            if answered:
                pending.append((key, state, len(self.ledgers[key].doubt)))
        connection.send(sent)
        while pending:
            key, state, upto = pending.pop(0)
            line = connection.line()
            right = (b"DELETED", b"NOT_FOUND") if state is GONE else (b"STORED",)
            if line not in right:
                raise AssertionError(f"{key}: {line}")
            ledger = self.ledgers[key]
            ledger.told = state
            # What was asked before it is overtaken, answered or not.
            del ledger.doubt[:upto]
            pending = [(k, s, n - upto if k == key else n) for k, s, n in pending]
            self.shared.told()

    def run(self):
        try:
            connection = Connection(self.shared.path)
            with connection.socket:
                while True:
                    self.batch(connection)
        except Died:
            pass
        except BaseException as error:  # told by the main thread
            self.wrong = error
            self.shared.kill()


class Shared:
    """The server, and how many answers it may give before it is killed."""

    def __init__(self, folder, engine):
        self.disk = os.path.join(folder, "disk")
        self.path = os.path.join(folder, "socket")
        self.engine = engine
        self.process = None
        self.lock = threading.Lock()
        self.left = 0

    def told(self):
        with self.lock:
            self.left -= 1
            if self.left == 0:
                self.kill()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.kill()
            self.reap()

    def start(self, timeout):
        """Returns what it said, and whether it is ready."""
        self.process = subprocess.Popen(
            [HAUL, "cache", "serve", self.disk, "--unix", self.path, "-l", "127.0.0.1:0",
             "--engine", self.engine, "--memory", "1Mi"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = b""
        end = time.monotonic() + timeout
        while b"unix:" not in said:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                return said, False
            data = os.read(self.process.stdout.fileno(), 4096)
            if not data:
                return said, False
            said += data
        return said, True

    def reap(self):
        self.process.stdout.close()
        return self.process.wait(60)


class Kill(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="haul-kill-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)
        print(f"seed: HAUL_TEST_SEED={SEED}")
        self.random = random.Random(SEED)
        self.rounds = self.cut = self.checked = self.evicted = 0
        self.bytes, self.log_bytes, self.evicts = CACHE_BYTES, LOG_BYTES, False

    def haul(self, *arguments):
        return subprocess.run([HAUL, *arguments], capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, check=False)

    def format(self, shared):
        result = self.haul("cache", "format", shared.disk, "--size", str(self.bytes), "--force",
                           "--quiet", "--partitions", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        return [Client(i, self.random.getrandbits(32), shared) for i in range(CLIENTS)]

    def start(self, shared):
        """Sometimes it is killed while it recovers."""
        while self.random.random() < 0.4:
            shared.start(self.random.random() * 0.03)
            shared.kill()
            shared.reap()
            self.cut += 1
        said, ready = shared.start(60)
        self.assertTrue(ready, said)

    def check_key(self, client, key, found):
        ledger = client.ledgers[key]
        got = GONE
        if found is not None:
            version, value = found
            got = (version, len(value))
            self.assertEqual(value, value_of(key, version, len(value)), f"{key}: wrong bytes")
        self.checked += 1
        if got is GONE and self.evicts:
            self.evicted += ledger.told is not GONE
            return  # may have been evicted, and what is evicted may come back, but as it was
        self.assertIn(got, ledger.may_be(), f"{key}: told was {ledger.told}")
        ledger.told, ledger.doubt = got, []

    def get(self, shared, connection, keys):
        """The server ends the connection when a slice of an object is evicted while it sends the others:
        its length was told. Then once more."""
        for _ in range(20 if self.evicts else 0):
            try:
                return connection, connection.get(keys)
            except Died:
                connection.close()
                connection = Connection(shared.path)
        return connection, connection.get(keys)

    def check(self, shared, clients):
        """Every key of every client, by multi-get."""
        connection = Connection(shared.path)
        for client in clients:
            keys = list(client.ledgers)
            for at in range(0, len(keys), 50):
                connection, found = self.get(shared, connection, keys[at:at + 50])
                for key in keys[at:at + 50]:
                    self.check_key(client, key, found.get(key))
        connection.close()

    @staticmethod
    def why(shared):
        """A connection ended that nobody has closed here."""
        try:
            shared.process.wait(5)
            return f"died by itself: {shared.process.returncode} {shared.process.stdout.read()}"
        except subprocess.TimeoutExpired:
            connection = Connection(shared.path)
            connection.send(b"stats\r\n")
            lines = []
            while (line := connection.line()) != b"END":
                lines.append(line.decode().removeprefix("STAT "))
            connection.close()
            return "closed a connection by itself: " + ", ".join(lines)

    def round(self, shared, clients):
        """Clients at work until the server is killed under them; then a look at what is left."""
        clients = [client.again() for client in clients]
        shared.left = self.random.choice((1, 10, 100, 400, 1000)) + self.random.randrange(50)
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        shared.reap()
        for client in clients:
            self.assertIsNone(client.wrong, client.wrong)
        if self.random.random() < 0.25:
            result = self.haul("cache", "check", shared.disk)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.start(shared)
        try:
            self.check(shared, clients)
        except Died:
            self.fail(self.why(shared))
        self.rounds += 1
        return clients

    def end(self, shared):
        shared.process.send_signal(signal.SIGTERM)
        self.assertEqual(shared.process.wait(60), 0)
        shared.process.stdout.close()
        result = self.haul("cache", "check", shared.disk)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def run_engine(self, engine, seconds):
        shared = Shared(self.folder, engine)
        self.addCleanup(shared.stop)
        clients = self.format(shared)
        end = time.monotonic() + seconds
        self.start(shared)
        while self.rounds < 4 or time.monotonic() < end:
            clients = self.round(shared, clients)
            if sum(client.bytes for client in clients) > self.log_bytes:
                self.end(shared)
                clients = self.format(shared)
                self.start(shared)
        self.end(shared)
        print(f"engine {engine}: {self.rounds} kills under load, {self.cut} while recovering, "
              f"{self.checked} keys compared, {self.evicted} times one was evicted")

    def test_kill__what_was_told_is_there(self):
        """With io_uring, where that is allowed."""
        self.run_engine("auto", SECONDS * 0.4)

    def test_kill__what_was_told_is_there_with_threads(self):
        """And with threads."""
        self.run_engine("threads", SECONDS * 0.3)

    def test_kill__nothing_comes_back_when_the_log_goes_round(self):
        """In a cache too small for them: entries are evicted, but none that was deleted or replaced is
        ever seen again."""
        self.bytes, self.log_bytes, self.evicts = 12 << 20, 1 << 40, True
        self.run_engine("auto", SECONDS * 0.3)
        self.assertGreater(self.evicted, 0)


if __name__ == "__main__":
    unittest.main()
