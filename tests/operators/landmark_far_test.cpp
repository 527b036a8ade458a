// Landmarks beyond the 2^31st element of their memory, most of which nobody touches.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "hip_attn/hip_attn.hpp"
#include "support/built.hpp"
#include "support/configs.hpp"
#include "support/device_buffer.hpp"
#include "support/problem.hpp"
#include "support/run.hpp"
#include "support/same_bits.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = bfloat16;

/// Levels of one request, each of two pages that lie 2^31 + 64 elements apart. The first landmarks
/// are in the page that lies further on.
class FarLandmarks {
 public:
  FarLandmarks(Device device, const Heads& heads, std::int64_t seq_len,
               const std::vector<std::int64_t>& chunk_sizes, float spread)
      : table_(device, std::vector<std::int32_t>{1, 0}),
        memory_(device, (kPageStride + near_elements(heads, seq_len, chunk_sizes)) * sizeof(T)) {
    landmarks_.spread = spread;
    T* page = reinterpret_cast<T*>(memory_.data());
    for (const std::int64_t size : chunk_sizes) {
      const std::int64_t per_page = landmarks_per_page(seq_len, size);
      const std::int64_t landmark = heads.num_kv_heads * 2 * heads.head_dim;
      LandmarkLevel<T>& level = landmarks_.levels[landmarks_.num_levels++];
      level.chunk_size = size;
      level.rows = TensorView<T, 5>(page, {2, per_page, heads.num_kv_heads, 2, heads.head_dim},
                                    {kPageStride, landmark, 2 * heads.head_dim, heads.head_dim, 1});
      level.block_table = TensorView<const std::int32_t, 2>(table_.data(), {1, 2});
      page += per_page * landmark;
    }
  }

  [[nodiscard]] const Landmarks<T>& view() const { return landmarks_; }

 private:
  static constexpr std::int64_t kPageStride = (std::int64_t{1} << 31) + 64;

  static std::int64_t landmarks_per_page(std::int64_t seq_len, std::int64_t chunk_size) {
    return (seq_len / chunk_size + 1) / 2;
  }
  /// Of one page of every level.
  static std::int64_t near_elements(const Heads& heads, std::int64_t seq_len,
                                    const std::vector<std::int64_t>& chunk_sizes) {
    std::int64_t landmarks = 0;
    for (const std::int64_t size : chunk_sizes) landmarks += landmarks_per_page(seq_len, size);
    return landmarks * heads.num_kv_heads * 2 * heads.head_dim;
  }

  DeviceBuffer<std::int32_t> table_;
  DeviceBytes memory_;
  Landmarks<T> landmarks_;
};

TEST_CASE("landmarks beyond the 2^31st element are made and searched by") {
  if (!is_built<T>()) HIP_ATTN_SKIP("this build lacks the element type");
  const Operator op = GENERATE(Operator::kPrefill, Operator::kDecode);
  const Device device = GENERATE(from_range(attention_devices<T>()));
  const bool hopper = GENERATE(true, false);
  if (!hopper && (op == Operator::kDecode || device == kCpu)) return;  // the same kernels
  CAPTURE(op, hopper);
  const HipConfig config = GENERATE(landmark_config(), dense_landmark_config());
  const Heads heads{4, 2, least_head_dim()};
  const std::vector<std::int64_t> chunk_sizes = {8, 32};
  const std::int64_t seq_len = 431;
  const auto problem = make_problem<T>(heads, {{seq_len, op == Operator::kDecode ? 3 : 70, 1}});
  AttentionPlan plan = make_plan<T>(op, config, problem.shape(device));
  if (!hopper) cuda::use_portable_kernels(plan);
  const LandmarkLayout layout{.chunk_sizes = chunk_sizes, .spread = 0.5f};
  CallMemory<T> near(plan, problem, {}, layout);
  REQUIRE(run_operator<T>(plan, near.args(), near.workspace()).ok());
  const auto expected = near.read();

  CallMemory<T> call(plan, problem, {}, layout);
  const FarLandmarks far(device, heads, seq_len, chunk_sizes, layout.spread);
  const DeviceBuffer<std::int32_t> from(device, 1, 0);
  const DeviceBuffer<std::int32_t> to(device, 1, static_cast<std::int32_t>(seq_len));
  UpdateLandmarksArgs<T> update;
  update.kv = call.kv().view();
  update.from = {from.data(), {1}};
  update.to = {to.data(), {1}};
  update.landmarks = far.view();
  const Status updated = update_landmarks<T>(device, update);
  INFO(updated.message());
  REQUIRE(updated.ok());
  call.args().landmarks = far.view();
  REQUIRE(run_operator<T>(plan, call.args(), call.workspace()).ok());
  const auto result = call.read();
  CHECK(same_bits(result.out, expected.out));
  CHECK(result.selection.blocks == expected.selection.blocks);
  CHECK(result.counters == expected.counters);
}

}  // namespace
}  // namespace hip_attn
