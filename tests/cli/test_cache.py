"""haul cache as a user meets it, on files and through a running server.

Usage: test_cache.py path/to/haul"""
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

HAUL = sys.argv.pop(1)
OK, FAILED, USAGE = 0, 1, 2
SECONDS = 60
SUBCOMMANDS = "format serve get set del stat check online".split()
MIB = 1 << 20


def run(*command, **options):
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False,
                          **{k: v for k, v in options.items() if v is not None})


def cache(*arguments, **options):
    return run(HAUL, "cache", *map(str, arguments), **options)


class Words(unittest.TestCase):
    def assert_ends(self, result, code, *words):
        self.assertEqual(result.returncode, code, result)
        for word in words:
            self.assertIn(word, result.stderr.decode())
        if code != OK:
            self.assertTrue(result.stderr, result)

    def assert_ok(self, result):
        self.assertEqual(result.returncode, OK, result)
        return result.stdout


class Usage(Words):
    def test_help__every_subcommand_has_an_example(self):
        """What `haul cache --help` lists can be run, and its help has a line to paste."""
        text = cache("--help").stdout.decode()
        listed = text.split("Subcommands:\n")[1].split("\n\n")[0]
        self.assertEqual([line.split()[0] for line in listed.splitlines()], SUBCOMMANDS)
        for name in SUBCOMMANDS:
            text = self.assert_ok(cache(name, "--help")).decode()
            self.assertIn("Usage: haul cache " + name, text)
            self.assertRegex(text, r"Examples?:\n(?:  .*\n)*?  .*(?:sudo )?haul cache " + name)

    def test_man__has_every_option(self):
        """An option that only --help knows is one that nobody finds."""
        path = os.path.join(os.path.dirname(__file__), "../../docs/man/haul-cache.1")
        with open(path, encoding="utf-8") as file:
            man = file.read().replace("\\-", "-")
        for name in SUBCOMMANDS:
            text = cache(name, "--help").stdout.decode()
            for option in set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.M)):
                if option not in ("--help", "--usage", "--version"):
                    self.assertTrue(re.search(option + r"\b(?!-)", man), (name, option))

    def test_usage__what_is_wrong_is_said_before_anything_is_opened(self):
        """Exit 2, with the option or argument that is wrong."""
        for words, arguments in (
                ("SUBCOMMAND", []), ("no subcommand 'gte'", ["gte"]), ("FILE", ["format"]),
                ("--no-such", ["stat", "x", "--no-such"]), ("'b' is too much", ["format", "a", "b"]),
                ("--size 'x'", ["format", "a", "--size", "x"]),
                ("--size '0'", ["format", "a", "--size", "0"]),
                ("1 to 64", ["format", "a", "--size", "1G", "--partitions", "65"]),
                ("'0': 1 to 4294967295 are", ["format", "a", "--size", "1G", "--entries", "0"]),
                ("power of two", ["format", "a", "--size", "1G", "--segment", "100000"]),
                ("65536 to", ["format", "a", "--size", "1G", "--segment", "1k"]),
                ("KEY", ["get", "a"]), ("KEY", ["del", "a"]), ("KEY", ["set", "a"]),
                ("1 to 512 bytes", ["get", "a", ""]), ("1 to 512 bytes", ["set", "a", "x" * 513]),
                ("0-1023", ["get", "a", "k", "--range", "5"]),
                ("0-1023", ["get", "a", "k", "--range", "9-5"]),
                ("0-1023", ["get", "a", "k", "--range", "-5"]),
                ("is too much", ["set", "a", "k", "v", "w"]),
                ("contradict", ["set", "a", "k", "v", "--file", "f"]),
                ("contradict", ["set", "a", "k", "v", "--add", "--replace"]),
                ("--expire '0s'", ["set", "a", "k", "v", "--expire", "0s"]),
                ("--expire 'soon'", ["set", "a", "k", "v", "--expire", "soon"]),
                ("--flags '-1'", ["set", "a", "k", "v", "--flags", "-1"]),
                ("TARGET", ["stat"]), ("'b' is too much", ["stat", "a", "b"]),
                ("no running server", ["stat", "/nowhere", "--watch"]),
                ("FILE", ["check"]), ("SERVER", ["online"]), ("too much", ["online", "a:1", "b"])):
            result = cache(*arguments)
            self.assert_ends(result, USAGE, words)
            self.assertEqual(result.stdout, b"")


class Folder(Words):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.file = self.path("cache")

    def path(self, name):
        return os.path.join(self.folder, name)

    def format(self, *arguments, size="32Mi"):
        return self.assert_ok(cache("format", self.file, "--size", size, *arguments)).decode()

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)


class Format(Folder):
    def test_format__says_what_it_made(self):
        """In words and as JSON, and only the disk's place that was asked for is taken."""
        self.assertRegex(self.format(), r"a cache of .* MiB: 1 partitions, \d+ segments")
        self.assertEqual(os.path.getsize(self.file), 32 * MIB)
        made = json.loads(self.format("--json", "--force", "--partitions", "2", "--entries", "500"))
        self.assertEqual((made["partitions"], made["entries_max"]), (2, 500))
        self.assertEqual(self.format("--quiet", "--force"), "")

    def test_format__what_is_not_empty_needs_force(self):
        """It says what is there, changes nothing, and with --force says what it destroyed."""
        self.write("cache", bytes(0x438) + b"\x53\xef" + bytes(5000))
        result = cache("format", self.file, "--size", "32Mi")
        self.assert_ends(result, FAILED, self.file, "ext4 file system", "--force")
        self.assertEqual(os.path.getsize(self.file), 0x438 + 2 + 5000)
        result = cache("format", self.file, "--size", "32Mi", "--force")
        self.assert_ends(result, OK, "destroyed: " + self.file + " holds an ext2, ext3 or ext4")
        result = cache("format", self.file, "--size", "32Mi")
        self.assert_ends(result, FAILED, "a cache of haul (32 MiB")

    def test_format__too_little_room_is_said_before_anything_is_written(self):
        """No file is left behind that fills the disk."""
        result = cache("format", self.file, "--size", "4000T")
        self.assert_ends(result, FAILED, self.file, "MiB are wanted")
        self.assertFalse(os.path.exists(self.file))
        self.assert_ends(cache("format", self.file), FAILED, "how large", "--size")
        for size, told in (("1k", "1000 bytes"), ("1", "1 bytes"), ("598015", "598015 bytes")):
            result = cache("format", self.file, "--size", size)
            self.assert_ends(result, FAILED, self.file, told + " are too few", "least 598016")
        self.assertFalse(os.path.exists(self.file))
        self.assert_ok(cache("format", self.file, "--size", "598016"))

    def test_format__nothing_is_called_destroyed_that_is_still_there(self):
        """With --force, too: who has too little room, or asks for too little, keeps what was."""
        data = random.Random(5).randbytes(5000)
        self.write("cache", data)
        for size in ("4000T", "1k"):
            result = cache("format", self.file, "--size", size, "--force")
            self.assert_ends(result, FAILED, self.file)
            self.assertNotIn(b"destroyed", result.stderr)
            with open(self.file, "rb") as file:
                self.assertEqual(file.read(), data)

    def test_format__only_what_was_measured_is_called_measured(self):
        """Small caches are not: batches start from a guess, and refine it."""
        for text in (self.format(), self.assert_ok(cache("stat", self.file)).decode()):
            self.assertIn("disk model", text)
            self.assertNotIn("measured", text)

    def test_format__a_folder_is_no_file(self):
        """One line, with the path."""
        result = cache("format", self.folder, "--size", "32Mi")
        self.assert_ends(result, FAILED, self.folder, "directory")
        self.assertEqual(result.stderr.count(b"\n"), 1)


class OnFile(Folder):
    def setUp(self):
        super().setUp()
        self.format("--quiet")

    def test_set__value_from_argument_file_and_stdin(self):
        """Each comes back byte for byte, in the order asked."""
        data = random.Random(1).randbytes(100000)
        self.assert_ok(cache("set", self.file, "a", "hello"))
        self.assert_ok(cache("set", self.file, "b", "--file", self.write("v", data)))
        self.assert_ok(cache("set", self.file, "c", input=b"\0\xff\n"))
        self.assert_ok(cache("set", self.file, "d", "-", input=b""))
        self.assertEqual(self.assert_ok(cache("get", self.file, "c", "a", "d", "b")),
                         b"\0\xff\nhello" + data)

    def test_set__an_object_and_ranges_of_it(self):
        """Megabytes go in and out, and a range gives just its bytes."""
        data = random.Random(2).randbytes(5 * MIB + 3)
        self.assert_ok(cache("set", self.file, "o", input=data))
        self.assertEqual(self.assert_ok(cache("get", self.file, "o")), data)
        for first, last in ((0, 0), (100, 199), (MIB - 1, 3 * MIB), (5 * MIB, 9 * MIB)):
            got = self.assert_ok(cache("get", self.file, "o", "--range", f"{first}-{last}"))
            self.assertEqual(got, data[first:last + 1])
        self.assertEqual(self.assert_ok(cache("get", self.file, "o", "--range", f"{5 * MIB}-")),
                         data[5 * MIB:])

    def test_set__conditions(self):
        """--add and --replace, and what is said when they do not hold."""
        self.assert_ends(cache("set", self.file, "a", "1", "--replace"), FAILED, "'a'", "not there")
        self.assert_ok(cache("set", self.file, "a", "1", "--add"))
        self.assert_ends(cache("set", self.file, "a", "2", "--add"), FAILED, "'a'", "already")
        self.assert_ok(cache("set", self.file, "a", "3", "--replace", "--pin"))
        self.assertEqual(self.assert_ok(cache("get", self.file, "a")), b"3")

    def test_get__a_miss_is_exit_1(self):
        """What is there is written all the same, and the miss is named."""
        self.assert_ok(cache("set", self.file, "a", "1"))
        result = cache("get", self.file, "x", "a")
        self.assert_ends(result, FAILED, "key 'x': miss")
        self.assertEqual(result.stdout, b"1")
        self.assert_ends(cache("get", self.file, "x", "--range", "0-5"), FAILED, "key 'x': miss")

    def test_get__json(self):
        """Text as text, bytes as digits, misses among them."""
        self.assert_ok(cache("set", self.file, "a", "grün", "--flags", "7", "--expire", "1h"))
        self.assert_ok(cache("set", self.file, "b", input=b"\xff\0"))
        result = cache("get", self.file, "a", "b", "x", "--json")
        self.assertEqual(result.returncode, FAILED)
        a, b, x = json.loads(result.stdout)
        self.assertEqual((a["status"], a["value"], a["flags"], a["bytes"]), ("hit", "grün", 7, 5))
        self.assertGreater(a["expiry"], 1600000000)
        self.assertEqual((b["hex"], b["expiry"]), ("ff00", 0))
        self.assertEqual(x, {"key": "x", "status": "miss"})

    def test_json__keys_that_are_no_text(self):
        """Their bytes as digits, where others have the text: no key is lost."""
        self.assert_ok(cache("set", self.file, b"k\xff".decode(errors="surrogateescape"), "1"))
        one, = json.loads(self.assert_ok(cache(
            "get", self.file, b"k\xff".decode(errors="surrogateescape"), "--json")))
        self.assertEqual((one["key_hex"], one["value"], "key" in one), ("6bff", "1", False))
        listed = json.loads(self.assert_ok(cache("check", self.file, "--all", "--json")))["listed"]
        self.assertEqual([(e["key_hex"], "key" in e) for e in listed], [("6bff", False)])

    def test_del__and_what_was_not_there(self):
        """Deleted keys are gone; one that was not there is named, and the others go all the same."""
        self.assert_ok(cache("set", self.file, "a", "1"))
        self.assert_ok(cache("set", self.file, "b", "1"))
        self.assert_ends(cache("del", self.file, "a", "x", "b"), FAILED, "key 'x': is not there")
        self.assertEqual(cache("get", self.file, "a", "b").returncode, FAILED)

    def test_stat__text_and_json(self):
        """The seed's figures are there by name, and agree."""
        self.assert_ok(cache("set", self.file, "a", "12345"))
        stat = json.loads(self.assert_ok(cache("stat", self.file, "--json")))
        self.assertEqual((stat["curr_items"], stat["bytes"]), (1, 5))
        self.assertEqual((stat["pending_writes"], stat["buffered_bytes"]), (0, 0))
        text = self.assert_ok(cache("stat", self.file)).decode()
        for words in ("entries", "pending writes", "buffered bytes", "a sync takes"):
            self.assertIn(words, text)

    def test_check__good_damaged_repaired(self):
        """Exit 0, 1, and 0 again with only the damaged entry gone."""
        data = random.Random(3).randbytes(50000)
        self.assert_ok(cache("set", self.file, "bad", input=data))
        for i in range(8):  # behind it, so that its batch is not taken for an unfinished one
            self.assert_ok(cache("set", self.file, f"good{i}", "1"))
        self.assertIn(b"all good", self.assert_ok(cache("check", self.file)))
        listed = json.loads(self.assert_ok(cache("check", self.file, "--all", "--json")))
        self.assertEqual((listed["entries"], len(listed["listed"])), (9, 9))
        with open(self.file, "r+b") as file:
            at = file.read().index(data[1000:1100])
            file.seek(at)
            file.write(b"XX")
        result = cache("check", self.file)
        self.assertEqual(result.returncode, FAILED, result)
        self.assertIn(b"bad: corrupt", result.stdout)
        self.assert_ends(cache("get", self.file, "bad"), FAILED, "key 'bad': corrupt")
        self.assert_ok(cache("check", self.file, "--repair"))
        self.assertIn(b"8 entries", self.assert_ok(cache("check", self.file)))
        self.assert_ends(cache("get", self.file, "bad"), FAILED, "key 'bad': miss")
        self.assertEqual(self.assert_ok(cache("get", self.file, "good7")), b"1")

    def test_get__a_value_that_breaks_off_is_named(self):
        """What was written of it is not taken for all of it: which key, and exit 1."""
        data = random.Random(6).randbytes(5 * MIB)
        self.assert_ok(cache("set", self.file, "o", input=data))
        for i in range(8):
            self.assert_ok(cache("set", self.file, f"good{i}", "1"))
        with open(self.file, "r+b") as file:
            file.seek(file.read().index(data[4 * MIB:4 * MIB + 100]))
            file.write(b"XX")
        result = cache("get", self.file, "good0", "o", "--range", "0-")
        self.assert_ends(result, FAILED, "key 'o'", "broke off after 4194304 bytes")
        self.assertEqual(result.stdout, b"1" + data[:4 * MIB])

    def test_errors__name_the_file_and_the_fix(self):
        """What is no cache, or is not there, is one line."""
        other = self.write("other", b"no cache" * 1000)
        for arguments in (["get", other, "a"], ["set", other, "a", "1"], ["stat", other],
                          ["del", other, "a"], ["check", other]):
            result = cache(*arguments)
            self.assert_ends(result, FAILED, other, "haul cache format")
            self.assertEqual(result.stderr.count(b"\n"), 1)
        self.assert_ends(cache("get", self.path("none"), "a"), FAILED, self.path("none"), "No such")
        self.assert_ends(cache("set", self.file, "a", "--file", self.path("none")), FAILED,
                         self.path("none"))
        self.assert_ends(cache("online", self.file), FAILED, self.file, "running server")

    def test_get__to_a_full_disk(self):
        """That stdout could not be written is said, and is a failure."""
        self.assert_ok(cache("set", self.file, "a", "1"))
        self.assert_ok(cache("set", self.file, "b", input=bytes(3 * MIB)))
        for key in ("a", "b"):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([HAUL, "cache", "get", self.file, key], stdout=full,
                                        stderr=subprocess.PIPE, timeout=SECONDS, check=False)
            self.assertEqual(result.returncode, FAILED)
            self.assertIn(b"No space left", result.stderr)
            self.assertEqual(result.stderr.count(b"\n"), 1)

    def test_set__stdin_that_never_ends_can_be_stopped(self):
        """Ctrl-C while the value is typed stores nothing."""
        process = subprocess.Popen([HAUL, "cache", "set", self.file, "a"], stdin=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdin.write(b"half")
        process.stdin.flush()
        while self.waits_elsewhere(process.pid):
            pass
        process.send_signal(signal.SIGINT)
        self.assertNotEqual(process.wait(SECONDS), OK)
        process.stdin.close()
        process.stderr.close()
        self.assertEqual(cache("get", self.file, "a").returncode, FAILED)

    @staticmethod
    def waits_elsewhere(pid):
        """Whether it is not yet where it reads its second piece of input."""
        with open(f"/proc/{pid}/wchan", encoding="utf-8") as wchan:
            return "pipe" not in wchan.read()


class Server(Folder):
    def setUp(self):
        super().setUp()
        self.format("--quiet")
        self.socket = self.path("socket")
        self.process = subprocess.Popen(
            [HAUL, "cache", "serve", self.file, "--listen", "127.0.0.1:0", "--unix", self.socket],
            stdout=subprocess.PIPE)
        self.addCleanup(self.process.stdout.close)
        self.addCleanup(self.stop)
        self.address = None
        while self.address is None or not os.path.exists(self.socket):
            line = self.process.stdout.readline().decode()
            self.assertTrue(line, "the server ended")
            if "127.0.0.1:" in line:
                self.address = line.split()[-1]

    def stop(self):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            self.assertEqual(self.process.wait(SECONDS), OK)

    def test_server__set_get_del_by_both_addresses(self):
        """What one command stored the next one finds, and the file has it when the server ended."""
        data = random.Random(4).randbytes(3 * MIB + 1)
        for target in (self.socket, self.address):
            self.assert_ok(cache("set", target, "a", "hello", "--flags", "9"))
            self.assert_ok(cache("set", target, "o", input=data))
            self.assertEqual(self.assert_ok(cache("get", target, "a", "o")), b"hello" + data)
            got = self.assert_ok(cache("get", target, "o", "--range", f"{MIB}-{2 * MIB}"))
            self.assertEqual(got, data[MIB:2 * MIB + 1])
            one, miss = json.loads(cache("get", target, "a", "x", "--json").stdout)
            self.assertEqual((one["value"], one["flags"], miss["status"]), ("hello", 9, "miss"))
            self.assert_ends(cache("del", target, "a", "x"), FAILED, "key 'x': is not there")
            self.assert_ends(cache("get", target, "a"), FAILED, "key 'a': miss")
        self.stop()
        self.assertEqual(self.assert_ok(cache("get", self.file, "o")), data)

    def test_server__conditions_expiry_and_what_it_cannot(self):
        """--add, --replace, --expire as on a file; --pin and odd keys are refused with a reason."""
        self.assert_ends(cache("set", self.socket, "a", "1", "--replace"), FAILED, "not there")
        self.assert_ok(cache("set", self.socket, "a", "1", "--add", "--expire", "90d"))
        self.assert_ends(cache("set", self.socket, "a", "1", "--add"), FAILED, "already")
        self.assertEqual(self.assert_ok(cache("get", self.socket, "a")), b"1")
        self.assert_ends(cache("set", self.socket, "a", "1", "--pin"), FAILED, "--pin")
        self.assert_ends(cache("set", self.socket, "a b", "1"), FAILED, "'a b'", "without blanks")
        self.assert_ends(cache("get", self.socket, "x" * 251), FAILED, "250 bytes")

    def test_server__stat_has_the_work(self):
        """Batches, reasons and ratios, which a file at rest does not have."""
        self.assert_ok(cache("set", self.socket, "a", "1"))
        self.assert_ok(cache("get", self.socket, "a"))
        stat = json.loads(self.assert_ok(cache("stat", self.address, "--json")))
        self.assertEqual((stat["curr_items"], stat["hit_ratio"], stat["flush_ops"]), (1, 1.0, 1))
        self.assertGreater(stat["write_amplification"], 1)
        text = self.assert_ok(cache("stat", self.socket)).decode()
        for words in ("flush reasons", "operations a flush", "hits", "write amplification"):
            self.assertIn(words, text)

    def test_server__stat_watch_ends_by_a_signal(self):
        """One object a line until then."""
        with subprocess.Popen([HAUL, "cache", "stat", self.socket, "--watch", "--json"],
                              stdout=subprocess.PIPE) as process:
            self.assertIn("curr_items", json.loads(process.stdout.readline()))
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        self.assertEqual(process.returncode, OK)

    def test_server__has_the_file(self):
        """A command on the file says that somebody has it, and what to give instead."""
        for arguments in (["get", self.file, "a"], ["set", self.file, "a", "1"], ["stat", self.file]):
            self.assert_ends(cache(*arguments), FAILED, self.file, "in use", "HOST:PORT")
        self.assert_ends(cache("format", self.file, "--force"), FAILED, "in use")
        self.assert_ends(cache("check", self.file), FAILED, "in use")

    def test_server__online(self):
        """Nothing was lost, so there is nothing to do, and that is no failure."""
        self.assert_ok(cache("online", self.socket))


class OtherServers(Folder):
    def listen(self, answer):
        """Somebody who says `answer` to whatever comes, and hangs up."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        child = os.fork()
        if child == 0:
            while True:
                one, _ = listener.accept()
                one.recv(100)
                one.sendall(answer)
                one.shutdown(socket.SHUT_WR)
                while one.recv(1000):
                    pass
                one.close()
        self.addCleanup(os.waitpid, child, 0)
        self.addCleanup(os.kill, child, signal.SIGKILL)
        return "127.0.0.1:%d" % listener.getsockname()[1]

    def test_client__nobody_there(self):
        """Refused, a name that is none, a port that is none: each with the address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            free = "127.0.0.1:%d" % listener.getsockname()[1]
        self.assert_ends(cache("get", free, "a"), FAILED, free, "refused", "haul cache serve")
        self.assert_ends(cache("stat", "127.0.0.1:http"), FAILED, "127.0.0.1:http", "HOST:PORT")

    def test_client__who_answers_is_no_cache(self):
        """What came instead is said; a hang-up, an endless line and a wrong length are no crash."""
        for answer in (b"HTTP/1.1 400 Bad Request\r\n", b"VALUE a\r\n", b"VALUE a 0 99999999999\r\n",
                       b"SERVER_ERROR out of memory\r\n"):
            there = self.listen(answer)
            for arguments in (["get", there, "a"], ["set", there, "a", "1"], ["del", there, "a"],
                              ["stat", there], ["online", there]):
                self.assert_ends(cache(*arguments), FAILED, there, "the server says")
        there = self.listen(b"x" * 10000)
        self.assert_ends(cache("get", there, "a"), FAILED, there, "no cache answers")
        there = self.listen(b"VALUE a 0 100\r\nshort")
        self.assert_ends(cache("get", there, "a"), FAILED, there, "hung up")
        there = self.listen(b"")
        self.assert_ends(cache("stat", there), FAILED, there)


if __name__ == "__main__":
    unittest.main(verbosity=2)
