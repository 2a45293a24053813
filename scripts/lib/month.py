"""A month of checkpoints: two ranks save again and again and keep the last two, flushing is always on, space is short, and every
tenth save a daemon is killed at a random moment. At the end every tier holds what is live, and memory has not grown.
Run by scripts/month, which installs and builds first."""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from quickstart import free_port, parse_size
from stack import Failed, Stack

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DRIVES = 6
RAW_RATIO = 6 / 4  # 4+2
TOLERANCE = 0.10
BACK_S = 30  # for the supervisor to start the mount's daemon again
SETTLE_S = 240  # what a killed writer had not committed is given back when its lease is over


def data_bytes(path):
    """What a segment holds: not its punched holes, and not the room that is preallocated for what comes next."""
    total = at = 0
    with open(path, "rb") as f:
        while True:
            try:
                begin = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: no data behind `at`
                return total
            at = os.lseek(f.fileno(), begin, os.SEEK_HOLE)
            total += at - begin


class Month:
    def __init__(self, args):
        self.args = args
        self.size = parse_size(args.size)
        self.seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
        self.random = random.Random(self.seed)
        self.stack = Stack(os.path.join(args.data, "stack"), args.binaries)
        self.drive_root = os.path.join(args.data, "drives")
        self.limited = None
        self.saves, self.kills, self.memory = [], [], []
        self.running = 0  # the save that began last

    def say(self, text):
        print(text, file=sys.stderr if self.args.json else sys.stdout, flush=True)

    # The machine: six drives on a file system that is small.

    def make_drives(self):
        os.makedirs(self.drive_root, exist_ok=True)
        size = parse_size(self.args.drives)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "perigee-month", self.drive_root],
                          capture_output=True).returncode == 0:
            self.limited = f"tmpfs of {self.args.drives}"

    def up(self):
        self.make_drives()
        drives = [x for n in range(DRIVES) for x in ("--drive", os.path.join(self.drive_root, f"d{n}"))]
        self.stack.up(*drives, "--profile", "4+2", "--burst-budget", self.args.budget, "--s3-listen", "127.0.0.1:0",
                      "--admin-listen", "127.0.0.1:0", "--bufferd-admin-listen", "127.0.0.1:0",
                      "--daemon-option", "objectd:--reader-grace=2", "--daemon-option", "objectd:--lease=90s", "--daemon-option", "bufferd:--flush-linger=500ms")
        if not self.stack.info.get("mount"):
            raise Failed("this job needs a mount (/dev/fuse)")
        self.target = os.path.join(self.stack.mount, "data", "month")
        os.makedirs(self.target)

    def torchrun(self, mode, **options):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()),
                   os.path.join(HERE, "month_train.py"), mode, "--target", self.target, "--size", str(self.size)]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        return subprocess.Popen(command, env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=HERE), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    # Faults.

    def victim(self, number):
        if number == 0 or number % self.args.every:
            return None
        nth = number // self.args.every
        return "fuse" if nth % 5 == 3 else self.random.choice(["objectd", "bufferd"])

    def pid_of(self, name):
        return next(d["pid"] for d in self.stack.status()["daemons"] if d["name"] == name)

    def await_pid(self, name, other_than=None):
        deadline = time.monotonic() + BACK_S
        while (pid := self.pid_of(name)) in (0, None, other_than):
            if time.monotonic() > deadline:
                raise Failed(f"{name} is not back after {BACK_S} s")
            time.sleep(0.05)
        return pid

    def kill(self, name, delay):
        time.sleep(delay)
        number = self.running
        try:
            # The one before may have killed the same.
            pid = self.await_pid(name)
            os.kill(pid, signal.SIGKILL)
            killed = {"save": number, "daemon": name, "after": round(delay, 3)}
            self.kills.append(killed)
            self.say(f"   save {number}: {name} killed after {delay:.2f} s")
            if name == "fuse":
                self.await_pid(name, other_than=pid)
            killed["back"] = self.running
        except (ProcessLookupError, Failed, StopIteration, ValueError) as e:
            self.say(f"   save {number}: {name} not killed: {e!r}")

    def sample_memory(self):
        row = {}
        for d in self.stack.status()["daemons"]:
            try:
                with open(f"/proc/{d['pid']}/status") as f:
                    row[d["name"]] = next(int(l.split()[1]) << 10 for l in f if l.startswith("VmRSS"))
            except (FileNotFoundError, StopIteration):
                pass
        self.memory.append(row)

    # The job.

    def train(self):
        process = self.torchrun("save", saves=self.args.saves, first=0)
        errors = []
        drain = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
        drain.start()
        killers, typical = [], 1.0
        for line in process.stdout:
            if not line.startswith("{"):
                continue
            told = json.loads(line)
            if "began" in told:
                self.running = told["began"]
                name = self.victim(self.running)
                if name:
                    killers.append(threading.Thread(target=self.kill, args=(name, self.random.uniform(0, typical))))
                    killers[-1].start()
                continue
            self.saves.append(told)
            if told["error"] is None:
                typical = 0.7 * typical + 0.3 * told["whole"]
            self.sample_memory()
            if told["error"] or told["removal"] or told["saved"] % 10 == 0:
                self.say(f"   save {told['saved']}: " + (told["error"] or f"{told['whole']:.2f} s, blocked {told['blocked']:.2f} s")
                         + (f"; removal: {told['removal']}" if told["removal"] else ""))
        for k in killers:
            k.join()
        drain.join(10)
        if process.wait() != 0 or len(self.saves) != self.args.saves:
            with open(os.path.join(self.stack.data, "log", "train.log"), "w") as f:
                f.writelines(errors)
            lines = [l.strip() for l in errors if re.search(r"(Error|Exception)\b.*:", l) and "elastic" not in l]
            raise Failed(f"training ended after {len(self.saves)} saves: " + " | ".join(lines[:4]))

    def judge_saves(self):
        """Only a save that was in flight between the death of the mount's daemon and its return may fail."""
        excused = {number for k in self.kills if k["daemon"] == "fuse" for number in range(k["save"], k.get("back", k["save"]) + 1)}
        for told in self.saves:
            if told["error"] and told["saved"] not in excused:
                raise Failed(f"save {told['saved']} failed: {told['error']}")

    def live_bytes(self):
        return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(self.target) for name in names)

    def drive_bytes(self):
        return sum(data_bytes(os.path.join(at, name)) for n in range(DRIVES)
                   for at, _, names in os.walk(os.path.join(self.drive_root, f"d{n}", "segments")) for name in names)

    def tiers(self):
        """Bytes of each tier, once what was deleted is gone from it."""
        self.stack.run("flush", "--wait", timeout=600)
        deadline = time.monotonic() + SETTLE_S
        while True:
            live = self.live_bytes()
            found = {"live": live, "burst": self.stack.used(), "drives": self.drive_bytes(),
                     "drives_wanted": int(live * RAW_RATIO)}
            good = found["burst"] <= live * (1 + TOLERANCE) and \
                abs(found["drives"] - found["drives_wanted"]) <= TOLERANCE * found["drives_wanted"]
            if good or time.monotonic() > deadline:
                return found, good
            time.sleep(1)

    def memory_growth(self):
        """Of each daemon: what it took at most in the second quarter of the saves, and in the last."""
        quarter = max(1, len(self.memory) // 4)
        out = {}
        for name in ("objectd", "bufferd", "fuse"):
            early = [row[name] for row in self.memory[quarter:2 * quarter] if name in row] or [0]
            late = [row[name] for row in self.memory[-quarter:] if name in row] or [0]
            out[name] = {"early": max(early), "late": max(late)}
        return out

    def rank_dies(self):
        first = self.args.saves + 10
        process = self.torchrun("die", first=first)
        out, err = process.communicate(timeout=600)
        if process.returncode == 0 or '{"saved"' not in out:
            raise Failed(f"the job whose rank dies: exit {process.returncode}: {out} {err[-500:]}")
        return first

    def load(self, numbers):
        process = self.torchrun("load", numbers=",".join(map(str, numbers)))
        out, err = process.communicate(timeout=600)
        if process.returncode != 0:
            lines = [l.strip() for l in err.splitlines() if "Error" in l or "SystemExit" in l or "not what" in l]
            raise Failed(f"saves {numbers} cannot be loaded: " + " | ".join(lines[-4:] or err.splitlines()[-6:]))

    def run(self):
        begin = time.monotonic()
        self.say(f"seed {self.seed}: {self.args.saves} saves of {self.args.size}, budget {self.args.budget}, drives {self.args.drives}")
        self.up()
        self.say(f"   mount {self.stack.mount}, drives on {self.limited or 'an unlimited file system'}")
        self.train()
        self.judge_saves()
        kept = self.saves[-1]["kept"]
        found, good = self.tiers()
        self.result = {"seed": self.seed, "saves": len(self.saves), "size": self.size, "kills": self.kills,
                       "failed": [s["saved"] for s in self.saves if s["error"]],
                       "seconds": {"median": sorted(s["whole"] for s in self.saves)[len(self.saves) // 2],
                                   "worst": max(s["whole"] for s in self.saves)},
                       "bytes": found, "memory": self.memory_growth(), "drives_limited": self.limited,
                       "reported": self.stack.status()["bufferd"].get("reported", [])}
        if not good:
            raise Failed(f"a tier does not hold what is live: {found}")
        for name, m in self.result["memory"].items():
            if len(self.memory) >= 20 and m["late"] > m["early"] * 1.3 + (48 << 20):
                raise Failed(f"memory of {name} grew: {m}")
        if self.result["reported"]:
            raise Failed(f"losses are reported: {self.result['reported'][:3]}")
        self.stack.run("evict", "data/month")
        self.result["rank_died"] = self.rank_dies()
        self.load([*kept, self.result["rank_died"]])  # what was kept comes from the drives
        self.result["took"] = round(time.monotonic() - begin, 1)

    def close(self):
        try:
            self.stack.run("down", check=False, timeout=120)
        finally:
            if self.limited:
                subprocess.run(["umount", self.drive_root], check=False)


def main():
    parser = argparse.ArgumentParser(prog="scripts/month")
    parser.add_argument("--saves", type=int, default=200)
    parser.add_argument("--size", default="256M", help="of one save, over both ranks")
    parser.add_argument("--budget", default="1G", help="of the burst buffer")
    parser.add_argument("--drives", default="2G", help="size of the file system of the six drives")
    parser.add_argument("--every", type=int, default=10, help="a daemon dies in each so-manieth save")
    parser.add_argument("--data", help="directory of the stack (default: a temporary one)")
    parser.add_argument("--binaries", default=os.path.join(ROOT, "build", "bin"))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    made = args.data is None
    args.data = os.path.abspath(args.data or tempfile.mkdtemp(prefix="perigee-month-"))
    os.makedirs(args.data, exist_ok=True)
    job, why = Month(args), None
    job.result = {"seed": job.seed}
    try:
        job.run()
    except (Failed, OSError, subprocess.SubprocessError) as e:
        why = str(e) or repr(e)
    finally:
        try:
            job.close()
        except (Failed, OSError, subprocess.SubprocessError) as e:
            why = why or str(e)
    if made and why is None:
        shutil.rmtree(args.data, ignore_errors=True)
    print(json.dumps({"ok": why is None, "why": why, **job.result}, indent=None if args.json else 1))
    if why:
        print(f"month: {why}; logs in {job.stack.data}/log", file=sys.stderr)
    sys.exit(0 if why is None else 1)


if __name__ == "__main__":
    main()
