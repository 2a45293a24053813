"""What those who run Perigee see of it: metrics, alerts, the dashboard, the systemd unit."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import yaml

from conftest import BINARIES, EXAMPLE_FREE_PORTS, HAS_FUSE, ROOT, WITHIN, needs_fuse, needs_root, until
from stack import ADMIN, alive

RULES = os.path.join(ROOT, "deploy", "prometheus", "perigee.rules.yml")
UNITS = [os.path.join(ROOT, "deploy", "systemd", name) for name in ("perigee.service", "perigee-storage.service")]
UNIT = UNITS[0]
DOORS = ["objectd", "bufferd"] + (["fuse"] if HAS_FUSE else [])


def rules():
    with open(RULES) as f:
        return [rule for group in yaml.safe_load(f)["groups"] for rule in group["rules"]]


def panels():
    with open(os.path.join(ROOT, "deploy", "grafana", "perigee.json")) as f:
        return json.load(f)["panels"]


def expressions():
    yield from ((rule["alert"], rule["expr"]) for rule in rules())
    yield from ((panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", []))


def test_alerts_and_dashboard_ask_for_series_that_the_daemons_have(stack):
    s3 = stack.s3()
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="data", Key="nothing")
    series = {}
    for door in DOORS:
        for name, labels, _ in stack.metrics(door):
            series.setdefault(name, []).append(labels)
    asked = 0
    for where, expr in expressions():
        for name, selector in re.findall(r"\b((?:perigee|process)_\w+)(?:\{([^}]*)\})?", expr):
            if name.startswith("perigee_fuse_") and not HAS_FUSE:
                continue
            assert name in series, f"{where}: no metric {name}"
            asked += 1
            for label, how, wanted in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
                if label in ("job", "instance"):  # given by the scrape
                    continue
                for one in wanted.split("|"):
                    assert any(labels.get(label) == one for labels in series[name]), f"{where}: no {name}{{{label}={one}}}"
    assert asked > 60


def test_each_alert_leads_to_a_page_that_says_what_to_do():
    with open(os.path.join(ROOT, "docs", "operations.md")) as f:
        parts = re.split(r"^#+ (.*)\n", f.read(), flags=re.M)
    pages = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): text for heading, text in zip(parts[1::2], parts[2::2])}
    for rule in rules():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == "docs/operations.md" and anchor in pages, rule["alert"]
        for part in ("*Means", "*Look", "*Do"):
            assert part in pages[anchor], f"{anchor}: nothing of {part}"
        assert rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "ticket")
    assert len({rule["alert"] for rule in rules()}) == len(rules()) > 15


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian package prometheus)")
def test_alerts_fire_in_their_states_and_not_beside_them():
    for check in (["check", "rules", RULES], ["test", "rules", os.path.join(ROOT, "tests", "deploy", "alerts.yml")]):
        done = subprocess.run(["promtool", *check], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_panels_do_not_overlap():
    places = [panel["gridPos"] for panel in panels()]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_a_lost_drive_and_its_repair_show(make_stack):
    stack = make_stack("--no-mount")
    stack.s3().put_object(Bucket="data", Key="o", Body=os.urandom(3 << 20))

    def drives(state):
        return stack.metric("objectd", "perigee_drives", state=state)

    assert drives("online") == 6 and drives("lost") == 0
    assert stack.metric("objectd", "perigee_profile_shards", kind="parity") == 2
    started = stack.metric("objectd", "process_start_time_seconds")
    lost = stack.status()["objectd"]["drives"][0]["dir"]
    stack.down()
    shutil.rmtree(lost)
    os.mkdir(lost)
    stack.up()
    assert drives("online") == 5 and drives("lost") == 1
    assert stack.metric("objectd", "perigee_volumes_to_repair") > 0
    assert stack.metric("objectd", "perigee_drive_size_bytes", dir=lost) == 0
    assert stack.metric("objectd", "process_start_time_seconds") > started
    # The mirror that lay on it is made anew elsewhere, by itself.
    until("mirrors", lambda: stack.metric("objectd", "perigee_kv_mirrors_in_sync") ==
          stack.metric("objectd", "perigee_kv_mirrors_wanted") == 3)
    stack.run("drive", "replace", lost)
    until("repair", lambda: drives("online") == 6 and drives("lost") == 0)
    assert stack.metric("objectd", "perigee_repair_shards_rebuilt_total") > 0
    assert stack.metric("objectd", "perigee_volumes_to_repair") == 0
    assert stack.metric("objectd", "perigee_objectd_serving") == 1


@needs_fuse
def test_what_is_at_risk_shows_and_which_way_it_came(make_stack):
    stack = make_stack()
    stack.run("flush", "--hold")
    assert stack.metric("bufferd", "perigee_bufferd_flush_held") == 1
    with open(f"{stack.mount}/data/f", "wb") as f:
        f.write(os.urandom(1 << 20))
        f.flush()
        os.fsync(f.fileno())
    until("at risk", lambda: stack.metric("bufferd", "perigee_bufferd_at_risk_bytes", **{"class": "local"}) == 1 << 20)
    assert stack.metric("bufferd", "perigee_bufferd_at_risk_files", **{"class": "local"}) == 1
    assert stack.metric("bufferd", "perigee_bufferd_budget_bytes") > stack.metric("bufferd", "perigee_bufferd_used_bytes") > 0
    passthrough = stack.status()["fuse"]["passthrough"]
    assert stack.metric("fuse", "perigee_fuse_passthrough") == passthrough
    assert stack.metric("fuse", "perigee_fuse_opens_total", mode="passthrough" if passthrough else "cached") > 0
    assert (stack.metric("fuse", "perigee_fuse_request_bytes_total", op="write") > 0) == (not passthrough)
    stack.run("flush", "--resume")
    stack.run("flush", "--wait")
    assert stack.metric("bufferd", "perigee_bufferd_flush_held") == 0
    assert stack.metric("bufferd", "perigee_bufferd_at_risk_bytes", **{"class": "local"}) == 0
    assert stack.metric("bufferd", "perigee_bufferd_oldest_unflushed_seconds") == 0


@needs_fuse
def test_objectd_away_shows_and_its_restart(make_stack):
    stack = make_stack()
    info = stack.status()
    objectd = next(d["pid"] for d in info["daemons"] if d["name"] == "objectd")
    started = stack.metric("objectd", "process_start_time_seconds")
    with open(f"{stack.mount}/data/f", "wb") as f:
        f.write(os.urandom(1 << 20))
        f.flush()
        os.kill(info["pid"], signal.SIGSTOP)  # nobody restarts it
        try:
            os.kill(objectd, signal.SIGKILL)
            until("objectd away", lambda: stack.metric("bufferd", "perigee_bufferd_objectd_connected") == 0)
            f.close()
            assert stack.metric("bufferd", "perigee_bufferd_unregistered_files") == 1
            assert stack.metric("bufferd", "perigee_bufferd_publish_failures_total") > 0
            with pytest.raises(urllib.error.HTTPError) as e:
                urllib.request.urlopen(f"http://{info['bufferd_admin_listen']}/healthz", timeout=10)
            assert e.value.code == 503
        finally:
            os.kill(info["pid"], signal.SIGCONT)
    until("objectd back", lambda: stack.metric("bufferd", "perigee_bufferd_objectd_connected") == 1)
    until("told", lambda: stack.metric("bufferd", "perigee_bufferd_unregistered_files") == 0)
    assert stack.metric("objectd", "process_start_time_seconds") > started


class Notified:
    """The socket that systemd would have, and what came over it."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.messages = []

    def wait(self, text):
        """Until a message has `text`, new ones only; returns all so far."""
        deadline = time.monotonic() + WITHIN
        while True:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                self.messages.append(self.socket.recv(4096).decode())
            except TimeoutError:
                raise AssertionError(f"no message with {text!r}: {self.messages}")
            if text in self.messages[-1]:
                return self.messages

    def close(self):
        self.socket.close()


@pytest.fixture
def notified(tmp_path):
    made = Notified(str(tmp_path / "notify"))
    yield made
    made.close()


@contextlib.contextmanager
def foreground(stack, notified, *args, binaries=BINARIES, through=(), doors=EXAMPLE_FREE_PORTS):
    """`perigee up` as a unit of Type=notify runs it."""
    up = subprocess.Popen([*through, os.path.join(binaries, "perigee"), "up", "--data", stack.data, "--drives", "2", *doors, *args],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"NOTIFY_SOCKET": notified.path})
    try:
        yield up
    finally:
        if up.poll() is None:
            up.terminate()
        up.said = "".join(up.communicate(timeout=90))
        assert "Sanitizer" not in up.said, up.said


def gated(directory, name, gate):
    """A folder of the daemons in which `name` starts once the file `gate` is there."""
    os.mkdir(directory)
    shutil.copy(os.path.join(BINARIES, "perigee"), directory)  # it looks for the others beside its own file
    for daemon in ("objectd", "bufferd", "fuse"):
        path, real = f"{directory}/perigee-{daemon}", os.path.join(BINARIES, f"perigee-{daemon}")
        if daemon != name:
            os.symlink(os.path.abspath(real), path)
            continue
        with open(path, "w") as f:
            f.write(f'#!/bin/sh\nuntil [ -e "{gate}" ]; do sleep 0.05; done\nexec "{os.path.abspath(real)}" "$@"\n')
        os.chmod(path, 0o755)
    return directory


def test_systemd_hears_ready_once_every_door_answers(make_stack, notified, tmp_path):
    stack = make_stack(up=False)
    last, before = ("fuse", "bufferd") if HAS_FUSE else ("bufferd", "objectd")
    gate = tmp_path / "gate"
    binaries = gated(str(tmp_path / "bin"), last, gate)
    with foreground(stack, notified, *([] if HAS_FUSE else ["--no-mount"]), binaries=binaries) as up:
        messages = notified.wait(f"{before} up, {last} starting")
        assert not any("READY=1" in m for m in messages)
        gate.touch()
        messages = notified.wait("READY=1")
        assert messages[-1] == "READY=1\nSTATUS=objectd up, bufferd up" + (", fuse up" if HAS_FUSE else "")
        with open(f"{stack.data}/stack.json") as f:
            info = json.load(f)
        for daemon in DOORS:
            with urllib.request.urlopen(f"http://{info[ADMIN[daemon]]}/healthz", timeout=10) as reply:
                assert reply.status == 200
        with pytest.raises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(info["endpoint"], timeout=10)
        assert e.value.code == 403
        assert not HAS_FUSE or os.path.ismount(info["mount"])

        daemon = next(d["pid"] for d in info["daemons"] if d["name"] == "bufferd")
        os.kill(daemon, signal.SIGKILL)
        notified.wait("STATUS=objectd up, bufferd down: signal 9")
        notified.wait("STATUS=objectd up, bufferd up")
        up.terminate()
        notified.wait("STOPPING=1")
        assert up.wait(timeout=90) == 0
    assert sum("READY=1" in m for m in notified.messages) == 1


def test_systemd_is_never_told_ready_by_a_start_that_fails(make_stack, notified):
    stack = make_stack(up=False)
    with foreground(stack, notified, "--no-mount", "--daemon-option", "bufferd:--nonsense") as up:
        messages = notified.wait("STATUS=perigee-bufferd did not start")
        assert "nonsense" in messages[-1] and not any("READY=1" in m for m in messages)
        assert up.wait(timeout=90) == 2


def test_a_start_that_waits_is_stopped_at_once(make_stack, notified, tmp_path):
    stack = make_stack(up=False)
    binaries = gated(str(tmp_path / "bin"), "bufferd", tmp_path / "never")
    with foreground(stack, notified, "--no-mount", binaries=binaries) as up:
        notified.wait("objectd up, bufferd starting")
        up.terminate()
        assert up.wait(timeout=WITHIN) == 1
    assert "stopped before every door answered" in up.said
    assert not any("READY=1" in m for m in notified.messages)


def unit_values(unit, name):
    with open(unit) as f:
        return [word for line in f if line.startswith(f"{name}=") for word in line.split("=", 1)[1].split()]


def with_capabilities_of(unit):
    """Runs a command with no others, and no new privileges."""
    keep = [f"+{c.removeprefix('CAP_').lower()}" for c in unit_values(unit, "CapabilityBoundingSet")]
    assert keep and unit_values(unit, "NoNewPrivileges") == ["yes"]
    return ["setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *keep])]


needs_setpriv = pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv (Debian package util-linux)")


@needs_root
@needs_setpriv
def test_the_storage_units_capabilities_are_enough(make_stack, notified):
    first, node = make_stack("--no-mount", drives=2), make_stack(up=False)
    joining = ["--join", f"local:{first.data}/run/objectd.sock", "--secret-file", f"{first.data}/secret", "--node-name", "n2"]
    with foreground(node, notified, *joining, doors=["--admin-listen", "127.0.0.1:0"], through=with_capabilities_of(UNITS[1])) as up:
        assert notified.wait("READY=1")[-1] == "READY=1\nSTATUS=objectd up"
        until("heard", lambda: [n["drives_online"] for n in first.json("node", "ls")["nodes"] if n["heard"]] == [2, 2])
        assert node.status()["well"] and node.json("drive", "ls")[1]["state"] == "online"
        up.terminate()
        assert up.wait(timeout=90) == 0


@needs_root
@needs_fuse
@needs_setpriv
def test_the_units_capabilities_are_enough(make_stack, notified):
    """Everything but systemd's own sandbox: no new privileges, and the bounding set."""
    stack = make_stack(up=False)
    with foreground(stack, notified, through=with_capabilities_of(UNIT)) as up:
        notified.wait("READY=1")
        with open(f"/proc/{up.pid}/status") as f:
            assert "NoNewPrivs:\t1" in f.read()
        free = make_stack("--no-mount", drives=1)  # a stack with every capability, to compare with
        info = stack.status()
        assert info["well"]
        missing = {c["name"] for c in info["bufferd"]["preflight"] if c["state"] != "ok"}
        assert missing == {c["name"] for c in free.status()["bufferd"]["preflight"] if c["state"] != "ok"}
        path = f"{info['mount']}/data/f"
        with open(path, "wb") as f:
            f.write(b"x" * (1 << 20))
        os.chown(path, 1234, 1234)
        os.chmod(path, 0o600)
        with open(path, "ab") as f:  # burst files of other owners, too
            f.write(b"y")
        stack.run("flush", "--wait")
        stack.run("evict")
        with open(path, "rb") as f:
            assert f.read() == b"x" * (1 << 20) + b"y"
        os.unlink(path)
        children = [d["pid"] for d in info["daemons"]]
        up.terminate()
        assert up.wait(timeout=90) == 0
        assert not any(alive(pid) for pid in children) and not os.path.ismount(info["mount"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@pytest.mark.parametrize("path", UNITS, ids=os.path.basename)
def test_the_unit_is_one_that_systemd_takes(path, tmp_path):
    with open(path) as f:
        text = f.read()
    assert "Type=notify" in text and "/usr/local/bin/perigee up" in text
    unit = tmp_path / os.path.basename(path)
    unit.write_text(text.replace("/usr/local/bin/perigee", os.path.abspath(os.path.join(BINARIES, "perigee"))))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert unit.name not in done.stderr, done.stderr
    if path != UNIT:
        return
    # An option that gives the unit its own mount namespace would hide the mount from everyone else.
    assert not re.search(r"^(Private(Tmp|Devices|Mounts|Users|IPC)|Protect\w+|Read(Write|Only)Paths|InaccessiblePaths|TemporaryFileSystem|"
                         r"Bind\w*Paths|RootDirectory|RootImage|DynamicUser|ProcSubset)=", text, re.M)


def test_the_way_between_two_daemons_is_measured(make_stack):
    stack = make_stack("--no-mount")
    there = stack.json("bench", "net", "--size", "1M")
    assert there["path"] == f"local {stack.data}/run/objectd.sock"
    assert [row["bytes"] for row in there["rows"]] == [64, 4096, 16384, 65536, 262144, 1 << 20]
    assert all(row["transfers"] and 0 < row["median_us"] <= row["p99_us"] and row["sent_bytes_per_s"] and row["read_bytes_per_s"]
               for row in there["rows"])
    back = stack.run("bench", "net", "--from", "objectd", "--size", "1M").stdout.splitlines()
    assert back[0] == f"from objectd over local {stack.data}/run/bufferd.sock" and len(back) == 8
    nobody = stack.run("bench", "net", "--to", "local:/nowhere", check=False)
    assert nobody.returncode == 1 and nobody.stderr.count("\n") == 1
