"""haul flows as a user meets it: options, real traffic in namespaces of its own, what is left behind.

Usage: test_flows.py path/to/haul

As root it starts itself anew in a mount and a network namespace, so that interfaces, pins and programs
are seen by nobody else and are gone afterwards. Without root only the command line is tested.
"""
import csv
import fcntl
import io
import json
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

HAUL = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
OK, FAILED, USAGE = 0, 1, 2
SECONDS = 30
INSIDE = "HAUL_TEST_FLOWS_INSIDE"
FIRST_OF_MANY, FIRST_OF_FEW = 10000, 20000  # ports below those that the kernel hands out
PEER4, PEER6, OWN4, OWN6 = "10.77.0.2", "fd77::2", "10.77.0.1", "fd77::1"


def haul(*arguments, **options):
    return subprocess.run([HAUL, "flows", *arguments], capture_output=True, text=True,
                          timeout=SECONDS, stdin=subprocess.DEVNULL, check=False, **options)


def lacking():
    """Why the tests with real traffic cannot run here, or None."""
    if os.geteuid() != 0:
        return "needs root: BPF programs, network namespaces"
    if INSIDE not in os.environ:
        return "needs a mount and a network namespace of its own"
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        return "this kernel has no BTF"
    return None


class CommandLine(unittest.TestCase):
    def assert_usage(self, arguments, *words):
        result = haul(*arguments)
        self.assertEqual(result.returncode, USAGE, result)
        self.assertEqual(result.stdout, "")
        self.assertIn("haul flows", result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def test_help__every_subcommand_has_an_example(self):
        """Whatever `haul flows --help` lists explains itself with a line that can be pasted."""
        listed = haul("--help").stdout.split("Subcommands:\n")[1].split("\n\n")[0]
        names = [line.split()[0] for line in listed.splitlines()]
        self.assertEqual(names, ["attach", "list", "top", "stats", "watch", "clean", "export",
                                 "import", "detach"])
        for name in names:
            result = haul(name, "--help")
            self.assertEqual(result.returncode, OK)
            self.assertIn("Usage: haul flows " + name, result.stdout)
            self.assertRegex(result.stdout, r"Examples:\n  sudo haul flows " + name)

    def test_usage__no_or_unknown_subcommand(self):
        """Nothing to do is an error, and so is a word that is none; the list is told."""
        self.assert_usage([], "Usage: haul flows")
        self.assert_usage(["lsit"], "'lsit'", "list")
        for name in ("attach", "detach", "export", "import"):
            self.assert_usage([name])

    def test_usage__bad_values_are_named_with_what_is_right(self):
        """The option, the value as typed, and what would be right."""
        for arguments, *words in (
                (["--proto", "tpc"], "'tpc'", "udp"), (["--proto", "0"], "'0'", "255"),
                (["--proto", "256"], "'256'"), (["--port", "0"], "'0'", "65535"),
                (["--port", "65536"], "'65536'"), (["--port", "http"], "'http'"),
                (["--addr", "10.0.0.0/33"], "'10.0.0.0/33'", "10.0.0.0/8"),
                (["--addr", "fe80::/129"], "'fe80::/129'"), (["--addr", "1.2.3"], "'1.2.3'"),
                (["--addr", "1.2.3.4/"], "'1.2.3.4/'"), (["--addr", "car1"], "'car1'"),
                (["--state", "new,opened"], "'opened'", "established", "syn-sent"),
                (["--state", ""], "''"), (["--bytes-min", "1X"], "'1X'", "Ki"),
                (["--bytes-min", "99999999T"], "'99999999T'"), (["--bytes-min", "-1"], "'-1'"),
                (["--idle", "5y"], "'5y'", "10s"), (["--idle", "0s"], "'0s'"),
                (["--since", "1.2.3s"], "'1.2.3s'"), (["--since", "1."], "'1.'"),
                (["--since", "999999999999d"], "'999999999999d'"),
                (["--sort", "size"], "'size'", "bytes"), (["--limit", "0"], "'0'"),
                (["--reverse"], "--sort"), (["--json", "--csv"], "--ndjson")):
            self.assert_usage(["list", *arguments], *words)
        for arguments, *words in (
                (["attach", "x", "--timeout", "new"], "'new'", "STATE=SECONDS"),
                (["attach", "x", "--timeout", "open=3"], "'open=3'", "established"),
                (["attach", "x", "--timeout", "new=0"], "'new=0'", "at least 1"),
                (["attach", "x", "--entries", "99999999999"], "'99999999999'", "16777216"),
                (["attach", "x", "y"], "'y'"), (["detach", "--all", "x"], "--all"),
                (["top", "--sort", "none"], "'none'", "rate"), (["top", "--limit", "257"], "256"),
                (["stats", "--count", "3"], "--interval"),
                (["stats", "--interval", "1s", "--port", "1"], "no filter"),
                (["clean", "--older-than", "old"], "'old'", "10s"),
                (["export", "a", "b", "c"], "'c'"),
                (["export", "f", "--resume", "--overwrite"], "--resume"),
                (["import", "f", "--merge", "--only-new"], "--replace"),
                (["watch", "a", "b"], "'b'"), (["watch", "--idle", "3s"], "'--idle'")):
            self.assert_usage(arguments, *words)


class Peer:
    """A veth pair; the far end, in a namespace of its own, has flows_peer.py."""

    def __init__(self):
        self.namespace = f"haulp{os.getpid()}"
        for line in (f"ip netns add {self.namespace}",
                     f"ip link add hv0 type veth peer name hv1 netns {self.namespace}",
                     f"ip addr add {OWN4}/24 dev hv0",
                     f"ip addr add {OWN6}/64 dev hv0 nodad",
                     f"ip -n {self.namespace} addr add {PEER4}/24 dev hv1",
                     f"ip -n {self.namespace} addr add {PEER6}/64 dev hv1 nodad",
                     "ip link set lo up", "ip link set hv0 up",
                     f"ip -n {self.namespace} link set hv1 up"):
            subprocess.run(line.split(), check=True, timeout=SECONDS)
        self.server = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable,
             os.path.join(HERE, "flows_peer.py")], stdout=subprocess.PIPE, text=True)
        self.tcp_port, self.udp_port = map(int, self.server.stdout.readline().split())
        self.last_port = FIRST_OF_FEW

    def close(self):
        self.server.kill()
        self.server.wait()
        self.server.stdout.close()
        subprocess.run(["ip", "link", "del", "hv0"], check=True, timeout=SECONDS)
        subprocess.run(["ip", "netns", "del", self.namespace], check=True, timeout=SECONDS)

    def own(self, address):
        """Our end for this address of theirs; no port twice, so that no connection is met twice."""
        self.last_port += 1
        return (OWN6 if ":" in address else OWN4, self.last_port)

    def tcp(self, sent, received, address=PEER4):
        """One connection that carries so many bytes each way and is closed; returns its port."""
        with self.open_tcp(address) as end:
            port = end.getsockname()[1]
            end.sendall(struct.pack("!I", received) + bytes(sent - 4))
            end.shutdown(socket.SHUT_WR)
            got = 0
            while chunk := end.recv(65536):
                got += len(chunk)
        assert got == received
        return port

    def open_tcp(self, address=PEER4):
        return socket.create_connection((address, self.tcp_port), timeout=SECONDS,
                                        source_address=self.own(address))

    def udp(self, sizes, address=PEER4):
        """Datagrams of these sizes, each answered before the next; returns the port."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as end:
            end.settimeout(SECONDS)
            end.bind(self.own(address))
            end.connect((address, self.udp_port))
            for size in sizes:
                end.send(bytes(size))
                end.recv(65536)
            return end.getsockname()[1]

    def many(self, count):
        """So many connections, of a datagram each way, from ports that nothing else here uses."""
        for port in range(FIRST_OF_MANY, FIRST_OF_MANY + count):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.settimeout(SECONDS)
                end.bind((OWN4, port))
                end.connect((PEER4, self.udp_port))
                end.send(b"x")
                end.recv(10)


@unittest.skipIf(lacking() is not None, lacking())
class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.peer = Peer()
        cls.addClassCleanup(cls.peer.close)

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.addCleanup(haul, "detach", "--all")

    def good(self, *arguments, warnings=False):
        """What it prints; exit 0, and nothing on stderr."""
        result = haul(*arguments)
        self.assertEqual(result.returncode, OK, result)
        if not warnings:
            self.assertEqual(result.stderr, "")
        return result.stdout

    def fails(self, arguments, *words):
        """Exit 1, one line on stderr that has these words."""
        result = haul(*arguments)
        self.assertEqual(result.returncode, FAILED, result)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def attach(self, *options, name="hv0"):
        return self.good("attach", "hv0", "--name", name, *options)

    def rows(self, *arguments):
        return json.loads(self.good("list", "hv0", "--json", *arguments))

    def row(self, port, *arguments):
        """The one connection that began at this port of ours."""
        found = [row for row in self.rows(*arguments) if row["initiator_port"] == port]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def until(self, condition, what):
        """Look again and again; every look starts a program, so this is no busy loop."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if condition():
                return
        self.fail("did not happen: " + what)

    # ---- attach, detach ----

    def test_attach__says_what_it_did_and_what_next(self):
        """Hook, room, memory, and commands to go on with; the table outlives the command."""
        said = self.attach("--entries", "20000")
        self.assertRegex(said, r"hv0: attached to hv0 by (tcx|clsact): \d+ entries in \d+ shards, "
                               r"[\d.]+ [KM]iB\n")
        self.assertIn("sudo haul flows list hv0", said)
        self.assertEqual(self.rows("--proto", "tcp"), [])

    @staticmethod
    def bpftool(kind, verb, *words):
        """Its JSON, or None where there is no such thing."""
        done = subprocess.run(["bpftool", "-j", kind, verb, *words], capture_output=True,
                              timeout=SECONDS, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def things_of(self, name):
        """(kind, id) of all that a table consists of: what is pinned, what that refers to."""
        things, folder = set(), os.path.join("/sys/fs/bpf/haul/flows", name)
        for pin in os.listdir(folder):
            for kind in ("map", "prog", "link"):
                shown = self.bpftool(kind, "show", "pinned", os.path.join(folder, pin))
                if shown is None:
                    continue
                things.add((kind, shown["id"]))
                things |= {("map", number) for number in shown.get("map_ids", ())}
                if "prog_id" in shown:
                    things.add(("prog", shown["prog_id"]))
        for slot in self.bpftool("map", "dump", "pinned", os.path.join(folder, "shards")):
            inner = bytes(int(byte, 16) for byte in slot["value"])
            things.add(("map", int.from_bytes(inner, sys.byteorder)))
        return things

    def test_detach__leaves_nothing_behind(self):
        """Every program, map, link and pin of a table that was used is gone; from the kernel, too,
        where others may make and remove their own all the time."""
        def pins():
            return {os.path.join(folder, name) for folder, names, files in os.walk("/sys/fs/bpf")
                    for name in names + files}
        before = pins()
        self.attach("--xdp", name="first")
        self.peer.udp([10])
        self.good("list", "first")
        things = self.things_of("first")
        self.good("detach", "first")
        self.assertEqual(pins(), before)
        self.attach()
        now = self.things_of("hv0")
        self.assertTrue(all(self.bpftool(kind, "show", "id", str(number)) for kind, number in now))
        things |= now
        self.assertEqual({kind for kind, _ in things}, {"map", "prog", "link"})
        self.assertGreater(len(things), 20)
        self.assertIn("hv0: detached", self.good("detach", "--all"))
        self.assertEqual(pins(), before)
        self.until(lambda: not any(self.bpftool(kind, "show", "id", str(number))
                                   for kind, number in things), "all of it is gone")
        self.assertIn("nothing is attached", self.good("detach", "--all"))

    def test_errors__are_one_clear_line_each(self):
        """No such interface, already attached, not attached (and which are), several attached."""
        self.fails(["list"], "no table is attached", "haul flows attach")
        self.fails(["attach", "nosuch0"], "nosuch0")
        self.fails(["attach", "hv0", "--name", "a/b"], "a/b", "slash")
        self.attach()
        self.fails(["attach", "hv0"], "hv0", "already")
        for arguments in (["list", "hv9"], ["top", "hv9"], ["stats", "hv9"], ["clean", "hv9"],
                          ["watch", "hv9"], ["detach", "hv9"], ["stats", "hv9", "--interval", "1s"],
                          ["export", "hv9", "file"], ["import", "hv9", "file"]):
            self.fails(arguments, "'hv9'", "attached: hv0")
        self.good("attach", "lo")
        self.fails(["watch"], "name one", "hv0", "lo")
        self.fails(["detach", "hv0", "hv9"], "'hv9'", "attached: lo")
        self.good("list", "lo")

    def test_errors__without_privilege(self):
        """One line that says what is missing, whatever was asked for."""
        self.attach()
        for arguments in (["attach", "lo"], ["list", "hv0"], ["detach", "hv0"]):
            done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534",
                                   "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
                                   HAUL, "flows", *arguments], capture_output=True, text=True,
                                  timeout=SECONDS, check=False)
            self.assertEqual(done.returncode, FAILED, done)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertRegex(done.stderr, "root|CAP_")
        self.assertEqual(self.rows("--proto", "sctp"), [])

    def test_timeout__removes_without_any_process(self):
        """With the timeout that was asked for, by the kernel alone; others stay."""
        self.attach("--timeout", "replied=1s", "--timeout", "new=1")
        self.peer.udp([1])
        with self.peer.open_tcp() as end:
            self.until(lambda: self.rows("--proto", "udp") == [], "the datagram's entry is gone")
            self.assertEqual(self.row(end.getsockname()[1])["state"], "established")
        stats = self.stats()
        self.assertEqual((stats["timeout_s"]["replied"], stats["timeout_s"]["new"]), (1, 1))
        self.assertGreater(stats["totals"]["closed"], 0)
        self.assertTrue(stats["invariant"]["packets"]["holds"], stats["invariant"])

    # ---- list ----

    def test_list__payload_is_exactly_what_was_sent(self):
        """TCP and UDP, IPv4 and IPv6, both directions, with segmentation offload on."""
        self.attach()
        sent = {}
        for address in (PEER4, PEER6):
            sent[self.peer.tcp(300000, 1234567, address)] = ("tcp", address, 300000, 1234567)
            sent[self.peer.tcp(4, 0, address)] = ("tcp", address, 4, 0)
            sent[self.peer.udp([1, 700, 1400], address)] = ("udp", address, 2101, 2101)
        for port, (proto, address, tx, rx) in sent.items():
            row = self.row(port, "--proto", proto)
            self.assertEqual((row["payload_tx"], row["payload_rx"]), (tx, rx), row)
            self.assertEqual(row["responder"], address)
            self.assertEqual(row["initiator"], OWN6 if ":" in address else OWN4)
            self.assertEqual(row["responder_port"],
                             self.peer.tcp_port if proto == "tcp" else self.peer.udp_port)
            self.assertGreater(row["bytes_tx"], tx)
            self.assertEqual((row["table"], row["vlan_outer"]), ("hv0", None))
            if proto == "tcp":
                self.assertIn("S", row["flags_tx"])
                self.assertIsNotNone(row["rtt_us"])
            else:
                self.assertEqual((row["packets_tx"], row["packets_rx"], row["state"]),
                                 (3, 3, "replied"))
                header = 62 if ":" in address else 42
                self.assertEqual(row["bytes_rx"], rx + 3 * header)

    def test_list__filters_let_through_what_they_say(self):
        """Each filter alone, and two together; what is filtered out is not there."""
        self.attach()
        small, large = self.peer.tcp(1000, 1000), self.peer.tcp(100000, 5)
        six, datagram = self.peer.tcp(2000, 10, PEER6), self.peer.udp([100])
        with self.peer.open_tcp() as end:
            idle = end.getsockname()[1]
            self.until(lambda: self.row(large)["state"] == "closed", "the connection is closed")

            def ports(*arguments):
                mine = {small, large, six, datagram, idle}
                return {row["initiator_port"] for row in self.rows(*arguments)} & mine
            self.assertEqual(ports(), {small, large, six, datagram, idle})
            self.assertEqual(ports("--proto", "tcp"), {small, large, six, idle})
            self.assertEqual(ports("--proto", "17"), {datagram})
            self.assertEqual(ports("--port", str(small)), {small})
            self.assertEqual(ports("--port", str(self.peer.udp_port)), {datagram})
            self.assertEqual(ports("--addr", PEER6), {six})
            self.assertEqual(ports("--addr", "fd77::/16"), {six})
            self.assertEqual(ports("--addr", "10.77.0.0/30"), {small, large, datagram, idle})
            self.assertEqual(ports("--addr", "10.77.0.0/32"), set())
            self.assertEqual(ports("--addr", "0.0.0.0/0"), {small, large, datagram, idle})
            self.assertEqual(ports("--state", "established,syn-recv"), {idle})
            self.assertEqual(ports("--bytes-min", "100k"), {large})
            self.assertEqual(ports("--bytes-min", "100Ki", "--proto", "udp"), set())
            self.assertEqual(ports("--since", "1h"), {small, large, six, datagram, idle})
            self.assertEqual(ports("--idle", "1h"), set())
            self.assertEqual(ports("--idle", "1us"), {small, large, six, datagram, idle})

    def test_list__sort_and_limit(self):
        """Largest first, the other way with --reverse, and the first N of exactly that order."""
        self.attach()
        for size in (5000, 100, 40000, 20, 300):
            self.peer.tcp(size, 10)

        def order(key, *arguments):
            return [key(row) for row in self.rows("--proto", "tcp", *arguments)]

        def size(row):
            return row["bytes_tx"] + row["bytes_rx"]
        self.until(lambda: all(row["state"] == "closed" for row in self.rows("--proto", "tcp")),
                   "all are closed")
        for key, name, descending in (
                (size, "bytes", True), (lambda row: row["packets_tx"] + row["packets_rx"],
                                        "packets", True),
                (lambda row: row["first_ns"], "age", False),
                (lambda row: row["last_ns"], "idle", False),
                (lambda row: row["rtt_us"], "rtt", True)):
            everything = order(key, "--sort", name)
            self.assertEqual(len(everything), 5)
            self.assertEqual(everything, sorted(everything, reverse=descending), name)
            self.assertEqual(order(key, "--sort", name, "--limit", "2"), everything[:2])
            self.assertEqual(order(key, "--sort", name, "--reverse"), everything[::-1])
            self.assertEqual(order(key, "--sort", name, "--reverse", "--limit", "3"),
                             everything[::-1][:3])
        self.assertEqual(len(self.rows("--proto", "tcp", "--limit", "4")), 4)
        self.assertEqual(len(self.rows("--proto", "tcp", "--limit", "99")), 5)

    def test_list__all_formats_say_the_same(self):
        """CSV and NDJSON have the fields of JSON; text has a line for each, and a table column
        when no table was named."""
        self.attach()
        for size in (10, 20, 30):
            self.peer.udp([size])
        wanted = ["--proto", "udp", "--sort", "bytes"]
        ages = ("age_ns", "idle_ns")

        def plain(row):
            return {key: "" if value is None else str(value) for key, value in row.items()
                    if key not in ages}
        as_json = [plain(row) for row in self.rows(*wanted)]
        self.assertEqual(len(as_json), 3)
        as_csv = list(csv.DictReader(io.StringIO(self.good("list", "hv0", "--csv", *wanted))))
        self.assertEqual([plain(row) for row in as_csv], as_json)
        lines = self.good("list", "hv0", "--ndjson", *wanted).splitlines()
        self.assertEqual([plain(json.loads(line)) for line in lines], as_json)
        text = self.good("list", "hv0", "--numeric", *wanted).splitlines()
        self.assertEqual(len(text), 4)
        self.assertRegex(text[0], r"^PROTO +INITIATOR +RESPONDER +STATE ")
        self.assertRegex(text[1], rf"^udp +{OWN4}:\d+ +{PEER4}:{self.peer.udp_port} +replied ")
        self.assertTrue(self.good("list", *wanted).startswith("TABLE "))
        self.assertEqual(self.good("list", "hv0", "--proto", "sctp", "--json"), "[]\n")

    def test_list__a_name_of_any_kind_is_quoted(self):
        """Quotes and commas in a name are no end of a field, in JSON and in CSV."""
        name = 'a"b,c'
        self.attach(name=name)
        self.peer.udp([1])
        wanted = ["list", name, "--proto", "udp"]
        self.assertEqual(json.loads(self.good(*wanted, "--ndjson"))["table"], name)
        rows = list(csv.DictReader(io.StringIO(self.good(*wanted, "--csv"))))
        self.assertEqual([row["table"] for row in rows], [name])

    def test_output__that_cannot_be_written_is_an_error(self):
        """A full disk behind the output: exit 1 and one line, for whatever prints."""
        self.attach()
        self.peer.udp([1])
        for arguments in (["list"], ["list", "--json"], ["list", "--sort", "bytes"], ["stats"],
                          ["stats", "--interval", "10ms"], ["watch"], ["top", "--interval", "10ms"]):
            with open("/dev/full", "w", encoding="ascii") as full:
                done = subprocess.run([HAUL, "flows", *arguments], stdout=full, text=True,
                                      stderr=subprocess.PIPE, timeout=SECONDS, check=False)
            self.assertEqual(done.returncode, FAILED, done)
            self.assertRegex(done.stderr, r"^haul: .*standard output cannot be written\n$")

    # ---- stats ----

    def stats(self, *arguments, name="hv0", warnings=False):
        tables = json.loads(self.good("stats", name, "--json", *arguments, warnings=warnings))
        self.assertEqual(len(tables), 1)
        return tables[0]

    def test_stats__sums_averages_and_every_packet_accounted_for(self):
        """Equal to the sums over list; by protocol, state and port; the totals add up."""
        self.attach()
        self.peer.tcp(70000, 300)
        for size in (100, 200):
            self.peer.udp([size] * 3)
        self.until(lambda: self.stats("--state", "closed")["all"]["connections"] == 1, "closed")
        stats = self.stats("--addr", "10.77.0.0/24")
        rows = self.rows("--addr", "10.77.0.0/24")
        self.assertEqual(stats["all"], {
            "connections": 3, "packets": sum(r["packets_tx"] + r["packets_rx"] for r in rows),
            "bytes": sum(r["bytes_tx"] + r["bytes_rx"] for r in rows)})
        self.assertAlmostEqual(stats["packets_mean"], stats["all"]["packets"] / 3)
        self.assertAlmostEqual(stats["bytes_mean"], stats["all"]["bytes"] / 3)
        self.assertEqual(stats["by_proto"]["udp"]["packets"], 12)
        self.assertEqual(stats["by_proto"]["udp"]["bytes"], 2 * 900 + 12 * 42)
        self.assertEqual(stats["by_state"]["replied"]["connections"], 2)
        ports = {(port["proto"], port["port"]): port["connections"] for port in stats["by_port"]}
        self.assertEqual(ports, {("tcp", self.peer.tcp_port): 1, ("udp", self.peer.udp_port): 2})
        self.assertNotIn("invariant", stats)
        whole = self.stats()
        for what in ("packets", "bytes"):
            self.assertTrue(whole["invariant"][what]["holds"], whole["invariant"])
        text = self.good("stats", "hv0")
        for word in ("PROTOCOL", "STATE", "PORT", "EVERY PACKET IS SOMEWHERE", "holds",
                     f"udp/{self.peer.udp_port}", "% used", "overflow_packets"):
            self.assertIn(word, text)
        self.assertNotIn("BROKEN", text)

    def test_stats__every_packet_accounted_for_under_traffic(self):
        """Read while packets pass: what is not in the table yet is what passed meanwhile."""
        self.attach()
        done = threading.Event()

        def send():
            while not done.is_set():
                self.peer.udp([100] * 10)
        sender = threading.Thread(target=send)
        sender.start()
        try:
            for _ in range(10):
                invariant = self.stats()["invariant"]
                self.assertTrue(invariant["packets"]["holds"], invariant)
                self.assertTrue(invariant["bytes"]["holds"], invariant)
        finally:
            done.set()
            sender.join()

    def test_stats__intervals_add_up_exactly(self):
        """What was there before, and what passes while it runs, once each and nothing else."""
        self.attach()
        self.peer.udp([100] * 5)
        run = subprocess.Popen([HAUL, "flows", "stats", "hv0", "--interval", "100ms", "--json"],
                               stdout=subprocess.PIPE, text=True)
        self.addCleanup(run.stdout.close)
        before = json.loads(run.stdout.readline())
        self.assertEqual((before["interval"], before["by_proto"]["udp"]["packets"]), (0, 10))
        for _ in range(4):
            self.peer.udp([50] * 25)
        packets, size, number = 0, 0, 0
        while packets < 200:
            interval = json.loads(run.stdout.readline())
            number += 1
            self.assertEqual(interval["interval"], number)
            udp = interval["by_proto"].get("udp", {"packets": 0, "bytes": 0})
            packets, size = packets + udp["packets"], size + udp["bytes"]
            self.assertEqual(interval["totals"]["overflow_packets"], 0)
        self.assertEqual((packets, size), (200, 200 * (50 + 42)))
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(SECONDS), OK)
        self.assertTrue(self.stats()["invariant"]["packets"]["holds"])
        text = self.good("stats", "hv0", "--interval", "10ms", "--count", "2").splitlines()
        self.assertEqual([line.split()[0] for line in text], ["INTERVAL", "before", "1", "2"])

    def test_full__is_told_and_every_packet_accounted_for(self):
        """A table that is full warns in list, stats and top, with the option that helps; the totals
        still add up."""
        self.attach("--entries", "16")
        room = self.stats()["entries_max"]
        for _ in range(4 * room):
            self.peer.udp([1])
        for arguments in (["list", "hv0"], ["stats", "hv0"]):
            result = haul(*arguments)
            self.assertEqual(result.returncode, OK)
            self.assertIn("hv0: the table was full", result.stderr)
            self.assertIn(f"--entries {2 * room}", result.stderr)
        self.assertIn("--entries", haul("top", "hv0", "--count", "1", "--interval", "10ms").stdout)
        stats = self.stats(warnings=True)
        self.assertGreater(stats["totals"]["overflow_packets"], 0)
        self.assertTrue(stats["invariant"]["packets"]["holds"], stats["invariant"])
        self.assertTrue(stats["invariant"]["bytes"]["holds"], stats["invariant"])

    # ---- watch ----

    def watch(self, *arguments):
        process = subprocess.Popen([HAUL, "flows", "watch", "hv0", "--interval", "50ms",
                                    *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        self.addCleanup(self.reap, process)
        return process

    @staticmethod
    def reap(process):
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    @staticmethod
    def events(process, enough):
        """Lines until enough(lines) holds."""
        lines = []
        while not enough(lines):
            lines.append(json.loads(process.stdout.readline()))
        return lines

    def test_watch__each_opened_and_closed_once(self):
        """One that was there is present; others open and close once each, and what the lines say
        passed adds up to what was sent."""
        self.attach()
        with self.peer.open_tcp() as end:
            there = end.getsockname()[1]
            process = self.watch("--proto", "tcp")
            first = self.events(process, lambda lines: len(lines) == 1)[0]
            self.assertEqual((first["event"], first["initiator_port"]), ("present", there))
            end.sendall(struct.pack("!I", 7) + bytes(96))
            sizes = {self.peer.tcp(size, 2 * size): size for size in (100, 20000, 333, 50000)}
            self.until(lambda: self.stats("--state", "closed")["all"]["connections"] == 4,
                       "all are closed")
            self.good("clean", "hv0", "--older-than", "1us")
            lines = self.events(process, lambda lines: set(sizes) <= {
                line["initiator_port"] for line in lines if line["event"] == "closed"})
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        self.assertEqual(process.wait(SECONDS), OK)
        self.assertEqual(process.stderr.read(), "")
        lines += [json.loads(line) for line in rest.splitlines()]
        for port, size in sizes.items():
            mine = [line for line in lines if line["initiator_port"] == port]
            kinds = [line["event"] for line in mine]
            self.assertEqual((kinds[0], kinds[-1]), ("opened", "closed"))
            self.assertEqual((kinds.count("opened"), kinds.count("closed")), (1, 1))
            self.assertEqual(sum(line["delta_payload_tx"] for line in mine), size)
            self.assertEqual(sum(line["delta_payload_rx"] for line in mine), 2 * size)
            self.assertEqual(mine[-1]["payload_tx"], size)

    def test_watch__misses_none_of_thousands(self):
        """More connections than its memory starts with, opened while it looks and closed at once:
        each is told once; top and list keep count of as many."""
        count = 3000
        self.attach("--entries", "65536", "--no-sweep")
        first = self.peer.udp([1])
        process = self.watch("--proto", "udp", "--port", str(self.peer.udp_port))
        self.assertEqual(json.loads(process.stdout.readline())["initiator_port"], first)
        said = tempfile.TemporaryFile("w+", encoding="ascii")  # as many do not fit into the pipe
        self.addCleanup(said.close)
        reader = threading.Thread(target=shutil.copyfileobj, args=(process.stdout, said))
        reader.start()
        self.peer.many(count)
        mine = ["--proto", "udp", "--port", str(self.peer.udp_port)]
        self.assertEqual(self.stats(*mine)["all"]["connections"], count + 1)
        frame = self.good("top", "hv0", "--count", "1", "--interval", "10ms", "--limit", "7", *mine)
        self.assertIn(f"shown: 7 of {count + 1}", frame)
        self.assertEqual(len(self.rows(*mine)), count + 1)
        self.good("clean", "hv0", "--older-than", "1us")
        self.assertEqual(self.rows(*mine), [])
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(SECONDS), OK)
        reader.join(SECONDS)
        said.seek(0)
        told = {}
        for line in map(json.loads, said):
            told.setdefault(line["initiator_port"], []).append(line["event"])
        self.assertEqual(told.pop(first), ["closed"])
        self.assertEqual(len(told), count)
        for events in told.values():
            self.assertEqual(sorted(set(events) - {"changed"}), ["closed", "opened"])
            self.assertEqual((events.count("opened"), events.count("closed")), (1, 1))

    def test_watch__filters_lines_by_what_holds_then(self):
        """State and size are those of the moment: a connection has its line when it gets there."""
        self.attach()
        process = self.watch("--proto", "tcp", "--state", "closed")
        port = self.peer.tcp(50000, 10)
        first = self.events(process, lambda lines: lines)[0]
        self.assertEqual((first["initiator_port"], first["state"]), (port, "closed"))
        process.kill()
        process.wait()  # the next one can listen although this one said nothing when it went
        process = self.watch("--bytes-min", "40k")
        self.assertEqual(self.events(process, lambda lines: lines)[0]["initiator_port"], port)

    def test_watch__ends_by_itself_and_when_nobody_reads(self):
        """After so many lines, after so long, and when the reader goes away; the next watch can
        listen each time."""
        self.attach()
        process = self.watch("--count", "2", "--proto", "udp")
        self.peer.udp([1])
        self.peer.udp([1])
        self.assertEqual(process.wait(SECONDS), OK)
        self.assertEqual(len(process.stdout.read().splitlines()), 2)
        self.assertEqual(self.watch("--for", "100ms").wait(SECONDS), OK)
        process = self.watch("--proto", "udp")
        process.stdout.readline()
        self.fails(["watch", "hv0"], "hv0")
        process.stdout.close()
        self.peer.udp([1])
        self.assertEqual(process.wait(SECONDS), OK)
        process.stdout = open(os.devnull, encoding="ascii")
        self.assertEqual(self.watch("--for", "10ms").wait(SECONDS), OK)

    # ---- clean, export, import ----

    def test_clean__counts_first_and_removes_as_many(self):
        """A dry run says how many and leaves them; the real one removes them, and packets stay
        accounted for."""
        self.attach("--no-sweep")
        ports = {self.peer.udp([10]) for _ in range(20)}
        dry = self.good("clean", "hv0", "--older-than", "1us", "--dry-run")
        self.assertIn("would be removed", dry)
        self.assertEqual({row["initiator_port"] for row in self.rows("--proto", "udp")}, ports)
        self.assertIn(" 0 connections removed", self.good("clean", "hv0", "--older-than", "1h"))
        self.assertEqual(len(self.rows("--proto", "udp")), 20)
        removed = int(self.good("clean", "hv0", "--older-than", "1us").split()[3])
        self.assertGreaterEqual(removed, 20)
        self.assertEqual(self.rows("--proto", "udp"), [])
        stats = self.stats()
        self.assertGreaterEqual(stats["totals"]["closed"], 20)
        self.assertTrue(stats["invariant"]["packets"]["holds"], stats["invariant"])

    def test_export__comes_back_by_import(self):
        """Written, verified, put into an empty table; every field is as it was."""
        self.attach("--no-sweep")
        for size in range(1, 30):
            self.peer.udp([size])
        path = os.path.join(self.folder, "hv0.flows")
        wanted = ["--proto", "udp", "--sort", "bytes"]

        def fields():
            return [{key: value for key, value in row.items() if key not in ("age_ns", "idle_ns")}
                    for row in self.rows(*wanted)]
        before = fields()
        self.assertEqual(len(before), 29)
        self.assertIn(f"connections written to {path}", self.good("export", "hv0", path))
        self.fails(["export", path], path)
        self.good("export", path, "--overwrite")
        self.good("export", path, "--resume")
        self.good("clean", "--older-than", "1us")
        self.assertEqual(fields(), [])
        self.assertIn("is good", self.good("import", path, "--dry-run"))
        self.assertEqual(fields(), [])
        self.assertRegex(self.good("import", "hv0", path), r"\d+ connections read from .*: \d+ new")
        self.assertEqual(fields(), before)
        self.assertIn(" 0 new", self.good("import", path, "--only-new"))
        self.good("import", path, "--replace")
        self.assertEqual(fields(), before)

    def test_import__of_a_bad_file_changes_nothing(self):
        """A byte that was changed, a file cut short, none at all: one line with its name."""
        self.attach("--no-sweep")
        self.peer.udp([1])
        path = os.path.join(self.folder, "hv0.flows")
        self.good("export", "hv0", path)
        with open(path, "rb") as file:
            good = file.read()
        for bad in (good[:-1], good[:200] + bytes([good[200] ^ 1]) + good[201:], b"", b"no"):
            with open(path, "wb") as file:
                file.write(bad)
            self.fails(["import", "hv0", path], path)
        self.fails(["import", "hv0", path + ".none"], path + ".none")
        self.assertEqual(len(self.rows("--proto", "udp")), 1)

    # ---- top ----

    def test_top__plain_frames_without_a_terminal(self):
        """As many frames as asked for, with totals, rates and rows; then it ends."""
        self.attach()
        self.peer.udp([100] * 3)
        said = self.good("top", "hv0", "--interval", "50ms", "--count", "2", "--proto", "udp",
                         "--numeric")
        frames = said.split("haul flows top: ")[1:]
        self.assertEqual(len(frames), 2)
        for frame in frames:
            self.assertIn("packets/s", frame)
            self.assertRegex(frame, rf"(?m)^udp +{OWN4}:\d+ +{PEER4}:{self.peer.udp_port} +replied ")
        self.assertNotIn("\x1b", said)

    def test_top__rates_are_what_passed(self):
        """The first frame after traffic in one interval shows just that traffic."""
        self.attach()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.connect((PEER4, self.peer.udp_port))
            end.settimeout(SECONDS)
            end.send(b"x")
            end.recv(10)
            process = subprocess.Popen([HAUL, "flows", "top", "hv0", "--interval", "2s", "--count",
                                        "1", "--proto", "udp", "--numeric"],
                                       stdout=subprocess.PIPE, text=True)
            self.addCleanup(process.stdout.close)
            self.until(lambda: self.is_waiting(process.pid), "top has had its first look")
            for _ in range(100):
                end.send(bytes(958))
                end.recv(1000)
            row = [line for line in process.stdout if line.startswith("udp ")][0].split()
        self.assertEqual(process.wait(SECONDS), OK)
        for rate in row[4:6]:
            self.assertRegex(rate, r"^\d+(\.\d)?k$")
            self.assertAlmostEqual(float(rate[:-1]), 400, delta=40)  # 100 kB in 2 s, each way

    @staticmethod
    def is_waiting(pid):
        """In ppoll, where it is only between two looks."""
        with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] == "271"

    def test_top__draws_obeys_keys_and_restores_the_terminal(self):
        """In a terminal: a full screen, keys, a new size, and everything as it was afterwards."""
        self.attach()
        self.peer.udp([100])
        for leave in ("q", signal.SIGTERM):
            master, slave = pty.openpty()
            self.addCleanup(os.close, slave)
            self.addCleanup(os.close, master)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 140, 0, 0))
            before = termios.tcgetattr(slave)
            process = subprocess.Popen(
                [HAUL, "flows", "top", "hv0", "--interval", "100ms", "--numeric"], stdin=slave,
                stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"},
                start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
            self.addCleanup(lambda started=process: (started.kill(), started.wait()))
            self.screen(master, "haul flows top: hv0", str(self.peer.udp_port), "by rate")
            os.write(master, b"s")
            self.screen(master, "prate")
            os.write(master, b"p")
            self.screen(master, "PAUSED")
            os.write(master, b"p")
            os.write(master, b"/nothing\n")
            self.screen(master, "nothing")
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 10, 60, 0, 0))
            self.screen(master, "haul flows top")
            if leave == "q":
                os.write(master, b"q")
            else:
                process.send_signal(leave)
            self.screen(master, "\x1b[?1049l")
            self.assertEqual(process.wait(SECONDS), OK)
            self.assertEqual(termios.tcgetattr(slave), before)

    def screen(self, master, *words):
        """Read what is drawn until all the words have come."""
        drawn = ""
        deadline = time.monotonic() + SECONDS
        while not all(word in drawn for word in words):
            self.assertLess(time.monotonic(), deadline, (words, drawn))
            if select.select([master], [], [], 1)[0]:
                drawn += os.read(master, 65536).decode(errors="replace")


def enter():
    """Start anew in namespaces of our own; comes back where that is not possible."""
    unshared = ["unshare", "--mount", "--net", "--propagation", "private"]
    if os.geteuid() != 0 or INSIDE in os.environ:
        return
    if subprocess.run([*unshared, "true"], check=False, timeout=SECONDS).returncode != 0:
        return
    os.environ[INSIDE] = "1"
    inside = "mount -t tmpfs run /run && mount -t bpf bpf /sys/fs/bpf && exec \"$@\""
    os.execvp("unshare", [*unshared, "sh", "-c", inside, "sh", sys.executable, *sys.argv])


if __name__ == "__main__":
    enter()
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
