"""What haul says and how it exits when it is asked wrongly, and that every command explains itself.

Usage: test_cli.py path/to/haul
"""
import json
import re
import subprocess
import sys
import unittest

HAUL = sys.argv.pop(1)
OK, FAILED, USAGE = 0, 1, 2


def haul(*arguments):
    return subprocess.run([HAUL, *arguments], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, check=False)


def commands():
    """The names that `haul --help` lists."""
    listed = haul("--help").stdout.split("Commands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in listed.splitlines()]


class Cli(unittest.TestCase):
    def assert_usage(self, result, *words):
        """Exit 2, nothing on stdout, and a message that has these words."""
        self.assertEqual(result.returncode, USAGE, result)
        self.assertEqual(result.stdout, "")
        for word in words:
            self.assertIn(word, result.stderr)

    def test_version__is_one_line(self):
        """Scripts compare it."""
        result = haul("--version")
        self.assertEqual(result.returncode, OK)
        self.assertRegex(result.stdout, r"^haul \d+\.\d+\.\d+\n$")

    def test_help__lists_every_command(self):
        """`haul --help` and `haul help` are the same text, and all in it can be run."""
        self.assertEqual(haul("--help").stdout, haul("help").stdout)
        self.assertIn("help", commands())
        for name in commands():
            self.assertEqual(haul("help", name).returncode, OK, name)

    def test_help__of_every_command_has_an_example(self):
        """The example is a line that starts with the program's name, so it can be pasted."""
        for name in commands():
            result = haul(name, "--help")
            self.assertEqual(result.returncode, OK, result)
            self.assertIn("Usage: haul " + name, result.stdout)
            example = r"Examples?:.*\n(?:.*\n)*?  (?:sudo )?haul " + re.escape(name) + r"\b"
            self.assertRegex(result.stdout, example)
            self.assertEqual(haul("help", name).stdout, result.stdout)

    def test_help__lines_fit_a_terminal(self):
        """80 columns, as far as we write the line and not argp."""
        for line in haul("--help").stdout.splitlines():
            self.assertLessEqual(len(line), 80, line)

    def test_no_command__is_a_usage_error(self):
        """Nothing to do is not success."""
        self.assert_usage(haul(), "Usage: haul")

    def test_unknown_command__names_the_nearest(self):
        """A slip of up to two letters is recognised; another word gets the way to the list."""
        self.assert_usage(haul("hlep"), "no command 'hlep'", "did you mean 'haul help'?")
        self.assert_usage(haul("help", "hlep"), "did you mean 'haul help'?")
        self.assert_usage(haul("x" * 500), "'haul --help' lists all")
        self.assert_usage(haul(""), "no command ''")

    def test_unknown_command__the_beginning_of_one_is_enough(self):
        """Who types "sto" means store, though sim is fewer letters away."""
        self.assert_usage(haul("sto"), "did you mean 'haul store'?")
        self.assert_usage(haul("store", "neigh"), "did you mean 'haul store neighbours'?")

    def test_numbers__decimal_or_hexadecimal_and_nothing_else(self):
        """No sign, no blank, nothing behind it."""
        for bad in ("0x", "0x40z", "+16", " 16", "1e3", "16 "):
            self.assert_usage(haul("map", "dump", "m", "--batch", bad), f"'{bad}'", "16 to 65536")
        for good in ("0x40", "64", "0064"):
            self.assertNotEqual(haul("map", "dump", "m", "--batch", good).returncode, USAGE)

    def test_words__the_one_that_is_missing_or_too_much_is_named(self):
        """In the words of the usage line, and with what is wanted."""
        for words, arguments in (
                ("TO is missing: wanted is WHERE FROM TO", ["store", "path", "g", "1"]),
                ("WHERE is missing: a folder, unix:PATH or HOST:PORT", ["store", "path"]),
                ("FILE|DEVICE is missing", ["cache", "check"]),
                ("FILE is missing", ["flows", "import"]),
                ("'c' is too much: wanted is [NAME] FILE", ["flows", "export", "a", "b", "c"]),
                ("'x' is too much: wanted is nothing", ["map", "list", "x"]),
                ("'v' is too much: wanted is TARGET KEY [VALUE]",
                 ["cache", "set", "c", "k", "u", "v"])):
            self.assert_usage(haul(*arguments), words)

    def test_full_disk__is_said_and_is_a_failure(self):
        """Also of help and of a list, so that no script works with half of one."""
        for arguments in (["--help"], ["--version"], ["help", "store"], ["store", "get", "--help"],
                          ["bench", "--list"], ["bench", "--list", "--json"]):
            with open("/dev/full", "w", encoding="ascii") as full:
                result = subprocess.run([HAUL, *arguments], stdout=full, text=True, timeout=60,
                                        stderr=subprocess.PIPE, check=False)
            self.assertEqual(result.returncode, FAILED, arguments)
            self.assertRegex(result.stderr, "^haul: .*: No space left on device\n$")

    def test_unknown_option__is_named(self):
        """Of the program and of every command."""
        self.assert_usage(haul("--no-such"), "'--no-such'")
        for name in commands():
            self.assert_usage(haul(name, "--no-such"), "haul " + name, "'--no-such'")

    def test_help__takes_one_command(self):
        """A second one is more likely an error than a wish."""
        self.assert_usage(haul("help", "help", "bench"), "'bench' is too much")


class Bench(unittest.TestCase):
    assert_usage = Cli.assert_usage

    def test_list__json_has_what_the_text_has(self):
        """Every bench with its cases, each with a unit and both arms."""
        text = haul("bench", "--list")
        self.assertEqual(text.returncode, OK)
        listed = json.loads(haul("bench", "--list", "--json").stdout)
        self.assertGreater(len(listed), 0)
        for bench in listed:
            self.assertRegex(text.stdout, r"(?m)^" + bench["bench"] + " ")
            self.assertGreater(len(bench["cases"]), 0)
            for case in bench["cases"]:
                self.assertEqual(set(case), {"case", "unit", "arms", "goal"})
                self.assertIn(" " + case["case"] + " ", text.stdout)

    def test_unknown_name__lists_what_there_is(self):
        """Names and cases are checked before anything runs."""
        known = json.loads(haul("bench", "--list", "--json").stdout)[0]["bench"]
        self.assert_usage(haul("bench", "no_such"), "'no_such'", known)
        self.assert_usage(haul("bench", "--case", "no_such"), "'no_such'", known)
        self.assert_usage(haul("bench", known, "--case", "no_such"), "'no_such'", known)
        self.assert_usage(haul("bench", known, known), "is too much")

    def test_bad_numbers__are_refused_with_the_range(self):
        """Whole numbers only, within bounds, nothing after them."""
        for bad in ("0", "-1", "1001", "5x", "", "99999999999999999999"):
            self.assert_usage(haul("bench", "--pairs", bad), f"'{bad}'", "1 to 1000")
        for bad in ("0", "-1", "3601", "1s", "", "nan", "inf"):
            self.assert_usage(haul("bench", "--seconds", bad), f"'{bad}'", "above 0")


if __name__ == "__main__":
    unittest.main(verbosity=2)
