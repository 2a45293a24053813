"""Reads from the sources where failpoints are and where they should be: before and after each sync, rename, store commit and reply.

Textual: comments and strings are blanked, functions found by their braces, and an operation is covered when its own function has a
failpoint somewhere above it and one somewhere below it. An operation that is covered otherwise, or needs no failpoint, is named in
failpoints_allowed.txt with the reason; an entry there that matches nothing is an error too.
"""

import os
import re
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("base", "rdma", "client", "tiers", "objectd", "bufferd", "fuse", "cli", "python")
TABLE = "base/failpoints.def"
ALLOWED = "scripts/lib/failpoints_allowed.txt"

# The calls that do it, not those that lead to it: what wraps one is covered by what it wraps. A call over RPC (meta->Sync) is
# covered by those of the connection, rdma_local_before_call and after.
OPERATIONS = {
    "sync": r"\bf(?:data)?sync\s*\(|(?:\.|->)(?:SyncData|SyncDir|SyncWAL)\s*\(|\bKind::kSyncData\b",
    "rename": r"\b(?:rename|renameat|renameat2|link|linkat)\s*\(\s*[\w.]+\.c_str\(\)|\bdisk_?(?:\.|->)Rename\s*\(",
    "commit": r"\bstore_?(?:\.|->)(?:Run|RunDurable|WaitDurable)\s*\(|\bdb_?->(?:Write|Put|Delete)\s*\("
              r"|\bhandles_\.db->(?:Write|Put|Delete)\s*\(",
    "reply": r"(?:\.|->)(?:Reply|SendReply|SendNow)\s*\(|\bconnection_\.Send\s*\(",
}
OPERATION = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in OPERATIONS.items()))
FAILPOINT = re.compile(r"\bPERIGEE_FAILPOINT(?:_STATUS)?\((\w+)\)")
BLANKED = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
# Text in front of a function's opening brace: "name(...) const -> T : a_(x), b_(y)".
HEAD = re.compile(r"([~\w:]+(?:\s*<[^<>]*>)?|operator\s*\S+)\s*\(.*\)\s*(?:(?:const|noexcept|override|final|mutable)\s*)*"
                  r"(?:->[^;{}]*)?(?::[^;]*)?$", re.S)
NOT_FUNCTION = {"if", "for", "while", "switch", "catch", "return", "sizeof", "defined", "namespace"}


class Use(NamedTuple):
    path: str
    line: int


class Operation(NamedTuple):
    path: str
    line: int
    function: str
    kind: str
    text: str
    covered: bool


def blank(text):
    return BLANKED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def sources():
    for folder in FOLDERS:
        for base, _, names in sorted(os.walk(os.path.join(ROOT, folder))):
            for name in sorted(names):
                if name.endswith((".h", ".cc")):
                    yield os.path.relpath(os.path.join(base, name), ROOT)


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def declared():
    return re.findall(r"^PERIGEE_DECLARE_FAILPOINT\((\w+)\)", read(TABLE), re.M)


def used():
    """Failpoint name: where it is hit."""
    out = {}
    for path in sources():
        text = read(path)
        if path == "base/failpoint.h":  # the macros themselves
            continue
        for m in FAILPOINT.finditer(blank(text)):
            out.setdefault(m.group(1), []).append(Use(path, text.count("\n", 0, m.start()) + 1))
    return out


def functions(code):
    """(name, begin, end) of each outermost function body of blanked code; what is in a lambda belongs to the function around it."""
    stack, out, since = [], [], 0
    for m in re.finditer(r"[{};]", code):
        at = m.start()
        if m.group() == ";":
            # The semicolons of a for loop do not end its head.
            if code.count("(", since, at) == code.count(")", since, at):
                since = at + 1
        elif m.group() == "{":
            name = None
            if not any(s[0] for s in stack):
                head = HEAD.search(code[since:at].strip())
                if head and head.group(1) not in NOT_FUNCTION:
                    name = head.group(1)
            stack.append((name, at))
            since = at + 1
        elif stack:
            name, begin = stack.pop()
            if name:
                out.append((name, begin, at))
            since = at + 1
    return out


def operations(path, text=None):
    code = blank(read(path) if text is None else text)
    code = re.sub(r"^[ \t]*#.*$", lambda m: " " * len(m.group()), code, flags=re.M)
    bodies = functions(code)
    points = [m.start() for m in FAILPOINT.finditer(code)]
    for m in OPERATION.finditer(code):
        body = next(((n, b, e) for n, b, e in bodies if b < m.start() < e), None)
        if body is None:
            name, covered = "(no-function)", False
        else:
            name, begin, end = body
            mine = [p for p in points if begin < p < end]
            covered = any(p < m.start() for p in mine) and any(p > m.end() for p in mine)
        yield Operation(path, code.count("\n", 0, m.start()) + 1, name, m.lastgroup, m.group().strip(), covered)


def allowed():
    """(path, function, kind): reason."""
    out = {}
    for line in read(ALLOWED).splitlines():
        if line.strip() and not line.startswith("#"):
            path, function, kind, reason = line.split(None, 3)
            out[path, function, kind] = reason
    return out
