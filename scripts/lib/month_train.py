"""The training job of scripts/month: two ranks that save by dcp.async_save, keep the last two, and tell what happened.

    torchrun --nproc-per-node 2 scripts/lib/month_train.py save --target DIR --size BYTES --saves N --first I
    torchrun ... die  --target DIR --size BYTES --first I     saves I, then rank 1 dies in the middle of saving I+1
    torchrun ... load --target DIR --size BYTES --numbers I,J     loads saves and compares every tensor

Rank 0 prints a line of JSON for each thing that happens. What a save held is known from its number.
"""

import argparse
import functools
import json
import os
import shutil
import signal
import sys
import threading
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

KEPT = 2
TENSOR_BYTES = 8 << 20
MOUNT_WAIT_S = 60


@functools.cache
def ranks():
    return init_device_mesh("cpu", (dist.get_world_size(),))


def state_of(size, number):
    """Sharded tensors of `size` bytes over all ranks, and a step; the content follows from the number."""
    mesh = ranks()
    count = max(1, size // TENSOR_BYTES)
    rows = size // count // 4 // 1024
    state = {"step": torch.tensor(number)}
    for i in range(count):
        generator = torch.Generator().manual_seed(number * 1_000_003 + i * 101 + dist.get_rank())
        local = torch.randint(0, 1 << 30, (rows // dist.get_world_size(), 1024), generator=generator, dtype=torch.int32)
        state[f"layer{i}"] = DTensor.from_local(local, mesh, [Shard(0)], run_check=False)
    return state


def directory(target, number):
    return os.path.join(target, f"step-{number:05d}")


def tell(**what):
    if dist.get_rank() == 0:
        print(json.dumps(what), flush=True)


def agreed(ok):
    flag = torch.tensor(0 if ok else 1)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return flag.item() == 0


def attempt(call):
    try:
        call()
        return None
    except (Exception, CheckpointException) as e:  # noqa: BLE001: whatever a save fails with is what is told
        return str(e).strip().splitlines()[-1] if str(e).strip() else repr(e)


def save(target, size, number):
    """The error of this save, as any rank had it; None when it is complete."""
    state = state_of(size, number)
    error = attempt(lambda: os.makedirs(directory(target, number), exist_ok=True)) if dist.get_rank() == 0 else None
    if not agreed(error is None):
        return error or "the directory could not be made", 0, 0
    begin = time.perf_counter()
    blocked = 0

    def run():
        nonlocal blocked
        pending = dcp.async_save(state, storage_writer=FileSystemWriter(directory(target, number)))
        blocked = time.perf_counter() - begin
        pending.result()

    error = attempt(run)
    if not agreed(error is None):
        error = error or "another rank failed"
    return error, blocked, time.perf_counter() - begin


def remove_others(target, kept):
    """Everything but the complete ones that are kept."""
    names = {os.path.basename(directory(target, n)) for n in kept}
    for name in sorted(os.listdir(target)):
        if name.startswith("step-") and name not in names:
            shutil.rmtree(os.path.join(target, name))


def wait_for_mount(target):
    deadline = time.monotonic() + MOUNT_WAIT_S
    while attempt(lambda: os.stat(target)) is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def main_save(args):
    kept = []
    for number in range(args.first, args.first + args.saves):
        wait_for_mount(args.target)
        dist.barrier()
        tell(began=number)
        error, blocked, whole = save(args.target, args.size, number)
        removal = None
        if error is None:
            kept = (kept + [number])[-KEPT:]
        # With a save of which nothing is known to be there, what is there of it goes as well.
        if dist.get_rank() == 0:
            wait_for_mount(args.target)
            removal = attempt(lambda: remove_others(args.target, kept))
        tell(saved=number, error=error, removal=removal, blocked=round(blocked, 3), whole=round(whole, 3), kept=kept)


def main_die(args):
    error, _, whole = save(args.target, args.size, args.first)
    if error:
        raise SystemExit(error)
    tell(saved=args.first)
    if dist.get_rank() == 1:
        threading.Timer(whole / 2, os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        save(args.target, args.size, args.first + 1)
        shutil.rmtree(directory(args.target, args.first + 1), ignore_errors=True)


def local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def main_load(args):
    for number in map(int, args.numbers.split(",")):
        want = state_of(args.size, number)
        got = {k: torch.zeros_like(v) for k, v in want.items()}
        dcp.load(got, storage_reader=FileSystemReader(directory(args.target, number)))
        wrong = [k for k in want if not torch.equal(local(want[k]), local(got[k]))]
        if wrong:
            raise SystemExit(f"rank {dist.get_rank()}: save {number}: not what was saved: {wrong[:5]}")
        tell(loaded=number, tensors=len(want))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["save", "die", "load"])
    parser.add_argument("--target", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--saves", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--numbers", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    {"save": main_save, "die": main_die, "load": main_load}[args.mode](args)
    dist.barrier()
    dist.destroy_process_group()
    # Not through the interpreter's end: a thread of torch that wants Python then is ended inside C++, which aborts, now and then.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
