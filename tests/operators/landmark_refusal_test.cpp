// Calls of update_landmarks, and of append_kv with landmarks, whose arguments are wrong: the status
// code, a message that names the argument and its value, and nothing written.
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/kv.hpp"
#include "support/built.hpp"
#include "support/device_buffer.hpp"
#include "support/landmark_memory.hpp"
#include "support/memory.hpp"
#include "support/problem.hpp"
#include "support/same_bits.hpp"
#include "support/spoilt_call.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = AnyElement;
using Ints = std::vector<std::int32_t>;

/// Good arguments of either operator to spoil: two requests of 150 and 90 keys in pages of 16, of
/// which append_kv brings the last 40 and 30.
struct Upkeep {
  explicit Upkeep(Device device_ = kCpu) : device(device_) {
    update.kv = kv.view();
    update.from = array({0, 10});
    update.to = array({150, 90});
    update.landmarks = landmarks.view();
    append.k = {rows.data(), {70, 2, least_head_dim()}};
    append.v = {rows.data(), append.k.sizes};
    append.slot_mapping = {slots.data(), {70}};
    append.pages = kv.pages();
    append.landmarks = AppendLandmarks<T>{landmarks.view(), kv.view().block_table, array({150, 90}),
                                          array({0, 40, 70})};
  }

  TensorView<const std::int32_t, 1> array(const Ints& values) {
    arrays.push_back(std::make_unique<DeviceBuffer<std::int32_t>>(device, values));
    return {arrays.back()->data(), {arrays.back()->size()}};
  }
  /// A table of these entries for both requests.
  TensorView<const std::int32_t, 2> table(const Ints& entries) {
    const TensorView<const std::int32_t, 1> values = array(entries);
    return {values.data, {2, values.sizes[0]}, {0, 1}};
  }

  Device device;
  Problem<T> problem = make_problem<T>({2, 2, least_head_dim()}, {{150, 0, 1}, {90, 0, 2}});
  KvMemory<T> kv{device, problem, {}};
  LandmarkMemory<T> landmarks{device, problem, {.chunk_sizes = {8, 32}}};
  DeviceBuffer<T> rows{device, 70 * 2 * least_head_dim(), from_float<T>(1.f)};
  DeviceBuffer<std::int64_t> slots{device, 70, -1};
  std::vector<std::unique_ptr<DeviceBuffer<std::int32_t>>> arrays;
  UpdateLandmarksArgs<T> update;
  AppendKvArgs<T> append;
};

struct Refusal {
  StatusCode code;
  Mentions mentions;
  std::function<void(Upkeep&)> spoil;
};

void check_refusals(const std::vector<Refusal>& refusals,
                    const std::function<Status(const Upkeep&)>& run) {
  {
    const Upkeep good;
    const Status status = run(good);
    INFO(status.message());
    REQUIRE(status.ok());
    REQUIRE(good.landmarks.difference(
                LandmarkMemory<T>(kCpu, good.problem, {.chunk_sizes = {8, 32}}).read()) != "");
  }
  for (std::size_t i = 0; i < refusals.size(); ++i) {
    CAPTURE(i);
    Upkeep upkeep;
    refusals[i].spoil(upkeep);
    const auto before = upkeep.landmarks.read();
    check_refused(run(upkeep), refusals[i].code, refusals[i].mentions);
    CHECK(upkeep.landmarks.difference(before) == "");
  }
}

/// What is wrong with landmarks as such, wherever an operator has them.
std::vector<Refusal> landmark_refusals(const std::function<Landmarks<T>&(Upkeep&)>& of) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  return {
      {StatusCode::kInvalidShape,
       {"landmarks.num_levels is 9"},
       [=](Upkeep& u) { of(u).num_levels = 9; }},
      {StatusCode::kInvalidShape,
       {"landmarks.num_levels is -1"},
       [=](Upkeep& u) { of(u).num_levels = -1; }},
      {StatusCode::kInvalidScalar,
       {"landmarks.spread is 1.5", "0 to 1"},
       [=](Upkeep& u) { of(u).spread = 1.5f; }},
      {StatusCode::kInvalidScalar,
       {"landmarks.spread is nan"},
       [=](Upkeep& u) { of(u).spread = kNan; }},
      {StatusCode::kInvalidShape,
       {"landmarks.levels[0].chunk_size is 24", "power of two"},
       [=](Upkeep& u) { of(u).levels[0].chunk_size = 24; }},
      {StatusCode::kInvalidShape,
       {"landmarks.levels[1].chunk_size is 8", "above"},
       [=](Upkeep& u) { of(u).levels[1].chunk_size = 8; }},
      {StatusCode::kNullPointer,
       {"landmarks.levels[1].rows"},
       [=](Upkeep& u) { of(u).levels[1].rows.data = nullptr; }},
      {StatusCode::kMisalignedPointer,
       {"landmarks.levels[0].rows", "16"},
       [=](Upkeep& u) { ++of(u).levels[0].rows.data; }},
      {StatusCode::kInvalidStride,
       {"landmarks.levels[0].rows.strides[4] is 2"},
       [=](Upkeep& u) { of(u).levels[0].rows.strides[4] = 2; }},
      {StatusCode::kInvalidShape,
       {"landmarks.levels[0].rows.sizes[2] is 1", "2"},
       [=](Upkeep& u) { of(u).levels[0].rows.sizes[2] = 1; }},
      {StatusCode::kInvalidShape,
       {"landmarks.levels[0].block_table.sizes[0] is 1", "2"},
       [=](Upkeep& u) { of(u).levels[0].block_table->sizes[0] = 1; }},
      {StatusCode::kSeqLenBeyondBlockTable,
       {"is 150", "landmarks 0 to 17 of chunk_size 8", "landmarks.levels[0] hold 5"},
       [=](Upkeep& u) { of(u).levels[0].block_table->sizes[1] = 1; }},
      {StatusCode::kInvalidPage,
       {"landmarks.levels[1].block_table[0][0] is 77", "pages are 0 to"},
       [=](Upkeep& u) { of(u).levels[1].block_table = u.table({77}); }},
      {StatusCode::kInvalidPage,
       {"landmarks.levels[1].block_table is absent", "request 1"},
       [=](Upkeep& u) {
         of(u).levels[1].block_table.reset();
         of(u).levels[1].rows.sizes[0] = 1;
       }},
      {StatusCode::kOverlap,
       {"landmarks.levels[0].rows", "pages.k"},
       [=](Upkeep& u) { of(u).levels[0].rows.data = u.kv.pages().k.data; }},
      {StatusCode::kOverlap,
       {"landmarks.levels[0].rows", "pages.v"},
       [=](Upkeep& u) { of(u).levels[0].rows.data = u.kv.pages().v.data; }},
      {StatusCode::kOverlap,
       {"landmarks.levels[1].rows", "finer level"},
       [=](Upkeep& u) { of(u).levels[1].rows.data = of(u).levels[0].rows.data; }},
  };
}

TEST_CASE("wrong arguments of update_landmarks are refused by name") {
  std::vector<Refusal> refusals =
      landmark_refusals([](Upkeep& u) -> Landmarks<T>& { return u.update.landmarks; });
  const std::vector<Refusal> own = {
      {StatusCode::kNullPointer, {"from"}, [](Upkeep& u) { u.update.from.data = nullptr; }},
      {StatusCode::kNullPointer, {"to"}, [](Upkeep& u) { u.update.to.data = nullptr; }},
      {StatusCode::kNullPointer,
       {"kv.pages.k"},
       [](Upkeep& u) { u.update.kv.pages.k.data = nullptr; }},
      {StatusCode::kNullPointer,
       {"kv.block_table"},
       [](Upkeep& u) { u.update.kv.block_table->data = nullptr; }},
      {StatusCode::kInvalidShape,
       {"from.sizes[0] is 1", "2"},
       [](Upkeep& u) { u.update.from.sizes[0] = 1; }},
      {StatusCode::kInvalidShape,
       {"kv.pages.v.sizes[1]"},
       [](Upkeep& u) { --u.update.kv.pages.v.sizes[1]; }},
      {StatusCode::kInvalidShape,
       {"page size", "at least 1"},
       [](Upkeep& u) { u.update.kv.pages.k.sizes[1] = u.update.kv.pages.v.sizes[1] = 0; }},
      {StatusCode::kInvalidShape,
       {"kv.block_table.sizes[0] is 1", "2"},
       [](Upkeep& u) { u.update.kv.block_table->sizes[0] = 1; }},
      {StatusCode::kUnsupported,
       {"head_dim is 8"},
       [](Upkeep& u) { u.update.kv.pages.k.sizes[3] = u.update.kv.pages.v.sizes[3] = 8; }},
      {StatusCode::kInvalidScalar,
       {"max_tokens is -1"},
       [](Upkeep& u) { u.update.max_tokens = -1; }},
      {StatusCode::kInvalidLength,
       {"from[1] is -1", "to[1] (90)"},
       [](Upkeep& u) {
         u.update.from = u.array({0, -1});
       }},
      {StatusCode::kInvalidLength,
       {"from[0] is 151", "to[0] (150)"},
       [](Upkeep& u) {
         u.update.from = u.array({151, 0});
       }},
      {StatusCode::kSeqLenBeyondBlockTable,
       {"to[1] is 1000000", "16 tokens"},
       [](Upkeep& u) {
         u.update.to = u.array({150, 1000000});
       }},
      {StatusCode::kInvalidPage,
       {"kv.block_table[0][0] is -3", "pages are 0 to"},
       [](Upkeep& u) { u.update.kv.block_table = u.table(Ints(10, -3)); }},
      {StatusCode::kOverlap,
       {"landmarks.levels[0].rows", "from"},
       [](Upkeep& u) {
         u.update.from.data =
             reinterpret_cast<const std::int32_t*>(u.update.landmarks.levels[0].rows.data);
       }},
  };
  refusals.insert(refusals.end(), own.begin(), own.end());
  check_refusals(refusals, [](const Upkeep& u) {
    return same_through_c(update_landmarks<T>(kCpu, u.update),
                          update_landmarks_through_c(kCpu, u.update));
  });
}

TEST_CASE("wrong landmarks of append_kv are refused by name") {
  std::vector<Refusal> refusals =
      landmark_refusals([](Upkeep& u) -> Landmarks<T>& { return u.append.landmarks->landmarks; });
  const std::vector<Refusal> own = {
      {StatusCode::kNullPointer,
       {"landmarks.seq_lens"},
       [](Upkeep& u) { u.append.landmarks->seq_lens.data = nullptr; }},
      {StatusCode::kNullPointer,
       {"landmarks.cu_seqlens"},
       [](Upkeep& u) { u.append.landmarks->cu_seqlens.data = nullptr; }},
      {StatusCode::kNullPointer,
       {"landmarks.block_table"},
       [](Upkeep& u) { u.append.landmarks->block_table->data = nullptr; }},
      {StatusCode::kInvalidShape,
       {"landmarks.cu_seqlens.sizes[0] is 2", "3"},
       [](Upkeep& u) { u.append.landmarks->cu_seqlens.sizes[0] = 2; }},
      {StatusCode::kInvalidShape,
       {"landmarks.block_table.sizes[0] is 1", "2"},
       [](Upkeep& u) { u.append.landmarks->block_table->sizes[0] = 1; }},
      {StatusCode::kInvalidShape,
       {"page size", "at least 1"},
       [](Upkeep& u) { u.append.pages.k.sizes[1] = u.append.pages.v.sizes[1] = 0; }},
      {StatusCode::kInvalidLength,
       {"begins with 1", "ends with 70"},
       [](Upkeep& u) {
         u.append.landmarks->cu_seqlens = u.array({1, 40, 70});
       }},
      {StatusCode::kInvalidLength,
       {"ends with 69", "(70)"},
       [](Upkeep& u) {
         u.append.landmarks->cu_seqlens = u.array({0, 40, 69});
       }},
      {StatusCode::kInvalidLength,
       {"landmarks.cu_seqlens[1] is 71", "(70)"},
       [](Upkeep& u) {
         u.append.landmarks->cu_seqlens = u.array({0, 71, 70});
       }},
      {StatusCode::kInvalidLength,
       {"landmarks.seq_lens[1] is -90"},
       [](Upkeep& u) {
         u.append.landmarks->seq_lens = u.array({150, -90});
       }},
      {StatusCode::kInvalidLength,
       {"landmarks.seq_lens[0] is 39", "(40)"},
       [](Upkeep& u) {
         u.append.landmarks->seq_lens = u.array({39, 90});
       }},
      {StatusCode::kSeqLenBeyondBlockTable,
       {"landmarks.seq_lens[1] is 1000000", "16 tokens"},
       [](Upkeep& u) {
         u.append.landmarks->seq_lens = u.array({150, 1000000});
       }},
      {StatusCode::kInvalidPage,
       {"landmarks.block_table[0]", "is -3", "pages are 0 to"},
       [](Upkeep& u) { u.append.landmarks->block_table = u.table(Ints(10, -3)); }},
      {StatusCode::kOverlap,
       {"landmarks.levels[0].rows", "with k "},
       [](Upkeep& u) { u.append.landmarks->landmarks.levels[0].rows.data = u.rows.data(); }},
  };
  refusals.insert(refusals.end(), own.begin(), own.end());
  check_refusals(refusals, [](const Upkeep& u) {
    return same_through_c(append_kv<T>(kCpu, u.append), append_kv_through_c(kCpu, u.append));
  });
}

/// Lengths of an append, and the requests whose landmarks it makes where they are not refused.
struct Lengths {
  Ints seq_lens;
  Ints cu_seqlens;
  StatusCode code;  ///< on the CPU
  std::array<bool, 2> made;
};

TEST_CASE("appended rows whose lengths do not hold are refused, or make no landmarks") {
  const Device device = GENERATE(from_range(data_devices()));
  constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min();
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  constexpr auto kInvalid = StatusCode::kInvalidLength;
  const Lengths cases[] = {
      {{39, 90}, {0, 40, 70}, kInvalid, {false, true}},
      {{-150, 90}, {0, 40, 70}, kInvalid, {false, true}},
      {{kLeast, kLeast}, {0, 40, 70}, kInvalid, {false, false}},
      {{kMost, 90}, {0, 40, 70}, StatusCode::kSeqLenBeyondBlockTable, {false, true}},
      {{150, 90}, {kLeast, 40, 70}, kInvalid, {false, true}},
      {{150, 90}, {0, 1000, 70}, kInvalid, {false, false}},
      {{150, 90}, {0, kMost, kMost}, kInvalid, {false, false}},
      {{150, 90}, {0, 60, 30}, kInvalid, {true, false}},
      {{150, 90}, {0, 40, 71}, kInvalid, {true, false}},
  };
  for (const Lengths& each : cases) {
    CAPTURE(each.seq_lens, each.cu_seqlens);
    Upkeep upkeep(device);
    // What an append before this one has made.
    REQUIRE(upkeep.landmarks.update(upkeep.kv.view(), {0, 0}, {110, 60}).ok());
    const auto before = upkeep.landmarks.read();
    upkeep.append.landmarks->seq_lens = upkeep.array(each.seq_lens);
    upkeep.append.landmarks->cu_seqlens = upkeep.array(each.cu_seqlens);
    const Status status = append_kv<T>(device, upkeep.append);
    if (device == kCpu) {
      check_refused(status, each.code, {"landmarks."});
      CHECK(upkeep.landmarks.difference(before) == "");
    } else {
      REQUIRE(status.ok());
      const Ints to = {each.made[0] ? 150 : 110, each.made[1] ? 90 : 60};
      CHECK(upkeep.landmarks.difference(
                upkeep.landmarks.expected(upkeep.problem, before, {110, 60}, to)) == "");
    }
    CHECK(upkeep.landmarks.guards_intact());
    CHECK(upkeep.kv.guards_intact());
  }
}

}  // namespace
}  // namespace hip_attn
