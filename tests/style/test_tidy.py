"""tools/tidy.py finds one violation of each kind, in the right line, and nothing in a clean tree.

Usage: test_tidy.py path/to/tidy.py compiler
"""
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import unittest

COMPILER = sys.argv.pop(2)
SPEC = importlib.util.spec_from_file_location("tidy", sys.argv.pop(1))
tidy = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tidy)

HEAD = """/* {} — what it is for.
 *
 * Model      one.
 * Ownership  the caller's.
 * Threads    one.
 * Limits     none. */
#pragma once

"""
CLEAN = {
    "src/meson.build": "files('base/a.c', 'batch/b.c')",
    "src/base/a.h": HEAD.format("base/a.h") + "int a_open(void);\n",
    "src/base/a.c": '#include "base/a.h"\n\n#include <stdlib.h>\n\n'
                    "int a_open(void)\n{\n\treturn !malloc(1); /* \"//\" and sleep(1) are words */\n}\n",
    "src/batch/b.c": '#include "base/a.h"\n\nint b(int one, const char *format, ...)\n{\n'
                     "\treturn one + !format;\n}\n",
    "docs/design/0001-x.md": "# why\n",
}
# What is added to the clean tree, and what must be found: (file, text, "line rule").
VIOLATIONS = [
    ("src/base/a.c", '#include "batch/b.h"\n', "1 include-direction"),
    ("include/haul/p.h", HEAD.format("haul/p.h") + '#include "base/a.h"\n', "9 include-direction"),
    ("src/base/a.c", "/*" + "x" * 97 + "*/\n", "1 line-length"),
    ("src/base/a.c", "\t" * 12 + "int x;\n", "1 line-length"),
    ("src/base/a.c", "\n" * 600 + "int x;\n", "1 file-length"),
    ("src/base/a.h", HEAD.format("base/a.h") + "\n" * 200, "1 file-length"),
    ("src/base/a.c", "int f(void)\n{\n" + "\n" * 69 + "}\n", "1 function-length"),
    ("src/base/a.c", "int f(int a, int b,\n\tint c, int d, int e, int g)\n{\n}\n", "1 parameters"),
    ("src/base/a.h", "#pragma once\nint a_open(void);\n", "1 contract"),
    ("src/base/a.h", "/* base/a.h — a. */\nint a_open(void);\n", "1 contract"),
    ("include/haul/p.h", HEAD.format("haul/p.h").replace("Threads", "Fibres")
     + "#define HAUL_API\nHAUL_API int p(void);\n", "1 contract"),
    ("src/base/a.h", "/* base/a.h — a.\n * Model x. */\n#pragma once\n" + "int f(void);\n" * 4,
     "1 contract"),
    ("src/base/a.c", "int f(void)\n{\n\treturn sprintf(x, y);\n}\n", "3 banned-call"),
    ("src/base/a.c", "int f(void)\n{\n\tassert(1);\n}\n", "3 banned-call"),
    ("src/base/a.c", "int f(void)\n{\n\treturn open(x, y);\n}\n", "3 banned-call"),
    ("src/base/a.c", "int f(void)\n{\n\treturn clock_gettime(x, y);\n}\n", "3 banned-call"),
    ("src/base/a.c", "int f(void)\n{\n\treturn printf(x);\n}\n", "3 banned-call"),
    ("src/base/a.c", "int f(void)\n{\n\treturn !malloc(1);\n}\n", "3 banned-call"),
    ("src/base/a.c", "int f(void); // why\n", "1 comment"),
    ("src/base/dead.c", "int f(void);\n", "1 dead-file"),
    ("src/base/a.c", "/* TO" "DO: later */\n", "1 todo"),
    ("src/base/a.c", "/* TO" "DO(0002): no such note */\n", "1 todo"),
    ("docs/x.md", "see `src/base/a.h`,\n`src/base/gone.h`\n", "2 doc-path"),
    ("docs/x.md", "see /ho" "me/me/x\n", "1 local-path"),
    ("src/base/a.h", HEAD.format("base/a.h") + "uint32_t x(void);\n", "1 lonely-header"),
]
TESTS = [
    ("/* It does. */\nstatic void test_a_open__works(void **state)\n{\n}\n", None),
    ("static void test_a_open__works(void **state)\n{\n}\n", "1 test-name"),
    ("/* It does. */\nstatic void test_works(void **state)\n{\n}\n", "2 test-name"),
]


class Tidy(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for path, text in CLEAN.items():
            self.write(path, text)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def found(self, **options):
        return [f"{f.line} {f.rule}" for f in tidy.check_tree(self.root, **options)]

    def test_clean_tree__has_no_findings(self):
        """Words in comments and strings, variadic functions, noted plans and long tables of
        constants in a short function are no violations."""
        self.write("src/batch/b.c", "int b(void)\n{\n\tstatic const struct {\n\t\tint x;\n\t} t[] = {\n"
                   + "\t\t{ 1 },\n" * 90 + "\t};\n\treturn t[0].x;\n}\n")
        self.write("src/base/a.h", HEAD.format("base/a.h") + "/* TO" "DO(0001): see there. */\n")
        self.assertEqual(self.found(compiler=COMPILER), [])

    def test_violations__are_each_found_alone(self):
        """One at a time, so that no rule hides behind another."""
        for path, text, wanted in VIOLATIONS:
            with self.subTest(path=path, wanted=wanted, text=text[:60]):
                self.write(path, text)
                found = self.found(compiler=COMPILER)
                if path in CLEAN:
                    self.write(path, CLEAN[path])
                else:
                    (self.root / path).unlink()
                self.assertEqual(found, [wanted])

    def test_test_names__tell_unit_and_behaviour(self):
        """test_<unit>__<what_it_does> under a sentence."""
        self.write("tests/base/meson.build", "'test_a.c'")
        for text, wanted in TESTS:
            with self.subTest(wanted=wanted):
                self.write("tests/base/test_a.c", text)
                self.assertEqual(self.found(), [wanted] if wanted else [])

    def test_writable_data__is_found_in_objects_only_where_it_can_change(self):
        """Tables of constants with pointers lie in .data.rel.ro and are fine."""
        self.write("src/base/a.c", "static int count;\nint f(void);\nint f(void)\n{\n"
                                   "\treturn ++count;\n}\n"
                                   'const char *const names[] = { "a", "b" };\n')
        objects = self.root / "build/src/base"
        objects.mkdir(parents=True)
        subprocess.run([COMPILER, "-fPIC", "-c", self.root / "src/base/a.c", "-o", objects / "a.o"],
                       check=True)
        subprocess.run(["ar", "rcs", objects / "libbase.a", objects / "a.o"], check=True)
        found = tidy.check_tree(self.root, objects=self.root / "build")
        self.assertEqual([(f.rule, f.text.split(":")[0]) for f in found], [("writable-data", "count")])

    def test_ratchet__lets_a_known_number_pass_and_only_shrinks(self):
        """One finding more is reported, and so is an entry that has become too generous."""
        self.write("src/base/a.c", "int f(void); // one\nint g(void); // two\n")
        for count, wanted in ((1, 2), (2, 0), (3, 1)):
            self.write("tools/tidy-ratchet.txt", f"comment src/base/a.c {count}\n")
            self.assertEqual(len(self.found()), wanted, count)


if __name__ == "__main__":
    unittest.main(verbosity=2)
