"""scripts/month, small: its saves, its kills, and what is left on every tier."""

import json
import os
import subprocess
import sys

from conftest import BINARIES, ROOT, needs_fuse


@needs_fuse
def test_a_small_month_of_checkpoints(tmp_path):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "lib", "month.py"), "--saves", "12", "--size", "8M", "--every",
                           "3", "--budget", "64M", "--drives", "1G", "--binaries", BINARIES, "--data", str(tmp_path), "--json"],
                          capture_output=True, text=True, timeout=300)
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and told["ok"], (told, done.stderr[-3000:])
    assert told["saves"] == 12 and len(told["kills"]) == 3
