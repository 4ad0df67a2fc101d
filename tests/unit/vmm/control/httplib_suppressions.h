// For ThreadSanitizer, included once in a test program that serves HTTP: Debian's cpp-httplib is
// not instrumented, so that the guards of its function-local constants are not seen to order
// anything.
#pragma once

extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libcpp-httplib.so\n";
}
