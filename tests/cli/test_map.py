"""haul map as a user meets it, on maps made by bpftool and by a BPF object with BTF.

Usage: test_map.py path/to/haul path/to/typed_maps.bpf.o
What needs root and BPF uses a BPF file system of its own, and is left out without."""
import csv
import fcntl
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

HAUL, OBJECT = sys.argv[1], sys.argv[2]
OK, FAILED, USAGE = 0, 1, 2
SECONDS = 60
SUBCOMMANDS = "list dump get count stat set upsert load del clean export import tune".split()


def run(*command, **options):
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False,
                          **{k: v for k, v in options.items() if v is not None})


def haul(*arguments, **options):
    return run(HAUL, "map", *map(str, arguments), **options)


def why_not():
    """Why maps cannot be made here, or None."""
    if os.geteuid() != 0:
        return "needs root: BPF maps"
    if not shutil.which("bpftool"):
        return "needs bpftool to make maps with"
    if run("unshare", "--mount", "sh", "-c", "mount -t bpf bpf /mnt && bpftool map list").returncode:
        return "BPF maps cannot be made here"
    return None


def unread(pipe):
    """Bytes that the other end has not taken yet."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))[0]


WHY_NOT = why_not()


class Words(unittest.TestCase):
    def assert_ends(self, result, code, *words):
        self.assertEqual(result.returncode, code, result)
        for word in words:
            self.assertIn(word, result.stderr)
        if code != OK:
            self.assertTrue(result.stderr, result)

    def assert_ok(self, result):
        self.assertEqual(result.returncode, OK, result)
        return result.stdout


class Usage(Words):
    def test_help__every_subcommand_has_an_example(self):
        """What `haul map --help` lists can be run, and its help has a line to paste."""
        listed = haul("--help").stdout.split("Subcommands:\n")[1].split("\n\n")[0]
        self.assertEqual([line.split()[0] for line in listed.splitlines()], SUBCOMMANDS)
        for name in SUBCOMMANDS:
            text = self.assert_ok(haul(name, "--help"))
            self.assertIn("Usage: haul map " + name, text)
            self.assertRegex(text, r"Examples?:\n(?:  .*\n)*?  .*(?:sudo )?haul map " + name)

    def test_usage__what_is_wrong_is_said_before_anything_is_opened(self):
        """Exit 2, with the option or argument that is wrong."""
        for words, arguments in (
                ("SUBCOMMAND", []), ("no subcommand 'dmp'", ["dmp"]), ("MAP", ["dump"]),
                ("'b' is too much", ["dump", "a", "b"]), ("'x' is too much", ["list", "x"]),
                ("--no-such", ["dump", "a", "--no-such"]), ("KEY", ["get", "a"]),
                ("--where is missing", ["clean", "a"]), ("VALUE", ["set", "a", "1"]),
                ("contradict", ["clean", "a", "--all", "--where", "key > 1"]),
                ("--field is missing", ["stat", "a"]), ("FILE", ["export", "a"]),
                ("contradict", ["export", "a", "f", "--resume", "--overwrite"]),
                ("auto, single, batch, kernel", ["dump", "a", "--engine", "fast"]),
                ("16 to 65536", ["dump", "a", "--batch", "15"]),
                ("16 to 65536", ["dump", "a", "--batch", "65537"]),
                ("1 to 64", ["dump", "a", "--threads", "0"]),
                ("--limit '0'", ["dump", "a", "--limit", "0"]),
                ("1 to 1000", ["tune", "a", "--runs", "x"]),
                ("0 to 256", ["stat", "a", "--field", "key", "--top", "257"]),
                ("at most 8", ["dump", "a"] + ["--where", "key > 1"] * 9)):
            result = haul(*arguments)
            self.assert_ends(result, USAGE, words)
            self.assertEqual(result.stdout, "")


@unittest.skipIf(os.geteuid() != 0 or not shutil.which("setpriv"), "needs root, to give it up")
class Unprivileged(Words):
    def test_dump__without_privilege_is_one_clear_line(self):
        """Not a stack of errors, and it names what is needed."""
        result = run("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all",
                     "--bounding-set=-all", HAUL, "map", "dump", "1")
        if "No such file" in result.stderr or result.returncode == 127:
            self.skipTest("the program is in a folder that only root may enter")
        self.assert_ends(result, FAILED, "haul: map: ", "CAP_BPF")
        self.assertEqual(result.stderr.count("\n"), 1)


@unittest.skipIf(WHY_NOT, WHY_NOT)
class Maps(Words):
    """A folder with a BPF file system; maps in it are gone when it is unmounted."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.pins = os.path.join(self.folder, "bpf")
        os.mkdir(self.pins)
        subprocess.run(["mount", "-t", "bpf", "bpf", self.pins], check=True)
        self.addCleanup(subprocess.run, ["umount", self.pins], check=True)
        self.names = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, text, name="input"):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def make(self, kind="hash", key=4, value=8, entries=1000, name=None, flags=0):
        """A map without BTF, pinned."""
        self.names += 1
        pin = os.path.join(self.pins, name or f"m{self.names}")
        made = run("bpftool", "map", "create", pin, "type", kind, "key", str(key), "value", str(value),
                   "entries", str(entries), "name", name or f"haul_t{self.names}", "flags", str(flags))
        if made.returncode:
            self.skipTest(made.stderr.strip())
        return pin

    def typed(self):
        """The maps of the BPF object, by name."""
        if not os.path.exists(OBJECT):
            self.skipTest("the BPF object with BTF was not built")
        loaded = run("bpftool", "prog", "load", OBJECT, os.path.join(self.pins, "prog"), "pinmaps",
                     self.pins)
        self.assertEqual(loaded.returncode, 0, loaded)
        return self.pins + "/"

    def fill(self, pin, count):
        """Keys 0 … count - 1 with the value 10 times the key."""
        lines = "".join(f'{{"key": {i}, "value": {10 * i}}}\n' for i in range(count))
        self.assert_ok(haul("load", pin, self.write(lines, "fill"), "--quiet"))

    def ndjson(self, *arguments):
        return [json.loads(line) for line in
                self.assert_ok(haul("dump", *arguments, "--ndjson")).splitlines()]

    @staticmethod
    def bpftool(pin):
        return json.loads(run("bpftool", "-j", "map", "dump", "pinned", pin).stdout)

    def entries(self, pin, *arguments):
        """{key: value} of a map without BTF, as integers."""
        return {int.from_bytes(bytes.fromhex(e["key"][2:]), sys.byteorder):
                int.from_bytes(bytes.fromhex(e["value"][2:]), sys.byteorder)
                for e in self.ndjson(pin, *arguments)}


class Read(Maps):
    def test_dump__equals_bpftool_on_bytes(self):
        """The same bytes for the same keys, in every engine and with threads."""
        pin = self.make(entries=3000)
        self.fill(pin, 2000)
        want = {bytes(int(b, 16) for b in e["key"]): bytes(int(b, 16) for b in e["value"])
                for e in self.bpftool(pin)}
        self.assertEqual(len(want), 2000)
        for options in ([], ["--engine", "single"], ["--engine", "batch"], ["--engine", "kernel"],
                        ["--threads", "2"], ["--batch", "16"]):
            got = [(bytes.fromhex(e["key"][2:]), bytes.fromhex(e["value"][2:]))
                   for e in self.ndjson(pin, *options)]
            self.assertEqual(len(got), 2000, options)
            self.assertEqual(dict(got), want, options)

    def test_dump__formats_agree(self):
        """JSON, JSON Lines, CSV and text hold the same entries."""
        pin = self.make()
        self.fill(pin, 50)
        lines = self.ndjson(pin)
        self.assertEqual(json.loads(self.assert_ok(haul("dump", pin, "--json"))), lines)
        rows = list(csv.DictReader(io.StringIO(self.assert_ok(haul("dump", pin, "--csv")))))
        self.assertEqual([(r["key"], r["value"]) for r in rows],
                         [(e["key"], e["value"]) for e in lines])
        text = self.assert_ok(haul("dump", pin)).splitlines()
        self.assertEqual(text, [f"key {e['key']}   value {e['value']}" for e in lines])

    def test_dump__empty_map_is_empty_output(self):
        """Valid in each format."""
        pin = self.make()
        self.assertEqual(json.loads(self.assert_ok(haul("dump", pin, "--json"))), [])
        self.assertEqual(self.assert_ok(haul("dump", pin, "--ndjson")), "")
        self.assertEqual(self.assert_ok(haul("dump", pin, "--csv")), "key,value\n")
        self.assertEqual(self.assert_ok(haul("dump", pin)), "")

    def test_dump__limit_check_and_explain(self):
        """--limit ends early, --check and --explain speak on stderr only."""
        pin = self.make()
        self.fill(pin, 500)
        self.assertEqual(len(self.ndjson(pin, "--limit", "7")), 7)
        result = haul("dump", pin, "--check", "--explain", "--ndjson")
        self.assert_ends(result, OK, "check: read 500, matched 500", "duplicates 0", "engine")
        self.assertEqual(len(result.stdout.splitlines()), 500)
        result = haul("dump", pin, "--limit", "3", "--where", "value[0:8] >= 100", "--explain")
        self.assert_ends(result, OK, "engine: batch")
        self.assertEqual(len(result.stdout.splitlines()), 3)

    def test_dump__closed_pipe_is_quiet(self):
        """head -1 is no error to be told, even where SIGPIPE is ignored."""
        pin = self.make(entries=20000)
        self.fill(pin, 20000)
        shell = f"trap '' PIPE; {HAUL} map dump {pin} | head -1"
        result = run("sh", "-c", shell)
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.stdout.count("\n"), 1)

    def test_where__bytes_of_a_map_without_btf(self):
        """Offset, width, order, sign; and, again; each engine answers alike."""
        pin = self.make()
        self.fill(pin, 300)
        big = 0x01000000  # key 1 as read in network order
        for where, want in ((["value[0:8] > 2000 and value[0:8] <= 2020"], [201, 202]),
                            (["key >= 10", "key[0:4] < 12"], [10, 11]),
                            ([f"key[0:4]be == {big:#x}"], [1]), (["key[0:4]s < 1"], [0]),
                            (["value == 1.5k"], [150]), (["key[0:4]be == 2.0.0.0"], [2]),
                            (["key & 0x100 && key &= 0x2a"], None),
                            (["key == 0x05000000"], [5])):
            arguments = [a for w in where for a in ("--where", w)]
            if want is None:
                want = [k for k in range(300) if k & 0x100 and k & 0x2a == 0x2a]
            for engine in ("single", "batch", "kernel"):
                self.assertEqual(sorted(self.entries(pin, *arguments, "--engine", engine)), want,
                                 (where, engine))
            self.assertEqual(self.assert_ok(haul("count", pin, *arguments)), f"{len(want)}\n")

    def test_where__mistakes_are_told_with_the_place(self):
        """One line: what stands there, and what would be right."""
        pin = self.make()
        for where, words in (("value", "wanted is =="), ("", "a field"), ("value >", "a value"),
                             ("value > x", "'x': wanted is a number"), ("value[8:8] > 1", "beyond"),
                             ("value[0:3] > 1", "1, 2, 4 or 8"), ("value[0:8]xx > 1", "be (network"),
                             ("value > 1 or key > 1", "'and' only"), ("bytes > 1", "has no BTF"),
                             ("value > -1", "below zero"), ("value[x:1] > 1", "OFFSET:WIDTH"),
                             ("key > 1 and", "a field")):
            result = haul("dump", pin, "--where", where)
            self.assert_ends(result, FAILED, "--where", words)
            self.assertEqual(result.stderr.count("\n"), 1)

    def test_count__of_every_type(self):
        """Hash maps by counting, arrays by their size."""
        for kind, want in (("hash", 5), ("lru_hash", 5), ("percpu_hash", 5), ("array", 1000)):
            pin = self.make(kind)
            self.fill(pin, 5)
            self.assertEqual(self.assert_ok(haul("count", pin)), f"{want}\n")
            self.assertEqual(json.loads(self.assert_ok(haul("count", pin, "--json"))),
                             {"count": want})

    def test_stat__figures_of_a_field(self):
        """Sum, mean, smallest, largest, histogram, top; all and filtered; text and JSON."""
        pin = self.make()
        self.fill(pin, 101)
        stat = json.loads(self.assert_ok(haul("stat", pin, "--field", "value", "--json", "--top", 2)))
        self.assertEqual([stat[k] for k in ("count", "sum", "mean", "min", "max")],
                         [101, 50500, 500, 0, 1000])
        self.assertEqual(sum(h["count"] for h in stat["histogram"]), 101)
        self.assertEqual([e["key"] for e in stat["top"]], ["0x64000000", "0x63000000"])
        text = self.assert_ok(haul("stat", pin, "--field", "value[0:8]", "--where", "key < 2"))
        self.assertIn("of 2 entries\nsum 10   mean 5   smallest 0   largest 10", text)
        self.assertIn("0 entries",
                      self.assert_ok(haul("stat", pin, "--field", "value", "--where", "key > 999")))

    def test_list__has_the_map(self):
        """By id, with type, sizes and name; as JSON, too."""
        self.make("lru_hash", 16, 24, 77, "haul_list")
        listed = [m for m in json.loads(self.assert_ok(haul("list", "--json")))
                  if m["name"] == "haul_list"]
        self.assertEqual([(m["type"], m["key_size"], m["value_size"], m["max_entries"], m["btf"])
                          for m in listed], [("lru_hash", 16, 24, 77, False)])
        self.assertRegex(self.assert_ok(haul("list")),
                         rf"(?m)^ *{listed[0]['id']}  lru_hash +haul_list +16 +24 +77 ")
        by_id = haul("count", listed[0]["id"])
        self.assertEqual(self.assert_ok(by_id), self.assert_ok(haul("count", "haul_list")))

    def test_open__what_is_not_there_is_told(self):
        """No such id, name, path; a name of two maps; something near."""
        self.make(name="haul_nearly")
        self.assert_ends(haul("dump", "haul_near"), FAILED, "did you mean 'haul_nearly'?")
        self.assert_ends(haul("dump", "4294967295"), FAILED, "haul map list")
        self.assert_ends(haul("dump", self.path("none")), FAILED, "none")
        self.assert_ends(haul("dump", self.write("x")), FAILED, "input")
        os.mkdir(os.path.join(self.pins, "d"))
        self.make(name="haul_twice")
        run("bpftool", "map", "create", self.pins + "/d/x", "type", "hash", "key", "4", "value", "4",
            "entries", "1", "name", "haul_twice")
        ids = [str(m["id"]) for m in json.loads(haul("list", "--json").stdout)
               if m["name"] == "haul_twice"]
        self.assertEqual(len(ids), 2)
        self.assert_ends(haul("dump", "haul_twice"), FAILED, *ids)


class Types(Maps):
    """Each type the kernel has, through the same commands."""

    def test_types__entries_come_back(self):
        """What was put is read, counted and found again, whatever carries it."""
        for kind, key in (("hash", 4), ("lru_hash", 4), ("array", 4), ("percpu_hash", 4),
                          ("percpu_array", 4), ("lru_percpu_hash", 4), ("lpm_trie", 8)):
            flags = 1 if kind == "lpm_trie" else 0
            pin = self.make(kind, key=key, entries=64, flags=flags)
            keys = [f"0x20000000{i:02x}000000" if key == 8 else i for i in range(8)]
            for i, k in enumerate(keys):
                self.assert_ok(haul("set", pin, k, i + 1))
            dumped = self.ndjson(pin)
            self.assertGreaterEqual(len(dumped), 8, kind)
            for i, k in enumerate(keys):
                found = json.loads(self.assert_ok(haul("get", pin, k, "--ndjson")))
                values = found.get("values", [found])
                self.assertEqual({v["value"] for v in values}, {f"0x{i + 1:02x}00000000000000"}, kind)
            if "array" not in kind:
                self.assert_ok(haul("del", pin, *keys))
                self.assertEqual(self.ndjson(pin), [], kind)

    def test_types__arrays_by_index(self):
        """Keys are numbers, and an index that is not there is told."""
        pin = self.make("array", entries=3)
        self.assert_ok(haul("set", pin, 2, 7))
        self.assertEqual([e["key"] for e in self.ndjson(pin)], [0, 1, 2])
        self.assert_ends(haul("set", pin, 3, 7), FAILED, "no such index")

    def test_types__maps_of_maps_by_id(self):
        """Values are ids of inner maps, out and in."""
        inner = self.make(name="haul_inner")
        inner_id = next(m["id"] for m in json.loads(haul("list", "--json").stdout)
                        if m["name"] == "haul_inner")
        pin = os.path.join(self.pins, "outer")
        made = run("bpftool", "map", "create", pin, "type", "hash_of_maps", "key", "4", "value", "4",
                   "entries", "8", "name", "haul_outer", "inner_map", "pinned", inner)
        self.assertEqual(made.returncode, 0, made)
        self.assert_ok(haul("set", pin, 1, inner_id))
        self.assertEqual([e["value"] for e in self.ndjson(pin)], [inner_id])
        dumped = self.assert_ok(haul("dump", pin, "--ndjson"))
        self.assert_ok(haul("del", pin, 1))
        self.assert_ok(haul("load", pin, self.write(dumped)))
        self.assertEqual([e["value"] for e in self.ndjson(pin)], [inner_id])
        self.assert_ends(haul("set", pin, 2, 4294967295), FAILED, "set")

    def test_types__what_cannot_be_walked_is_told(self):
        """A queue has no keys: one line, no crash."""
        pin = self.make("queue", key=0, value=8)
        for command in (["dump", pin], ["get", pin, "1"], ["count", pin], ["clean", pin, "--all"],
                        ["stat", pin, "--field", "value"], ["tune", pin],
                        ["export", pin, self.path("x")]):
            result = haul(*command)
            self.assertEqual(result.returncode, FAILED, command)
            self.assertEqual(result.stderr.count("\n"), 1, result)
            if command[0] != "get":
                self.assertIn("type queue", result.stderr)

    def test_types__frozen_maps_are_only_read(self):
        """Reading works, writing is one clear line."""
        pin = self.make()
        self.fill(pin, 3)
        self.assertEqual(run("bpftool", "map", "freeze", "pinned", pin).returncode, 0)
        self.assertEqual(len(self.ndjson(pin)), 3)
        for command in (["set", pin, 1, 1], ["clean", pin, "--all"], ["del", pin, 1]):
            self.assert_ends(haul(*command), FAILED, "frozen")


class Write(Maps):
    def test_lab__hundred_put_fifty_read_a_quarter_deleted(self):
        """The seed's own test: 100 inserted, 50 looked up, 25 deleted, 75 left."""
        pin = self.make()
        self.fill(pin, 100)
        got = self.assert_ok(haul("get", pin, *range(50), "--ndjson")).splitlines()
        self.assertEqual([int.from_bytes(bytes.fromhex(json.loads(g)["value"][2:]), "little")
                          for g in got], [10 * i for i in range(50)])
        self.assertEqual(self.assert_ok(haul("del", pin, *range(25))), "25 deleted, 0 not there\n")
        self.assertEqual(self.assert_ok(haul("count", pin)), "75\n")

    def test_keys__in_every_way_of_writing_them(self):
        """Number, bytes with and without 0x, JSON; from stdin."""
        pin = self.make()
        self.fill(pin, 500)
        for key in ("443", "0xbb010000", "bb 01 00 00", "0xbb 0x1 0x0 0x0", '"0xbb010000"',
                    '["0xbb","0x01","0x00","0x00"]'):
            self.assertEqual(self.assert_ok(haul("get", pin, key)),
                             "key 0xbb010000   value 0x4e11000000000000\n", key)
        self.assertEqual(len(self.assert_ok(haul("get", pin, "-", input="1\n\n2\n"))
                             .splitlines()), 2)
        for key, words in (("0xbb01", "2 bytes, wanted are 4"), ("x", "hexadecimal"),
                           ("4294967296", "does not fit"), ("01020304", "0x01020304"),
                           ("{}", "object"), ("[1,2]", "no list"), ('"', "quote")):
            self.assert_ends(haul("get", pin, key), FAILED, "key: ", words)
        self.assert_ends(haul("get", pin, "-", input="1\nzz\n"), FAILED, "line 2")

    def test_get__missing_keys_are_named(self):
        """What is there is printed, what is not is told, exit 1."""
        pin = self.make()
        self.fill(pin, 2)
        result = haul("get", pin, "0", "7", "1")
        self.assert_ends(result, FAILED, "no entry with key 0x07000000")
        self.assertEqual(len(result.stdout.splitlines()), 2)
        result = haul("get", pin, "7", "--json")
        self.assertEqual(json.loads(result.stdout), [{"key": "0x07000000", "value": None}])

    def test_set__modes_are_kept(self):
        """--only-new leaves, --only-existing does not add; a full map is told."""
        pin = self.make(entries=2)
        self.assert_ok(haul("set", pin, 1, 11))
        self.assert_ends(haul("set", pin, 1, 12, "--only-new"), FAILED, "left as it is")
        self.assert_ends(haul("set", pin, 2, 12, "--only-existing"), FAILED, "none was added")
        self.assert_ok(haul("set", pin, 1, 13, "--only-existing"))
        self.assert_ok(haul("set", pin, 2, 22, "--only-new"))
        self.assertEqual(self.entries(pin), {1: 13, 2: 22})
        self.assert_ends(haul("set", pin, 3, 33), FAILED, "full (2 entries)")
        self.assert_ok(haul("set", pin, "--", 1, -1))
        self.assertEqual(self.entries(pin)[1], 2**64 - 1)

    def test_upsert__tells_inserted_from_updated(self):
        """Exact, duplicates in the file included; in text and JSON."""
        pin = self.make(entries=5000)
        self.fill(pin, 1000)
        lines = "".join(f'{{"key": {i}, "value": {i}}}\n' for i in range(500, 2500))
        self.assertEqual(self.assert_ok(haul("upsert", pin, input=lines)),
                         "2000 entries put: 1500 inserted, 500 updated\n")
        lines = '{"key": 9000, "value": 1}\n{"key": 9000, "value": 2}\n'
        self.assertEqual(json.loads(self.assert_ok(haul("upsert", pin, "-", "--json", input=lines))),
                         {"done": 2, "inserted": 1, "updated": 1, "kept": 0, "failed": 0})
        self.assertEqual(self.entries(pin)[9000], 2)

    def test_load__takes_what_dump_and_bpftool_write(self):
        """JSON, JSON Lines, CSV and bpftool's JSON give the same map again."""
        pin = self.make()
        self.fill(pin, 300)
        want = self.entries(pin)
        dumps = [self.assert_ok(haul("dump", pin, f)) for f in ("--json", "--ndjson", "--csv")]
        for text in dumps + [json.dumps(self.bpftool(pin)), json.dumps(self.bpftool(pin), indent=1)]:
            other = self.make()
            self.assertIn("300 entries put", self.assert_ok(haul("load", other, self.write(text))))
            self.assertEqual(self.entries(other), want)

    def test_load__large_values(self):
        """Values of a page and more come out and go in whole."""
        pin = self.make(value=20000, entries=4)
        value = "0x" + "".join(f"{i % 251:02x}" for i in range(20000))
        self.assert_ok(haul("upsert", pin, input=json.dumps({"key": 1, "value": value})))
        for form in ("--json", "--csv", "--ndjson"):
            dumped = self.assert_ok(haul("dump", pin, form))
            other = self.make(value=20000, entries=4)
            self.assert_ok(haul("load", other, self.write(dumped)))
            self.assertEqual([e["value"] for e in self.ndjson(other)], [value])
        self.assert_ends(haul("upsert", pin, input='{"key": 1, "value": "0x00"}'), FAILED, "20000")

    def test_load__bad_line_changes_nothing(self):
        """It is told by its number; --keep-going takes the rest."""
        good = '{"key": 1, "value": 1}\n'
        for bad, words in (("x\n", "an object"), ('{"key": 1}\n', '"value" is missing'),
                           ('{"value": 1}\n', '"key" is missing'),
                           ('{"key": 1, "value": 99999999999999999999}\n', "999"),
                           ('{"key": -4294967296, "value": 1}\n', "does not fit"),
                           ('{"key": 1, "value": 1} x\n', "the end"),
                           ('{"key": 1, "value": 1\n', "a comma or }"),
                           ('{"key": "0x01", "value": 1}\n', "1 bytes, wanted are 4"),
                           ('{"key": [[[1]]], "value": 1}\n', "no list")):
            pin = self.make()
            path = self.write(good + bad + '{"key": 3, "value": 3}\n')
            self.assert_ends(haul("load", pin, path), FAILED, path + ":2: ", words,
                             "nothing was changed")
            self.assertEqual(self.entries(pin), {})
            result = haul("load", pin, path, "--keep-going")
            self.assert_ends(result, FAILED, ":2: ")
            self.assertIn("2 entries put", result.stdout)
            self.assertEqual(sorted(self.entries(pin)), [1, 3])

    def test_load__bad_csv_is_told(self):
        """A head that does not fit, rows too short and too long, cells that are no value."""
        for text, words in (("key,valve\n", "column 'valve'"), ("key,value.x\n", "no members"),
                            ("key,value\n1\n", "fewer cells"), ("key,value\n1,2,3\n", "more cells"),
                            ("key,value\n1,\n", "an empty cell"), ("key,value\n1,x\n", ":2: ")):
            self.assert_ends(haul("load", self.make(), self.write(text)), FAILED, words)

    def test_load__torn_array_and_missing_file(self):
        """A file that ends early is not a short one."""
        pin = self.make()
        self.assert_ends(haul("load", pin, self.write('[{"key": 1, "value": 1},')), FAILED, "without")
        self.assert_ends(haul("load", pin, self.write('[{"key": 1, "val')), FAILED, "within an entry")
        self.assert_ends(haul("load", pin, self.path("none")), FAILED, "none")
        self.assertEqual(self.entries(pin), {})

    def test_load__full_map_says_how_far_it_came(self):
        """The line of the first that did not fit, and how many were put."""
        pin = self.make(entries=10)
        lines = "".join(f'{{"key": {i}, "value": {i}}}\n' for i in range(20))
        path = self.write(lines)
        result = haul("load", pin, path)
        self.assert_ends(result, FAILED, path + ":11: ", "full (10 entries)")
        self.assertIn("10 entries put", result.stdout)
        self.assertEqual(self.assert_ok(haul("count", pin)), "10\n")

    def test_load__only_new_leaves_what_is_there(self):
        """Counted as such, and no failure."""
        pin = self.make()
        self.fill(pin, 10)
        path = self.write("".join(f'{{"key": {i}, "value": 1}}\n' for i in range(15)))
        result = json.loads(self.assert_ok(haul("load", pin, path, "--only-new", "--json")))
        self.assertEqual((result["done"], result["kept"], result["failed"]), (5, 10, 0))
        self.assertEqual(self.entries(pin)[9], 90)

    def test_del__missing_keys_do_not_stop_it(self):
        """Each is counted, exit 1; an array cannot be deleted from."""
        pin = self.make()
        self.fill(pin, 10)
        result = haul("del", pin, "1", "77", "2", "78", "3", "--json")
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(json.loads(result.stdout), {"deleted": 3, "missing": 2})
        self.assert_ends(haul("del", self.make("array"), "1"), FAILED, "del: a map of type array cannot")

    def test_clean__deletes_what_matches(self):
        """By condition in every engine; --all for all."""
        for engine in ("single", "batch", "kernel"):
            pin = self.make()
            self.fill(pin, 200)
            self.assertEqual(self.assert_ok(haul("clean", pin, "--where", "value < 1000", "--engine",
                                                 engine)), "100 of 200 entries deleted\n")
            self.assertEqual(sorted(self.entries(pin)), list(range(100, 200)))
            self.assertEqual(json.loads(self.assert_ok(haul("clean", pin, "--all", "--json")))
                             ["deleted"], 100)

    def test_percpu__values_of_each_cpu(self):
        """As bpftool has them; back in from JSON and CSV; one value is spread over all."""
        pin = self.make("percpu_hash", value=4)
        self.assert_ok(haul("set", pin, 5, 7))
        for entry in self.bpftool(pin):
            for value in entry["values"]:
                self.assertEqual(value["value"], ["0x07", "0x00", "0x00", "0x00"])
        cpus = len(self.bpftool(pin)[0]["values"])
        values = [{"cpu": c, "value": 100 + c} for c in range(cpus)]
        line = json.dumps({"key": 6, "values": values})
        self.assert_ok(haul("upsert", pin, input=line))
        want = self.ndjson(pin)
        self.assertEqual([[v["cpu"] for v in e["values"]] for e in want], [list(range(cpus))] * 2)
        for form in ("--csv", "--ndjson"):
            other = self.make("percpu_hash", value=4)
            dumped = self.assert_ok(haul("dump", pin, form))
            self.assert_ok(haul("load", other, self.write(dumped)))
            self.assertEqual(self.ndjson(other), self.ndjson(other, "--engine", "single"))
            self.assertEqual(sorted(map(json.dumps, self.ndjson(other))),
                             sorted(map(json.dumps, want)))
        self.assertEqual(len(self.ndjson(pin, "--where", f"value > {7 * cpus}")), 1)
        self.assert_ends(haul("upsert", pin, input='{"key":1,"values":[{"cpu":9999,"value":1}]}'),
                         FAILED, "cpu")


class Long(Maps):
    def test_export__import_gives_the_map_again(self):
        """Into another map; a file that is there is not overwritten unasked."""
        pin, path = self.make(entries=20000), self.path("x.map")
        self.fill(pin, 10000)
        self.assertIn("10000 entries", self.assert_ok(haul("export", pin, path, "--block", 512)))
        self.assert_ends(haul("export", pin, path), FAILED, "--resume", "--overwrite")
        report = json.loads(self.assert_ok(haul("export", pin, path, "--overwrite", "--json")))
        self.assertEqual(report["entries"], 10000)
        other = self.make(entries=20000)
        self.assertIn("good", self.assert_ok(haul("import", other, path, "--dry-run")))
        self.assertEqual(self.entries(other), {})
        self.assertIn("10000 inserted", self.assert_ok(haul("import", other, path)))
        self.assertEqual(self.entries(other), self.entries(pin))

    def test_import__modes(self):
        """Merge puts, only-new leaves, replace removes what the file does not have."""
        pin, path = self.make(), self.path("x.map")
        self.fill(pin, 10)
        self.assert_ok(haul("export", pin, path))
        for mode, want in (("--merge", {5: 50, 99: 1}), ("--only-new", {5: 1, 99: 1}),
                           ("--replace", {5: 50, 99: None})):
            other = self.make()
            self.assert_ok(haul("set", other, 5, 1))
            self.assert_ok(haul("set", other, 99, 1))
            self.assert_ok(haul("import", other, path, mode))
            got = self.entries(other)
            self.assertEqual({k: got.get(k) for k in want}, want, mode)
            self.assertEqual(got[7], 70)

    def test_import__bad_files_change_nothing(self):
        """Broken, torn, of other sizes, no map file at all: told, nothing put."""
        pin, path = self.make(), self.path("x.map")
        self.fill(pin, 100)
        self.assert_ok(haul("export", pin, path))
        with open(path, "rb") as file:
            whole = file.read()
        broken = bytearray(whole)
        broken[len(whole) // 2] ^= 1
        for name, data in (("broken", bytes(broken)), ("torn", whole[:-9]), ("text", b"hello\n")):
            with open(self.path(name), "wb") as file:
                file.write(data)
            other = self.make()
            self.assert_ends(haul("import", other, self.path(name)), FAILED, name)
            self.assertEqual(self.entries(other), {})
        self.assert_ends(haul("import", self.make(value=4), path), FAILED, "8")

    def test_tune__table_plot_and_advice(self):
        """Every size from 16 to 65536, a bar each, and three recommendations."""
        pin = self.make(entries=4000)
        self.fill(pin, 3000)
        text = self.assert_ok(haul("tune", pin, "--runs", 1))
        for size in (2**i for i in range(4, 17)):
            self.assertRegex(text, rf"(?m)^ +{size} ")
        for word in ("█", "default", "throughput", "latency", "MEMORY"):
            self.assertIn(word, text)
        tune = json.loads(self.assert_ok(haul("tune", pin, "--runs", 1, "--json")))
        self.assertEqual([p["batch"] for p in tune["points"]], [2**i for i in range(4, 17)])
        self.assertIn(tune["default"], [p["batch"] for p in tune["points"]])
        self.assertEqual(len(self.entries(pin)), 3000)


class Resume(Maps):
    def test_export__stopped_by_a_signal_goes_on(self):
        """SIGINT ends it after a block and says how to go on; the file is as of one go."""
        pin, path = self.make(entries=20000), self.path("x.map")
        self.fill(pin, 20000)
        with subprocess.Popen([HAUL, "map", "export", pin, path, "--block", "16"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and (not os.path.exists(path) or
                                              os.path.getsize(path) < 4096):
                pass
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
        if process.returncode == OK:
            self.skipTest("the export was done before it could be stopped")
        self.assertEqual(process.returncode, FAILED)
        self.assertIn(f"haul map export {pin} {path} --resume", said)
        self.assert_ends(haul("import", pin, path), FAILED, path)
        self.assert_ok(haul("export", pin, path, "--resume", "--block", 16))
        self.assert_ok(haul("export", pin, path + "2", "--block", 16))
        with open(path, "rb") as resumed, open(path + "2", "rb") as whole:
            self.assertEqual(resumed.read(), whole.read())


class Typed(Maps):
    """Maps with BTF; the fields are those of typed_maps.bpf.c."""

    ENTRY = {"key": {"saddr": 7, "port": 443, "proto": 6},
             "value": {"packets": 2**64 - 1, "bytes": 1500, "delta": -3, "state": "OPEN",
                       "comm": 'a "b", c', "mac": [1, 2, 3, 4, 5, 6], "low": 5, "high": 17,
                       "word": 67305985, "part": [1, 2, 3, 4]}}

    def put(self, pin, *entries):
        lines = "\n".join(json.dumps(e) for e in entries)
        return self.assert_ok(haul("upsert", pin, input=lines))

    def test_dump__fields_as_they_went_in(self):
        """Every kind of field; CSV and JSON load into the same again, gaps included."""
        pin = self.typed() + "typed_flows"
        self.put(pin, self.ENTRY)
        self.assertEqual(self.ndjson(pin), [self.ENTRY])
        row = next(csv.DictReader(io.StringIO(self.assert_ok(haul("dump", pin, "--csv")))))
        self.assertEqual((row["key.port"], row["value.comm"], row["value.mac[5]"]),
                         ("443", 'a "b", c', "6"))
        raw = self.ndjson(pin, "--hex")
        for form in ("--csv", "--ndjson", "--json"):
            text = self.assert_ok(haul("dump", pin, form))
            self.assert_ok(haul("clean", pin, "--all"))
            self.assert_ok(haul("load", pin, self.write(text)))
            self.assertEqual(self.ndjson(pin, "--hex"), raw, form)

    def test_dump__equals_bpftool_on_fields(self):
        """But for what is better here: members of unnamed unions, bitfields and __be16 as numbers."""
        pin = self.typed() + "typed_flows"
        for i in range(20):
            entry = json.loads(json.dumps(self.ENTRY))
            entry["key"]["saddr"] = i
            entry["value"].update(delta=-i, comm="x" * (i % 16), state=["NEW", "OPEN", 9][i % 3])
            self.put(pin, entry)

        def flat(fields):
            flattened = {}
            for name, value in fields.items():
                if name == "":
                    flattened.update(flat(value))
                elif name == "port":
                    flattened[name] = struct.unpack(">H", struct.pack("=H", value))[0]
                elif isinstance(value, str) and value.startswith("0x"):
                    flattened[name] = int(value, 16)
                else:
                    flattened[name] = value
            return flattened

        want = [{part: flat(e["formatted"][part]) for part in ("key", "value")}
                for e in self.bpftool(pin)]
        self.assertEqual(sorted(map(json.dumps, self.ndjson(pin))), sorted(map(json.dumps, want)))

    def test_load__what_bpftool_wrote_of_typed_maps(self):
        """Its bytes go in, its formatted fields are passed over; per-CPU values, too."""
        pins = self.typed()
        self.put(pins + "typed_flows", self.ENTRY)
        self.assert_ok(haul("set", pins + "typed_percpu", 2, '{"packets": 4, "bytes": 5}'))
        for name in ("typed_flows", "typed_percpu"):
            want = self.ndjson(pins + name)
            text = json.dumps(self.bpftool(pins + name))
            if name == "typed_flows":
                self.assert_ok(haul("clean", pins + name, "--all"))
            else:
                self.assert_ok(haul("set", pins + name, 2, "{}"))
            self.assert_ok(haul("load", pins + name, self.write(text)))
            self.assertEqual(self.ndjson(pins + name), want)

    def test_dump__bytes_between_fields_are_kept(self):
        """A key with padding that is not zero comes back as it is."""
        pin = self.typed() + "typed_flows"
        key = "0x" + "01000000" + "01bb" + "06" + "99"
        self.assert_ok(haul("set", pin, key, "0x" + "00" * 56, "--hex"))
        dumped = self.assert_ok(haul("dump", pin, "--ndjson"))
        self.assertEqual(json.loads(dumped)["key_bytes"], key)
        self.assertIn("no column shows", haul("dump", pin, "--csv").stderr)
        self.assert_ok(haul("clean", pin, "--all"))
        self.assert_ok(haul("load", pin, self.write(dumped)))
        self.assertEqual(self.ndjson(pin, "--hex")[0]["key"], key)

    def test_where__fields_by_name(self):
        """Key and value, alone or with their root; enums, network order, arrays, text."""
        pin = self.typed() + "typed_flows"
        entries = []
        for i in range(30):
            entry = json.loads(json.dumps(self.ENTRY))
            entry["key"]["saddr"], entry["key"]["port"] = i, 1000 + i
            entry["value"].update(bytes=i * 100, delta=i - 15, comm=f"task{i}",
                                  state="OPEN" if i % 2 else "NEW", mac=[i] * 6)
            entries.append(entry)
        self.put(pin, *entries)
        for where, want in (("value.bytes > 2.5k", [26, 27, 28, 29]), ("port == 1003", [3]),
                            ("key.port >= 1028", [28, 29]), ("delta < -13", [0, 1]),
                            ("state == OPEN and saddr < 4", [1, 3]),
                            ("value.state != NEW and bytes <= 100", [1]),
                            ("mac[2] == 9", [9]), ('comm == "task7"', [7]), ("comm == task1", [1]),
                            ("value.mac == 0x0c0c0c0c0c0c", [12]), ("key.saddr == 0.0.0.4", [4])):
            for engine in ("single", "batch", "kernel"):
                got = sorted(e["key"]["saddr"] for e in
                             self.ndjson(pin, "--where", where, "--engine", engine))
                self.assertEqual(got, want, (where, engine))
        for where, words in (("value.nope > 1", "packets, bytes"), ("low > 1", "bitfield of 3 bits"),
                             ("comm > x", "only =="), ("value > 1", "only =="),
                             ("state == SHUT", "a number"), ("comm == " + "x" * 17, "room for 16"),
                             ("mac[6] == 1", "6 elements"), ("nope == 1", "saddr")):
            self.assert_ends(haul("dump", pin, "--where", where), FAILED, words)

    def test_get__keys_by_name(self):
        """A JSON object of the fields; what it lacks is 0; what is wrong is told."""
        pin = self.typed() + "typed_flows"
        self.put(pin, self.ENTRY)
        key = json.dumps(self.ENTRY["key"])
        self.assertEqual(json.loads(self.assert_ok(haul("get", pin, key, "--ndjson"))), self.ENTRY)
        self.assert_ends(haul("get", pin, '{"saddr": 7}'), FAILED, "no entry with key {saddr: 7")
        for bad, words in (('{"x": 1}', "saddr, port, proto"), ('{"port": 65536}', "does not fit"),
                           ('{"port": "x"}', "a number"), ("7", "wanted are 8"),
                           ('{"port": 1', "comma or }"), ("[1]", "no list"),
                           ('{"port": {"a": 1}}', "no object")):
            self.assert_ends(haul("get", pin, bad), FAILED, words)
        self.assert_ok(haul("del", pin, key))

    def test_percpu__fields_of_each_cpu(self):
        """{cpu, value} as bpftool's."""
        pin = self.typed() + "typed_percpu"
        self.assert_ok(haul("set", pin, 3, '{"packets": 4, "bytes": 5}'))
        got, want = self.ndjson(pin), self.bpftool(pin)
        self.assertEqual([e for e in got if e["key"] == 3],
                         [e["formatted"] for e in want if e["formatted"]["key"] == 3])
        self.assertIn("cpu0 {packets: 4, bytes: 5}", self.assert_ok(haul("get", pin, 3)))

    def test_section__variables_of_a_program(self):
        """.data is one value with all variables, which can be set by name."""
        self.typed()
        listed = [m for m in json.loads(self.assert_ok(haul("list", "--json")))
                  if m["name"].endswith(".data") and m["name"].startswith("typed_ma")]
        entry = self.ndjson(max(m["id"] for m in listed))[0]
        self.assertEqual(entry["value"], {"threshold": 80, "weight": 2.5, "on": True})

    def test_stat__of_a_field(self):
        """By name, and refused for what is no integer."""
        pin = self.typed() + "typed_flows"
        self.put(pin, self.ENTRY)
        stat = json.loads(self.assert_ok(haul("stat", pin, "--field", "delta", "--json")))
        self.assertEqual((stat["min"], stat["max"], stat["sum"]), (-3, -3, -3))
        self.assertEqual(stat["top"], [self.ENTRY])
        self.assert_ends(haul("stat", pin, "--field", "comm"), FAILED, "--field", "no integer")


class Signals(Maps):
    def test_signal__a_load_that_waits_ends_clean(self):
        """SIGINT and SIGTERM: what was read is put and told, exit 1."""
        for number in (signal.SIGINT, signal.SIGTERM):
            pin = self.make()
            with subprocess.Popen([HAUL, "map", "upsert", pin, "-"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                process.stdin.write('{"key": 1, "value": 1}\n')
                process.stdin.flush()
                while unread(process.stdin):
                    self.assertIsNone(process.poll())
                process.send_signal(number)
                process.stdin.close()
                out, err = process.stdout.read(), process.stderr.read()
            self.assertEqual(process.returncode, FAILED, err)
            self.assertIn("stopped", err)
            self.assertRegex(out, r"^1 entries put")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
