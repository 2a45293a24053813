# Sourced, from the root of the tree: what every run of the binaries of build/test is given.
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
# libfabric loads a library that prints a backtrace of its own over what a sanitizer says.
export IPATH_NO_BACKTRACE=1
