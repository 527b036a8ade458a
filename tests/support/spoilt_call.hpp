/// A good call of prefill or decode, to spoil, and what must come back when it is spoilt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "built.hpp"
#include "catch.hpp"
#include "configs.hpp"
#include "run.hpp"
#include "through_c.hpp"

namespace hip_attn::test {

using Mentions = std::vector<std::string>;

/// The code, and a message in which every mention occurs.
inline void check_refused(const Status& status, StatusCode code, const Mentions& mentions) {
  INFO(to_string(status.code()) << ": " << status.message());
  CHECK(status.code() == code);
  for (const std::string& mention : mentions) {
    CAPTURE(mention);
    const bool mentioned = status.message().find(mention) != std::string::npos;
    CHECK(mentioned);
  }
}

/// A good call to spoil: two requests of 60 and 90 keys in pages of 16, with 2 and 3 rows.
struct Call {
  explicit Call(Operator op)
      : problem(make_problem<AnyElement>({4, 2, least_head_dim()}, {{60, 2, 1}, {90, 3, 2}})),
        plan(make_plan<AnyElement>(op, small_config(), problem.shape(kCpu))),
        memory(plan, problem, {}),
        cache_bytes(kCpu, 2 * static_cast<std::int64_t>(plan.selection_cache_slot_bytes),
                    std::byte{0}),
        args(memory.args()),
        workspace(memory.workspace()) {}

  /// Also through the C interface, which says the same. (It takes the types from the plan.)
  [[nodiscard]] Status run() const {
    const Status status = run_operator<AnyElement>(plan, args, workspace);
    if (plan.type != kElementType<AnyElement> || plan.cache_type != plan.type) return status;
    return same_through_c(status, run_through_c(plan.op, plan, args, workspace));
  }

  /// A cache of two slots; every stage runs.
  void add_cache() {
    args.cache = SelectionCache{cache_bytes.data(), 2, array({0, 0}), array({1, 0})};
  }
  void add_selection(const HostSelection& selection) {
    args.selection = given.emplace(kCpu, selection).view();
  }
  /// The selection that the call finds by itself.
  HostSelection good_selection() {
    REQUIRE(run().ok());
    return memory.read().selection;
  }
  TensorView<const std::int32_t, 1> array(const std::vector<std::int32_t>& values) {
    arrays.push_back(std::make_unique<DeviceBuffer<std::int32_t>>(kCpu, values));
    return {arrays.back()->data(), {arrays.back()->size()}};
  }
  /// A block table of two rows, for two requests.
  TensorView<const std::int32_t, 2> table(const std::vector<std::int32_t>& values) {
    const auto flat = array(values);
    return {flat.data, {2, flat.sizes[0] / 2}};
  }

  Problem<AnyElement> problem;
  AttentionPlan plan;
  CallMemory<AnyElement> memory;
  DeviceBuffer<std::byte> cache_bytes;
  std::optional<SelectionMemory> given;
  std::vector<std::unique_ptr<DeviceBuffer<std::int32_t>>> arrays;
  AttentionArgs<AnyElement> args;
  Workspace workspace;
};

/// One thing wrong with a call.
struct Case {
  Mentions mentions;
  std::function<void(Call&)> spoil;
};

inline void check_cases(Operator op, StatusCode code, const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    CAPTURE(op, each.mentions.front());
    Call call(op);
    if (op == Operator::kDecode) call.add_cache();
    REQUIRE(call.run().ok());
    each.spoil(call);
    check_refused(call.run(), code, each.mentions);
  }
}

}  // namespace hip_attn::test
