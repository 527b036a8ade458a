/// Catch2, version 2 or 3: the one place that knows which.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>

namespace Catch {
// Where version 3 keeps what the tests use of version 2.
using Detail::Approx;
}  // namespace Catch
#endif

#include <string>

namespace hip_attn::test {

/// Makes ctest report the running test case as skipped instead of passed, unless it fails.
void note_skip(const std::string& reason);

}  // namespace hip_attn::test

/// Ends the test case as skipped. A case is skipped as a whole, so what needs a GPU is a case of
/// its own. Only in the body of a test case: version 2 can do no better than return.
#if defined(SKIP)
#define HIP_ATTN_SKIP(reason)            \
  do {                                   \
    ::hip_attn::test::note_skip(reason); \
    SKIP(reason);                        \
  } while (false)
#else
#define HIP_ATTN_SKIP(reason)            \
  do {                                   \
    ::hip_attn::test::note_skip(reason); \
    return;                              \
  } while (false)
#endif
