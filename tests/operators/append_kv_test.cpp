#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "hip_attn/kv.hpp"
#include "support/built.hpp"
#include "support/device_buffer.hpp"
#include "support/same_bits.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr std::int64_t kKvHeads = 3;
constexpr std::int64_t kPages = 5;
constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

/// New rows and a cache to write them into, both with padding that must not be touched.
template <Element T>
struct Append {
  std::int64_t num_tokens;
  std::int64_t page_size;
  std::int64_t head_dim;
  std::array<std::int64_t, 3> row_strides;
  std::array<std::int64_t, 4> k_strides;
  std::array<std::int64_t, 4> v_strides;
  DeviceBuffer<T> new_k;
  DeviceBuffer<T> new_v;
  DeviceBuffer<T> cache_k;
  DeviceBuffer<T> cache_v;
  DeviceBuffer<std::int64_t> slots;

  static std::vector<T> random(std::int64_t size, std::uint64_t seed) {
    std::vector<T> values(size);
    for (std::int64_t i = 0; i < size; ++i) values[i] = from_float<T>(gaussian(mix(seed, i)));
    return values;
  }

  Append(Device device, std::int64_t page_size_, std::int64_t head_dim_, bool hnd,
         const std::vector<std::int64_t>& slots_)
      : num_tokens(static_cast<std::int64_t>(slots_.size())),
        page_size(page_size_),
        head_dim(head_dim_),
        row_strides{kKvHeads * (head_dim + 8), head_dim + 8, 1},
        k_strides(strides(hnd, head_dim)),
        v_strides(strides(!hnd, head_dim + 16)),
        new_k(device, random(num_tokens * row_strides[0], 1)),
        new_v(device, random(num_tokens * row_strides[0], 2)),
        cache_k(device, kPages * k_strides[0], from_float<T>(kNaN)),
        cache_v(device, kPages * v_strides[0], from_float<T>(kNaN)),
        slots(device, slots_) {}

  [[nodiscard]] std::array<std::int64_t, 4> strides(bool hnd, std::int64_t row) const {
    const std::int64_t page = page_size * kKvHeads * row + 8;
    return hnd ? std::array<std::int64_t, 4>{page, row, page_size * row, 1}
               : std::array<std::int64_t, 4>{page, kKvHeads * row, row, 1};
  }

  [[nodiscard]] AppendKvArgs<T> args() const {
    const std::array<std::int64_t, 3> rows{num_tokens, kKvHeads, head_dim};
    const std::array<std::int64_t, 4> pages{kPages, page_size, kKvHeads, head_dim};
    AppendKvArgs<T> args;
    args.k = {new_k.data(), rows, row_strides};
    args.v = {new_v.data(), rows, row_strides};
    args.slot_mapping = {slots.data(), {num_tokens}};
    args.pages = {TensorView<T, 4>(cache_k.data(), pages, k_strides),
                  TensorView<T, 4>(cache_v.data(), pages, v_strides)};
    return args;
  }

  [[nodiscard]] bool guards_intact() const {
    return new_k.guards_intact() && new_v.guards_intact() && cache_k.guards_intact() &&
           cache_v.guards_intact() && slots.guards_intact();
  }

  /// The cache after the call: NaN but for the rows that have a slot.
  static std::vector<T> expected(const std::vector<T>& rows, const Append& a,
                                 const std::array<std::int64_t, 4>& page_strides,
                                 std::int64_t size) {
    std::vector<T> cache(size, from_float<T>(kNaN));
    const std::vector<std::int64_t> slots = a.slots.read();
    for (std::int64_t t = 0; t < a.num_tokens; ++t) {
      if (slots[t] < 0) continue;
      for (std::int64_t head = 0; head < kKvHeads; ++head) {
        for (std::int64_t d = 0; d < a.head_dim; ++d) {
          cache[slots[t] / a.page_size * page_strides[0] +
                slots[t] % a.page_size * page_strides[1] + head * page_strides[2] + d] =
              rows[t * a.row_strides[0] + head * a.row_strides[1] + d];
        }
      }
    }
    return cache;
  }
};

HIP_ATTN_TYPED_TEST_CASE("append_kv writes each row to its slot and nothing else") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::int64_t head_dim = GENERATE(from_range(head_dims()));
  const std::int64_t page_size = GENERATE(1, 3, 16);
  const bool hnd = GENERATE(false, true);

  std::vector<std::int64_t> slots = {4 * page_size, -1, page_size - 1, 2 * page_size,
                                     5 * page_size - 1};
  if (page_size == 1) slots = {4, -1, 0, 2, -7};
  const Append<TestType> append(device, page_size, head_dim, hnd, slots);
  const Status status = append_kv<TestType>(device, append.args());
  INFO(status.message());
  REQUIRE(status.ok());
  CHECK(same_bits(append.cache_k.read(),
                  Append<TestType>::expected(append.new_k.read(), append, append.k_strides,
                                             append.cache_k.size())));
  CHECK(same_bits(append.cache_v.read(),
                  Append<TestType>::expected(append.new_v.read(), append, append.v_strides,
                                             append.cache_v.size())));
  CHECK(append.guards_intact());
}

HIP_ATTN_TYPED_TEST_CASE("append_kv of no rows, or of rows that are all skipped, writes nothing") {
  const Device device = GENERATE(from_range(data_devices()));
  const std::vector<std::int64_t> slots =
      GENERATE(std::vector<std::int64_t>{}, std::vector<std::int64_t>{-1, kLeast});
  const Append<TestType> append(device, 4, least_head_dim(), false, slots);
  CHECK(append_kv<TestType>(device, append.args()).ok());
  for (const TestType value : append.cache_k.read()) REQUIRE(std::isnan(to_float(value)));
  for (const TestType value : append.cache_v.read()) REQUIRE(std::isnan(to_float(value)));
}

HIP_ATTN_TYPED_TEST_CASE("append_kv writes nothing when a slot lies past the last page") {
  const std::int64_t bad_slot = GENERATE(std::int64_t{kPages * 4}, kMost);
  const Append<TestType> append(kCpu, 4, least_head_dim(), false, {0, bad_slot, 1});
  const Status status = append_kv<TestType>(kCpu, append.args());
  INFO(status.message());
  CHECK(status.code() == StatusCode::kInvalidSlot);
  CHECK(status.message().find("slot_mapping[1] is " + std::to_string(bad_slot)) !=
        std::string::npos);
  for (const TestType value : append.cache_k.read()) REQUIRE(std::isnan(to_float(value)));
}

TEST_CASE("append_kv and merge_states were tested on a CUDA device") {
  const Status status = check_device(cuda_device());
  if (!status.ok()) HIP_ATTN_SKIP(status.message());
  CHECK(data_devices().size() == 2);
}

}  // namespace
}  // namespace hip_attn
