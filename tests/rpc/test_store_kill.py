"""`haul store serve` is killed with SIGKILL, again and again, while one client object of another
program commits groups; now and then it is killed a second time while it recovers. The client stays:
it connects again and sends again what was not answered. In the end every group that was told is
there and whole, every other is whole or absent, and none was applied twice (store_ledger.c).

Usage: test_store_kill.py path/to/haul path/to/store_ledger
HAUL_TEST_SEED repeats a run as far as the machine does; HAUL_KILL_SECONDS makes it longer (12).
"""
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HAUL, LEDGER = sys.argv.pop(1), sys.argv.pop(1)
SECONDS = float(os.environ.get("HAUL_KILL_SECONDS", "12"))
SEED = int(os.environ.get("HAUL_TEST_SEED", "0")) or random.SystemRandom().getrandbits(48)


class Server:
    """A server of the store in a folder, at a Unix socket in it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, "socket")
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [HAUL, "store", "serve", os.path.join(self.folder, "store"), "--memory", "128Mi",
             "--listen", "unix:" + self.path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def listens(self):
        """Wait until it does; False: it has ended instead."""
        while self.process.poll() is None:
            probe = socket.socket(socket.AF_UNIX)
            try:
                probe.connect(self.path)
                return True
            except OSError:
                time.sleep(0.002)
            finally:
                probe.close()
        return False

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def said(self):
        return self.process.stderr.read().decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process.stderr.close()
        return code


class KillTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="haul-store-kill-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.random = random.Random(SEED)
        self.server = Server(self.folder)
        subprocess.run([HAUL, "store", "init", os.path.join(self.folder, "store")], check=True,
                       stdout=subprocess.DEVNULL)

    def tearDown(self):
        if self.server.process.poll() is None:
            self.server.kill()
        shutil.rmtree(self.folder)

    def restart(self):
        """Start it; one time in three it is killed while it opens the store."""
        self.server.start()
        while self.random.random() < 0.33:
            time.sleep(self.random.random() * 0.03)
            self.server.kill()
            self.server.start()
        if not self.server.listens():
            self.fail("after a kill: " + self.server.said())

    def test_kill__keeps_what_was_told(self):
        print(f"HAUL_TEST_SEED={SEED}")
        self.server.start()
        self.assertTrue(self.server.listens())
        ledger = subprocess.Popen([LEDGER, "unix:" + self.server.path],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(ledger.stdout.readline(), b"begun\n")
        until = time.monotonic() + SECONDS
        kills = 0
        while time.monotonic() < until and ledger.poll() is None:
            time.sleep(self.random.random() ** 2 * 0.6)
            self.server.kill()
            kills += 1
            self.restart()
        ledger.stdin.close()
        out = ledger.stdout.read().decode()
        ledger.stdout.close()
        self.assertEqual(ledger.wait(120), 0, out)
        told = int(re.search(r"told (\d+)", out).group(1))
        print(f"killed {kills} times; {out.strip()}")
        self.assertGreater(told, 0)
        self.assertGreater(kills, 3)
        self.assertEqual(self.server.stop(), 0)
        check = subprocess.run([HAUL, "store", "check", os.path.join(self.folder, "store")],
                               capture_output=True)
        self.assertEqual(check.returncode, 0, check.stdout.decode() + check.stderr.decode())


if __name__ == "__main__":
    unittest.main()
