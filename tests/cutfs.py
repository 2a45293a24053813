"""tests/powercut's file system, mounted for a test: it forgets what was not synced when its power goes."""

import os
import queue
import subprocess
import threading

from conftest import BINARIES
from stack import Failed


class CutFs:
    """Mounted at `place` until closed. `kept` are names that lose nothing, logs for instance."""

    def __init__(self, place, *kept):
        os.makedirs(place, exist_ok=True)
        self.place = place
        self.is_off = threading.Event()  # an armed sync came
        self.why = ""
        self._answers = queue.Queue()
        self._process = subprocess.Popen([os.path.join(BINARIES, "cutfs"), place, *kept], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        self.on(0)

    def _listen(self):
        for line in self._process.stdout:
            if line.startswith("! "):
                self.why = line[2:].strip()
                self.is_off.set()
            else:
                self._answers.put(line.strip())
        self._answers.put("failed: cutfs ended")

    def _ask(self, *words):
        self._process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self._process.stdin.flush()
        answer = self._answers.get(timeout=60)
        if not answer.startswith("ok"):
            raise Failed(f"cutfs {' '.join(str(w) for w in words)}: {answer}")
        return answer[3:]

    def off(self):
        self._ask("off")

    def on(self, seed):
        self._ask("on", seed)
        self.is_off.clear()

    def arm(self, count, when, part):
        """Off at the count-th sync of what has `part` in its path."""
        self._ask("arm", count, when, part)

    def syncs(self):
        return int(self._ask("syncs"))

    def space_as_around(self):
        """It says that it is as large and as full as the file system that it is mounted on."""
        around = os.statvfs(os.path.dirname(self.place))
        self._ask("space", around.f_blocks * around.f_frsize, around.f_bavail * around.f_frsize)

    def fault(self, path, delay_ms=0, read=0, write=0, sync=0):
        """For everything below a directory inside the mount; errors by number."""
        self._ask("fault", "/" + os.path.relpath(path, self.place), delay_ms, read, write, sync)

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
