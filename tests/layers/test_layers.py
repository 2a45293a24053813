"""The layer table of ARCHITECTURE section 2, held against every #include."""

import os
import re
import subprocess

import pytest
from conftest import BINARIES

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = {
    "base": set(),
    "rdma": {"base"},
    "client": {"base", "rdma"},
    "tiers": {"base", "rdma", "client"},
    "objectd": {"base", "rdma", "client", "tiers"},
    "bufferd": {"base", "rdma", "client", "tiers"},
    "fuse": {"base", "rdma", "client"},
    "cli": {"base", "rdma", "client", "tiers"},
    "python": {"base", "rdma", "client", "tiers"},
}
# Vendor headers by their first path component or name; see docs/decisions/0003-vendor-table.md.
VENDORS = {
    "base": {"boost", "liburing.h", "openssl", "spdlog", "fmt", "nlohmann", "prometheus", "isa-l"},
    "rdma": {"boost", "openssl", "protozero", "ucp", "uct", "ucs", "rdma"},
    "client": {"isa-l"},
    "tiers": {"curl"},
    "objectd": {"boost", "rocksdb", "openssl", "pugixml.hpp", "nlohmann"},
    "bufferd": {"rocksdb"},
    "fuse": {"fuse_lowlevel.h"},
    "cli": {"nlohmann", "systemd"},
    "python": {"pybind11"},
}
# Vendor types that headers may show: protozero is our codec's template code.
IN_HEADERS = {"protozero", "nlohmann/json_fwd.hpp"}
KNOWN_VENDORS = set().union(*VENDORS.values()) | {"libpq-fe.h", "google", "fuse.h", "fuse3", "curl"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def sources(folder):
    for base, _, names in os.walk(os.path.join(ROOT, folder)):
        for name in names:
            if name.endswith((".h", ".cc", ".def")):
                yield os.path.join(base, name)


def includes(path):
    with open(path) as f:
        return [(kind, target) for kind, target in INCLUDE.findall(f.read())]


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_folder_includes_only_the_folders_below_it(folder):
    wrong = []
    for path in sources(folder):
        for kind, target in includes(path):
            top = target.split("/")[0]
            if kind == '"' and top in FOLDERS and top != folder and top not in FOLDERS[folder]:
                wrong.append(f"{os.path.relpath(path, ROOT)}: {target}")
    assert not wrong


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_vendor_headers_stay_in_their_folder_and_out_of_headers(folder):
    wrong = []
    for path in sources(folder):
        for kind, target in includes(path):
            top = target.split("/")[0]
            if kind != "<" or top not in KNOWN_VENDORS:
                continue
            if top not in VENDORS[folder]:
                wrong.append(f"{os.path.relpath(path, ROOT)}: <{target}> is not of this folder")
            elif path.endswith(".h") and top not in IN_HEADERS and target not in IN_HEADERS:
                wrong.append(f"{os.path.relpath(path, ROOT)}: <{target}> in a header")
    assert not wrong


@pytest.mark.parametrize("folder,vendors", [("rdma/ucx/", {"ucp", "uct", "ucs"}), ("rdma/ofi/", {"rdma"})])
def test_only_its_provider_includes_a_network_library(folder, vendors):
    users = [os.path.relpath(path, ROOT) for top in FOLDERS for path in sources(top)
             for kind, target in includes(path) if kind == "<" and target.split("/")[0] in vendors]
    assert users and all(path.startswith(folder) for path in users)


def needed(program):
    found = subprocess.run(["readelf", "-d", os.path.join(BINARIES, program)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"NEEDED.*\[(lib\w+)", found)


@pytest.mark.parametrize("program", ["perigee", "perigee-fuse"])
def test_only_the_daemons_link_what_the_network_needs(program):
    assert not {"libucp", "libucs", "libfabric", "libssl"} & set(needed(program))
    assert {"libucp", "libfabric", "libssl"} <= set(needed("perigee-bufferd"))


def test_no_folder_is_a_catch_all():
    out = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout
    folders = {part for line in out.splitlines() for part in line.split("/")[:-1]}
    assert not folders & {"util", "utils", "common", "misc", "helpers"}


def test_every_include_of_ours_exists():
    missing = [f"{path}: {target}" for folder in FOLDERS for path in sources(folder) for kind, target in includes(path)
               if kind == '"' and target.split("/")[0] in FOLDERS and not os.path.exists(os.path.join(ROOT, target))]
    assert not missing
