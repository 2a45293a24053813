"""The quickstart's main job: a checkpoint goes through the burst buffer to erasure-coded drives, and comes back after its node
copy and two drives are lost. Run by scripts/quickstart, which installs and builds first."""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

import stack as stacks
from stack import Failed, Stack

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RUN = "data/quickstart"
KINDS = ("torch.save", "dcp.save", "dcp.async_save")
BLOCKED_RATIO = 1.10  # wanted; speed is judged by bench/run, what ends this job is a deviation of the data


def parse_size(text):
    units = {"K": 10, "M": 20, "G": 30}
    if text[-1:].upper() in units:
        return int(float(text[:-1]) * (1 << units[text[-1].upper()]))
    return int(text)


class Quickstart:
    def __init__(self, args):
        self.args = args
        self.stack = Stack(args.data, os.path.join(ROOT, "build", "bin"))
        self.steps = []
        self.size = parse_size(args.size)
        self.local = os.path.join(args.data, "local-comparison")
        self.out = os.path.join(args.data, "quickstart-results")
        self.files = {}
        self.seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
        self.random = random.Random(self.seed)

    def say(self, text):
        print(text, file=sys.stderr if self.args.json else sys.stdout, flush=True)

    def step(self, name, limits=None, **figures):
        self.steps.append({"step": name, **figures, "limits": limits or {}})
        self.say(f"   {name}: " + ", ".join(f"{k} {v}" for k, v in figures.items() if v is not None))

    def counters(self):
        info = self.stack.status()
        merged = {}
        for daemon in ("objectd", "bufferd", "fuse"):
            for name, value in info.get(daemon, {}).get("counters", {}).items():
                merged[f"{daemon}.{name}"] = value
        return merged

    def torchrun(self, mode, target):
        env = dict(os.environ, PERIGEE_DATA=self.stack.data, OMP_NUM_THREADS="1", PYTHONPATH=HERE)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
                   str(free_port()), os.path.join(HERE, "train.py"), mode, "--target", target, "--size", str(self.size),
                   "--out", self.out]
        if mode == "save":
            command += ["--compare", self.local]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode != 0:
            lines = [l for l in done.stderr.splitlines() if l.strip()]
            errors = [l.strip() for l in lines if re.search(r"(Error|Exception|Failed|SystemExit)\b.*:", l)]
            raise Failed(f"training ({mode}) failed: " + " | ".join(errors[:3] or lines[-12:]))
        suffix = "saved" if mode == "save" else "restored"
        results = []
        for rank in range(2):
            with open(f"{self.out}.rank{rank}.{suffix}") as f:
                results.append(json.load(f))
        return results

    def target(self):
        return f"{self.stack.mount}/{RUN}" if self.stack.mount else f"perigee://{RUN}"

    def objects(self):
        listed = self.stack.s3().get_paginator("list_objects_v2").paginate(Bucket="data", Prefix="quickstart/")
        return {o["Key"]: o["Size"] for page in listed for o in page.get("Contents", []) if not o["Key"].endswith("/")}

    def hash_all(self):
        """sha256 of every object as S3 serves it."""
        s3, found, total = self.stack.s3(), {}, 0
        for key in self.objects():
            digest = hashlib.sha256()
            for piece in s3.get_object(Bucket="data", Key=key)["Body"].iter_chunks(4 << 20):
                digest.update(piece)
                total += len(piece)
            found[key] = digest.hexdigest()
        return found, total

    # The steps of the story.

    def start(self):
        begin = time.monotonic()
        extra = ["--mount", self.args.mount] if self.args.mount else []
        if not os.path.exists(os.path.join(self.stack.data, "stack.json")):
            extra += ["--drives", "6", "--profile", "4+2", "--s3-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
                      "--bufferd-admin-listen", "127.0.0.1:0"]
        if self.stack.run("status", check=False).returncode == 0:
            self.stack.info = self.stack.status()
        else:
            self.stack.up(*extra)
        self.say(f"   endpoint {self.stack.endpoint}\n   credentials {self.stack.info['credentials']}\n"
                 f"   mount {self.stack.mount or 'none (no /dev/fuse): the Python client does the same job'}")
        status = self.stack.status()
        online = [d for d in status["objectd"]["drives"] if d["state"] == "online"]
        if len(online) != 6:
            raise Failed(f"{len(online)} of 6 drives online before the story starts; perigee drive replace, or remove {self.stack.data}")
        self.stack.run("flush", "--hold")
        self.step("up, six drives, 4+2", seconds=round(time.monotonic() - begin, 2))

    def save(self):
        begin = time.monotonic()
        before = self.counters()
        results = self.torchrun("save", self.target())
        self.saved = results[0]
        for kind in KINDS:
            for word, figures in results[0]["blocked"][kind].items():
                self.step(f"{kind}, {word}: trainer blocked", seconds=round(figures["ours_s"], 3),
                          local_seconds=round(figures["local_s"], 3), ratio=round(figures["ratio"], 3),
                          MBps=round(self.size / figures["ours_s"] / 1e6), tier="burst",
                          limits={"ratio": f"<= {BLOCKED_RATIO}"})
        after = self.counters()
        self.step("training and saving", seconds=round(time.monotonic() - begin, 1),
                  passthrough_opens=delta(before, after, "fuse.opens_passthrough"),
                  write_requests=delta(before, after, "fuse.write_requests"),
                  limits={"write_requests": "= 0 with passthrough"})
        if self.stack.mount and delta(before, after, "fuse.write_requests") not in (0, None) \
                and self.stack.status()["fuse"]["passthrough"]:
            raise Failed("writes went through the daemon although passthrough is on")

    def read_from_buffer(self):
        before = self.counters()
        begin = time.monotonic()
        self.files, total = self.hash_all()
        seconds = time.monotonic() - begin
        if not self.files or total < self.size:
            raise Failed(f"S3 lists {len(self.files)} objects of {total} bytes; {self.size} were saved")
        if self.stack.mount:
            for key, digest in self.files.items():
                with open(f"{self.stack.mount}/data/{key}", "rb") as f:
                    if hashlib.file_digest(f, "sha256").hexdigest() != digest:
                        raise Failed(f"{key}: S3 and the mount differ")
        tiers = self.tiers()
        if set(tiers) - {"burst", "inline"}:
            raise Failed(f"flush is held, yet objects are in {tiers}")
        after = self.counters()
        written = after.get("objectd.blob_bytes_written", 0) + after.get("bufferd.blob_bytes_written", 0) \
            - before.get("objectd.blob_bytes_written", 0) - before.get("bufferd.blob_bytes_written", 0)
        if written != 0:
            raise Failed(f"{written} blob bytes were written while flush was held")
        self.step("S3 reads the same bytes from the burst buffer", seconds=round(seconds, 2), MBps=round(total / seconds / 1e6),
                  tier="burst", blob_bytes_written=written, classes="/".join(sorted(self.classes())),
                  limits={"blob_bytes_written": "= 0", "tier": "= burst"})

    def tiers(self):
        return sorted({self.stack.stat(f"data/{key}")["tier"] for key in self.files})

    def classes(self):
        return {self.stack.stat(f"data/{key}")["class"] for key in self.files}

    def flush(self):
        self.stack.run("flush", "--resume")
        begin = time.monotonic()
        before = self.counters()
        done = self.stack.json("flush", "--wait", RUN, timeout=1200)
        seconds = time.monotonic() - begin
        after = self.counters()
        flushed = delta(before, after, "bufferd.bytes_flushed") or done["bytes"]
        for key in self.files:
            s = self.stack.stat(f"data/{key}")
            if s["class"] != "object" or s["tier"] not in ("blobs", "inline"):
                raise Failed(f"{key} after flush: tier {s['tier']}, class {s['class']}")
        self.step("flush --wait", seconds=round(seconds, 2), MBps=round(flushed / max(seconds, 1e-9) / 1e6), tier="blobs",
                  limits={"tier": "= blobs", "class": "= object"})

    def lose(self):
        evicted = self.stack.json("evict", RUN)
        self.step("evict", files=evicted["files"], bytes=evicted["bytes"])
        drives = [d["dir"] for d in self.stack.status()["objectd"]["drives"]]
        self.first = sorted(self.random.sample(drives, 2))
        begin = time.monotonic()
        killed = self.stack.kill_all()
        self.wipe(self.first)
        stacks.drop_caches()
        self.stack.up()
        lost = sorted(d["dir"] for d in self.stack.status()["objectd"]["drives"] if d["state"] != "online")
        if lost != self.first:
            raise Failed(f"wiped {self.first}, reported lost {lost}")
        self.step(f"SIGKILL of {len(killed)} processes, wiped {' '.join(os.path.basename(d) for d in lost)}, up again",
                  seconds=round(time.monotonic() - begin, 2), reported_lost=len(lost), limits={"reported_lost": "= 2, by name"})
        s3 = self.stack.s3()
        body = os.urandom(3 << 20)
        s3.put_object(Bucket="data", Key="written-degraded", Body=body)
        if s3.get_object(Bucket="data", Key="written-degraded")["Body"].read() != body:
            raise Failed("an object written with two drives lost reads back differently")
        self.step("new write and read with two drives lost", tier="blobs")

    def wipe(self, dirs):
        for d in dirs:
            shutil.rmtree(d)
            os.mkdir(d)

    def restore(self):
        before = self.counters()
        results = self.torchrun("restore", self.target())
        after = self.counters()
        filled = delta(before, after, "bufferd.bytes_filled_blobs")
        if not filled:
            raise Failed("the restore read nothing from blobs")
        for kind in KINDS:
            r = results[0]["restores"][kind]
            self.step(f"restore of {kind}: {r['tensors']} tensors a rank bit-identical, next losses equal",
                      seconds=round(r["seconds"], 2), MBps=round(self.size / r["seconds"] / 1e6), tier="blobs")
        self.step("bytes of the restores that came from blobs", MB=round(filled / 1e6), limits={"MB": "> 0"})

    def replace(self):
        begin = time.monotonic()
        for d in self.first:
            self.stack.run("drive", "replace", d)
        self.stack.wait("repair", lambda s: all(d["state"] == "online" for d in s["objectd"]["drives"]) and
                        s["objectd"]["volumes_to_repair"] == 0 and not s["objectd"]["repairing"], timeout=900)
        self.step("drive replace of both, repaired", seconds=round(time.monotonic() - begin, 2))
        others = [d["dir"] for d in self.stack.status()["objectd"]["drives"] if d["dir"] not in self.first]
        second = sorted(self.random.sample(others, 2))
        self.stack.run("flush", "--wait", RUN)
        self.stack.json("evict", RUN)
        self.stack.kill_all()
        self.wipe(second)
        stacks.drop_caches()
        self.stack.up()
        begin = time.monotonic()
        found, total = self.hash_all()
        if found != self.files:
            raise Failed(f"after losing {second}: {sum(found.get(k) != v for k, v in self.files.items())} objects differ")
        seconds = time.monotonic() - begin
        self.step(f"wiped {' '.join(os.path.basename(d) for d in second)} too, every byte read and compared",
                  seconds=round(seconds, 2), MBps=round(total / seconds / 1e6), tier="blobs", objects_differing=0,
                  limits={"objects_differing": "= 0"})
        for d in second:
            self.stack.run("drive", "replace", d)
        self.stack.wait("second repair", lambda s: all(d["state"] == "online" for d in s["objectd"]["drives"]) and
                        s["objectd"]["volumes_to_repair"] == 0 and not s["objectd"]["repairing"], timeout=900)

    def run(self):
        self.say(f"seed {self.seed}, {self.size / 2**20:.0f} MiB of model and optimizer state, two ranks")
        for title, part in (("1 up", self.start), ("2 train and save", self.save), ("3 read from the burst buffer", self.read_from_buffer),
                            ("4 flush", self.flush), ("5 lose the node's copy and two drives", self.lose), ("6 restore", self.restore),
                            ("7 replace, repair, lose two others", self.replace)):
            self.say(title)
            part()


def delta(before, after, name):
    if name not in after:
        return None
    # A restarted daemon counts from zero.
    return after[name] - before.get(name, 0) if after[name] >= before.get(name, 0) else after[name]


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def table(steps):
    columns = ("step", "seconds", "MBps", "tier", "ratio")
    rows = [("step", "seconds", "MB/s", "tier", "ratio to local")]
    rows += [tuple("" if s.get(c) is None else str(s[c]) for c in columns) for s in steps]
    widths = [max(len(r[i]) for r in rows) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)


def main():
    parser = argparse.ArgumentParser(prog="scripts/quickstart")
    parser.add_argument("--data", default=os.path.join(ROOT, ".work", "quickstart"), help="directory of the stack")
    parser.add_argument("--mount", help="where to mount (default: mnt below the data directory)")
    parser.add_argument("--size", default="1G", help="model and optimizer state in all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="leave the stack up")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.data = os.path.abspath(args.data)
    os.makedirs(args.data, exist_ok=True)
    job = Quickstart(args)
    ok, why = False, None
    try:
        job.run()
        ok = True
    except (Failed, OSError, subprocess.SubprocessError) as e:
        why = str(e).splitlines()[0] if str(e) else repr(e)
    finally:
        if not args.keep:
            try:
                job.stack.run("flush", "--resume", check=False)
                job.stack.down()
            except (Failed, OSError, subprocess.SubprocessError) as e:
                ok, why = False, why or str(e)
    if args.json:
        print(json.dumps({"ok": ok, "why": why, "seed": job.seed, "size": job.size, "steps": job.steps}))
    else:
        print("\n" + table(job.steps))
        print(f"\nok: {ok}" + (f": {why}" if why else ""))
        if args.keep:
            print(f"the stack is up: build/bin/perigee status --data {args.data}")
    if why:
        print(f"quickstart: {why}", file=sys.stderr)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
