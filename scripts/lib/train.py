"""A small real training run with sharded state, for scripts/quickstart; run under torchrun (gloo, CPU).

    torchrun --nproc-per-node 2 scripts/lib/train.py save    --target DIR_OR_URL --compare DIR --size BYTES --out FILE
    torchrun --nproc-per-node 2 scripts/lib/train.py restore --target DIR_OR_URL --out FILE --size BYTES

`save` trains, saves by torch.save (a file a rank), dcp.save and dcp.async_save, each against the same save on the local file
system and once more with fsync, then trains on and notes the losses that follow. `restore` is a new process: it loads both
kinds, compares every tensor's digest, trains on and compares the losses.
`--target` is a directory (the mount) or a perigee:// URL (no mount: the Python client).
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from stack import Stack

BINARIES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "bin")
WARM_STEPS = 2
NEXT_STEPS = 3
REPEATS = 3


class Model(torch.nn.Module):
    """Layers of width `width` whose weights are sharded over the ranks by rows (DTensor)."""

    def __init__(self, mesh, width, layers):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weights = torch.nn.ParameterList()
        for _ in range(layers):
            full = torch.randn(width, width, generator=generator) / width**0.5
            self.weights.append(torch.nn.Parameter(distribute_tensor(full, mesh, [Shard(0)])))

    def forward(self, x):
        for weight in self.weights:
            x = torch.tanh(x @ weight.full_tensor().t())
        return x


def build(size):
    """Weights and Adam's two moments: `size` bytes over all ranks."""
    width = 1024
    layers = max(1, size // (3 * 4 * width * width))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(1234)
    model = Model(mesh, width, layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    return model, optimizer


def train(model, optimizer, steps, width=1024):
    losses = []
    for _ in range(steps):
        # Every rank draws the same batch: the weights are what is sharded here.
        x = torch.randn(8, width)
        loss = (model(x) - x.roll(1, dims=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def state_of(model, optimizer, step):
    """What is saved: model, optimizer, random state and step, as nested dictionaries of tensors."""
    named = dict(model.named_parameters())
    moments = {name: {k: v for k, v in optimizer.state[p].items()} for name, p in named.items()}
    return {"model": {n: p.detach() for n, p in named.items()}, "optimizer": moments,
            "random": torch.get_rng_state(), "step": torch.tensor(step)}


def put_state(model, optimizer, state):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(state["model"][name])
            optimizer.state[p] = {k: v.clone() for k, v in state["optimizer"][name].items()}
    torch.set_rng_state(state["random"])
    return int(state["step"])


def to_local(tree):
    """The rank's own shards, for torch.save."""
    if isinstance(tree, dict):
        return {k: to_local(v) for k, v in tree.items()}
    return tree.to_local() if isinstance(tree, DTensor) else tree


def like(tree):
    if isinstance(tree, dict):
        return {k: like(v) for k, v in tree.items()}
    return torch.empty_like(tree)


def digests(tree, prefix=""):
    if isinstance(tree, dict):
        return {k: v for key, sub in tree.items() for k, v in digests(sub, f"{prefix}{key}.").items()}
    local = tree.to_local() if isinstance(tree, DTensor) else tree
    return {prefix: hashlib.sha256(local.contiguous().numpy().tobytes()).hexdigest()}


def is_url(target):
    return target.startswith("perigee://")


def opened(path, mode):
    if is_url(path):
        import perigee
        return perigee.open(path, mode)
    return open(path, mode)


def make_dir(path):
    if is_url(path):
        import perigee
        perigee.default_client().mkdir(path, parents=True)
    else:
        os.makedirs(path, exist_ok=True)


def remove_tree(path):
    if is_url(path):
        import fsspec
        fs = fsspec.filesystem("perigee")
        if fs.exists(path):
            fs.rm(path, recursive=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def torch_save(state, directory, sync):
    with opened(f"{directory}/rank{dist.get_rank()}.pt", "wb") as f:
        torch.save(state, f)
        if sync:
            if is_url(directory):
                f.fsync()
            else:
                f.flush()
                os.fsync(f.fileno())


def writer(directory, sync):
    if is_url(directory):
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter
        return FsspecWriter(directory, sync_files=sync)
    return FileSystemWriter(directory, sync_files=sync)


def dcp_save(state, directory, sync):
    dcp.save(state, storage_writer=writer(directory, sync))


def dcp_async(state, directory, sync):
    """Blocked until the state is staged; the upload is waited for outside the clock."""
    return dcp.async_save(state, storage_writer=writer(directory, sync))


def timed(save, state, directory, sync, released):
    if dist.get_rank() == 0:
        remove_tree(directory)
        released()
        make_dir(directory)
    dist.barrier()
    begin = time.perf_counter()
    pending = save(state, directory, sync)
    blocked = time.perf_counter() - begin
    whole = blocked
    if pending is not None:
        pending.result()
        whole = time.perf_counter() - begin
    dist.barrier()
    # The trainer stands still until its slowest rank goes on.
    slowest = torch.tensor([blocked, whole])
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return slowest.tolist()


def compare(save, state, ours, local):
    """Blocked seconds, ours and local, without and with fsync; sides alternate, medians."""
    row = {}
    stack = Stack(os.environ["PERIGEE_DATA"], BINARIES)
    remove_tree(ours)
    used = stack.used()
    released = {"ours": lambda: stack.wait_released(used), "local": lambda: None}
    for word, sync in (("save", False), ("save+fsync", True)):
        blocked, whole = {"ours": [], "local": []}, {"ours": [], "local": []}
        for turn in range(REPEATS):
            sides = [("ours", ours), ("local", local)]
            for side, directory in sides if turn % 2 == 0 else reversed(sides):
                b, w = timed(save, state, directory, sync, released[side])
                blocked[side].append(b)
                whole[side].append(w)
        ours_s, local_s = statistics.median(blocked["ours"]), statistics.median(blocked["local"])
        row[word] = {"ours_s": ours_s, "local_s": local_s, "ratio": ours_s / local_s,
                     "whole_ours_s": statistics.median(whole["ours"])}
    return row


def main_save(args):
    model, optimizer = build(args.size)
    losses = train(model, optimizer, WARM_STEPS)
    state = state_of(model, optimizer, WARM_STEPS)
    local_state = to_local(state)
    result = {"losses": losses, "blocked": {}}
    for name, save, what in (("torch.save", torch_save, local_state), ("dcp.save", dcp_save, state),
                             ("dcp.async_save", dcp_async, state)):
        result["blocked"][name] = compare(save, what, f"{args.target}/{name}", f"{args.compare}/{name}")
    result["digests"] = digests(state)
    result["random_state"] = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
    result["next_losses"] = train(model, optimizer, NEXT_STEPS)
    if dist.get_rank() == 0:
        remove_tree(args.compare)
    return result


def main_restore(args):
    with open(f"{args.out}.rank{dist.get_rank()}.saved") as f:
        saved = json.load(f)
    result = {"restores": {}}
    for name in ("torch.save", "dcp.save", "dcp.async_save"):
        directory = f"{args.target}/{name}"
        model, optimizer = build(args.size)
        train(model, optimizer, 1)  # gives the optimizer its state's shape; all of it is overwritten
        state = state_of(model, optimizer, 0)
        begin = time.perf_counter()
        if name == "torch.save":
            path = f"{directory}/rank{dist.get_rank()}.pt"
            if is_url(path):
                import perigee
                loaded = perigee.load(path, mmap=True)
            else:
                loaded = torch.load(path, mmap=True)
            for key in ("model", "optimizer"):
                copy_into(state[key], loaded[key])
            state["random"], state["step"] = loaded["random"].clone(), loaded["step"]
        else:
            state = like(state)
            dcp.load(state, **({"checkpoint_id": directory} if is_url(directory) else
                               {"storage_reader": FileSystemReader(directory)}))
        seconds = time.perf_counter() - begin
        found = digests(state)
        wrong = sorted(k for k in saved["digests"] if found.get(k) != saved["digests"][k])
        if wrong or found.keys() != saved["digests"].keys():
            raise SystemExit(f"{name}: rank {dist.get_rank()}: not bit-identical: {wrong[:5]}")
        step = put_state(model, optimizer, state)
        losses = train(model, optimizer, NEXT_STEPS)
        if step != WARM_STEPS or losses != saved["next_losses"]:
            raise SystemExit(f"{name}: training went on differently: {losses} for {saved['next_losses']}")
        result["restores"][name] = {"seconds": seconds, "tensors": len(found), "next_losses": losses}
    return result


def copy_into(target, source):
    for key, value in target.items():
        if isinstance(value, dict):
            copy_into(value, source[key])
        else:
            (value.to_local() if isinstance(value, DTensor) else value).copy_(source[key])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["save", "restore"])
    parser.add_argument("--target", required=True)
    parser.add_argument("--compare")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group("gloo")
    result = main_save(args) if args.mode == "save" else main_restore(args)
    suffix = "saved" if args.mode == "save" else "restored"
    with open(f"{args.out}.rank{dist.get_rank()}.{suffix}", "w") as f:
        json.dump(result, f)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
