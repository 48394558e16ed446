"""The installed library can be used from outside the tree: examples/*.c build with pkg-config and run.

Usage: test_examples.py SOURCE BUILD "compiler and what it needs to link the library"
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import unittest

COMPILER = shlex.split(sys.argv.pop(3))
BUILD = pathlib.Path(sys.argv.pop(2))
SOURCE = pathlib.Path(sys.argv.pop(1))


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = pathlib.Path(cls.folder.name)
        installed = run("meson", "install", "--no-rebuild", "--quiet", "-C", BUILD,
                        "--destdir", cls.root)
        if installed.returncode:
            raise RuntimeError(installed.stdout + installed.stderr)
        found = next(cls.root.rglob("haul.pc"))
        cls.libdir = found.parent.parent
        cls.environment = {**os.environ, "PKG_CONFIG_PATH": str(found.parent),
                           "PKG_CONFIG_SYSROOT_DIR": str(cls.root),
                           "LD_LIBRARY_PATH": str(cls.libdir)}

    def flags(self):
        result = run("pkg-config", "--cflags", "--libs", "haul", env=self.environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        return shlex.split(result.stdout)

    def test_pkg_config__names_one_library(self):
        """A user links haul, and what haul needs comes along by itself."""
        self.assertEqual([f for f in self.flags() if f.startswith("-l")], ["-lhaul"])

    def test_examples__build_and_run(self):
        """Each in an empty folder, with the warnings a careful user has on."""
        examples = sorted((SOURCE / "examples").glob("*.c"))
        self.assertGreater(len(examples), 0)
        for example in examples:
            with self.subTest(example=example.name):
                program = self.root / example.stem
                built = run(*COMPILER, "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
                            example, *self.flags(), "-o", program, cwd=self.root)
                self.assertEqual(built.returncode, 0, built.stderr)
                result = run(program, env=self.environment)
                print(f"{example.stem}:\n{result.stdout}{result.stderr}")
                self.assertEqual(result.returncode, 0)

    def test_headers__compile_as_c_plus_plus(self):
        """Users of C++ include them, too, if there is a compiler to try."""
        if run("sh", "-c", "command -v g++").returncode:
            self.skipTest("no C++ compiler")
        source = 'extern "C" {\n#include <haul/haul.h>\n}\nint main() { return 0; }\n'
        result = run("g++", "-fsyntax-only", *self.flags(), "-x", "c++", "-", input=source)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_library__shows_only_its_own_names(self):
        """Everything else is hidden, so that it cannot clash and may change."""
        symbols = run("nm", "-D", "--defined-only", self.libdir / "libhaul.so").stdout.split("\n")
        names = {line.split()[-1].split("@")[0] for line in symbols if line}
        self.assertGreater(len(names), 0)
        self.assertEqual({n for n in names if not n.startswith("haul_")}, set())


if __name__ == "__main__":
    unittest.main(verbosity=2)
