// The two selects of the search against a stable sort: the highest scores, equal ones by the lower
// index, handed over once each and in ascending order.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "device/device_test.cuh"
#include "hip_attn/cuda/decode/register_select.cuh"
#include "hip_attn/cuda/search/kernel.cuh"
#include "hip_attn/cuda/search/select.cuh"
#include "support/device_buffer.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

/// What a thread block hands over: it keeps keeps[blockIdx.x] of the scores.
struct Handed {
  std::int32_t* kept;        ///< [blocks, count]
  std::int32_t* times;       ///< [blocks, count] how often a rank was handed over
  std::int32_t* reads;       ///< [blocks, count] how often a score was read
  std::int32_t* done_where;  ///< [blocks] threads that were told that it is done

  __device__ void emit(std::int32_t count, std::int32_t keep, std::uint32_t rank,
                       std::int32_t index) const {
    if (rank >= static_cast<std::uint32_t>(keep)) __trap();
    const std::int64_t at = std::int64_t{blockIdx.x} * count + rank;
    kept[at] = index;
    atomicAdd(times + at, 1);
  }
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    select_kernel(const float* scores, std::int32_t count, const std::int32_t* keeps, Handed to) {
  __shared__ cuda::SelectStorage<kThreads> storage;
  const std::int32_t keep = keeps[blockIdx.x];
  const auto score_at = [&](std::int32_t i) {
    atomicAdd(to.reads + std::int64_t{blockIdx.x} * count + i, 1);
    return scores[i];
  };
  cuda::select_chunks(score_at, count, keep, storage, [&](std::uint32_t rank, std::int32_t index) {
    to.emit(count, keep, rank, index);
  });
  if (threadIdx.x == 0) to.done_where[blockIdx.x] = kThreads;
}

template <int kItems>
__global__ void __launch_bounds__(cuda::kDecodeThreads)
    register_select_kernel(const float* scores, std::int32_t count, const std::int32_t* keeps,
                           Handed to) {
  __shared__ __align__(16) cuda::RegisterSelectStorage storage;
  const std::int32_t keep = keeps[blockIdx.x];
  const bool done = cuda::RegisterSelect<kItems>(storage).run(
      scores, count, keep,
      [&](std::uint32_t rank, std::int32_t index) { to.emit(count, keep, rank, index); });
  const int threads = __syncthreads_count(done);
  if (threadIdx.x == 0) to.done_where[blockIdx.x] = threads;
}

/// What the blocks of one launch handed over, all of them for the same scores.
struct Result {
  std::vector<std::int32_t> kept;
  std::vector<std::int32_t> times;
  std::vector<std::int32_t> reads;
  std::vector<std::int32_t> done_where;
};

using SelectKernel = void (*)(const float*, std::int32_t, const std::int32_t*, Handed);

Result run_select(SelectKernel kernel, int threads, const std::vector<float>& scores,
                  const std::vector<std::int32_t>& keeps) {
  const Device device = cuda_device();
  const auto blocks = static_cast<std::int64_t>(keeps.size());
  const auto count = static_cast<std::int32_t>(scores.size());
  const DeviceBuffer<float> in(device, scores);
  const DeviceBuffer<std::int32_t> keeps_in(device, keeps);
  const DeviceBuffer<std::int32_t> kept(device, blocks * count, -1);
  const DeviceBuffer<std::int32_t> times(device, blocks * count, 0);
  const DeviceBuffer<std::int32_t> reads(device, blocks * count, 0);
  const DeviceBuffer<std::int32_t> done_where(device, blocks, -1);
  run_kernel(kernel, static_cast<int>(blocks), threads, 0, in.data(), count, keeps_in.data(),
             Handed{kept.data(), times.data(), reads.data(), done_where.data()});
  REQUIRE(kept.guards_intact());
  return {kept.read(), times.read(), reads.read(), done_where.read()};
}

std::vector<std::int32_t> reference(const std::vector<float>& scores, std::int32_t keep) {
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return scores[a] > scores[b]; });
  order.resize(keep);
  std::sort(order.begin(), order.end());
  return order;
}

/// Block b handed over the keeps[b] highest scores, each once.
void check_kept(const Result& result, const std::vector<float>& scores,
                const std::vector<std::int32_t>& keeps, std::size_t b) {
  const std::size_t count = scores.size();
  const auto keep = static_cast<std::size_t>(keeps[b]);
  CAPTURE(keep);
  const auto first = result.kept.begin() + static_cast<std::ptrdiff_t>(b * count);
  const auto times = result.times.begin() + static_cast<std::ptrdiff_t>(b * count);
  CHECK(std::vector<std::int32_t>(first, first + keep) == reference(scores, keeps[b]));
  CHECK(std::all_of(times, times + keep, [](std::int32_t n) { return n == 1; }));
}

/// Every number of survivors of few scores; of many, those around what the code tells apart.
std::vector<std::int32_t> keeps_of(std::int32_t count) {
  std::vector<std::int32_t> keeps;
  if (count <= 40) {
    for (std::int32_t keep = 1; keep < count; ++keep) keeps.push_back(keep);
    return keeps;
  }
  for (const std::int32_t keep : {1, 2, 31, 32, 33, count / 4, count / 2, count / 2 + 1, count - 33,
                                  count - 32, count - 2, count - 1}) {
    if (keep > 0 && keep < count) keeps.push_back(keep);
  }
  return keeps;
}

struct Scores {
  std::string name;
  std::function<float(std::int32_t i, std::int32_t count)> score;
};

std::uint64_t hash_of(std::int32_t i) { return mix(77, static_cast<std::uint64_t>(i)); }
float random_score(std::int32_t i) { return gaussian(hash_of(i)); }

constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kLeastDenormal = std::numeric_limits<float>::denorm_min();

const std::vector<Scores>& all_scores() {
  static const std::vector<Scores> all = {
      {"random", [](std::int32_t i, std::int32_t) { return random_score(i); }},
      {"negative", [](std::int32_t i, std::int32_t) { return -1.f - std::abs(random_score(i)); }},
      {"ascending", [](std::int32_t i, std::int32_t) { return 0.25f * static_cast<float>(i); }},
      {"descending", [](std::int32_t i, std::int32_t) { return 3.f - static_cast<float>(i); }},
      {"three values",
       [](std::int32_t i, std::int32_t) { return static_cast<float>(hash_of(i) % 3) - 1.f; }},
      {"all equal", [](std::int32_t, std::int32_t) { return 2.5f; }},
      {"one apart", [](std::int32_t i, std::int32_t n) { return i == n / 3 ? 3.f : 2.5f; }},
      {"neighbouring floats",
       [](std::int32_t i, std::int32_t) {
         return 1.f + static_cast<float>(hash_of(i) % 4096) * 0x1p-23f;
       }},
      {"zeros of both signs",
       [](std::int32_t i, std::int32_t) { return hash_of(i) % 2 == 0 ? 0.f : -0.f; }},
      {"zeros of both signs among others",
       [](std::int32_t i, std::int32_t) {
         const std::uint64_t kind = hash_of(i) % 4;
         return kind == 0 ? 0.f : kind == 1 ? -0.f : kind == 2 ? 1.f : -1.f;
       }},
      {"half minus infinity",
       [](std::int32_t i, std::int32_t) {
         return hash_of(i) % 2 == 0 ? random_score(i) : -kInfinity;
       }},
      {"all minus infinity", [](std::int32_t, std::int32_t) { return -kInfinity; }},
      {"all but one minus infinity",
       [](std::int32_t i, std::int32_t n) { return i == n - 1 ? -5.f : -kInfinity; }},
      {"infinities of both signs",
       [](std::int32_t i, std::int32_t) {
         const std::uint64_t kind = hash_of(i) % 5;
         return kind == 0 ? kInfinity : kind == 1 ? -kInfinity : random_score(i);
       }},
      {"a range that is infinite",
       [](std::int32_t i, std::int32_t) {
         const std::uint64_t kind = hash_of(i) % 4;
         return kind == 0 ? kLargest : kind == 1 ? -kLargest : random_score(i);
       }},
      {"a range whose inverse is denormal",
       [](std::int32_t i, std::int32_t) {
         return static_cast<float>(hash_of(i) % 1000) * 0x1p117f;
       }},
      {"denormals",
       [](std::int32_t i, std::int32_t) {
         return static_cast<float>(hash_of(i) % 1000) * kLeastDenormal;
       }},
      {"one far above the others",
       [](std::int32_t i, std::int32_t n) { return i == n / 2 ? 1e30f : random_score(i); }},
  };
  return all;
}

std::vector<float> make_scores(const Scores& of, std::int32_t count) {
  std::vector<float> scores(count);
  for (std::int32_t i = 0; i < count; ++i) scores[i] = of.score(i, count);
  return scores;
}

template <int kThreads>
void check_select_chunks() {
  constexpr std::int32_t kOnce = kThreads * cuda::kSelectItems;  // scores that are read once
  for (const std::int32_t count :
       {2, 3, 31, 32, 33, 40, kThreads - 1, kThreads, kThreads + 1, 2 * kThreads - 1, 2 * kThreads,
        2 * kThreads + 1, kOnce - 1, kOnce, kOnce + 1, 2 * kOnce, 2 * kOnce + 777}) {
    const std::vector<std::int32_t> keeps = keeps_of(count);
    for (const Scores& of : all_scores()) {
      CAPTURE(kThreads, count, of.name);
      const std::vector<float> scores = make_scores(of, count);
      const Result result = run_select(select_kernel<kThreads>, kThreads, scores, keeps);
      for (std::size_t b = 0; b < keeps.size(); ++b) check_kept(result, scores, keeps, b);
      if (count <= kOnce) {
        CHECK(std::all_of(result.reads.begin(), result.reads.end(),
                          [](std::int32_t n) { return n == 1; }));
      }
    }
  }
}

TEST_CASE("select_chunks keeps what a stable sort puts first", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  check_select_chunks<cuda::kSearchThreads>();
  check_select_chunks<cuda::kDecodeThreads>();
}

/// Scores that RegisterSelect says it leaves to select_chunks, whatever their number.
bool has_no_bins(const std::vector<float>& scores) {
  const auto [lowest, highest] = std::minmax_element(scores.begin(), scores.end());
  const float range = *highest - *lowest;  // of infinities NaN or infinite
  return !(range > 0.f && range < kInfinity);
}

template <int kItems>
void check_register_select(const std::vector<std::int32_t>& counts) {
  for (const std::int32_t count : counts) {
    const std::vector<std::int32_t> keeps = keeps_of(count);
    for (const Scores& of : all_scores()) {
      CAPTURE(kItems, count, of.name);
      const std::vector<float> scores = make_scores(of, count);
      const Result result =
          run_select(register_select_kernel<kItems>, cuda::kDecodeThreads, scores, keeps);
      for (std::size_t b = 0; b < keeps.size(); ++b) {
        CAPTURE(keeps[b]);
        const bool done = result.done_where[b] == cuda::kDecodeThreads;
        REQUIRE((done || result.done_where[b] == 0));  // all threads are told the same
        if (done) {
          CHECK(!has_no_bins(scores));
          check_kept(result, scores, keeps, b);
        } else {
          CHECK((has_no_bins(scores) || count > cuda::RegisterSelectStorage::kFew));
          const auto times = result.times.begin() + static_cast<std::ptrdiff_t>(b) * count;
          CHECK(std::all_of(times, times + count, [](std::int32_t n) { return n == 0; }));
        }
        // What the search mostly has is not left to the slower one.
        if (of.name == "random" || of.name == "negative" || of.name == "ascending" ||
            of.name == "descending") {
          CHECK(done);
        }
      }
    }
  }
}

TEST_CASE("RegisterSelect keeps what a stable sort puts first, or says that it does not",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  constexpr std::int32_t kThreads = cuda::kDecodeThreads;
  check_register_select<2>({2, 3, 16, 31, 32, 33, 40, 63, 64, 65, kThreads - 1, kThreads,
                            kThreads + 1, 2 * kThreads - 33, 2 * kThreads - 1, 2 * kThreads});
  check_register_select<cuda::kSelectItems>(
      {2, 40, 256, 257, 2 * kThreads + 1, cuda::kRegisterScores - 1, cuda::kRegisterScores});
}

TEST_CASE("RegisterSelect ranks up to kFew scores that share the threshold's bin",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  static constexpr std::int32_t kFew = cuda::RegisterSelectStorage::kFew;
  constexpr std::int32_t kCount = 1000;
  const std::int32_t tied = GENERATE(kFew, kFew + 1);
  CAPTURE(tied);
  // 100 above, the tied ones spread over all indices, the rest below.
  std::vector<float> scores(kCount);
  for (std::int32_t i = 0; i < kCount; ++i) {
    const std::int32_t place = i * 7 % kCount;  // a permutation
    scores[i] = place < 100          ? 100.f + static_cast<float>(place)
                : place < 100 + tied ? 50.f
                                     : -static_cast<float>(place);
  }
  const std::vector<std::int32_t> keeps = {100, 101, 100 + tied / 2, 100 + tied - 1, 100 + tied};
  const Result result = run_select(register_select_kernel<2>, cuda::kDecodeThreads, scores, keeps);
  for (std::size_t b = 0; b < keeps.size(); ++b) {
    CAPTURE(keeps[b]);
    const bool all_kept_or_none = keeps[b] == 100 || keeps[b] == 100 + tied;
    const bool done = result.done_where[b] == cuda::kDecodeThreads;
    CHECK(done == (tied <= kFew || all_kept_or_none));
    if (done) check_kept(result, scores, keeps, b);
  }
}

}  // namespace
}  // namespace hip_attn
