#!/usr/bin/env python3
"""haul cache serve as clients see it: plain sockets, and unmodified clients where installed."""
import atexit
import os
import random
import re
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
SEED = int(os.environ.get("HAUL_TEST_SEED", random.randrange(1 << 32)))
FOLDER = tempfile.mkdtemp(prefix="haul-rpc-", dir=os.environ.get("TMPDIR", "/var/tmp"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
FILE = os.path.join(FOLDER, "cache.bin")


class Server:
    """One `haul cache serve` on a port of its own."""

    def __init__(self, *options, path=FILE, before=()):
        self.process = subprocess.Popen(
            [*before, HAUL, "cache", "serve", path, "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if " on 127.0.0.1:" not in line:
            raise RuntimeError(line + self.process.stderr.read())
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self, number=signal.SIGTERM):
        """End it, give its exit code and what it said to stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


class Client:
    """A memcached client of few words: sends bytes, reads lines and blocks."""

    def __init__(self, port, timeout=30, path=None):
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(path)
        else:
            self.socket = socket.create_connection(("127.0.0.1", port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(timeout)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        return self.file.readline().rstrip(b"\r\n")

    def ask(self, data):
        self.send(data if data.endswith(b"\r\n") else data + b"\r\n")
        return self.line()

    def set(self, key, value, flags=0, exptime=0, verb=b"set", tail=b""):
        self.send(b"%s %s %d %d %d%s\r\n" % (verb, key, flags, exptime, len(value), tail))
        self.send(value + b"\r\n")
        return None if b"noreply" in tail else self.line()

    def values(self):
        """VALUE … END as a list of (key, flags, value, cas), in order."""
        found = []
        while True:
            line = self.line()
            if line == b"END":
                return found
            word = line.split(b" ")
            if word[0] != b"VALUE":
                raise AssertionError(line[:200])
            size = int(word[3])
            value = self.file.read(size)
            if self.file.read(2) != b"\r\n":
                raise AssertionError("no end of the value")
            found.append((word[1], int(word[2]), value, int(word[4]) if len(word) > 4 else None))

    def get(self, *keys, verb=b"get"):
        self.send(verb + b" " + b" ".join(keys) + b"\r\n")
        return self.values()

    def one(self, key):
        found = self.get(key)
        return found[0][2] if found else None

    def stats(self, what=b""):
        self.send(b"stats" + (b" " + what if what else b"") + b"\r\n")
        found = {}
        while True:
            line = self.line()
            if line == b"END":
                return found
            _, name, value = line.decode().split(" ", 2)
            found[name] = value


def make_file(path=FILE, size="256Mi", partitions="2", *options):
    if os.path.exists(path):
        os.unlink(path)
    subprocess.run([HAUL, "cache", "format", path, "--size", size, "--partitions", partitions,
                    "--quiet", *options], check=True, stdout=subprocess.DEVNULL)


class Case(unittest.TestCase):
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        make_file()
        cls.server = Server(*cls.OPTIONS)

    @classmethod
    def tearDownClass(cls):
        if cls.server.process.poll() is None:
            code, err = cls.server.stop()
            assert code == 0 and err == "", (code, err)
        cls.server.process.stdout.close()
        cls.server.process.stderr.close()

    def client(self, **options):
        client = Client(self.server.port, **options)
        self.addCleanup(client.close)
        return client

    def setUp(self):
        self.c = self.client()


class Classic(Case):
    def test_values_are_any_bytes(self):
        value = bytes(range(256)) * 17 + b"\r\nEND\r\n"
        self.assertEqual(self.c.set(b"bin", value, flags=0xffffffff), b"STORED")
        self.assertEqual(self.c.get(b"bin"), [(b"bin", 0xffffffff, value, None)])
        self.assertEqual(self.c.set(b"none", b""), b"STORED")
        self.assertEqual(self.c.one(b"none"), b"")
        self.assertIsNone(self.c.one(b"not there"[:3]))

    def test_sizes_around_every_boundary(self):
        pool = random.Random(SEED).randbytes(3 << 20)
        for size in (1, 63, 64, 65, 4095, 4096, 4097, 65536, 262143, 262144, 262145, 524288,
                     524289, 1048576, 1048577, 3 << 20):
            value = pool[:size]
            self.assertEqual(self.c.set(b"s%d" % size, value), b"STORED", size)
            self.assertTrue(self.c.one(b"s%d" % size) == value, size)

    def test_objects_of_64_mib(self):
        value = random.Random(SEED).randbytes(1 << 20) * 64
        self.assertEqual(self.c.set(b"big", value, flags=7), b"STORED")
        found = self.c.get(b"small", b"big", b"none")
        self.assertEqual([(k, f) for k, f, _, _ in found], [(b"big", 7)])
        self.assertTrue(found[0][2] == value)
        self.c.send(b"mg big s f v\r\n")
        self.assertEqual(self.c.line(), b"VA 67108864 s67108864 f7")
        self.assertTrue(self.c.file.read(67108864) == value)
        self.c.file.read(2)
        self.assertEqual(self.c.set(b"big", b"small again"), b"STORED")
        self.assertEqual(self.c.one(b"big"), b"small again")
        self.assertEqual(self.c.ask(b"delete big"), b"DELETED")

    def test_over_the_limit_is_refused_and_swallowed(self):
        self.c.send(b"set huge 0 0 %d\r\n" % (65 << 20))
        block = b"flush_all\r\n" + b"x" * ((1 << 20) - 11)
        for _ in range(65):
            self.c.send(block)
        self.c.send(b"\r\n")
        self.assertEqual(self.c.line(), b"SERVER_ERROR object too large for cache")
        self.assertEqual(self.c.ask(b"version")[:7], b"VERSION")

    def test_objects_with_add_replace_and_cas(self):
        value = b"o" * 600000
        self.assertEqual(self.c.set(b"ob", value, verb=b"replace"), b"NOT_STORED")
        self.assertEqual(self.c.set(b"ob", value, verb=b"add"), b"STORED")
        self.assertEqual(self.c.set(b"ob", value, verb=b"add"), b"NOT_STORED")
        cas = self.c.get(b"ob", verb=b"gets")[0][3]
        self.assertEqual(self.c.set(b"ob", value, verb=b"cas", tail=b" %d" % (cas + 1)), b"EXISTS")
        self.assertEqual(self.c.set(b"ob", value + b"2", verb=b"cas", tail=b" %d" % cas), b"STORED")
        self.assertTrue(self.c.one(b"ob") == value + b"2")
        self.assertEqual(self.c.set(b"ob", b"x", verb=b"append"),
                         b"SERVER_ERROR object too large for cache")
        self.assertEqual(self.c.ask(b"incr ob 1"),
                         b"CLIENT_ERROR cannot increment or decrement non-numeric value")
        self.c.send(b"set ob 0 0 600000\r\n" + value + b"xx")
        self.assertEqual(self.c.line(), b"CLIENT_ERROR bad data chunk")
        self.assertTrue(self.c.one(b"ob") == value + b"2")

    def test_cas(self):
        self.assertEqual(self.c.set(b"c", b"1"), b"STORED")
        cas = self.c.get(b"c", verb=b"gets")[0][3]
        self.assertEqual(self.c.set(b"c", b"2", verb=b"cas", tail=b" %d" % cas), b"STORED")
        self.assertEqual(self.c.set(b"c", b"3", verb=b"cas", tail=b" %d" % cas), b"EXISTS")
        self.assertEqual(self.c.set(b"cx", b"3", verb=b"cas", tail=b" 1"), b"NOT_FOUND")
        self.assertEqual(self.c.one(b"c"), b"2")

    def test_multi_get_of_1000_keys_in_order(self):
        keys = [b"mk%d" % i for i in range(1000)]
        for key in keys[::2]:
            self.c.set(key, key * 9, tail=b" noreply")
        want = [(k, 0, k * 9, None) for k in keys[::2]]
        self.assertEqual(self.c.get(*keys), want)
        self.assertEqual(self.c.get(*keys[::-1]), want[::-1])
        self.assertEqual(self.c.get(*[keys[0]] * 50), [want[0]] * 50)

    def test_numbers(self):
        self.c.set(b"n", b"18446744073709551615")
        self.assertEqual(self.c.ask(b"incr n 1"), b"0")
        self.assertEqual(self.c.ask(b"incr n 41"), b"41")
        self.assertEqual(self.c.ask(b"decr n 42"), b"0")
        self.assertEqual(self.c.ask(b"incr nope 1"), b"NOT_FOUND")
        self.c.set(b"t", b"text")
        self.assertEqual(self.c.ask(b"incr t 1"),
                         b"CLIENT_ERROR cannot increment or decrement non-numeric value")
        self.assertEqual(self.c.ask(b"incr n x"), b"CLIENT_ERROR invalid numeric delta argument")

    def test_numbers_of_many_clients_add_up(self):
        self.c.set(b"sum", b"0")

        def work():
            client = Client(self.server.port)
            for _ in range(200):
                client.ask(b"incr sum 1")
            client.close()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.c.one(b"sum"), b"800")

    def test_append_and_prepend(self):
        self.assertEqual(self.c.set(b"ap", b"x", verb=b"append"), b"NOT_STORED")
        self.c.set(b"ap", b"mid", flags=3)
        self.assertEqual(self.c.set(b"ap", b"end", flags=9, verb=b"append"), b"STORED")
        self.assertEqual(self.c.set(b"ap", b"start", flags=9, verb=b"prepend"), b"STORED")
        self.assertEqual(self.c.get(b"ap"), [(b"ap", 3, b"startmidend", None)])

    def test_add_and_replace(self):
        self.assertEqual(self.c.set(b"ar", b"1", verb=b"replace"), b"NOT_STORED")
        self.assertEqual(self.c.set(b"ar", b"2", verb=b"add"), b"STORED")
        self.assertEqual(self.c.set(b"ar", b"3", verb=b"add"), b"NOT_STORED")
        self.assertEqual(self.c.set(b"ar", b"4", verb=b"replace"), b"STORED")
        self.assertEqual(self.c.ask(b"delete ar"), b"DELETED")
        self.assertEqual(self.c.ask(b"delete ar"), b"NOT_FOUND")

    def test_times(self):
        self.assertEqual(self.c.set(b"gone", b"1", exptime=-1), b"STORED")
        self.assertIsNone(self.c.one(b"gone"))
        self.assertEqual(self.c.set(b"gone", b"1", verb=b"add", exptime=100), b"STORED")
        self.c.send(b"mg gone t\r\n")
        self.assertIn(self.c.line(), (b"HD t100", b"HD t99"))
        self.assertEqual(self.c.ask(b"touch gone 1000"), b"TOUCHED")
        self.assertEqual(self.c.ask(b"touch nope 1000"), b"NOT_FOUND")
        self.assertIn(self.c.ask(b"mg gone t"), (b"HD t1000", b"HD t999"))
        self.assertEqual(self.c.get(b"0", b"gone", b"nope", verb=b"gat")[0][2], b"1")
        self.assertEqual(self.c.ask(b"mg gone t"), b"HD t-1")
        self.assertIsNotNone(self.c.get(b"0", b"gone", verb=b"gats")[0][3])
        self.assertEqual(self.c.ask(b"touch gone -1"), b"TOUCHED")
        self.assertIsNone(self.c.one(b"gone"))
        past = int(time.time()) - 5
        self.c.set(b"past", b"1", exptime=past)
        self.assertIsNone(self.c.one(b"past"))
        self.c.set(b"future", b"1", exptime=past + 1000)
        self.assertEqual(self.c.one(b"future"), b"1")

    def test_an_entry_expires_by_itself(self):
        self.c.set(b"short", b"1", exptime=1)
        end = time.time() + 20
        while self.c.one(b"short") is not None:
            self.assertLess(time.time(), end)

    def test_flush_all(self):
        keys = [b"f%d" % i for i in range(64)]
        for key in keys:
            self.c.set(key, b"v" * 300000 if key == b"f7" else b"v")
        self.assertEqual(self.c.ask(b"flush_all"), b"OK")
        self.assertEqual(self.c.get(*keys), [])
        self.c.set(b"f1", b"new")
        self.assertEqual(self.c.one(b"f1"), b"new")
        self.assertEqual(self.c.ask(b"flush_all 1"), b"OK")
        end = time.time() + 20
        while self.c.one(b"f1") is not None:
            self.assertLess(time.time(), end)
        self.c.set(b"f1", b"newer")
        self.assertEqual(self.c.ask(b"flush_all 1000"), b"OK")
        self.assertEqual(self.c.ask(b"flush_all noreply\r\nversion")[:7], b"VERSION")
        self.assertIsNone(self.c.one(b"f1"))

    def test_key_lengths(self):
        self.assertEqual(self.c.set(b"k" * 250, b"v"), b"STORED")
        self.assertEqual(self.c.one(b"k" * 250), b"v")
        self.assertEqual(self.c.set(b"k" * 251, b"flush_all"),
                         b"CLIENT_ERROR bad command line format")
        self.assertEqual(self.c.ask(b"get " + b"k" * 251), b"CLIENT_ERROR bad command line format")
        self.assertEqual(self.c.one(b"k" * 250), b"v")

    def test_a_pipeline_means_what_it_says(self):
        self.c.send(b"set p 0 0 1\r\n1\r\nget p\r\nset p 0 0 1\r\n2\r\nget p\r\nincr p 5\r\n"
                    b"append p 0 0 1\r\n0\r\nget p\r\ndelete p\r\nget p\r\nset p 0 0 1 noreply\r\n"
                    b"9\r\nget p\r\nversion\r\n")
        self.assertEqual(self.c.line(), b"STORED")
        self.assertEqual(self.c.values()[0][2], b"1")
        self.assertEqual(self.c.line(), b"STORED")
        self.assertEqual(self.c.values()[0][2], b"2")
        self.assertEqual(self.c.line(), b"7")
        self.assertEqual(self.c.line(), b"STORED")
        self.assertEqual(self.c.values()[0][2], b"70")
        self.assertEqual(self.c.line(), b"DELETED")
        self.assertEqual(self.c.values(), [])
        self.assertEqual(self.c.values()[0][2], b"9")
        self.assertEqual(self.c.line()[:7], b"VERSION")

    def test_long_pipelines(self):
        count = 5000
        self.c.send(b"".join(b"set lp%d 0 0 4\r\n%04d\r\n" % (i, i) for i in range(count)))
        for _ in range(count):
            self.assertEqual(self.c.line(), b"STORED")
        self.c.send(b"".join(b"get lp%d\r\n" % i for i in range(count)))
        for i in range(count):
            self.assertEqual(self.c.values(), [(b"lp%d" % i, 0, b"%04d" % i, None)])
        self.c.send(b"".join(b"mg lp%d v q\r\nmg none%d v q\r\n" % (i, i) for i in range(count)) +
                    b"mn\r\n")
        for i in range(count):
            self.assertEqual((self.c.line(), self.c.line()), (b"VA 4", b"%04d" % i))
        self.assertEqual(self.c.line(), b"MN")

    def test_half_lines(self):
        for byte in b"set half 0 0 5\r\na\r\nbc\r\nget half\r\n":
            self.c.send(bytes([byte]))
        self.assertEqual(self.c.line(), b"STORED")
        self.assertEqual(self.c.values()[0][2], b"a\r\nbc")

    def test_half_closed_connections_get_their_answers(self):
        self.c.send(b"set hc 0 0 1\r\n1\r\nget hc\r\n")
        self.c.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(self.c.line(), b"STORED")
        self.assertEqual(self.c.values()[0][2], b"1")
        self.assertEqual(self.c.file.read(), b"")

    def test_quit(self):
        self.c.send(b"version\r\nquit\r\nversion\r\n")
        self.assertEqual(self.c.line()[:7], b"VERSION")
        self.assertEqual(self.c.file.read(), b"")

    def test_stats(self):
        before = self.c.stats()
        self.c.set(b"st", b"1")
        self.c.get(b"st", b"stnone")
        after = self.c.stats()
        for name, more in (("cmd_get", 2), ("get_hits", 1), ("get_misses", 1), ("cmd_set", 1)):
            self.assertEqual(int(after[name]) - int(before[name]), more, name)
        self.assertEqual(after["threads"], "2")
        for name in ("curr_items", "bytes", "limit_maxbytes", "curr_connections", "uptime",
                     "flushes", "syncs", "engine", "pending_writes", "buffered_bytes"):
            self.assertIn(name, after)
        self.assertEqual(self.c.stats(b"settings")["item_size_max"], str(64 << 20))
        self.assertEqual(self.c.stats(b"items"), {})
        self.assertEqual(self.c.ask(b"online"), b"OK")


class Meta(Case):
    def test_get_and_its_flags(self):
        self.assertEqual(self.c.ask(b"ms mk 5 F9 T90 c\r\nhello")[:4], b"HD c")
        self.assertEqual(self.c.ask(b"mg mk v s f k O77 q"), b"VA 5 s5 f9 kmk O77")
        self.assertEqual(self.c.line(), b"hello")
        self.assertEqual(self.c.ask(b"mg mk"), b"HD")
        self.assertEqual(self.c.ask(b"mg mnone v O1"), b"EN O1")
        self.assertEqual(self.c.ask(b"mg mnone v q\r\nmn"), b"MN")
        self.assertEqual(self.c.ask(b"mg mk E5"), b"CLIENT_ERROR invalid flag")
        self.assertRegex(self.c.ask(b"me mk"), rb"^ME mk exp=\d+ cas=\d+ size=5$")
        self.assertEqual(self.c.ask(b"me mnone"), b"EN")

    def test_binary_keys(self):
        self.assertEqual(self.c.ask(b"ms AP8QDQo= 1 b k\r\nx"), b"HD kAP8QDQo= b")
        self.assertEqual(self.c.ask(b"mg AP8QDQo= b k v"), b"VA 1 kAP8QDQo= b")
        self.assertEqual(self.c.line(), b"x")
        self.assertEqual(self.c.ask(b"mg AP8QDQo= v"), b"EN")

    def test_modes_of_set(self):
        self.assertEqual(self.c.ask(b"ms mm 1 MR\r\n1"), b"NS")
        self.assertEqual(self.c.ask(b"ms mm 1 MA\r\n1"), b"NS")
        self.assertEqual(self.c.ask(b"ms mm 1 ME\r\n1"), b"HD")
        self.assertEqual(self.c.ask(b"ms mm 1 ME\r\n1"), b"NS")
        self.assertEqual(self.c.ask(b"ms mm 1 MA s\r\n2"), b"HD s2")
        self.assertEqual(self.c.ask(b"ms mm 1 MP\r\n0"), b"HD")
        self.assertEqual(self.c.one(b"mm"), b"012")
        self.assertEqual(self.c.ask(b"ms mv 1 MA N60\r\n2"), b"HD")
        self.assertEqual(self.c.one(b"mv"), b"2")
        cas = int(self.c.ask(b"mg mm c")[4:])
        self.assertEqual(self.c.ask(b"ms mm 1 C%d\r\n9" % (cas + 1)), b"EX")
        self.assertEqual(self.c.ask(b"ms mm 1 C%d q\r\n9\r\nmn" % cas), b"MN")
        self.assertEqual(self.c.one(b"mm"), b"9")
        self.assertEqual(self.c.ask(b"ms nomm 1 C5\r\n9"), b"NF")

    def test_delete(self):
        self.assertEqual(self.c.ask(b"md dx"), b"NF")
        self.assertEqual(self.c.ask(b"md dx q O7"), b"NF O7")
        self.assertEqual(self.c.ask(b"ms dx 1 q\r\n1\r\nmd dx q\r\nmn"), b"MN")
        self.c.set(b"dx", b"1")
        cas = int(self.c.ask(b"mg dx c")[4:])
        self.assertEqual(self.c.ask(b"md dx C%d" % (cas + 1)), b"EX")
        self.assertEqual(self.c.ask(b"md dx C%d O5 k" % cas), b"HD O5 kdx")
        self.assertIsNone(self.c.one(b"dx"))
        self.c.set(b"dx", b"1", flags=4)
        self.assertEqual(self.c.ask(b"md dx x"), b"HD")
        self.assertEqual(self.c.get(b"dx"), [(b"dx", 0, b"", None)])

    def test_arithmetic(self):
        self.assertEqual(self.c.ask(b"ma an"), b"NF")
        self.assertEqual(self.c.ask(b"ma an N0 J13 v"), b"VA 2")
        self.assertEqual(self.c.line(), b"13")
        self.assertEqual(self.c.ask(b"ma an D7 v t"), b"VA 2 t-1")
        self.assertEqual(self.c.line(), b"20")
        self.assertEqual(self.c.ask(b"ma an MD D30 v"), b"VA 1")
        self.assertEqual(self.c.line(), b"0")
        self.assertEqual(self.c.ask(b"ma an q\r\nmn"), b"MN")
        self.assertEqual(self.c.one(b"an"), b"1")
        self.assertEqual(self.c.ask(b"ma nope q"), b"NF")

    def test_q_hides_no_errors(self):
        """What is not as wanted is answered, also with q: malformed, too long, refused."""
        value = b"o" * 600000
        self.assertEqual(self.c.set(b"qo", value, exptime=100), b"STORED")
        for sent, answer in (
                (b"md %s q" % (b"k" * 251), b"CLIENT_ERROR bad command line format"),
                (b"mg ### b q", b"CLIENT_ERROR error decoding key"),
                (b"ms q 1 q\r\nx\r", b"CLIENT_ERROR bad data chunk"),
                (b"ms q %d q\r\n" % ((64 << 20) + 1) + b"x" * ((64 << 20) + 1),
                 b"SERVER_ERROR object too large for cache"),
                (b"ms q 600000 q\r\n" + value + b"xx", b"CLIENT_ERROR bad data chunk"),
                (b"ms q 600000 MA q\r\n" + value, b"SERVER_ERROR object too large for cache"),
                (b"mg qo T1000 q", b"SERVER_ERROR object too large for cache"),
                (b"ma qo q", b"CLIENT_ERROR cannot increment or decrement non-numeric value")):
            client = self.client()
            self.assertEqual(client.ask(sent), answer, sent[:40])

    def test_one_client_wins_the_recache(self):
        self.assertEqual(self.c.ask(b"mg viv v N60"), b"VA 0 W")
        self.assertEqual(self.c.line(), b"")
        self.assertEqual(self.c.ask(b"mg viv N60"), b"HD Z")
        self.assertEqual(self.c.ask(b"mg viv"), b"HD Z")
        self.c.set(b"viv", b"made")
        self.assertEqual(self.c.ask(b"mg viv v"), b"VA 4")
        self.c.line()
        self.c.set(b"rec", b"1", exptime=20)
        self.assertEqual(self.c.ask(b"mg rec R10"), b"HD")
        self.assertEqual(self.c.ask(b"mg rec R30"), b"HD W")
        self.assertEqual(self.c.ask(b"mg rec R30"), b"HD Z")

    def test_stale(self):
        self.c.set(b"sta", b"old", exptime=900)
        self.assertEqual(self.c.ask(b"md sta I T100"), b"HD")
        self.assertEqual(self.c.ask(b"mg sta v"), b"VA 3 W X")
        self.assertEqual(self.c.line(), b"old")
        self.assertEqual(self.c.ask(b"mg sta"), b"HD X Z")
        self.c.set(b"sta", b"new")
        self.assertEqual(self.c.ask(b"mg sta"), b"HD")

    def test_touch_by_get(self):
        self.c.set(b"tg", b"1")
        self.assertIn(self.c.ask(b"mg tg T30 t v"), (b"VA 1 t30", b"VA 1 t29"))
        self.assertEqual(self.c.line(), b"1")
        self.assertEqual(self.c.ask(b"mg tgnone T30"), b"EN")


class Bad(Case):
    OPTIONS = ("--connections", "40")

    def test_garbage(self):
        self.c.send(b"\x00\xff garbage\r\nget\r\nset a\r\nversion\r\n")
        self.assertEqual([self.c.line() for _ in range(3)], [b"ERROR"] * 3)
        self.assertEqual(self.c.line()[:7], b"VERSION")

    def test_a_line_without_end_closes(self):
        self.c.send(b"x" * 4096)
        self.assertEqual(self.c.line(), b"CLIENT_ERROR line too long")
        self.assertEqual(self.c.file.read(), b"")

    def test_the_binary_protocol_closes(self):
        self.c.send(b"\x80\x0a" + b"\0" * 22)
        self.assertEqual(self.c.file.read(), b"")

    def test_lengths_and_requests_that_close(self):
        """What a client goes on sending is not taken for commands."""
        self.c.set(b"kept", b"1")
        for line, answer in ((b"set a 0 0 3000000000", b"SERVER_ERROR object too large for cache"),
                             (b"POST / HTTP/1.1", b"")):
            client = self.client()
            client.send(line + b"\r\nHost: x\r\n\r\nflush_all\r\n")
            self.assertEqual(client.line(), answer)
            try:
                client.send(b"flush_all\r\n")
                self.assertEqual(client.file.read(), b"")
            except ConnectionError:
                pass
        self.assertEqual(self.c.one(b"kept"), b"1")

    def test_random_bytes_harm_nobody(self):
        chance = random.Random(SEED)
        words = [b"get", b"set", b"k", b"0", b"5", b"\r\n", b" ", b"noreply", b"mg", b"ms", b"v",
                 b"\n", b"12345\r\n", b"cas", b"incr", b"-1", b"ma", b"md", b"T9", b"stats"]
        for _ in range(40):
            client = self.client()
            try:
                client.send(b"".join(chance.choice(words) + b" " * chance.randrange(2)
                                     for _ in range(400)))
                client.socket.shutdown(socket.SHUT_WR)
                client.file.read()
            except ConnectionError:
                pass
            client.close()
        self.assertEqual(self.c.set(b"fine", b"1"), b"STORED")

    def test_a_client_that_does_not_read_costs_others_nothing(self):
        for i in range(30):
            self.c.set(b"slow%d" % i, b"%02d" % i * 100000)
        slow = self.client()
        keys = b" ".join(b"slow%d" % i for i in range(30))
        slow.send((b"get " + keys + b"\r\n") * 20)
        for i in range(200):
            self.assertEqual(self.c.set(b"quick", b"%d" % i), b"STORED")
            self.assertEqual(self.c.one(b"quick"), b"%d" % i)
        for _ in range(20):
            found = slow.values()
            self.assertEqual([k for k, _, _, _ in found], [b"slow%d" % i for i in range(30)])
            for i, (_, _, value, _) in enumerate(found):
                self.assertTrue(value == b"%02d" % i * 100000)

    def test_a_client_that_stops_writing_costs_others_nothing(self):
        for head in (b"set stuck 0 0 100\r\nhalf", b"set stuck 0 0 9000000\r\n" + b"h" * 700000,
                     b"ge", b"get a b c"):
            self.client().send(head)
        for i in range(100):
            self.assertEqual(self.c.set(b"q", b"%d" % i), b"STORED")
        self.assertIsNone(self.c.one(b"stuck"))

    def test_clients_that_vanish_in_the_middle(self):
        for i in range(30):
            client = self.client()
            client.send(b"set v%d 0 0 4\r\nabcd\r\n" % i * 50 + b"get v1 v2 v3\r\n" * 50 +
                        b"set v 0 0 9000000\r\n" + b"h" * 700000)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        self.assertEqual(self.c.set(b"fine", b"1"), b"STORED")
        end = time.time() + 20
        while int(self.c.stats()["curr_connections"]) > 1:
            self.assertLess(time.time(), end)

    def test_the_connection_limit(self):
        clients = []
        refused = 0
        for _ in range(60):
            client = self.client()
            clients.append(client)
            refused += client.ask(b"version") == b"ERROR Too many open connections"
        self.assertGreaterEqual(refused, 20)
        self.assertEqual(self.c.set(b"fine", b"1"), b"STORED")
        for client in clients:
            client.close()
        end = time.time() + 20
        while int(self.c.stats()["curr_connections"]) > 1:
            self.assertLess(time.time(), end)
        self.assertEqual(self.client().set(b"fine", b"2"), b"STORED")


class Life(unittest.TestCase):
    def start(self, *options, **more):
        server = Server(*options, **more)

        def end():
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait()
            server.process.stdout.close()
            server.process.stderr.close()
        self.addCleanup(end)
        return server

    def test_what_was_stored_is_there_after_a_clean_stop_and_after_a_kill(self):
        make_file()
        server = self.start()
        client = Client(server.port)
        big = os.urandom(3 << 20)
        client.set(b"big", big)
        for i in range(500):
            client.set(b"k%d" % i, b"%d" % i, tail=b" noreply")
        self.assertEqual(client.ask(b"version")[:7], b"VERSION")
        self.assertEqual(server.stop(), (0, ""))
        client.close()
        server = self.start()
        client = Client(server.port)
        self.assertEqual(len(client.get(*[b"k%d" % i for i in range(500)])), 500)
        self.assertTrue(client.one(b"big") == big)
        for i in range(100):
            self.assertEqual(client.set(b"d%d" % i, b"%d" % i), b"STORED")
        client.send(b"".join(b"set e%d 0 0 1\r\nx\r\n" % i for i in range(500)))
        for _ in range(500):
            self.assertEqual(client.line(), b"STORED")
        self.assertEqual(client.ask(b"delete k7"), b"DELETED")
        server.process.kill()
        server.process.wait()
        client.close()
        server = self.start("--engine", "threads", "--threads", "1")
        client = Client(server.port)
        self.assertEqual(len(client.get(*[b"d%d" % i for i in range(100)])), 100)
        self.assertEqual(len(client.get(*[b"e%d" % i for i in range(500)])), 500)
        self.assertIsNone(client.one(b"k7"))
        self.assertTrue(client.one(b"big") == big)
        self.assertEqual(server.stop(signal.SIGINT), (0, ""))
        client.close()

    def test_stores_over_objects_stay_in_order(self):
        """Each store reads the head of the object it replaces; which read ends first is chance."""
        make_file()
        keys = [b"o%d" % i for i in range(300)]
        server = self.start()
        client = Client(server.port)
        for key in keys:
            self.assertEqual(client.set(key, b"x" * 300000), b"STORED")
        client.close()
        self.assertEqual(server.stop(), (0, ""))
        path = os.path.join(FOLDER, "socket")
        server = self.start("--engine", "threads", "--memory", "1Mi", "--unix", path)
        client = Client(server.port, path=path)
        client.send(b"".join(b"set %s %d 0 %d noreply\r\n%s\r\n" % (key, n, size, b"y" * size)
                             for key in keys for n, size in enumerate((100, 3000, 100, 3000))))
        found = client.get(*keys)
        self.assertEqual([(key, flags) for key, flags, _, _ in found], [(key, 3) for key in keys])
        client.close()
        self.assertEqual(server.stop(), (0, ""))

    def test_replies_are_finished_when_it_stops(self):
        make_file()
        server = self.start()
        client = Client(server.port)
        client.set(b"v", b"x" * 200000)
        client.send(b"get v\r\n" * 100)
        self.assertEqual(client.line(), b"VALUE v 0 200000")
        server.process.terminate()
        rest = client.file.read()
        self.assertEqual(rest[-5:], b"END\r\n")
        server.process.wait(timeout=60)
        self.assertEqual(server.process.returncode, 0)
        client.close()

    def test_unix_socket_and_buffered_answers(self):
        make_file()
        path = os.path.join(FOLDER, "socket")
        server = self.start("--unix", path, "--ack", "buffered")
        self.assertIn("unix:" + path, server.process.stdout.readline())
        client = Client(0, path=path)
        self.assertEqual(client.set(b"u", b"1"), b"STORED")
        self.assertEqual(client.one(b"u"), b"1")
        client.close()
        self.assertEqual(server.stop(), (0, ""))
        self.assertFalse(os.path.exists(path))

    def refuse(self, *options, path=FILE):
        done = subprocess.run([HAUL, "cache", "serve", path, *options], capture_output=True,
                              text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_errors_say_what_to_do(self):
        make_file()
        server = self.start()
        other = os.path.join(FOLDER, "other.bin")
        make_file(other, "64Mi")
        address = "127.0.0.1:%d" % server.port
        self.assertIn("is in use", self.refuse("--listen", address, path=other))
        self.assertIn(FILE, self.refuse("--listen", "127.0.0.1:0"))
        self.assertIn("is not an address", self.refuse("--listen", "nonsense", path=other))
        empty = os.path.join(FOLDER, "empty.bin")
        with open(empty, "wb") as file:
            file.write(b"\0" * 65536)
        self.assertIn("haul cache format", self.refuse("--listen", "127.0.0.1:0", path=empty))
        self.assertIn("No such file", self.refuse(path=os.path.join(FOLDER, "none")))
        self.assertIn("--ack", self.refuse("--ack", "maybe"))
        self.assertIn("[::1]:11211", self.refuse("--listen", "localhost:1", path=other))
        self.assertIn("no interface", self.refuse("--listen", "192.0.2.77:0", path=other))
        folder = os.path.join(FOLDER, "nowhere")
        self.assertIn("no such folder", self.refuse("--unix", folder + "/socket", path=other))
        self.assertIn("at most 107", self.refuse("--unix", "x" * 108, path=other))
        self.assertIn("is there already", self.refuse("--unix", other, path=other))

    def test_a_socket_that_a_killed_server_left_is_replaced(self):
        """Nobody has to remove it by hand; one that is in use is not touched."""
        make_file()
        path = os.path.join(FOLDER, "left")
        server = self.start("--unix", path)
        other = os.path.join(FOLDER, "other.bin")
        make_file(other, "64Mi")
        self.assertIn("is there already", self.refuse("--unix", path, path=other))
        server.process.stdout.readline()
        server.process.kill()
        server.process.wait()
        self.assertTrue(os.path.exists(path))
        server = self.start("--unix", path)
        server.process.stdout.readline()
        client = Client(0, path=path)
        self.assertEqual(client.set(b"u", b"1"), b"STORED")
        client.close()

    def test_ipv6(self):
        """[::1] as an address to listen on and as a TARGET."""
        make_file()
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::1", 0))
            except OSError as err:
                self.skipTest("no IPv6 here: %s" % err)
        server = self.start("--listen", "[::1]:0")
        address = server.process.stdout.readline().split()[-1]
        self.assertRegex(address, r"^\[::1\]:\d+$")
        for words in (["set", address, "k", "v"], ["get", address, "k"]):
            done = subprocess.run([HAUL, "cache", *words], capture_output=True, timeout=60,
                                  check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, b"v")

    def test_files_are_limited(self):
        """Too few for the connections is said at once, with what to lower or raise; and with as
        many as it says are needed, every connection is served, however many threads there are."""
        make_file(FILE, "256Mi", "32")
        words = ["--threads", "32", "--connections", "40"]
        done = subprocess.run(["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", HAUL, "cache", "serve",
                               FILE, "--listen", "127.0.0.1:0", *words], capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("lower --connections or raise ulimit -n", done.stderr)
        need = re.search(r"need (\d+) open files", done.stderr)[1]
        server = self.start(*words, before=["sh", "-c", 'ulimit -n %s; exec "$@"' % need, "sh"])
        clients = [Client(server.port) for _ in range(41)]
        for client in clients[:40]:
            self.assertEqual(client.ask(b"version")[:7], b"VERSION")
        self.assertEqual(clients[40].line(), b"ERROR Too many open connections")
        for client in clients:
            client.close()


class Unmodified(Case):
    def test_memccapable(self):
        if not shutil.which("memccapable"):
            self.skipTest("memccapable is not installed (libmemcached-tools)")
        done = subprocess.run(["memccapable", "-h", "127.0.0.1", "-p", str(self.server.port), "-a"],
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("All tests passed", done.stdout + done.stderr)

    def test_perl(self):
        if subprocess.run(["perl", "-MCache::Memcached::Fast", "-e", "1"], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("Cache::Memcached::Fast is not installed")
        script = r"""
            use Cache::Memcached::Fast;
            my $c = Cache::Memcached::Fast->new({ servers => ["127.0.0.1:$ARGV[0]"] });
            my $v = join "", map { chr($_ % 256) } 0 .. 99999;
            $c->set("bin", $v, 100) or die "set";
            $c->get("bin") eq $v or die "get";
            $c->set_multi(map { ["m$_", $_ x 10] } 1 .. 1000);
            my $h = $c->get_multi(map { "m$_" } 1 .. 1000);
            keys %$h == 1000 or die "get_multi";
            $h->{"m$_"} eq $_ x 10 or die "m$_" for 1 .. 1000;
            my $g = $c->gets("bin"); $c->cas("bin", $g->[0], "new") or die "cas";
            $c->cas("bin", $g->[0], "newer") and die "cas twice";
            $c->add("n", 5) or die "add"; $c->incr("n", 3) == 8 or die "incr";
            $c->append("bin", "!") or die "append"; $c->get("bin") eq "new!" or die "append";
            $c->touch("n", 100) or die "touch";
            $c->delete("n") or die "delete"; defined $c->get("n") and die "deleted";
            $c->flush_all; defined $c->get("bin") and die "flush_all";
        """
        done = subprocess.run(["perl", "-e", script, str(self.server.port)], capture_output=True,
                              text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_pymemcache(self):
        try:
            from pymemcache.client.base import Client as Pymemcache
        except ImportError:
            self.skipTest("pymemcache is not installed")
        client = Pymemcache(("127.0.0.1", self.server.port))
        self.assertTrue(client.set("k", b"\0\r\n", expire=100, noreply=False))
        self.assertEqual(client.get("k"), b"\0\r\n")
        client.set_many({"m%d" % i: b"%d" % i for i in range(1000)})
        self.assertEqual(len(client.get_many(["m%d" % i for i in range(1000)])), 1000)
        client.close()


if __name__ == "__main__":
    print("HAUL_TEST_SEED=%d" % SEED, flush=True)
    unittest.main(verbosity=1)
