"""haul sim from outside: what it shows, and that nothing of it is left behind, however it ends.

Usage: test_sim.py path/to/haul path/to/examples. Needs root (namespaces, TAP); skipped without.
"""
import glob
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import unittest

HAUL, EXAMPLES = sys.argv[1], sys.argv[2]
del sys.argv[1:3]
OK, FAILED, USAGE = 0, 1, 2
SKIPPED = 77

# A line of cars: rsu1 - car1 - car2. Fast heartbeats, so that the tests need not wait.
LINE = """
seed: 3
duration_s: {duration}
settings: {{heartbeat_ms: 50}}
nodes:
- {{name: rsu1, role: rsu}}
- {{name: car1, role: obu}}
- {{name: car2, role: obu}}
links:
- {{a: rsu1, b: car1, latency_ms: 1}}
- {{a: car1, b: car2, latency_ms: 1}}
"""


class Sim(unittest.TestCase):
    def setUp(self):
        """Folders of the runs go where we can see them; we adopt what a killed run leaves."""
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.interfaces = sorted(os.listdir("/sys/class/net"))

    def scenario(self, text):
        path = os.path.join(self.folder.name, "scenario.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self, *arguments, path=os.environ["PATH"], limit=None):
        """In a session of its own, whose id marks every process of the run."""
        environment = {**os.environ, "TMPDIR": self.folder.name, "PATH": path}
        process = subprocess.Popen(
            [HAUL, "sim", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
            preexec_fn=lambda: limit and resource.setrlimit(limit[0], (limit[1], limit[1])))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def run_to_end(self, *arguments, seconds=120):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=seconds)
        self.assert_nothing_left(process)
        return process.returncode, out, err

    def processes_of(self, process):
        """Those of its session that have not ended."""
        found = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, encoding="utf-8") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == process.pid and fields[0] not in "ZX":
                found.append(int(path.split("/")[2]))
        return found

    @staticmethod
    def command_of(pid):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                return file.read().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []

    def node_pids(self, process, name):
        return [pid for pid in self.processes_of(process)
                if "node" in (command := self.command_of(pid)) and
                command[3].endswith(f"/{name}.yaml")]

    def names_of(self, process):
        return [command[0] for pid in self.processes_of(process)
                if (command := self.command_of(pid))]

    def assert_nothing_left(self, process, folder=False):
        """No process, no interface, and no folder, unless it is said that one may stay."""
        self.assertEqual(self.processes_of(process), [])
        self.assertEqual(sorted(os.listdir("/sys/class/net")), self.interfaces)
        if not folder:
            self.assertEqual(glob.glob(self.folder.name + "/haul-sim-*"), [])

    def wait_for_keep(self, process):
        """Its list of namespaces comes when all is up and the report is out."""
        for line in process.stderr:
            if "Ctrl-C" in line:
                return
        self.fail("ended before it stayed up: " + process.stdout.read())

    def finish(self, process):
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    # ---- what it shows ----

    def test_sim__the_demo_passes(self):
        """Real TCP and UDP over two radio hops, a download across a handover, sums compared."""
        status, out, err = self.run_to_end(EXAMPLES + "/crossroads.yaml", "--json")
        self.assertEqual(status, OK, err + out[:4000])
        report = json.loads(out)
        self.assertTrue(report["passed"])
        flows = {(flow["kind"], flow["from"]): flow for flow in report["flows"]}
        for kind in "ping", "iperf3-tcp", "iperf3-udp":
            self.assertEqual(flows[kind, "car4"]["hops"], 2)
            self.assertEqual(flows[kind, "car4"]["route"], "car4 > car3 > rsu2")
        self.assertGreater(flows["iperf3-tcp", "car4"]["mbit_per_s"], 1)
        self.assertTrue(flows["http", "car2"]["sha256_matches"])
        self.assertEqual(flows["ping", "car2"]["route"], "car2 > rsu1")
        self.assertEqual(flows["ping", "car2"]["route_end"], "car2 > rsu2 = rsu1")
        for flow in report["flows"]:
            self.assertTrue(flow["connection"]["agrees"], flow)
            self.assertGreater(len(flow["connection"]["said"]), 0)
        http = flows["http", "car2"]["connection"]
        self.assertEqual([http["payload_rx"]] * 2, http["said"]["payload_rx"])
        self.assertGreater(http["payload_rx"], 20 << 20)
        for node in report["nodes"]:
            blocks = {block["name"]: block for block in node["stats"]}
            radio = blocks["radio.rx"]
            self.assertGreater(radio["ops"], 0)
            self.assertEqual(radio["batches"], sum(radio["closed"].values()))
            self.assertGreaterEqual(radio["fill"]["mean"], 1)

    def test_sim__latency_and_loss_are_measured(self):
        """A ping sees the latency of both links, both ways; the report has the loss that was."""
        path = self.scenario(LINE.format(duration=4).replace("latency_ms: 1", "latency_ms: 5") +
                             "traffic:\n- {kind: ping, from: car2, to: rsu1, seconds: 2, hops: 2}\n")
        status, out, err = self.run_to_end(path, "--json")
        self.assertEqual(status, OK, err + out)
        report = json.loads(out)
        self.assertGreaterEqual(report["flows"][0]["rtt_p50_ms"], 20)
        for link in report["links"]:
            self.assertGreaterEqual(link["delay_p50_ms"], 5 * 7 / 8)
            self.assertEqual((link["lost"], link["dropped"]), (0, 0))
            self.assertLessEqual(link["delivered"], link["sent"])  # some are under way

    def test_sim__failing_flow_fails_the_run(self):
        """What the scenario demands and did not get: told, and exit 1."""
        path = self.scenario(LINE.format(duration=3) +
                             "traffic:\n- {kind: ping, from: car2, to: rsu1, seconds: 1, hops: 3}\n")
        status, out, _ = self.run_to_end(path)
        self.assertEqual(status, FAILED)
        self.assertIn("its route had 2 radio hops, want 3", out)
        self.assertIn("FAILED", out)

    def test_sim__events_happen_on_time(self):
        """The link goes down half way: the answers end, and the longest silence says since when."""
        path = self.scenario(LINE.format(duration=8) +
                             "events:\n- {at_s: 2, a: rsu1, b: car1, up: false}\n"
                             "traffic:\n- {kind: ping, from: car1, to: rsu1, seconds: 5, loss_max: 1}\n")
        status, out, err = self.run_to_end(path, "--json")
        self.assertEqual(status, OK, err + out)
        flow = json.loads(out)["flows"][0]
        self.assertGreater(flow["loss"], 0.3)
        self.assertGreater(flow["gap_ms"], 1500)

    def test_sim__120_nodes_start_and_route(self):
        """Every car has a way to a road-side unit that knows it, within 60 heartbeats."""
        status, out, err = self.run_to_end(EXAMPLES + "/scale-120.yaml", "--json", seconds=240)
        self.assertIn(status, (OK, FAILED), err)
        report = json.loads(out)
        self.assertEqual(len(report["nodes"]), 120)
        self.assertTrue(report["all_routed"], f"{report['converged_heartbeats']} heartbeats")
        self.assertEqual([node["name"] for node in report["nodes"] if node["died"]], [])
        self.assertEqual([node["name"] for node in report["nodes"]
                          if node["role"] == "obu" and not node["upstream"]], [])
        print(f"up in {report['start_s']:.2f} s, routes after "
              f"{report['converged_heartbeats']:.1f} heartbeats")

    # ---- how it ends ----

    def test_sim__sigint_and_sigterm_leave_nothing(self):
        """While it stays up, and while it still starts."""
        for number in signal.SIGINT, signal.SIGTERM:
            process = self.start(self.scenario(LINE.format(duration=1)), "--keep")
            self.wait_for_keep(process)
            self.assertEqual(len(self.node_pids(process, "car1")), 1)
            process.send_signal(number)
            status, _, _ = self.finish(process)
            self.assertEqual(status, OK)
            self.assert_nothing_left(process)
        process = self.start(self.scenario(LINE.format(duration=600)))
        while not self.node_pids(process, "car2"):
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        status, _, err = self.finish(process)
        self.assertEqual(status, FAILED)
        self.assertIn("stopped by a signal", err)
        self.assert_nothing_left(process)

    def test_sim__killed_node_is_reported_and_the_run_goes_on(self):
        """The traffic of others is not touched; the report names the dead and how it died."""
        path = self.scenario(LINE.format(duration=6) +
                             "traffic:\n- {kind: ping, from: car1, to: rsu1, seconds: 4}\n")
        process = self.start(path, "--json")
        # the client of the flow says that the traffic runs
        while "ping" not in self.names_of(process):
            self.assertIsNone(process.poll())
        os.kill(self.node_pids(process, "car2")[0], signal.SIGKILL)
        status, out, err = self.finish(process)
        self.assertEqual(status, FAILED, err)
        report = json.loads(out)
        died = {node["name"]: node["died"] for node in report["nodes"]}
        self.assertIn("killed by signal 9", died["car2"])
        self.assertIsNone(died["car1"])
        self.assertEqual(report["flows"][0]["state"], "passed")
        self.assert_nothing_left(process)

    def test_sim__sigkill_leaves_no_process_and_no_interface(self):
        """Nobody can tidy up then but the kernel; the folder goes with the next run."""
        process = self.start(self.scenario(LINE.format(duration=1)), "--keep")
        self.wait_for_keep(process)
        nodes = self.processes_of(process)
        self.assertGreater(len(nodes), 3)
        process.kill()
        process.communicate(timeout=30)
        for pid in nodes:
            self.wait_until_gone(pid)
        self.assert_nothing_left(process, folder=True)
        self.assertEqual(len(glob.glob(self.folder.name + "/haul-sim-*")), 1)
        self.run_to_end(self.scenario(LINE.format(duration=1)))

    def wait_until_gone(self, pid):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        ready, _, _ = select.select([descriptor], [], [], 30)
        os.close(descriptor)
        self.assertTrue(ready, f"process {pid} lives on")

    def test_sim__node_that_dies_at_start_takes_everything_down(self):
        """Its name and how it died, exit 1; of the 119 others nothing stays."""
        process = self.start(EXAMPLES + "/scale-120.yaml")
        while not self.node_pids(process, "rsu1"):
            self.assertIsNone(process.poll())
        os.kill(self.node_pids(process, "rsu1")[0], signal.SIGKILL)
        status, out, err = self.finish(process)
        self.assertEqual((status, out), (FAILED, ""))
        self.assertIn("node rsu1: killed by signal 9", err)
        self.assert_nothing_left(process)

    def test_sim__start_that_runs_out_of_descriptors_takes_everything_down(self):
        """Half of the namespaces and interfaces are there when it fails."""
        process = self.start(EXAMPLES + "/scale-120.yaml", limit=(resource.RLIMIT_NOFILE, 100))
        status, out, err = self.finish(process)
        self.assertEqual((status, out), (FAILED, ""))
        self.assertIn("Too many open files", err)
        self.assert_nothing_left(process)

    def test_sim__reader_that_goes_away_leaves_nothing(self):
        """As in `haul sim … | head`: the report finds nobody, and everything is still taken down."""
        process = self.start(self.scenario(LINE.format(duration=1)))
        process.stdout.close()
        process.wait(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGPIPE)
        self.assert_nothing_left(process)

    def test_sim__missing_program_is_named_before_anything_starts(self):
        """And what it is for."""
        path = self.scenario(LINE.format(duration=3) +
                             "traffic:\n- {kind: ping, from: car1, to: rsu1}\n")
        process = self.start(path, path="/nonexistent")
        status, out, err = self.finish(process)
        self.assertEqual((status, out), (FAILED, ""))
        self.assertIn("kind ping needs the program ping", err)
        self.assert_nothing_left(process)

    def test_sim__folder_of_a_stranger_is_left_alone(self):
        """Only what a dead run left is removed: not what a live one holds."""
        alive = self.start(self.scenario(LINE.format(duration=1)), "--keep")
        self.wait_for_keep(alive)
        other = self.start(self.scenario(LINE.format(duration=1)))
        self.finish(other)
        self.assertEqual(len(glob.glob(self.folder.name + "/haul-sim-*")), 1)
        self.assertEqual(len(self.node_pids(alive, "car1")), 1)
        alive.send_signal(signal.SIGINT)
        self.finish(alive)
        self.assert_nothing_left(alive)

    def test_sim__second_signal_does_not_hurt(self):
        """Ctrl-C in haste: still everything goes."""
        process = self.start(self.scenario(LINE.format(duration=1)), "--keep")
        self.wait_for_keep(process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        self.finish(process)
        self.assert_nothing_left(process)


class Asking(unittest.TestCase):
    """What needs no root."""

    def haul(self, *arguments):
        return subprocess.run([HAUL, "sim", *arguments], capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL, check=False)

    def test_sim__check_starts_nothing(self):
        """Every scenario that comes with haul is good."""
        for path in "crossroads", "scale-120":
            result = self.haul(f"{EXAMPLES}/{path}.yaml", "--check")
            self.assertEqual(result.returncode, OK, result.stderr)
            self.assertIn("good", result.stdout)

    def test_sim__wrong_options_are_named(self):
        """Exit 2 and the value."""
        for arguments, word in ((["x", "--duration", "0"], "'0'"), (["x", "--duration", "soon"], "'soon'"),
                                (["x", "--seed", "-1"], "'-1'"), (["x", "y"], "'y'"), ([], "FILE")):
            result = self.haul(*arguments)
            self.assertEqual(result.returncode, USAGE, result)
            self.assertIn(word, result.stderr)

    def test_sim__missing_file_is_named(self):
        """Exit 1, nothing on stdout."""
        result = self.haul("/nonexistent/town.yaml")
        self.assertEqual(result.returncode, FAILED)
        self.assertEqual(result.stdout, "")
        self.assertIn("/nonexistent/town.yaml", result.stderr)


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        print("skipped: needs root and /dev/net/tun")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
