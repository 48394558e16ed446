#!/usr/bin/env python3
"""tools/tidy.py [--root DIR] [--objects DIR] [--cc CC] — the rules of docs/STYLE.md that a program can check.

Prints "file:line: rule: what is wrong" for each finding; exit 1 when there are any. --objects names a
build folder and adds the check for writable data; --cc adds the check that each header compiles alone.
To add a rule: a function that takes a Source and yields (line, rule, text), entered in RULES, and a
violation of it in tests/style/test_tidy.py. clang-format and clang-tidy check what they can; not here.
"""
import argparse
import collections
import concurrent.futures
import functools
import pathlib
import re
import subprocess
import sys

# Who may include whom. ARCHITECTURE.md draws the same picture.
MAY_INCLUDE = {
    "base": "",
    "batch": "base",
    "os": "base batch",
    "wire": "base batch",
    "bpf": "base batch os",
    "disk": "base batch os",
    "link": "base batch os",
    "store": "base batch os",
    "node": "base batch os wire bpf link",
    "rpc": "base batch os disk store",
    "sql": "base batch os bpf disk store rpc",
    "sim": "base batch os wire bpf link node",
    "cli": "base batch os wire bpf disk link store node rpc sql sim",
}

LINE_COLUMNS = 100
FUNCTION_LINES = 70
PARAMETERS = 5
DICTATED = {"table_connect"}  # parameters are a library's choice
FILE_LINES = 600
TEST_FILE_LINES = 1000
HEADER_LINES = {"src": 200, "include": 400}
PROTOTYPES_WITHOUT_CONTRACT = 3  # a module header with more must state Model and Threads

SOURCE_FOLDERS = ("include", "src", "bench", "tests", "fuzz", "examples")
TEXT_FOLDERS = SOURCE_FOLDERS + ("docs", "tools", "packaging", ".ci")
TEXT_SUFFIXES = {".c", ".h", ".py", ".sh", ".md", ".txt", ".build", ".yaml", ".proto", ""}

# Calls: pattern, folders (or files) where it is right, reason.
Banned = collections.namedtuple("Banned", "pattern allowed reason")
BANNED = [
    Banned(r"sprintf|vsprintf|strcpy|strcat|gets|strtok", (), "writes without a bound"),
    Banned(r"atoi|atol|atoll|atof", (), "cannot tell an error from 0: use strtol and check it"),
    Banned(r"sleep|usleep", (), "waits for nothing in particular: wait for the event"),
    Banned(r"assert", (), "vanishes in release: HAUL_ASSERT stays"),
    Banned(r"rand|srand|random|srandom", (), "hidden state: base/prng.h takes a seed"),
    Banned(r"system|popen", (), "goes through a shell: netns_spawn takes an argument list"),
    Banned(r"clock_gettime|gettimeofday|time|getrandom",
           ("src/os", "bench", "tests", "examples"), "time and chance come through struct os"),
    Banned(r"open|openat|socket|ioctl",
           ("src/os", "src/bpf", "src/link", "src/rpc", "src/cli", "bench", "tests", "fuzz", "examples"),
           "only os, bpf, link and cli touch the outside"),
    Banned(r"printf|fprintf|vfprintf|puts|fputs|putchar|perror|dprintf",
           ("src/cli", "src/base/assert.c", "bench", "tests", "fuzz", "examples"),
           "library code never prints: return a struct haul_err"),
]
# Who may allocate: control-plane folders anywhere, data-path folders only while something is made.
ALLOCATION = re.compile(r"\b(malloc|calloc|realloc|aligned_alloc|posix_memalign|strdup|strndup)\s*\(")
ALLOCATION_FOLDERS = ("src/sim", "src/sql", "src/cli", "bench", "tests", "fuzz", "examples")
ALLOCATING_FUNCTION = re.compile(r"(^|_)(open|init|build|new|create|load|pair|alloc|take)(_|$)")

Finding = collections.namedtuple("Finding", "path line rule text")
Function = collections.namedtuple("Function", "name line signature first last")


def blank(text):
    """Comments and literals become spaces; lines and columns stay."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


class Source:
    """One C file: as written, and without comments and literals."""

    def __init__(self, root, path):
        self.root = root
        self.path = path
        self.text = (root / path).read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.code = blank(self.text).splitlines()

    def within(self, folders):
        return any(self.path == f or self.path.startswith(f + "/") for f in folders)

    @property
    def module(self):
        parts = self.path.split("/")
        return parts[1] if parts[0] == "src" and len(parts) > 2 else None

    @property
    def is_header(self):
        return self.path.endswith(".h")

    @functools.cached_property
    def functions(self):
        """clang-format puts the braces of a function, and no others, alone into column 0."""
        found = []
        for first, line in enumerate(self.code):
            if not line.startswith("{"):
                continue
            start = first
            while start > 0 and re.search(r"[^\s;}]\s*$", self.code[start - 1]) \
                    and not self.code[start - 1].startswith("#"):
                start -= 1
            signature = " ".join(s.strip() for s in self.code[start:first])
            name = re.search(r"\b(?!__attribute__|_Alignas|_Noreturn)(\w+)\s*\(", signature)
            last = next((i for i in range(first, len(self.code)) if self.code[i].startswith("}")),
                        len(self.code) - 1)
            if name:
                found.append(Function(name.group(1), start + 1, signature[name.end():], first, last))
        return found

    def function_at(self, index):
        return next((f.name for f in self.functions if f.first <= index <= f.last), "")


def parameters(signature):
    """How many, from what follows the opening bracket; where to put an error's text is not counted."""
    depth, count, text = 0, 1, ""
    for char in signature:
        if char == ")" and depth == 0:
            break
        depth += (char == "(") - (char == ")")
        count += char == "," and depth == 0
        text += char
    if text.strip() in ("", "void"):
        return 0
    return count - text.rstrip().endswith("...") - bool(re.search(r"struct haul_err \*\w+$", text))


def include_direction(source):
    for number, line in enumerate(source.lines, 1):
        quoted = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not quoted:
            continue
        target = quoted.group(1).split("/")[0]
        if source.path.startswith("include/"):
            yield number, "include-direction", "a public header includes <haul/...> and <system> only"
        elif source.module and target in MAY_INCLUDE and target != source.module \
                and target not in MAY_INCLUDE.get(source.module, "").split():
            yield number, "include-direction", f"{source.module} may not include {target}"


def table_lines(source, function):
    """Lines of constant tables in a function: data, not code."""
    count, inside = 0, False
    for line in source.code[function.first:function.last]:
        inside = inside or bool(re.match(r"\tstatic const\b.*", line))
        count += inside
        inside = inside and not line.rstrip().endswith(";") or bool(inside and line.startswith("\t\t"))
    return count


def sizes(source):
    for number, line in enumerate(source.lines, 1):
        if len(line.expandtabs(8)) > LINE_COLUMNS:
            yield number, "line-length", f"over {LINE_COLUMNS} columns"
    folder = source.path.split("/")[0]
    limit = TEST_FILE_LINES if folder == "tests" else FILE_LINES
    if source.is_header:
        limit = HEADER_LINES.get(folder, FILE_LINES)
    if len(source.lines) > limit:
        yield 1, "file-length", f"{len(source.lines)} lines, at most {limit}"
    for function in source.functions:
        length = function.last - function.first + 1 - table_lines(source, function)
        if length > FUNCTION_LINES:
            yield function.line, "function-length", \
                f"{function.name}: {length} lines, at most {FUNCTION_LINES}"
        if parameters(function.signature) > PARAMETERS and not source.within(("tests",)) \
                and function.name not in DICTATED:
            yield function.line, "parameters", f"{function.name}: more than {PARAMETERS}"


def contract(source):
    if not source.is_header or not source.within(("include", "src")):
        return
    shown = source.path.split("/", 1)[1]
    if not source.text.startswith(f"/* {shown} — "):
        yield 1, "contract", f'starts with "/* {shown} — " and what it is for'
        return
    if not re.search(r"^#pragma once$", source.text, re.M):
        yield 1, "contract", "#pragma once is missing"
    head = source.text[:source.text.index("*/")]
    public = re.search(r"^HAUL_API ", source.text, re.M)
    prototypes = len(re.findall(r"^[a-z]\w*[ *][\w *]*\([^;{}]*\)[^;{}]*;", "\n".join(source.code), re.M))
    wanted = []
    if public:
        wanted = ["Model", "Ownership", "Threads", "Limits"]
    elif prototypes > PROTOTYPES_WITHOUT_CONTRACT and not re.search(r"— what .* share\b", head):
        wanted = ["Model", "Threads"]
    for heading in wanted:
        if not re.search(rf"(^ \* |\. ){heading}\b", head, re.M):
            yield 1, "contract", f"the head does not state {heading}"


def banned_calls(source):
    for number, line in enumerate(source.code, 1):
        for rule in BANNED:
            call = re.search(rf"(?<![\w.>])(?:{rule.pattern})\s*\(", line)
            if call and not source.within(rule.allowed):
                yield number, "banned-call", f"{call.group()[:-1].strip()}: {rule.reason}"
        call = ALLOCATION.search(line)
        if call and not source.within(ALLOCATION_FOLDERS) \
                and not ALLOCATING_FUNCTION.search(source.function_at(number - 1)):
            yield number, "banned-call", \
                f"{call.group(1)}: memory is taken while something is opened, never after"


def comments(source):
    for number, line in enumerate(source.lines, 1):
        if re.search(r"(?<!:)//", re.sub(r'"(?:\\.|[^"\\])*"', "", line)) \
                and not re.search(r"/\*.*//|^\s*\*", line):
            yield number, "comment", "/* */ is the comment of this tree"


def test_names(source):
    """A test's name and the sentence above it tell the story before its code does."""
    if not re.fullmatch(r"tests/(?!lib/).*\.c", source.path):
        return
    for function in source.functions:
        if not re.search(r"\bvoid \*\*\s*\w*state", function.signature) \
                or not function.name.startswith("test_"):
            continue
        if not re.fullmatch(r"test_[a-z0-9_]+?__[a-z0-9_]+", function.name):
            yield function.line, "test-name", f"{function.name}: wanted is test_<unit>__<what_it_does>"
        above = source.lines[function.line - 2].strip() if function.line > 1 else ""
        if not above.endswith("*/"):
            yield function.line, "test-name", f"{function.name}: a sentence above it says what it shows"


def listed(source):
    """A C file that no meson.build names is dead. (Examples are built by their test, all of them.)"""
    path = pathlib.PurePath(source.path)
    if path.suffix != ".c" or path.parts[0] == "examples":
        return
    folder = source.root / path.parent
    name = path.stem.removeprefix("test_")
    for build in (folder / "meson.build", folder.parent / "meson.build"):
        if build.exists() and re.search(rf"\b(test_)?{re.escape(name)}\b", build.read_text(encoding="utf-8")):
            return
    yield 1, "dead-file", "no meson.build names it"


RULES = [include_direction, sizes, contract, banned_calls, comments, test_names, listed]


def text_findings(root, path):
    """What holds for every text file, not only C."""
    notes = {p.name[:4] for p in (root / "docs/design").glob("[0-9]*.md")}
    lines = (root / path).read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        later = re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b(?:\((\d{4})\))?", line)
        if later and later.group(2) not in notes:
            yield Finding(path, number, "todo", "names no note of docs/design: do it, or write one")
        for named in re.findall(r"`((?:src|include|docs|tools|tests|bench|fuzz|examples|packaging)/[\w./-]+)`",
                                line) if path.endswith(".md") else ():
            if not (root / named).exists():
                yield Finding(path, number, "doc-path", f"{named} does not exist")
        local = re.search(r"(?<![\w.$}])/(?:work|home|root|Users)/|(?<![\w.$}])/tmp/(?!\S*XXXXXX)", line)
        if local:
            yield Finding(path, number, "local-path", f"{local.group()} is a path of one machine")


def files(root, folders, suffixes):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts \
                    and not path.is_symlink() and "corpus" not in path.parts:
                yield str(path.relative_to(root))


def writable_data(objects):
    """Objects in .data or .bss of the library's archives (.data.rel.ro is constant after loading)."""
    for archive in sorted(pathlib.Path(objects).glob("src/*/lib*.a")):
        module = archive.parent.name
        if module in ("sim", "cli"):
            continue
        table = subprocess.run(["objdump", "-t", archive], capture_output=True, text=True, check=True)
        for line in table.stdout.splitlines():
            symbol = re.match(r"[0-9a-f]+ .{7} (\.t?bss\S*|\.t?data\S*|\*COM\*)\s+([0-9a-f]+)\s+(\S+)$",
                              line)
            if symbol and not symbol.group(1).startswith(".data.rel.ro") \
                    and int(symbol.group(2), 16) and symbol.group(3) != symbol.group(1):
                yield Finding(f"src/{module}", 0, "writable-data",
                              f"{symbol.group(3)}: state hangs off a struct that is passed in")


def lonely_headers(root, compiler):
    """Each header must compile when it is the first to be included."""
    headers = [h for h in files(root, ("include", "src", "bench", "tests"), {".h"})]

    def compile_one(header):
        flags = [f"-I{root / folder}" for folder in ("include", "src", "bench", "tests/lib", "tests")]
        return header, subprocess.run(
            [compiler, "-std=c17", "-D_GNU_SOURCE", "-fsyntax-only", *flags,
             "-include", str(root / header), "-x", "c", "/dev/null"],
            capture_output=True, text=True, check=False)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for header, result in pool.map(compile_one, headers):
            if result.returncode:
                yield Finding(header, 1, "lonely-header", result.stderr.strip().splitlines()[0])


def ratchet(root, findings):
    """tools/tidy-ratchet.txt holds "rule path count": so many are let pass, never more; when there are
    fewer the number must come down."""
    path = root / "tools/tidy-ratchet.txt"
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        if line.strip() and not line.startswith("#"):
            rule, where, count = line.split()
            entries[rule, where] = int(count)
    counts = collections.Counter((f.rule, f.path) for f in findings)
    kept = [f for f in findings if counts[f.rule, f.path] > entries.get((f.rule, f.path), 0)]
    for (rule, where), count in entries.items():
        if counts[rule, where] < count:
            kept.append(Finding("tools/tidy-ratchet.txt", 0, "ratchet",
                                f"{rule} {where} {count}: there are only {counts[rule, where]} now"))
    return kept


def check_tree(root, objects=None, compiler=None):
    """All findings, in order of files."""
    root = pathlib.Path(root)
    findings = []
    for path in files(root, SOURCE_FOLDERS, {".c", ".h"}):
        source = Source(root, path)
        for rule in RULES:
            findings += [Finding(path, *found) for found in rule(source)]
    texts = list(files(root, TEXT_FOLDERS, TEXT_SUFFIXES))
    texts += [p.name for p in sorted(root.glob("*")) if p.is_file() and p.suffix in TEXT_SUFFIXES]
    for path in texts:
        findings += text_findings(root, path)
    if objects:
        findings += writable_data(objects)
    if compiler:
        findings += lonely_headers(root, compiler)
    return ratchet(root, findings)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--objects")
    parser.add_argument("--cc")
    options = parser.parse_args()
    findings = check_tree(options.root, options.objects, options.cc)
    for f in findings:
        print(f"{f.path}:{f.line}: {f.rule}: {f.text}")
    print(f"tidy: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
