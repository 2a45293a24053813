"""Every sync, rename, commit and reply has its failpoints (scripts/check-failpoints), and the check can tell when one has not."""

import os
import subprocess

import pytest

import failpoints


def test_every_operation_has_a_failpoint_before_and_after_it():
    done = subprocess.run([os.path.join(failpoints.ROOT, "scripts", "check-failpoints")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SYNCED = """
Status Writer::Store(File& file, bool now) {
  %s
  for (int i = 0; i < 2; ++i) PERIGEE_TRY(file.WriteAt(i, "}; {"));  // not a brace: {
  auto sync = [&]() -> Status { return file.SyncData(); };
  PERIGEE_TRY(sync());
  %s
  return Status::Ok();
}
Status Writer::Other() { PERIGEE_FAILPOINT(a); return Status::Ok(); }
"""


@pytest.mark.parametrize("before, after, covered", [
    ("PERIGEE_FAILPOINT(a);", "PERIGEE_FAILPOINT_STATUS(b);", True), ("", "PERIGEE_FAILPOINT(b);", False),
    ("PERIGEE_FAILPOINT(a);", "", False), ("", "", False), ("PERIGEE_FAILPOINT(a);", "// PERIGEE_FAILPOINT(b);", False)])
def test_an_operation_is_covered_by_the_failpoints_of_its_own_function(before, after, covered):
    op, = failpoints.operations("x.cc", SYNCED % (before, after))
    assert (op.function, op.kind, op.covered) == ("Writer::Store", "sync", covered)


@pytest.mark.parametrize("text, kind", [
    ("fdatasync(fd)", "sync"), ("if (fsync(fd.get()) != 0)", "sync"), ("PERIGEE_TRY(disk.SyncDir(x))", "sync"),
    ("db_->SyncWAL()", "sync"), ("disk_->Rename(a, b)", "rename"), ("rename(a.c_str(), b.c_str())", "rename"),
    ("store_->RunDurable(body)", "commit"), ("store_.Run(body)", "commit"), ("db_->Write(how, batch)", "commit"),
    ("call.Reply(std::move(p))", "reply")])
def test_operations_are_recognised(text, kind):
    op, = failpoints.operations("x.cc", "namespace a {\nStatus F() {\n" + text + ";\n}\n}\n")
    assert (op.function, op.kind, op.line, op.covered) == ("F", kind, 3, False)
