"""haul store as a user meets it, on folders and through a running server.

Usage: test_store.py path/to/haul"""
import glob
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

HAUL = sys.argv.pop(1)
OK, FAILED, USAGE = 0, 1, 2
SECONDS = 120
SUBCOMMANDS = ("init serve load get neighbours near path stat check repair compact backup "
               "restore").split()
MANY = 100000

NODES = b"""id,kind,key,name,age:int,height,raw:bytes,zip:text
1,2,alice,"Alice ""A"" X",42,1.7,00ff,01234
2,2,bob,"Bob, the
second",7,,,
3,1,carol,,,,,""
"""
EDGES = b"""src,dst,type,disc,weight:float
alice,bob,1,,0.5
2,3,1,0,2
alice,3,2,7,
"""


def run(*command, **options):
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False,
                          **{k: v for k, v in options.items() if v is not None})


def store(*arguments, **options):
    return run(HAUL, "store", *map(str, arguments), **options)


class Words(unittest.TestCase):
    def assert_ends(self, result, code, *words):
        self.assertEqual(result.returncode, code, result)
        for word in words:
            self.assertIn(word, result.stderr.decode())
        if code != OK:
            self.assertTrue(result.stderr, result)

    def assert_ok(self, result):
        self.assertEqual(result.returncode, OK, result)
        return result.stdout.decode()


class Usage(Words):
    def test_help__every_subcommand_has_an_example(self):
        """What `haul store --help` lists can be run, and its help has a line to paste."""
        text = store("--help").stdout.decode()
        listed = text.split("Subcommands:\n")[1].split("\n\n")[0]
        self.assertEqual([line.split()[0] for line in listed.splitlines()], SUBCOMMANDS)
        for name in SUBCOMMANDS:
            text = self.assert_ok(store(name, "--help"))
            self.assertIn("Usage: haul store " + name, text)
            self.assertRegex(text, r"Examples?:\n(?:  .*\n)*?  .*haul store " + name)

    def test_usage__what_is_wrong_is_said_before_anything_is_opened(self):
        """Exit 2, with the option or argument that is wrong."""
        for words, arguments in (
                ("SUBCOMMAND", []), ("no subcommand 'gte'", ["gte"]), ("FOLDER", ["init"]),
                ("'b' is too much", ["init", "a", "b"]), ("FOLDER", ["serve"]),
                ("--memory 'x'", ["serve", "a", "--memory", "x"]),
                ("at least 128Mi", ["serve", "a", "--memory", "1M"]),
                ("--connections '0'", ["serve", "a", "--connections", "0"]),
                ("at most 8 times", ["serve", "a"] + ["--listen", "127.0.0.1:0"] * 9),
                ("WHERE is missing", ["load", "--nodes", "f"]), ("nothing to load", ["load", "a"]),
                ("give files by --nodes", ["load", "a", "f.csv"]),
                ("can be read once", ["load", "a", "--nodes", "-", "--edges", "-"]),
                ("--format 'xml'", ["load", "a", "--nodes", "f", "--format", "xml"]),
                ("--on-error 'cry'", ["load", "a", "--nodes", "f", "--on-error", "cry"]),
                ("--batch '9000'", ["load", "a", "--nodes", "f", "--batch", "9000"]),
                ("ID|KEY", ["get", "a"]), ("ID|KEY", ["neighbours", "a"]),
                ("'c' is too much", ["neighbours", "a", "b", "c"]),
                ("--direction 'up'", ["neighbours", "a", "1", "--direction", "up"]),
                ("--depth '65'", ["neighbours", "a", "1", "--depth", "65"]),
                ("--type '-1'", ["neighbours", "a", "1", "--type", "-1"]),
                ("--limit '0'", ["neighbours", "a", "1", "--limit", "0"]),
                ("--vector", ["near", "a"]), ("--vector 'x'", ["near", "a", "--vector", "x"]),
                ("entry 2", ["near", "a", "--vector", "[1, true]"]),
                ("is one of", ["near", "a", "--vector", "[1]", "--node", "5"]),
                ("--k '0'", ["near", "a", "--vector", "[1]", "-k", "0"]),
                ("--index '256'", ["near", "a", "--vector", "[1]", "--index", "256"]),
                ("--metric 'l1'", ["near", "a", "--vector", "[1]", "--metric", "l1"]),
                ("FROM TO", ["path", "a", "1"]), ("too much", ["path", "a", "1", "2", "3"]),
                ("WHERE", ["stat"]), ("FOLDER", ["check"]), ("FOLDER", ["repair"]),
                ("FOLDER", ["compact"]), ("FOLDER BACKUP", ["backup", "a"]),
                ("BACKUP FOLDER", ["restore", "a"]), ("too much", ["restore", "a", "b", "c"]),
                ("--no-such", ["stat", "x", "--no-such"])):
            result = store(*arguments)
            self.assert_ends(result, USAGE, words)
            self.assertEqual(result.stdout, b"", arguments)


class Folder(Words):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.where = self.graph = self.path("graph")
        self.assert_ok(store("init", self.graph))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def load(self, *arguments, **options):
        return store("load", self.where, *arguments, **options)

    def load_people(self):
        self.assert_ok(self.load("--edges", self.write("e.csv", EDGES), "--nodes",
                                 self.write("n.csv", NODES)))

    def get(self, *words):
        """Nodes by what they were asked for; those that are not there are left out."""
        return json.loads(store("get", self.where, "--json", *words).stdout)

    def ask(self, *arguments):
        return json.loads(self.assert_ok(store(*arguments, "--json")))


class Init(Folder):
    def test_init__what_is_there_stays(self):
        """A second store, a folder with other things, a file: refused with the path."""
        self.load_people()
        self.assert_ends(store("init", self.graph), FAILED, self.graph, "already")
        os.mkdir(self.path("other"))
        self.write("other/thing", b"x")
        self.assert_ends(store("init", self.path("other")), FAILED, self.path("other"))
        self.assertEqual(os.listdir(self.path("other")), ["thing"])
        self.assert_ends(store("init", self.write("file", b"")), FAILED, self.path("file"))
        self.assert_ends(store("init", self.path("a/b/c")), FAILED, self.path("a/b/c"))
        self.assertEqual(len(self.get(1, 2, 3)), 3)

    def test_open__what_is_no_store_is_one_line(self):
        """Each command names the folder."""
        other = self.path("other")
        os.mkdir(other)
        nodes = self.write("n.csv", NODES)
        for arguments in (["get", other, "1"], ["load", other, "--nodes", nodes], ["stat", other],
                          ["check", other], ["repair", other], ["compact", other],
                          ["backup", other, self.path("b")], ["restore", other, self.path("b")],
                          ["serve", other, "--listen", "127.0.0.1:0"]):
            result = store(*arguments)
            if arguments[0] not in ("check", "repair"):
                self.assert_ends(result, FAILED, other)
            self.assertEqual(result.returncode, FAILED, result)
            self.assertLessEqual(result.stderr.count(b"\n"), 1, result)
        self.assert_ends(store("check", self.path("none")), FAILED, self.path("none"), "No such")
        self.assert_ends(store("get", self.path("none"), "1"), FAILED, "haul store init")
        self.assert_ends(store("get", "none.invalid", "1"), FAILED, "no such folder")


class Loads:
    """What is the same on a folder and through a server: self.where."""

    def test_load__csv_with_keys_quotes_and_types(self):
        """Columns become kinds, keys and properties of the types said or guessed."""
        self.load_people()
        alice, bob, carol = self.get(1, 2, 3)
        self.assertEqual((alice["id"], alice["kind"], alice["key"]), (1, 2, "alice"))
        self.assertEqual(alice["properties"],
                         {"name": 'Alice "A" X', "age": 42, "height": 1.7,
                          "raw": {"$hex": "00ff"}, "zip": "01234"})
        self.assertEqual(bob["properties"], {"name": "Bob, the\nsecond", "age": 7})
        self.assertEqual(carol["properties"], {"zip": ""})
        edges = self.ask("neighbours", self.where, "alice")
        self.assertEqual([(e["node"], e["type"], e["disc"], e["properties"]) for e in edges],
                         [(2, 1, 0, {"weight": 0.5}), (3, 2, 7, {})])

    def test_load__ndjson(self):
        """The same by objects; large ids, embeddings, and edges by key."""
        nodes = b"""{"id": 5, "kind": 3, "key": "five", "properties": {"a": 1, "b": 0.5, "c": "x"}}

{"id": "18446744073709551614", "key": "17", "embedding": [1, 2.5], "embedding.3": [7]}\r
{"id": 6, "key": null, "version": 9, "properties": {"d": {"$hex": "ff"}, "e": true}}"""
        edges = b'{"src": 5, "dst": "five", "type": 2}\n{"src_key": "17", "dst": "6"}\n'
        self.assert_ok(self.load("--nodes", self.write("n.ndjson", nodes), "--edges",
                                 self.write("e", edges)))
        five, six, large = self.get("five", 6, 18446744073709551614)
        self.assertEqual((five["kind"], five["properties"]), (3, {"a": 1, "b": 0.5, "c": "x"}))
        self.assertEqual((six["key"], six["properties"]), (None, {"d": {"$hex": "ff"}, "e": 1}))
        self.assertEqual((large["id"], large["key"]), (18446744073709551614, "17"))
        self.assertEqual(self.ask("neighbours", self.where, "five")[0]["node"], 5)
        edges = self.ask("neighbours", self.where, "--key", "17")
        self.assertEqual([(e["node"], e["type"]) for e in edges], [(6, 0)])
        near = self.ask("near", self.where, "--vector", "[1, 2]")
        self.assertEqual([(n["node"], n["distance"], n["key"]) for n in near],
                         [(18446744073709551614, 0.25, "17")])
        near = self.ask("near", self.where, "--vector", "[7]", "--index", "3", "--exact")
        self.assertEqual(len(near), 1)

    def test_load__what_get_shows_can_be_loaded(self):
        """--json of get, one object a line, goes into another store as it is."""
        self.load_people()
        shown = store("get", self.where, "--json", 1, 2, 3).stdout.decode()
        lines = "\n".join(line.strip("[], ") for line in shown.splitlines())
        self.assert_ok(self.load("--upsert", "--nodes", "-", input=lines.encode()))
        self.assertEqual([(n["key"], len(n["properties"])) for n in self.get(1, 2, 3)],
                         [("alice", 5), ("bob", 2), ("carol", 1)])

    def test_load__bad_lines_are_named_and_skipped(self):
        """By file and line, with what is wrong; the others are loaded, and the exit is 1."""
        bad = (b'id,kind,key,n:int,v,embedding\n1,1,a,1,,\n0,1,b,1,,\n3,x,c,1,,\n4,1,d,1.5,,\n5,1\n'
               b'6,1,"e"x,1,,\n"7\n",1,f,1,,\n8,1,a,1,,\n,,,,,\n9,1,g,1,,[1\n10,,h,9,"x\ny",\n'
               b'11,1,' + b"k" * 256 + b',1,,\n12,1,j,1,,[1e39]\n13,1,i,,"open,\n')
        result = self.load("--on-error", "skip", "--nodes", self.write("n.csv", bad))
        self.assertEqual(result.returncode, FAILED)
        told = {int(line.split(":")[3]): line.split(": ", 3)[-1]
                for line in result.stderr.decode().splitlines()}
        for line, words in {3: "id '0'", 4: "kind 'x'", 5: "n '1.5'", 6: "2 fields", 7: "comma",
                            8: "id '7", 10: "key is there already", 11: "neither an id nor a key",
                            12: "vector", 15: "256 bytes", 16: "fit a float", 17: "not closed"}.items():
            self.assertIn(words, told.pop(line), result.stderr)
        self.assertEqual(told, {}, result.stderr)
        self.assertIn("2 nodes and 0 edges loaded", result.stdout.decode())
        self.assertIn("12 bad", result.stdout.decode())
        self.assertEqual([n["id"] for n in self.get("a", "h", "b", "c")], [1, 10])

    def test_load__bad_objects_and_edges(self):
        """What NDJSON and edges can have wrong."""
        nodes = (b'{"id": 1}\nnope\n{"id": 2, "kinds": 1}\n[1]\n{"id": -1}\n{"id": 3, "id": 4}\n'
                 b'{"id": 5, "properties": {"a": [1]}}\n{"id": 6, "kind": -1}\n{"src": 1, "dst": 2}\n'
                 b'{"id": 7, "embedding": [1, "x"]}\n{"id": 8, "key": 8}\n{"kind": 3}\n{"id": 2}')
        result = self.load("--on-error", "skip", "--nodes", self.write("n.ndjson", nodes))
        told = [line.split(":")[3] for line in result.stderr.decode().splitlines()]
        self.assertEqual(told, [str(n) for n in range(2, 13)], result.stderr)
        self.assertIn(b"2 nodes", result.stdout)
        self.assertIn(b"--edges", result.stderr)
        edges = (b"src,dst,type\n1,2,1\n1,zed,1\n1,99,1\n,2,1\n1,0,1\n1,2,1\n1,2,-1\n2,1,1\n")
        result = self.load("--on-error", "skip", "--edges", self.write("e.csv", edges))
        told = dict(sorted((int(line.split(":")[3]), line) for line in
                           result.stderr.decode().splitlines()))
        for line, words in {3: "'zed'", 4: "99 is no node", 5: "src is empty", 6: "dst '0'",
                            7: "there already", 8: "type '-1'"}.items():
            self.assertIn(words, told.pop(line), result.stderr)
        self.assertEqual(told, {})
        self.assertIn(b"2 edges loaded", result.stdout)
        result = self.load("--loose", "--edges", self.write("l.csv", b"src,dst\n1,99\n"))
        self.assert_ok(result)

    def test_load__stops_at_the_first_bad_line(self):
        """What stands before it is loaded, what stands behind it is not."""
        nodes = self.write("n.csv", b"id\n1\n2\nx\n4\n")
        edges = self.write("e.csv", b"src,dst\n1,2\n")
        result = self.load("--nodes", nodes, "--edges", edges)
        self.assert_ends(result, FAILED, nodes + ":4: id 'x'", "stopped")
        self.assertIn(b"2 nodes and 0 edges loaded", result.stdout)
        self.assertEqual([n["id"] for n in self.get(1, 2, 4)], [1, 2])

    def test_load__upsert(self):
        """Replaces; a node without an id keeps that which its key has."""
        self.load_people()
        again = self.write("a.csv", b"id,kind,key\n1,9,alice\n")
        self.assert_ends(self.load("--nodes", again), FAILED, again + ":2", "--upsert")
        self.assert_ok(self.load("--upsert", "--nodes", again))
        keys = self.write("k.csv", b"key,kind\nbob,8\nnew,8\nnew,7\n")
        self.assert_ok(self.load("--upsert", "--nodes", keys))
        alice, bob, new = self.get("alice", "bob", "new")
        self.assertEqual((alice["id"], alice["kind"], alice["properties"]), (1, 9, {}))
        self.assertEqual((bob["id"], bob["kind"]), (2, 8))
        self.assertEqual(new["kind"], 7)
        edges = self.path("e.csv")
        self.assert_ends(self.load("--edges", edges), FAILED, "there already")
        self.assert_ok(self.load("--upsert", "--edges", edges))
        taken = self.write("t.csv", b"id,key\n4,alice\n")
        self.assert_ends(self.load("--upsert", "--nodes", taken), FAILED, "another node has")

    def test_load__ids_of_keys_are_stable(self):
        """The id that a key makes does not depend on the store, or on the version of haul."""
        self.assert_ok(self.load("--nodes", "-", input=b"key\nalice\n"))
        self.assertEqual(self.get("alice")[0]["id"], 5593767425381308080)

    def test_load__json_summary(self):
        """Figures by name."""
        nodes = self.write("n.csv", b"id\n1\nx\n2\n")
        result = self.load("--json", "--on-error", "skip", "--nodes", nodes)
        summary = json.loads(result.stdout)
        self.assertEqual(summary["nodes"], {"loaded": 2, "bad": 1})
        self.assertEqual(summary["edges"], {"loaded": 0, "bad": 0})

    def test_load__many_csv_and_ndjson(self):
        """100 000 nodes and as many edges of each format, through stdin and files, all there."""
        prng = random.Random(5)
        rows = [(i, prng.randrange(1, MANY + 1)) for i in range(1, MANY + 1)]
        nodes = "id,kind,key,n\n" + "".join(f"{i},{i % 7},k{i},{i * 3}\n" for i, _ in rows)
        edges = "src,dst,type,disc\n" + "".join(f"{i},k{j},1,0\n" for i, j in rows)
        text = self.assert_ok(self.load("--nodes", "-", "--edges",
                                        self.write("e.csv", edges.encode()), input=nodes.encode()))
        self.assertIn(f"{MANY} nodes and {MANY} edges loaded", text)
        nodes = "".join(f'{{"id":{i + MANY},"key":"j{i}","properties":{{"n":{i}}}}}\n'
                        for i, _ in rows)
        edges = "".join(f'{{"src":{i + MANY},"dst":{j},"type":2,"properties":{{"w":{i}}}}}\n'
                        for i, j in rows)
        text = self.assert_ok(self.load("--nodes", self.write("n.ndjson", nodes.encode()),
                                        "--edges", "-", "--batch", "1000", input=edges.encode()))
        self.assertIn(f"{MANY} nodes and {MANY} edges loaded", text)
        for i, j in prng.sample(rows, 20):
            one, two = self.get(f"k{i}", i + MANY)
            self.assertEqual((one["id"], one["kind"], one["properties"]), (i, i % 7, {"n": 3 * i}))
            self.assertEqual((two["key"], two["properties"]), (f"j{i}", {"n": i}))
            self.assertEqual([e["node"] for e in self.ask("neighbours", self.where, i)], [j])
            edge, = self.ask("neighbours", self.where, i + MANY)
            self.assertEqual((edge["node"], edge["properties"]), (j, {"w": i}))

    def test_get__text_missing_and_keys(self):
        """What is there is shown, what is not is named, and the exit is 1."""
        self.load_people()
        text = self.assert_ok(store("get", self.where, "alice"))
        self.assertIn('node 1: kind 2, key "alice", version ', text)
        self.assertIn('  name: "Alice \\"A\\" X"\n', text)
        result = store("get", self.where, "1", "zed", "77", "x" * 300)
        self.assert_ends(result, FAILED, "'zed'", "no node 77", "xxx")
        self.assertIn(b"node 1:", result.stdout)
        self.assert_ends(store("get", self.where, "--key", "1"), FAILED, "'1'")
        result = store("get", self.where, "--json", "99")
        self.assertEqual((result.returncode, result.stdout), (FAILED, b"[]\n"))
        self.assertEqual(len(self.get(*([1, "bob"] * 300))), 600)

    def test_neighbours__directions_types_limits_depths(self):
        """Edges out, in and both; of one type; the first few; and what is behind them."""
        self.load_people()

        def nodes(*arguments):
            return [e["node"] for e in self.ask("neighbours", self.where, *arguments)]
        self.assertEqual(nodes("1"), [2, 3])
        self.assertEqual(nodes("1", "--type", "2"), [3])
        self.assertEqual(nodes("carol", "--direction", "in"), [2, 1])
        self.assertEqual(sorted(nodes("2", "--direction", "both")), [1, 3])
        self.assertEqual(nodes("1", "--limit", "1"), [2])
        self.assertEqual(nodes("99"), [])
        visits = self.ask("neighbours", self.where, "1", "--depth", "2", "--type", "1")
        self.assertEqual([(v["node"], v["depth"], v["from"]) for v in visits],
                         [(2, 1, 1), (3, 2, 2)])
        result = store("neighbours", self.where, "1", "--depth", "3", "--limit", "1")
        self.assertIn(b"there are more", result.stderr)
        self.assertIn("->  2  type 1", self.assert_ok(store("neighbours", self.where, "1")))
        self.assert_ends(store("neighbours", self.where, "zed"), FAILED, "'zed'")

    def test_path__found_and_not(self):
        """The fewest edges; the way against them only when asked for."""
        self.load_people()
        self.assertEqual(self.ask("path", self.where, "alice", "carol"),
                         {"found": True, "edges": 1, "nodes": [1, 3]})
        self.assertEqual(self.ask("path", self.where, "1", "3", "--type", "1")["nodes"], [1, 2, 3])
        text = self.assert_ok(store("path", self.where, "1", "2"))
        self.assertIn('0   1  kind 2, key "alice"\n1   2  kind 2, key "bob"\n', text)
        result = store("path", self.where, "carol", "alice", "--json")
        self.assert_ends(result, FAILED, "no path from carol to alice")
        self.assertEqual(json.loads(result.stdout)["found"], False)
        back = self.ask("path", self.where, "3", "1", "--direction", "in")
        self.assertEqual(back["nodes"], [3, 1])
        self.assert_ends(store("path", self.where, "1", "3", "--type", "1", "--depth", "1"), FAILED)

    def test_near__of_vectors_and_of_nodes(self):
        """Nearest first, by either metric; a node is not near itself."""
        lines = "".join(json.dumps({"id": i, "embedding": [i, 1]}) + "\n" for i in range(1, 51))
        self.assert_ok(self.load("--nodes", "-", input=lines.encode()))
        near = self.ask("near", self.where, "--vector", "[20.2, 1]", "-k", "3")
        self.assertEqual([n["node"] for n in near], [20, 21, 19])
        near = self.ask("near", self.where, "--node", "20", "-k", "2", "--exact")
        self.assertEqual([n["node"] for n in near], [19, 21])
        near = self.ask("near", self.where, "--vector", "[50, 1]", "--metric", "cosine", "-k", "1")
        self.assertEqual(near[0]["node"], 50)
        self.assertEqual(len(self.ask("near", self.where, "--vector", "[1, 1]", "-k", "100")), 50)
        self.assertIn("20  kind 0", self.assert_ok(
            store("near", self.where, "--vector", "[20, 1]", "-k", "1")))
        self.assert_ends(store("near", self.where, "--vector", "[1]"), FAILED, "1 dimensions")
        self.assert_ends(store("near", self.where, "--node", "99"), FAILED, "99", "index 0")


class OnFolder(Loads, Folder):
    def test_load__wrong_files_change_nothing(self):
        """What is not there, has no header, or the wrong one: said before anything is loaded."""
        good = self.write("good.csv", b"id\n1\n")
        for name, data, words in (
                ("e.csv", b"", "is empty"), ("e.csv", b"a;b\n1;2\n", "id or key"),
                ("e.csv", b"src,dst\n", "--edges"), ("e.csv", b"id,x:foo\n", "'x:foo'"),
                ("e.csv", b"id,x,x:int\n", "are the same"), ("e.csv", b"id,\n", "1 to 63"),
                ("e.csv", b'id,"x\n', "not closed")):
            wrong = self.write(name, data)
            self.assert_ends(self.load("--nodes", good, "--nodes", wrong), FAILED, wrong, words)
        self.assert_ends(self.load("--nodes", good, "--edges", good), FAILED, good, "src and dst")
        self.assert_ends(self.load("--nodes", good, "--nodes", self.path("none")), FAILED,
                         self.path("none"), "No such")
        self.assert_ends(self.load("--nodes", good, "--nodes", self.folder), FAILED, self.folder,
                         "directory")
        self.assertEqual(self.get(1), [])
        self.assert_ok(self.load("--dry-run", "--nodes", good))
        self.assertEqual(self.get(1), [])
        result = self.load("--dry-run", "--on-error", "skip", "--nodes",
                           self.write("b.csv", b"id\n1\nx\n2\n"))
        self.assert_ends(result, FAILED, "b.csv:3")
        self.assertIn(b"2 nodes and 0 edges read", result.stdout)

    def test_load__interrupted(self):
        """Ctrl-C while it waits for input: what came is durable, and it says how far it got."""
        process = subprocess.Popen([HAUL, "store", "load", self.where, "--nodes", "-", "--batch",
                                    "10"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdin.write(b"id\n" + b"".join(b"%d\n" % i for i in range(1, 26)))
        process.stdin.flush()
        while self.waits_elsewhere(process.pid):
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, FAILED)
        self.assertIn(b"25 nodes and 0 edges loaded", out)
        self.assertIn(b"stopped behind stdin:26", err)
        self.assertEqual(len(self.get(*range(1, 30))), 25)

    @staticmethod
    def waits_elsewhere(pid):
        """Whether it is not yet where it waits for more input: the pipe is empty by then."""
        with open(f"/proc/{pid}/wchan", encoding="utf-8") as wchan:
            return "pipe" not in wchan.read()

    def test_stat__levels_and_json(self):
        """What is in the checkpoint, by level, and nothing more than there is."""
        self.load_people()
        stat = self.ask("stat", self.graph)
        self.assertEqual((stat["op_last"], stat["op_checkpoint"], stat["debt_bytes"]), (2, 2, 0))
        self.assertEqual(stat["served"], False)
        self.assertEqual(len(stat["levels"]), 4)
        self.assertGreater(sum(level["rows"] for level in stat["levels"]), 5)
        self.assertIn("store.lsm", [block["name"] for block in stat["stats"]])
        text = self.assert_ok(store("stat", self.graph))
        for words in ("LEVEL", "debt", "frames", "uuid"):
            self.assertIn(words, text)
        self.assert_ends(store("stat", self.graph, "--watch"), FAILED, "nobody serves")
        self.assert_ends(store("stat", "none.invalid"), FAILED, "no such folder")

    def test_check__good_and_compact(self):
        """All good before and after everything was merged into one run."""
        self.load_people()
        self.assertIn("all good", self.assert_ok(store("check", self.graph)))
        self.assertEqual(self.ask("check", self.graph), {"findings": 0, "losses": 0, "found": []})
        self.assertIn("of tables", self.assert_ok(store("compact", self.graph)))
        self.assertIn("all good", self.assert_ok(store("check", self.graph)))
        self.assertIn("nothing to repair", self.assert_ok(store("repair", self.graph)))
        self.assertEqual(len(self.get(1, 2, 3)), 3)

    def damage_table(self):
        """Change a byte of the table that has the nodes."""
        for path in glob.glob(self.path("graph/blob/*")):
            with open(path, "r+b") as file:
                at = file.read().find(b"Alice")
                if at >= 0:
                    file.seek(at)
                    file.write(b"M")
                    return
        self.fail("no table has the node")

    def test_repair__a_damaged_table(self):
        """check names the place, repair says what would be lost and changes nothing until told."""
        self.load_people()
        shutil.copytree(self.graph, self.path("before"))
        self.damage_table()
        result = store("check", self.graph)
        self.assertEqual(result.returncode, FAILED)
        self.assertRegex(result.stdout.decode(), r"blob \d+ at offset \d+: .*tree node")
        found = json.loads(store("check", self.graph, "--json").stdout)
        self.assertTrue(found["found"][0]["loss"])
        result = store("repair", self.graph)
        self.assertEqual(result.returncode, FAILED)
        self.assertIn(b"would be lost: 3 rows of tree node", result.stdout)
        self.assertIn(b"--accept-loss", result.stdout)
        self.assertEqual(store("check", self.graph).returncode, FAILED)
        text = self.assert_ok(store("repair", self.graph, "--accept-loss"))
        self.assertIn("lost: 3 rows of tree node", text)
        self.assertEqual(self.get(1, 2, 3), [])
        self.where = self.path("before")
        self.assertEqual(len(self.get(1, 2, 3)), 3)

    def test_repair__a_broken_root(self):
        """What cannot be mended is said, with what can be done."""
        self.load_people()
        with open(self.path("graph/root"), "r+b") as file:
            file.write(bytes(os.path.getsize(self.path("graph/root"))))
        self.assertEqual(store("check", self.graph).returncode, FAILED)
        self.assert_ends(store("repair", self.graph, "--accept-loss"), FAILED, "backup")
        self.assert_ends(store("get", self.graph, "1"), FAILED, self.graph)

    def test_backup__and_restore(self):
        """The copy is a store of its own; neither goes over what is there."""
        self.load_people()
        backup, again = self.path("backup"), self.path("again")
        self.assertIn("a backup of", self.assert_ok(store("backup", self.graph, backup)))
        self.assert_ends(store("backup", self.graph, backup), FAILED, backup, "already")
        self.assert_ok(self.load("--nodes", self.write("m.csv", b"id\n4\n")))
        self.assert_ok(store("restore", backup, again))
        self.assert_ends(store("restore", backup, again), FAILED, again, "already")
        self.assert_ends(store("restore", self.path("none"), self.path("x")), FAILED,
                         self.path("none"))
        first, second = self.ask("stat", self.graph), self.ask("stat", again)
        self.assertNotEqual(first["uuid"], second["uuid"])
        self.where = again
        self.assertEqual([n["id"] for n in self.get(1, 2, 3, 4)], [1, 2, 3])
        self.assertIn("all good", self.assert_ok(store("check", again)))

    def test_get__to_a_full_disk(self):
        """That stdout could not be written is said, and is a failure."""
        self.load_people()
        with open("/dev/full", "wb") as full:
            result = subprocess.run([HAUL, "store", "get", self.graph, "1"], stdout=full,
                                    stderr=subprocess.PIPE, timeout=SECONDS, check=False)
        self.assertEqual(result.returncode, FAILED)
        self.assertIn(b"No space left", result.stderr)


class Served(Loads, Folder):
    def setUp(self):
        super().setUp()
        self.process = None
        self.serve("--listen", "127.0.0.1:0")

    def serve(self, *arguments):
        """Start a server; where: the last address that it tells."""
        self.process = subprocess.Popen([HAUL, "store", "serve", self.graph, *arguments],
                                        stdout=subprocess.PIPE)
        self.addCleanup(self.process.stdout.close)
        self.addCleanup(self.stop, self.process)
        for _ in range(max(1, arguments.count("--listen"))):
            line = self.process.stdout.readline().decode()
            self.assertTrue(line, "the server ended")
            self.where = line.split()[-1]

    def stop(self, process):
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(SECONDS), OK)

    def test_serve__what_was_loaded_is_there_when_it_ended(self):
        """By Unix socket and by TCP; SIGINT and SIGTERM both end it well, with a checkpoint."""
        self.stop(self.process)
        self.serve("--listen", "127.0.0.1:0", "--listen", "unix:" + self.path("s"))
        self.assertEqual(self.where, "unix:" + self.path("s"))
        self.load_people()
        self.process.send_signal(signal.SIGINT)
        self.assertEqual(self.process.wait(SECONDS), OK)
        self.assertFalse(os.path.exists(self.path("s")))
        self.assertFalse(os.path.exists(self.path("graph/status.sock")))
        self.where = self.graph
        self.assertEqual(len(self.get(1, 2, 3)), 3)
        stat = self.ask("stat", self.graph)
        self.assertEqual(stat["op_last"], stat["op_checkpoint"])

    def test_serve__has_the_folder(self):
        """A command on the folder says who may be asked instead."""
        for arguments in (["get", self.graph, "1"],
                          ["load", self.graph, "--nodes", self.write("n.csv", NODES)]):
            self.assert_ends(store(*arguments), FAILED, self.graph, "HOST:PORT")
        for arguments in (["check", self.graph], ["repair", self.graph], ["compact", self.graph],
                          ["backup", self.graph, self.path("b")],
                          ["serve", self.graph, "--listen", "127.0.0.1:0"]):
            self.assert_ends(store(*arguments), FAILED, self.graph, "open in another")

    def test_serve__stat_of_what_runs(self):
        """By its folder: batches, reasons, sync time, write amplification; again with --watch."""
        self.load_people()
        stat = self.ask("stat", self.graph)
        self.assertTrue(stat["served"])
        self.assertGreater(stat["write_amplification"], 0.9)
        self.assertGreater(stat["sync_ns"], 0)
        names = [block["name"] for block in stat["stats"]]
        for name in ("store.commit", "store.log", "store.lsm", "store.server"):
            self.assertIn(name, names)
        text = self.assert_ok(store("stat", self.graph))
        for words in ("CLOSED BY", "write amplification", "a sync takes", "store.commit"):
            self.assertIn(words, text)
        with subprocess.Popen([HAUL, "store", "stat", self.graph, "--watch", "--json"],
                              stdout=subprocess.PIPE) as process:
            self.assertTrue(json.loads(process.stdout.readline())["served"])
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        self.assertEqual(process.returncode, OK)

    @staticmethod
    def shape(stat):
        """Names of all that a document has, at each place."""
        return {**{name: type(value) for name, value in stat.items()},
                "levels": [sorted(level) for level in stat["levels"]],
                "stats": [(block["name"], sorted(block), sorted(block["closed"]),
                           sorted(block["counters"]), sorted(block["wait_ns"]))
                          for block in stat["stats"]]}

    def test_serve__stat_by_address(self):
        """From elsewhere the same document as by the folder; also as text, and with --watch."""
        self.stop(self.process)
        path = "unix:" + self.path("s")
        self.serve("--listen", path, "--listen", "127.0.0.1:0")
        self.load_people()
        here = self.ask("stat", self.graph)
        self.assertEqual(here["where"], self.graph)
        for where in (self.where, path):
            there = self.ask("stat", where)
            self.assertEqual(there["where"], where)
            self.assertEqual(self.shape(there), self.shape(here))
            for name in ("uuid", "op_last", "levels", "bytes_logged"):
                self.assertEqual(there[name], here[name], name)
            blocks = {block["name"]: block for block in there["stats"]}
            self.assertEqual(blocks["store.server"]["counters"]["operations_processed"], 6)
            self.assertEqual(blocks["store.commit"]["fill"]["max"], 3)
        text = self.assert_ok(store("stat", self.where))
        for words in (self.where + ", served", "CLOSED BY", "write amplification", "store.server",
                      "connections "):
            self.assertIn(words, text)
        with subprocess.Popen([HAUL, "store", "stat", self.where, "--watch", "--json"],
                              stdout=subprocess.PIPE) as process:
            self.assertEqual(json.loads(process.stdout.readline())["where"], self.where)
            self.assertEqual(json.loads(process.stdout.readline())["op_last"], 2)
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        self.assertEqual(process.returncode, OK)
        self.stop(self.process)
        self.assert_ends(store("stat", self.where), FAILED, self.where, "nobody listens")

    def test_serve__full_is_not_taken_for_a_folder(self):
        """That a server has no connection left is said as it is; by its folder it still tells."""
        self.stop(self.process)
        self.serve("--listen", "127.0.0.1:0", "--connections", "1")

        def connections():
            block, = (b for b in self.ask("stat", self.graph)["stats"] if b["name"] == "store.server")
            return block["counters"]["connections"]
        with subprocess.Popen([HAUL, "store", "load", self.where, "--nodes", "-"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            while connections() == 0:
                pass
            self.assert_ends(store("stat", self.where), FAILED, self.where, "too many connections")
            process.communicate(b"id\n1\n", timeout=SECONDS)
        self.assertEqual(process.returncode, OK)

    def test_serve__killed(self):
        """What was told as loaded is there; the socket that was left behind is in nobody's way."""
        self.load_people()
        self.process.kill()
        self.process.wait(SECONDS)
        self.assertTrue(os.path.exists(self.path("graph/status.sock")))
        self.assertFalse(self.ask("stat", self.graph)["served"])
        self.assert_ok(store("check", self.graph))
        self.serve("--listen", "127.0.0.1:0")
        self.assertEqual(len(self.get(1, 2, 3)), 3)

    def test_serve__killed_while_it_is_loaded(self):
        """The load goes on when the server is back on its socket: each row once, none lost."""
        self.stop(self.process)
        path = "unix:" + self.path("s")
        self.serve("--listen", path)
        rows = b"".join(b"%d,%d\n" % (i, i % 5) for i in range(1, MANY + 1))
        process = subprocess.Popen([HAUL, "store", "load", path, "--nodes", "-"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdin.write(b"id,kind\n" + rows[:len(rows) // 2])
        process.stdin.flush()
        self.process.kill()
        self.process.wait(SECONDS)
        self.serve("--listen", path)
        out, err = process.communicate(rows[len(rows) // 2:], timeout=SECONDS)
        self.assertEqual(process.returncode, OK, err)
        self.assertIn(f"{MANY} nodes".encode(), out)
        self.assertEqual(len(self.get(*range(1, MANY, 997))), len(range(1, MANY, 997)))
        self.stop(self.process)
        self.assertIn("all good", self.assert_ok(store("check", self.graph)))

    def test_serve__tokens(self):
        """Other machines only with a token; who does not know it is told so."""
        self.stop(self.process)
        result = store("serve", self.graph, "--listen", "0.0.0.0:0")
        self.assert_ends(result, FAILED, "0.0.0.0:0", "token")
        token = self.write("token", b"secret\n")
        self.serve("--listen", "127.0.0.1:0", "--token-file", token)
        nodes = self.write("n.csv", NODES)
        self.assert_ends(self.load("--nodes", nodes), FAILED, "token")
        wrong = self.write("wrong", b"guess\n")
        self.assert_ends(self.load("--nodes", nodes, "--token-file", wrong), FAILED, "token")
        self.assert_ends(self.load("--nodes", nodes, "--token-file", self.path("none")), FAILED,
                         self.path("none"))
        self.assert_ok(self.load("--nodes", nodes, "--token-file", token))
        self.assert_ends(store("stat", self.where), FAILED, "token")
        self.assert_ends(store("stat", self.where, "--token-file", wrong), FAILED, "token")
        self.assertEqual(self.ask("stat", self.where, "--token-file", token)["op_last"], 1)
        self.assertEqual(self.ask("stat", self.graph)["op_last"], 1)

    def test_client__nobody_there(self):
        """Refused, or a socket that is not there: each with the address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            free = "127.0.0.1:%d" % listener.getsockname()[1]
        self.assert_ends(store("get", free, "1"), FAILED, free)
        self.assert_ends(store("get", "unix:" + self.path("no"), "1"), FAILED, self.path("no"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
