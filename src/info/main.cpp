// hip_attn-info: what this build contains, and what a plan for given shapes would do and cost.
//
//   hip_attn-info
//   hip_attn-info --context 131072 --preset landmark --gpu h200
//
// Exits with 0, or with 2 where an argument cannot be honoured.
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "options.hpp"
#include "report.hpp"

int main(int argc, char** argv) {
  using namespace hip_attn::info;
  try {
    const Parsed parsed = parse_options(argc, argv);
    if (parsed.exits) return parsed.code;
    const Json report = make_report(parsed.options);
    if (parsed.options.json) {
      fmt::print("{}\n", report.dump(1));
    } else {
      fmt::print("{}", report_text(report));
    }
    return 0;
  } catch (const UsageError& error) {
    fmt::print(stderr, "hip_attn-info: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "hip_attn-info: {}\n", error.what());
    return 1;
  }
}
