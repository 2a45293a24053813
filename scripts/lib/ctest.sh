# Sourced, from the root of the tree. run_ctest BUILD ARGS...: ctest, and where it fails the last lines of each test that did once
# more, behind everything else: CI shows the end of what is printed.
run_ctest() {
  local build=$1
  shift
  ctest --test-dir "$build" --output-on-failure "$@" && return
  awk '/^[0-9]+\/[0-9]+ Testing: / { name = $3; n = 0 }
       { lines[n++] = $0 }
       /^Test Failed\.$/ {
         print "\n---- how " name " ended"
         for (i = n > 44 ? n - 44 : 0; i < n - 4; ++i) print lines[i]
       }' "$build/Testing/Temporary/LastTest.log"
  return 1
}
