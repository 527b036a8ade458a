/// Catch2, version 2 or 3.
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
