"""What clients were told, so that a stack that was killed can be held to it.

A key's state is a set of contents: one while every call on it was answered, more while one was not (the call may have happened
or not). None stands for "no such key". A write through the mount that was cut off may leave any beginning of the new content, at
least as much as fsync acknowledged.
"""

import dataclasses
import re
import threading
import time


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Some beginning of `content`, `least` bytes or more of it."""

    content: bytes
    least: int = 0

    def allows(self, seen):
        return seen is not None and len(seen) >= self.least and self.content.startswith(seen)


def allows(state, seen):
    return state.allows(seen) if isinstance(state, Beginning) else state == seen


def words(state):
    if state is None:
        return "absent"
    if isinstance(state, Beginning):
        return f"a beginning (>= {state.least}) of {words(state.content)}"
    return f"{len(state)} bytes {state[:6].hex()}"


class Key:
    """One name. Used by one worker at a time; `doubtful` keys are left alone until a look tells what they hold."""

    def __init__(self, name, content=None, calls=None):
        self.name = name
        self._calls = calls if calls is not None else []  # of all keys: (time, name, what)
        self.states = [content]
        self.mount_only = False  # made through the mount and never closed: the mount shows it empty, S3 does not list it
        self.view = self.view_before = None  # what both doors showed at the last looks, as a 1-tuple
        self.doors = {}  # what each of them showed at the last look, in words
        self.recent = []  # what S3 may still show after closes since the last look
        self.went_to = []  # the names that its files have got since: S3 may hear of their closes before it hears of the rename
        self.earlier = []  # contents since the last look: the mount may show one while objectd is away
        self.by_s3 = False  # changed through S3 since the last look: a node without objectd may not know
        self.history = []
        self.fallbacks = []  # what a power cut may bring back: contents since the last durable one

    @property
    def doubtful(self):
        return len(self.states) > 1 or isinstance(self.states[0], Beginning)

    @property
    def content(self):
        assert not self.doubtful
        return self.states[0]

    def begin(self, what, *outcomes):
        """A call starts that ends in one of `outcomes`, or did not happen."""
        self.note(what)
        self.states = self.states + list(outcomes)

    def note(self, what):
        self.history = self.history[-12:] + [what]
        self._calls.append((time.monotonic(), self.name, what))

    def reached(self, *states):
        """The call in progress is past a point: these are what is left to be possible."""
        self.states = list(states)

    def looked_at(self):
        """Every door shows the same now."""
        self.recent.clear()
        self.went_to.clear()
        self.earlier.clear()
        self.by_s3 = False

    def put(self, content):
        """A call of S3 was acknowledged: durable, and so is what it replaced gone."""
        self.acknowledged(content)
        self.fallbacks = []
        self.by_s3 = True

    def acknowledged(self, content):
        self.note("acknowledged")
        self.earlier += self.states[:1]
        self.states = [content]
        self.mount_only = False

    def refused(self, before):
        """The call was answered with an error that says nothing happened."""
        self.note("refused")
        self.states = [before]

    def allows(self, seen, through_mount=False):
        if through_mount and self.mount_only and seen == b"":
            return True
        return any(allows(state, seen) for state in self.states)

    def steady(self):
        """Both doors showed the same at the last two looks: what was still on its way has arrived."""
        return not self.doubtful or (self.view is not None and self.view == self.view_before)

    def settle(self, may_end):
        """After a look. `may_end`: nothing else has to be settled together with it."""
        if may_end and self.steady():
            self.states, self.view_before, self.mount_only = [self.view[0]], None, False
            self.note(f"settled as {words(self.view[0])}")
        else:
            self.view_before = self.view

    def expected(self):
        return " or ".join(words(s) for s in self.states) + f"; calls: {self.history}"


class Model:
    """All keys of a bucket, and what was seen that must not be."""

    def __init__(self):
        self.keys = {}
        self.deviations = []
        self.late = []  # reads that were right only after a while
        self.conflicts = 0  # names that were taken while objectd was away
        self.contests = {}  # key: [[body, outcome]] of the puts that compete for it
        self.renames = []  # (source, target, content) that were not answered
        self.trees = set()  # prefixes with a directory that is moved
        self._calls = []
        self._lock = threading.Lock()

    def key(self, name):
        return self.keys.setdefault(name, Key(name, calls=self._calls))

    def deviation(self, text):
        with self._lock:
            if text not in self.deviations:
                self.deviations.append(text)

    def behind(self, text):
        """The calls on the names that a deviation speaks of, and those that made the content it speaks of, wherever they did."""
        contents, names = set(re.findall(r"\b[0-9a-f]{12}\b", text)), set(re.findall(r"[\w-]+/[\w./-]*\w", text))
        kin = names | {name for _, name, what in self._calls if any(c in what for c in contents)}
        return [f"{at:.3f} {name}: {what}" for at, name, what in self._calls if name in kin]
