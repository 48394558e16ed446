"""haul sql: every table, what is pushed down, transactions, output, errors.

Usage: test_sql.py HAUL EXTENSION
"""
import csv
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

HAUL = EXTENSION = None


class Sql(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="haul-sql-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.store = os.path.join(self.folder, "store")
        subprocess.run([HAUL, "store", "init", self.store], check=True, capture_output=True)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_sql(self, *args, text=None, store=True):
        command = [HAUL, "sql"] + (["--store", self.store] if store else []) + list(args)
        env = {k: v for k, v in os.environ.items() if k != "HAUL_STORE"}
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, env=env)

    def rows(self, sql):
        done = self.run_sql("--json", sql)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def good(self, *sql):
        done = self.run_sql(*sql)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def bad(self, *sql):
        done = self.run_sql(*sql)
        self.assertEqual(done.returncode, 1, done.stdout)
        return done.stderr

    def fill(self):
        """Ten nodes in a chain, of two kinds, with keys."""
        nodes = ",".join(
            f"({i}, {1 + i % 2}, 'n{i}', '{{\"speed\": {i}.5, \"name\": \"car {i}\"}}')"
            for i in range(1, 11))
        edges = ",".join(f"({i}, {i + 1}, 7, 0, '{{\"w\": {i}}}')" for i in range(1, 10))
        self.good(f"BEGIN; INSERT INTO nodes(id, kind, key, properties) VALUES {nodes};"
                  f"INSERT INTO edges(src, dst, type, disc, properties) VALUES {edges}; COMMIT")

    # ---- nodes ----

    def test_nodes_round_trip(self):
        self.good("INSERT INTO nodes(id, kind, key, properties) VALUES(5, 3, 'a''b', "
                  "'{\"i\": -7, \"f\": 2.5, \"t\": \"ü\", \"b\": {\"$hex\": \"00ff\"}}')")
        row = self.rows("SELECT * FROM nodes")[0]
        self.assertEqual((row["id"], row["kind"], row["key"]), (5, 3, "a'b"))
        self.assertEqual(json.loads(row["properties"]), {"i": -7, "f": 2.5, "t": "ü", "b": {"$hex": "00ff"}})
        self.assertGreater(row["version"], 0)
        self.assertEqual([(r["name"], r["type"], r["value"]) for r in
                          self.rows("SELECT * FROM properties WHERE id = 5 ORDER BY name")],
                         [("b", "bytes", "00ff"), ("f", "float", 2.5), ("i", "integer", -7), ("t", "text", "ü")])

    def test_nodes_by_id_key_kind_and_range(self):
        self.fill()
        ids = lambda where: [r["id"] for r in self.rows(f"SELECT id FROM nodes WHERE {where} ORDER BY id")]
        self.assertEqual(ids("id = 4"), [4])
        self.assertEqual(ids("id IN (9, 2, 99, 2)"), [2, 9])
        self.assertEqual(ids("key = 'n6'"), [6])
        self.assertEqual(ids("key IN ('n1', 'nothing', 'n10')"), [1, 10])
        self.assertEqual(ids("kind = 1"), [2, 4, 6, 8, 10])
        self.assertEqual(ids("kind = 2 AND id > 3 AND id <= 7"), [5, 7])
        self.assertEqual(ids("id >= 8"), [8, 9, 10])
        self.assertEqual(ids("id < 3"), [1, 2])
        self.assertEqual(ids("id BETWEEN 20 AND 30"), [])
        self.assertEqual(ids("kind = 'x'"), [])
        self.assertEqual(ids("id = 'x'"), [])
        self.assertEqual(ids("properties->>'speed' > 8"), [8, 9, 10])

    def test_constraints_are_pushed_down(self):
        plan = self.rows("EXPLAIN QUERY PLAN SELECT * FROM nodes WHERE id IN (1, 2)")
        number = int(plan[0]["detail"].split("INDEX ")[1].split(":")[0])
        self.assertEqual(number, 1 | 1 << 8)  # the list of ids, all at once
        plan = self.rows("EXPLAIN QUERY PLAN SELECT * FROM nodes ORDER BY id")
        self.assertFalse(any("ORDER BY" in step["detail"] for step in plan), plan)

    def test_ids_above_the_signed_numbers_come_first(self):
        self.good("INSERT INTO nodes(id) VALUES(3), (-5), (9223372036854775807), (-9223372036854775808)")
        self.assertEqual([r["id"] for r in self.rows("SELECT id FROM nodes ORDER BY id")],
                         [-9223372036854775808, -5, 3, 9223372036854775807])
        self.assertEqual([r["id"] for r in self.rows("SELECT id FROM nodes WHERE id < 0")],
                         [-9223372036854775808, -5])
        self.assertEqual([r["id"] for r in self.rows("SELECT id FROM nodes WHERE id > -9 AND id < 9")], [-5, 3])

    def test_many_pages(self):
        self.good("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
                  "INSERT INTO nodes(id, kind) SELECT i, 1 FROM n")
        self.assertEqual(self.rows("SELECT count(*) AS n, sum(id) AS s FROM nodes"), [{"n": 5000, "s": 12502500}])
        self.assertEqual(self.rows("SELECT count(*) AS n FROM nodes a JOIN nodes b ON b.id = a.id + 1"),
                         [{"n": 4999}])

    # ---- edges ----

    def test_edges_by_either_end(self):
        self.fill()
        self.assertEqual(self.rows("SELECT src, dst FROM edges WHERE src = 3"), [{"src": 3, "dst": 4}])
        self.assertEqual(self.rows("SELECT src, dst FROM edges WHERE dst = 3"), [{"src": 2, "dst": 3}])
        self.assertEqual(self.rows("SELECT count(*) AS n FROM edges"), [{"n": 9}])
        self.assertEqual(self.rows("SELECT count(*) AS n FROM edges WHERE src IN (1, 2, 50)"), [{"n": 2}])
        self.assertEqual(self.rows("SELECT count(*) AS n FROM edges WHERE type = 8"), [{"n": 0}])
        self.assertEqual(self.rows("SELECT properties->>'w' AS w FROM edges WHERE src = 4"), [{"w": 4}])

    def test_neighbours_and_path(self):
        self.fill()
        self.assertEqual([r["node"] for r in self.rows("SELECT node FROM neighbours(5)")], [6])
        self.assertEqual([r["node"] for r in self.rows("SELECT node FROM neighbours(5, 'in')")], [4])
        self.assertEqual(sorted(r["node"] for r in self.rows("SELECT node FROM neighbours(5, 'both', 7)")), [4, 6])
        self.assertEqual(self.rows("SELECT node FROM neighbours(5, 'out', 8)"), [])
        self.assertEqual([r["node"] for r in self.rows("SELECT node FROM path(2, 5)")], [2, 3, 4, 5])
        self.assertEqual(self.rows("SELECT node FROM path(5, 2)"), [])
        self.assertEqual([r["node"] for r in self.rows("SELECT node FROM path(5, 2, 'both')")], [5, 4, 3, 2])
        self.assertIn("'out', 'in' or 'both'", self.bad("SELECT * FROM neighbours(5, 'up')"))
        reach = self.rows("WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT neighbours.node FROM r, neighbours(r.n)) "
                          "SELECT count(*) AS n FROM r")
        self.assertEqual(reach, [{"n": 10}])

    # ---- changes ----

    def test_update_and_delete(self):
        self.fill()
        self.good("UPDATE nodes SET kind = 9, properties = json_set(properties, '$.speed', 1) WHERE id = 3")
        self.assertEqual(self.rows("SELECT kind, properties->>'speed' AS s, properties->>'name' AS n "
                                   "FROM nodes WHERE id = 3"), [{"kind": 9, "s": 1, "n": "car 3"}])
        self.assertEqual(self.rows("SELECT id FROM nodes WHERE kind = 9"), [{"id": 3}])
        self.good("UPDATE edges SET properties = '{}' WHERE src = 1")
        self.assertIn("cannot be changed", self.bad("UPDATE edges SET dst = 9 WHERE src = 1"))
        self.assertIn("cannot be changed", self.bad("UPDATE nodes SET id = 90 WHERE id = 1"))
        self.assertIn("nothing was changed", self.bad("DELETE FROM nodes WHERE id = 1"))
        self.good("BEGIN; DELETE FROM edges WHERE src = 1; DELETE FROM nodes WHERE id = 1; COMMIT")
        self.assertEqual(self.rows("SELECT count(*) AS n FROM nodes"), [{"n": 9}])
        self.good("DELETE FROM edges; DELETE FROM nodes")
        self.assertEqual(self.rows("SELECT count(*) AS n FROM nodes"), [{"n": 0}])

    def test_a_transaction_is_one_group(self):
        self.good("INSERT INTO nodes(id) VALUES(1)")
        text = self.bad("BEGIN; INSERT INTO nodes(id) VALUES(2); INSERT INTO nodes(id) VALUES(1); COMMIT")
        self.assertIn("create_node 1", text)
        self.assertEqual(self.rows("SELECT id FROM nodes"), [{"id": 1}])
        self.good("BEGIN; INSERT INTO nodes(id) VALUES(3); ROLLBACK")
        self.assertEqual(self.rows("SELECT id FROM nodes"), [{"id": 1}])
        self.good("INSERT OR REPLACE INTO nodes(id, kind) VALUES(1, 5)")
        self.assertEqual(self.rows("SELECT id, kind FROM nodes"), [{"id": 1, "kind": 5}])

    def test_savepoints(self):
        self.good("BEGIN; INSERT INTO nodes(id) VALUES(1); SAVEPOINT a; INSERT INTO nodes(id) VALUES(2); "
                  "SAVEPOINT b; INSERT INTO nodes(id) VALUES(3); INSERT INTO edges(src, dst, type) VALUES(1, 3, 1);"
                  "ROLLBACK TO b; INSERT INTO nodes(id) VALUES(4); RELEASE b; ROLLBACK TO a; "
                  "INSERT INTO nodes(id) VALUES(5); COMMIT")
        self.assertEqual([r["id"] for r in self.rows("SELECT id FROM nodes ORDER BY id")], [1, 5])
        self.assertEqual(self.rows("SELECT count(*) AS n FROM edges"), [{"n": 0}])

    def test_too_much_for_one_group_is_refused_whole(self):
        text = self.bad("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) "
                        "INSERT INTO nodes(id) SELECT i FROM n")
        self.assertIn("8192", text)
        self.assertEqual(self.rows("SELECT count(*) AS n FROM nodes"), [{"n": 0}])

    def test_wrong_values_are_named(self):
        self.assertIn("id", self.bad("INSERT INTO nodes(id) VALUES(0)"))
        self.assertIn("kind", self.bad("INSERT INTO nodes(id, kind) VALUES(1, -4)"))
        self.assertIn("JSON", self.bad("INSERT INTO nodes(id, properties) VALUES(1, '{\"a\": ')"))
        self.assertIn("'a'", self.bad("INSERT INTO nodes(id, properties) VALUES(1, '{\"a\": [1]}')"))
        self.assertIn("'b'", self.bad("INSERT INTO nodes(id, properties) VALUES(1, '{\"b\": {\"$hex\": \"0g\"}}')"))
        self.assertEqual(self.rows("SELECT count(*) AS n FROM nodes"), [{"n": 0}])

    # ---- embeddings ----

    def test_near_and_vectors(self):
        self.fill()
        self.assertEqual(self.rows("SELECT vector_json(vector('[1, 0.5]')) AS v"), [{"v": "[1.0,0.5]"}])
        self.assertIn("array of 1 to", self.bad("SELECT vector('[]')"))
        self.assertEqual(self.rows("SELECT count(*) AS n FROM embeddings"), [{"n": 0}])
        self.good("INSERT INTO embeddings(node, idx, vector) VALUES(1, 0, '[1, 2]'), (2, 0, vector('[1, 3]')), "
                  "(3, 0, '[9, 9]'), (3, 4, '[7]')")
        self.assertEqual(self.rows("SELECT node, distance FROM near('[1, 2]', 2)"),
                         [{"node": 1, "distance": 0.0}, {"node": 2, "distance": 1.0}])
        self.assertEqual([r["node"] for r in self.rows(
            "SELECT near.node FROM embeddings, near(embeddings.vector, 3) "
            "WHERE embeddings.node = 3 AND embeddings.idx = 0")], [3, 2, 1])
        self.assertEqual(self.rows("SELECT node, idx, dimensions FROM embeddings WHERE node = 3"),
                         [{"node": 3, "idx": 0, "dimensions": 2}, {"node": 3, "idx": 4, "dimensions": 1}])
        self.assertIn("dimensions", self.bad("SELECT * FROM near('[1, 2, 3]', 2)"))
        self.assertIn("set_embedding 5", self.bad("INSERT INTO embeddings(node, idx, vector) VALUES(5, 0, '[1]')"))
        self.good("UPDATE embeddings SET vector = '[5, 5]' WHERE node = 1")
        self.good("DELETE FROM embeddings WHERE node = 2 AND idx = 0")
        self.assertEqual(self.rows("SELECT node FROM near('[5, 5]', 5)"), [{"node": 1}, {"node": 3}])
        self.good("DELETE FROM embeddings")
        self.assertEqual(self.rows("SELECT * FROM near('[1, 2]', 3)"), [])
        self.assertIn("k 0", self.bad("SELECT * FROM near('[1, 2]', 0)"))
        self.assertIn("metric", self.bad("SELECT * FROM near('[1, 2]', 3, 0, 'taxi')"))

    # ---- host ----

    def test_batch_stats_tell_of_this_process(self):
        rows = self.rows("SELECT block, name, value FROM batch_stats")
        self.assertIn("store.commit", {r["block"] for r in rows})
        self.assertIn("closed_idle", {r["name"] for r in rows})

    def test_connections_has_its_columns_without_a_store(self):
        done = self.run_sql("--csv", "SELECT proto, src, dst, tx_bytes FROM connections", store=False)
        if done.returncode != 0:
            self.assertIn("connections", done.stderr)
        else:
            self.assertTrue(done.stdout.startswith("proto,src,dst,tx_bytes"))

    def test_graph_tables_without_a_store_say_so(self):
        done = self.run_sql("SELECT * FROM nodes", store=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--store", done.stderr)

    def test_cache_entries(self):
        path = os.path.join(self.folder, "cache")
        subprocess.run([HAUL, "cache", "format", path, "--size", "64Mi"], check=True, capture_output=True)
        subprocess.run([HAUL, "cache", "set", path, "k1"], input="hello", text=True, check=True, capture_output=True)
        done = self.run_sql("--json", "--cache", path, "SELECT key, status FROM cache_entries", store=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), [{"key": "k1", "status": "hit"}])

    # ---- a server ----

    def test_a_served_store_is_the_same(self):
        self.fill()
        address = "unix:" + os.path.join(self.folder, "socket")
        server = subprocess.Popen([HAUL, "store", "serve", self.store, "--listen", address],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            self.assertIn(address, server.stdout.readline())
            where, self.store = self.store, address
            self.good("BEGIN; INSERT INTO nodes(id, kind) VALUES(50, 3); "
                      "INSERT INTO edges(src, dst, type) VALUES(10, 50, 7); COMMIT")
            self.assertEqual(self.rows("SELECT count(*) AS n FROM nodes WHERE id IN (1, 5, 50)"), [{"n": 3}])
            self.assertEqual([r["node"] for r in self.rows("SELECT node FROM path(8, 50)")], [8, 9, 10, 50])
            self.assertEqual(self.rows("SELECT sum(id) AS s FROM nodes"), [{"s": 105}])
            self.assertEqual(self.rows(
                "INSERT INTO nodes(id, kind) VALUES(60, 3); SELECT block, value FROM batch_stats "
                "WHERE name IN ('operations_flushed', 'operations_processed')"),
                [{"block": "client", "value": 1}, {"block": "store.server", "value": 3}])
            self.store = where
            self.assertIn("address", self.run_sql("SELECT 1").stderr)  # the folder is taken
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
        self.assertEqual(server.returncode, 0)

    # ---- output and errors ----

    def test_outputs(self):
        sql = "SELECT 1 AS a, 'x,\"y' AS b, NULL AS c, x'00ff' AS d UNION ALL SELECT 2, '', 'z', NULL"
        rows = list(csv.reader(io.StringIO(self.good("--csv", sql), newline="")))
        self.assertEqual(rows, [["a", "b", "c", "d"], ["1", 'x,"y', "", "00ff"], ["2", "", "z", ""]])
        self.assertEqual(json.loads(self.good("--json", sql)),
                         [{"a": 1, "b": 'x,"y', "c": None, "d": "00ff"}, {"a": 2, "b": "", "c": "z", "d": None}])
        self.assertEqual(json.loads(self.good("--json", "SELECT 1 WHERE 0")), [])
        box = self.good("--box", "SELECT 'ä' AS name, 12345 AS n UNION ALL SELECT 'long text', 6").splitlines()
        self.assertEqual(len({len(line) for line in box}), 1, box)
        self.assertIn("│ ä         │ 12345 │", box)

    def test_an_error_shows_its_place(self):
        text = self.bad("SELECT id FROM nodes\nWHERE idd = 3")
        self.assertIn("line 2", text)
        where, mark = text.splitlines()[1:3]
        self.assertEqual(where[mark.index("^"):][:3], "idd")

    def test_statements_from_standard_input(self):
        done = self.run_sql("--csv", text="INSERT INTO nodes(id) VALUES(1);\n-- a remark\nSELECT id FROM nodes;\n")
        self.assertEqual((done.returncode, done.stdout), (0, "id\n1\n"), done.stderr)

    def test_read_only(self):
        done = self.run_sql("--read-only", "INSERT INTO nodes(id) VALUES(1)")
        self.assertEqual(done.returncode, 1)
        self.assertIn("reading only", done.stderr)

    def test_help_and_wrong_options(self):
        done = subprocess.run([HAUL, "sql", "--help"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0)
        self.assertIn("Example", done.stdout)
        self.assertEqual(self.run_sql("--memory", "much").returncode, 2)
        done = subprocess.run([HAUL, "sql", "--store", self.folder + "/none", "SELECT 1"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.folder + "/none", done.stderr)

    def test_a_query_is_interrupted(self):
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        process = subprocess.Popen([HAUL, "sql", "--csv", "--store", self.store, "SELECT 'ready'", endless],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # Each argument is a script, and what it gave is flushed at its end.
        self.assertIn("ready", process.stdout.readline() + process.stdout.readline())
        process.send_signal(signal.SIGINT)
        try:
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        self.assertEqual(process.returncode, 1)
        self.assertIn("interrupted", err)

    # ---- the extension ----

    def test_extension(self):
        self.fill()
        if shutil.which("sqlite3") is None:
            self.skipTest("there is no sqlite3: install it")
        script = f".load {EXTENSION}\nSELECT haul_open('{self.store}');\nSELECT count(*), sum(id) FROM nodes;\n" \
                 "INSERT INTO nodes(id, kind) VALUES(77, 7);\nSELECT kind FROM nodes WHERE id = 77;\n"
        done = subprocess.run(["sqlite3", ":memory:"], input=script, capture_output=True, text=True, timeout=60)
        if "ASan runtime does not come first" in done.stderr:
            self.skipTest("the extension was built with a sanitizer, the sqlite3 shell was not")
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.split(), [self.store, "10|55", "7"])
        self.assertEqual(self.rows("SELECT kind FROM nodes WHERE id = 77"), [{"kind": 7}])
        wrong = subprocess.run(["sqlite3", ":memory:"], input=f".load {EXTENSION}\nSELECT haul_open('/nowhere/x');\n",
                               capture_output=True, text=True, timeout=60)
        self.assertIn("/nowhere/x", wrong.stderr)


if __name__ == "__main__":
    HAUL, EXTENSION = (os.path.abspath(path) for path in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
