// Tells ctest which test cases were skipped. An exit code cannot: Catch2's is the number of failed
// assertions, which can be any.
#include <iostream>
#include <string>

// Makes version 2 declare what a listener needs.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "catch.hpp"

namespace hip_attn::test {
namespace {

std::string& skip_reason() {
  static std::string reason;
  return reason;
}

#if defined(CATCH_VERSION_MAJOR) && CATCH_VERSION_MAJOR >= 3
using ListenerBase = Catch::EventListenerBase;
#else
using ListenerBase = Catch::TestEventListenerBase;
#endif

class SkipListener : public ListenerBase {
 public:
  using ListenerBase::ListenerBase;

  void testCaseStarting(const Catch::TestCaseInfo&) override { skip_reason().clear(); }

  // A case that failed before or beside the skip has failed.
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (skip_reason().empty() || stats.totals.assertions.failed > 0) return;
    // tests/CMakeLists.txt has the pattern that ctest looks for.
    std::cout << "skipped: " << skip_reason() << std::endl;
  }
};

CATCH_REGISTER_LISTENER(SkipListener)

}  // namespace

void note_skip(const std::string& reason) { skip_reason() = reason; }

}  // namespace hip_attn::test
