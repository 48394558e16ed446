"""haul node and haul stats as a user meets them. argv: haul program, folder of the examples.

What needs root (a TAP) runs in network namespaces of its own and is left out without root."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

HAUL, EXAMPLES = sys.argv[1], sys.argv[2]
SECONDS = 20

GOOD = """node: {role}
name: {role}
tap: {{ifname: haul0, address: 10.1.0.{n}/24}}
radio: {{kind: udp, local: "127.0.0.{n}:4789", broadcast: "127.255.255.255:4789"}}
heartbeat: {{period_ms: 50}}
control: {folder}/{role}.sock
"""


def haul(*arguments, **options):
    return subprocess.run([HAUL, *arguments], capture_output=True, text=True, timeout=SECONDS,
                          check=False, **options)


def in_namespace(*command):
    return ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh", *command]


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, text, name="n.yaml"):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def write_good(self, role="rsu", n=1):
        return self.write(GOOD.format(role=role, n=n, folder=self.folder.name), role + ".yaml")


class Check(Folder):
    def test_node__examples_are_good(self):
        """The examples in the tree pass their own check."""
        for name in ("node-obu.yaml", "node-rsu.yaml"):
            done = haul("node", "-c", os.path.join(EXAMPLES, name), "--check")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("good", done.stdout)

    def test_node__bad_file_is_one_line_and_exit_1(self):
        """A bad file is told in one line, with and without --check; nothing starts."""
        path = self.write("node: obu\nname: car\ncolour: red\n")
        for arguments in (["--check"], []):
            done = haul("node", "-c", path, *arguments)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stdout, "")
            self.assertEqual(done.stderr.count("\n"), 1)
            self.assertIn(path + ":3: ", done.stderr)
            self.assertIn("colour", done.stderr)

    def test_node__missing_file_is_exit_1(self):
        """The file that is not there is named."""
        done = haul("node", "-c", "/nowhere.yaml")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere.yaml", done.stderr)

    def test_node__usage_is_exit_2(self):
        """What was typed wrong is told apart from what went wrong."""
        for arguments in (["node"], ["node", "x.yaml"], ["node", "-c", "x", "--ready-fd", "no"],
                          ["node", "-c", "x", "--ready-fd", "-1"], ["stats"], ["stats", "a", "b"]):
            done = haul(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn("haul", done.stderr)

    def test_stats__stats_without_a_node_is_exit_1(self):
        """The socket that is not there is named."""
        done = haul("stats", os.path.join(self.folder.name, "none"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("none", done.stderr)


@unittest.skipIf(os.geteuid() != 0, "needs root: a TAP in a network namespace")
class Run(Folder):
    def start(self, path, *arguments, **options):
        process = subprocess.Popen(in_namespace(HAUL, "node", "-c", path, *arguments),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   **options)
        self.addCleanup(self.reap, process)
        return process

    @staticmethod
    def reap(process):
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def start_ready(self, path):
        process = self.start(path)
        self.assertIn("ready", process.stdout.readline())
        return process

    def fails(self, text, *words):
        done = subprocess.run(in_namespace(HAUL, "node", "-c", self.write(text)),
                              capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stdout, "")
        for word in words:
            self.assertIn(word, done.stderr)

    def test_node__signals_end_it_clean(self):
        """SIGINT and SIGTERM: exit 0, nothing on stderr, no socket left behind."""
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start_ready(self.write_good())
            sock = os.path.join(self.folder.name, "rsu.sock")
            self.assertTrue(os.path.exists(sock))
            process.send_signal(number)
            self.assertEqual(process.wait(SECONDS), 0)
            self.assertEqual(process.stderr.read(), "")
            self.assertFalse(os.path.exists(sock))

    def test_node__ready_fd_tells_the_parent(self):
        """One line on the descriptor, then end of file."""
        read, write = os.pipe()
        process = self.start(self.write_good(), "--ready-fd", str(write), pass_fds=[write])
        os.close(write)
        with os.fdopen(read) as pipe:
            self.assertEqual(pipe.read(), "ready\n")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(SECONDS), 0)

    def test_stats__stats_of_a_running_node(self):
        """Every place that batches has its block."""
        self.start_ready(self.write_good())
        sock = os.path.join(self.folder.name, "rsu.sock")
        status = json.loads(haul("stats", sock, "--json").stdout)
        self.assertEqual((status["node"], status["role"]), ("rsu", "rsu"))
        names = {block["name"] for block in status["stats"]}
        self.assertTrue({"tap.rx", "tap.tx", "radio.rx", "radio.tx", "bundle", "control",
                         "datapath"} <= names)
        text = haul("stats", sock).stdout
        for word in ("rsu", "datapath", "CLOSED BY"):
            self.assertIn(word, text)

    def test_node__live_socket_is_not_taken_away(self):
        """A second node with the same socket fails, the first goes on."""
        self.start_ready(self.write_good())
        second = subprocess.run(in_namespace(HAUL, "node", "-c", self.write_good()),
                                capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(second.returncode, 1)
        self.assertIn("rsu.sock", second.stderr)
        self.assertEqual(haul("stats", os.path.join(self.folder.name, "rsu.sock")).returncode, 0)

    def test_node__stale_socket_is_replaced(self):
        """What a killed node left behind keeps nobody from starting."""
        process = self.start_ready(self.write_good())
        process.kill()
        process.wait()
        self.assertTrue(os.path.exists(os.path.join(self.folder.name, "rsu.sock")))
        self.start_ready(self.write_good())

    def test_node__no_such_interface(self):
        """The radio interface that is not there is named."""
        self.fails("node: obu\nname: car\ntap: {ifname: haul0}\n"
                   "radio: {kind: raw, ifname: radio9}\n", "radio9", "No such device")

    def test_node__address_that_is_not_here(self):
        """The address that cannot be bound is named."""
        self.fails(GOOD.format(role="rsu", n=1, folder=self.folder.name)
                   .replace("127.0.0.1:", "203.0.113.9:"), "203.0.113.9:4789")

    def test_node__interface_is_taken(self):
        """A TAP name that something else has is named."""
        path = self.write_good()
        done = subprocess.run(
            in_namespace("sh", "-c", f"ip tuntap add haul0 mode tun && {HAUL} node -c {path}"),
            capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("haul0", done.stderr)

    def test_node__mtu_that_does_not_fit(self):
        """Line, the configured number, the largest, and what the radio carries."""
        self.fails("node: obu\nname: car\ntap: {ifname: haul0, mtu: 1407}\n"
                   "radio: {kind: udp, local: \"127.0.0.1:1\", broadcast: \"127.255.255.255:1\", "
                   "mtu: 1472}\n", ":3: ", "1407", "1406", "1472")

    def test_node__without_privilege(self):
        """Says which capabilities are missing."""
        path = self.write_good()
        os.chmod(self.folder.name, 0o755)
        done = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups",
                               "--bounding-set=-all", "--inh-caps=-all", HAUL, "node", "-c", path],
                              capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("CAP_NET_ADMIN", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
