// The logits of single rows that the searches of prefill write, and the softmax sums that are made
// of such logits, against float64.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "device/built_traits.cuh"
#include "device/device_test.cuh"
#include "hip_attn/core/search_plan.hpp"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "hip_attn/cuda/search/row_kernel.cuh"
#include "hip_attn/cuda/search/softmax_sum.cuh"
#include "support/device_buffer.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

constexpr double kNothing = -std::numeric_limits<double>::infinity();

double or_nothing(double x) { return std::isnan(x) ? kNothing : x; }

/// log2 of the sum of 2^x.
double log2_of_sum(const std::vector<double>& of_keys) {
  const double max = *std::max_element(of_keys.begin(), of_keys.end());
  if (max == kNothing) return max;
  double sum = 0;
  for (const double x : of_keys) sum += x == max ? 1. : std::exp2(x - max);
  return max + std::log2(sum);
}

// ---- Softmax sums -------------------------------------------------------------------------------

struct SumMemory {
  cuda::RowLogits logits;
  std::int32_t num_chunks;
  cuda::MassSum* masses;
  cuda::RowWeight* weights;
  float* scores;

  __device__ cuda::MassSum& mass(std::int32_t row, std::int32_t tile) const {
    return masses[std::int64_t{row} * cuda::num_sum_tiles(num_chunks) + tile];
  }
};

/// The share of a thread block of `count`: [begin, end).
struct Share {
  std::int32_t begin;
  std::int32_t end;

  __device__ explicit Share(std::int32_t count) {
    const auto blocks = static_cast<std::int32_t>(gridDim.x);
    const std::int32_t size = (count + blocks - 1) / blocks;
    begin = min(count, static_cast<std::int32_t>(blockIdx.x) * size);
    end = min(count, begin + size);
  }
};

template <int kThreads>
__global__ void tile_kernel(SumMemory memory) {
  const Share share(cuda::num_sum_tiles(memory.num_chunks));
  cuda::make_tile_masses<kThreads>(
      memory.logits, memory.num_chunks, share.begin, share.end,
      [&](std::int32_t row, std::int32_t tile, const cuda::MassSum& mass) {
        memory.mass(row, tile) = mass;
      });
}

template <int kThreads>
__global__ void weight_kernel(SumMemory memory) {
  cuda::make_row_weights<kThreads>(
      memory.logits.num_rows, cuda::num_sum_tiles(memory.num_chunks),
      [&](std::int32_t row, std::int32_t tile) { return memory.mass(row, tile); }, memory.weights);
}

template <int kThreads>
__global__ void score_kernel(SumMemory memory) {
  const Share share(memory.num_chunks);
  cuda::make_softmax_sums<kThreads>(
      memory.logits, memory.weights, share.begin, share.end,
      [&](std::int32_t chunk, float score) { memory.scores[chunk] = score; });
}

/// Logits of rows whose stride is longer than they are.
struct HostLogits {
  std::int32_t rows;
  std::int32_t chunks;
  std::int64_t stride;
  std::vector<float> values;

  HostLogits(std::int32_t rows_, std::int32_t chunks_)
      : rows(rows_), chunks(chunks_), stride(chunks_ + 5), values(rows_ * stride, kNaN) {
    for (std::int32_t row = 0; row < rows; ++row) {
      for (std::int32_t i = 0; i < chunks; ++i) {
        at(row, i) = 6.f * gaussian(mix(17, static_cast<std::uint64_t>(row * stride + i)));
      }
    }
  }
  float& at(std::int32_t row, std::int32_t chunk) { return values[row * stride + chunk]; }
  [[nodiscard]] double at(std::int32_t row, std::int32_t chunk) const {
    return or_nothing(values[row * stride + chunk]);
  }
};

/// By `blocks` thread blocks of kThreads threads.
template <int kThreads>
std::vector<float> device_sums(const HostLogits& host, int blocks) {
  const Device device = cuda_device();
  const std::int64_t tiles = cuda::num_sum_tiles(host.chunks);
  DeviceBuffer<float> logits(device, host.values);
  DeviceBuffer<cuda::MassSum> masses(device, host.rows * tiles, {kNaN, kNaN});
  DeviceBuffer<cuda::RowWeight> weights(device, host.rows, {kNaN, kNaN});
  DeviceBuffer<float> scores(device, host.chunks, kNaN);
  const SumMemory memory{{logits.data(), host.stride, host.rows},
                         host.chunks,
                         masses.data(),
                         weights.data(),
                         scores.data()};
  run_kernel(tile_kernel<kThreads>, blocks, kThreads, 0, memory);
  run_kernel(weight_kernel<kThreads>, 1, kThreads, 0, memory);
  run_kernel(score_kernel<kThreads>, blocks, kThreads, 0, memory);
  CHECK(masses.guards_intact());
  CHECK(weights.guards_intact());
  CHECK(scores.guards_intact());
  return scores.read();
}

std::vector<double> expected_sums(const HostLogits& logits) {
  std::vector<double> scores(logits.chunks, 0.);
  for (std::int32_t row = 0; row < logits.rows; ++row) {
    double max = kNothing;
    for (std::int32_t i = 0; i < logits.chunks; ++i) max = std::max(max, logits.at(row, i));
    if (max == kNothing) continue;
    std::vector<double> masses;
    double sum = 0;
    for (std::int32_t i = 0; i < logits.chunks; ++i) {
      const double logit = logits.at(row, i);
      masses.push_back(logit == max ? 1. : std::exp2(logit - max));
      sum += masses.back();
    }
    for (std::int32_t i = 0; i < logits.chunks; ++i) scores[i] += masses[i] / sum;
  }
  return scores;
}

/// Near float64, and the same bits however many threads and blocks there are.
void check_sums(const HostLogits& logits) {
  CAPTURE(logits.rows, logits.chunks);
  const std::vector<float> scores = device_sums<256>(logits, 1);
  const std::vector<double> expected = expected_sums(logits);
  for (std::int32_t i = 0; i < logits.chunks; ++i) {
    CAPTURE(i, scores[i], expected[i]);
    CHECK(std::abs(scores[i] - expected[i]) <= 1e-5 * expected[i] + 1e-30);
  }
  for (const int blocks : {1, 3, 16}) {
    CAPTURE(blocks);
    CHECK(device_sums<32>(logits, blocks) == scores);
    CHECK(device_sums<256>(logits, blocks) == scores);
    CHECK(device_sums<512>(logits, blocks) == scores);
  }
}

TEST_CASE("Softmax sums are those of float64, the same bits for every launch", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  for (const std::int32_t rows : {1, 3, 8, 70}) {
    for (const std::int32_t chunks : {1, 31, 63, 64, 65, 1000, 4096, 5000}) {
      check_sums(HostLogits(rows, chunks));
    }
  }
}

TEST_CASE("Softmax sums of logits that are not numbers", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  for (const std::int32_t chunks : {2, 64, 200}) {
    HostLogits logits(6, chunks);
    for (std::int32_t i = 0; i < chunks; ++i) {
      logits.at(0, i) = -kInfinity;
      logits.at(1, i) = kNaN;
      if (i % 3 != 0) logits.at(2, i) = i % 3 == 1 ? kNaN : -kInfinity;
      if (i >= 64) logits.at(3, i) = -kInfinity;  // whole tiles of it
    }
    logits.at(4, 0) = logits.at(4, chunks - 1) = kInfinity;
    check_sums(logits);
  }
  // Nothing at all: no chunk has a score, and none is NaN.
  HostLogits nothing(2, 100);
  std::fill(nothing.values.begin(), nothing.values.end(), kNaN);
  CHECK(device_sums<256>(nothing, 1) == std::vector<float>(100, 0.f));
}

// ---- Logits of rows -----------------------------------------------------------------------------

using T = BuiltElement;
using Traits = BuiltTraits;
using Scorer = cuda::MmaScorer<Traits>;

struct ScanMemory {
  cuda::KvTensors<T> kv;
  cuda::LandmarkTensor<T> landmarks;
  const T* queries;  ///< [padded rows, D]
  cuda::SearchRows rows;
  cuda::RowLogits logits;
  cuda::LogitScale scale;
  std::int32_t first;  ///< of the chunks
  std::int32_t end;
  int chunk_shift;
  unsigned* reads;
};

/// Scans the chunks of one request and KV head 1 as search_rows_kernel does.
__global__ void __launch_bounds__(cuda::kSearchThreads)
    scan_kernel(ScanMemory memory, ScanRule rule, Reduction reduction) {
  constexpr int kWarps = cuda::kSearchThreads / 32;
  constexpr int kHeadDim = Traits::kHeadDim;
  constexpr int kHead = 1;
  for (int i = static_cast<int>(threadIdx.x); i < memory.rows.padded * kHeadDim / 2;
       i += cuda::kSearchThreads) {
    const int row = i / (kHeadDim / 2);
    const int word = i % (kHeadDim / 2);
    memory.rows.queries[Scorer::Layout::word(row, word / 4, word % 4)] =
        reinterpret_cast<const std::uint32_t*>(memory.queries)[i];
  }
  __syncthreads();
  const cuda::SearchKeys<T> keys(memory.kv, 0, kHead, memory.queries);
  const Scorer scorer(memory.rows, nullptr);
  const cuda::RowLogitWriter writer(memory.logits, memory.scale, reduction);
  const cuda::RowScan<Traits, kWarps> row_scan(keys, scorer, writer);
  const auto chunks = cuda::ChunkList::whole(memory.first, memory.end, memory.chunk_shift);
  std::uint32_t reads = 0;
  if (rule == ScanRule::kLandmark) {
    reads = row_scan.read_landmarks(cuda::LandmarkRows<T>(memory.landmarks, 0, kHead), chunks);
  } else if (rule == ScanRule::kEveryKey) {
    reads = row_scan.read_every_key(chunks, memory.end);
  } else {
    const cuda::ChunkScan<Traits, Scorer, cuda::LoneBlock, kWarps, cuda::RowLogitWriter> scan(
        keys, scorer, writer);
    reads = scan.run(
        static_cast<int>(rule), chunks.count, chunks.chunk_size(), memory.end,
        [&](std::int32_t i) { return chunks.start(i); }, nullptr);
  }
  if (threadIdx.x % 4 == 0) atomicAdd(memory.reads, reads);
}

/// Keys, landmarks and query rows of small integers, whose products are exact: a descent takes the
/// same way in any precision.
struct ScanProblem {
  static constexpr std::int32_t kHeadDim = Traits::kHeadDim;
  static constexpr std::int32_t kHeads = 2;
  static constexpr std::int32_t kPageSize = 48;  // tokens; landmarks: a fourth
  static constexpr std::int32_t kMissing = 3;    // column of the table that names no page
  static constexpr std::int32_t kFirst = 64;
  static constexpr std::int32_t kEnd = 64 + 717;

  std::int32_t rows;
  std::int32_t chunk_size;
  ScanRule rule;
  Reduction reduction;
  double softcap;

  [[nodiscard]] std::int32_t padded() const { return Scorer::Layout::padded(rows); }
  [[nodiscard]] std::int32_t count() const {
    return static_cast<std::int32_t>(ceil_div(kEnd - kFirst, chunk_size));
  }
  static T value(std::uint64_t seed, std::int64_t index) {
    return from_float<T>(
        static_cast<float>(small_integer(mix(seed, static_cast<std::uint64_t>(index)))));
  }
  static double number(std::uint64_t seed, std::int64_t index) {
    return to_float(value(seed, index));
  }
  /// Rows that pad the last tile repeat the first.
  [[nodiscard]] std::int64_t query(std::int32_t row, std::int32_t d) const {
    return std::int64_t{row < rows ? row : 0} * kHeadDim + d;
  }

  [[nodiscard]] double product(std::int32_t row, std::int32_t key) const {
    if (key / kPageSize == kMissing) return kNothing;
    double sum = 0;
    for (std::int32_t d = 0; d < kHeadDim; ++d) {
      sum += number(1, query(row, d)) * number(2, key_index(key, d));
    }
    return sum;
  }
  [[nodiscard]] double landmark_product(std::int32_t row, std::int32_t landmark) const {
    if (landmark / (kPageSize / 4) == kMissing) return kNothing;
    double sum = 0;
    for (std::int32_t d = 0; d < kHeadDim; ++d) {
      const double q = number(1, query(row, d));
      sum += q * number(3, landmark_index(landmark, q > 0 ? 0 : 1, d));
    }
    return sum;
  }
  /// Of KV head 1, by position.
  static std::int64_t key_index(std::int32_t key, std::int32_t d) {
    return std::int64_t{key} * kHeadDim + d;
  }
  static std::int64_t landmark_index(std::int32_t landmark, std::int32_t lo, std::int32_t d) {
    return (std::int64_t{landmark} * 2 + lo) * kHeadDim + d;
  }

  [[nodiscard]] double logit(double product) const {
    constexpr double kLog2e = 1.4426950408889634;
    if (reduction == Reduction::kMaximum || product == kNothing) return product;
    const double scaled = product / std::sqrt(static_cast<double>(kHeadDim));
    return kLog2e * (softcap > 0 ? softcap * std::tanh(scaled / softcap) : scaled);
  }
  [[nodiscard]] cuda::LogitScale scale() const {
    constexpr float kLog2e = 1.44269504f;
    const float scale = 1.f / std::sqrt(static_cast<float>(kHeadDim));
    const auto cap = static_cast<float>(softcap);
    return cap > 0.f ? cuda::LogitScale{scale / cap, cap * kLog2e}
                     : cuda::LogitScale{scale * kLog2e, 0.f};
  }
};

/// The logit of every row for the chunk of keys [l, r). Adds to `reads`.
std::vector<double> expected_logits(const ScanProblem& problem, std::int32_t l, std::int32_t r,
                                    unsigned& reads) {
  std::vector<std::vector<double>> seen(problem.rows);
  const auto read = [&](auto&& product_of) {
    double largest = kNothing;
    for (std::int32_t row = 0; row < problem.rows; ++row) {
      const double product = product_of(row);
      largest = std::max(largest, product);
      seen[row].push_back(problem.logit(product));
    }
    ++reads;
    return largest;
  };
  const auto read_key = [&](std::int32_t key) {
    return read([&](std::int32_t row) { return problem.product(row, key); });
  };
  if (problem.rule == ScanRule::kLandmark) {
    read([&](std::int32_t row) { return problem.landmark_product(row, l / problem.chunk_size); });
  } else if (problem.rule == ScanRule::kEveryKey) {
    for (std::int32_t key = l; key < r; ++key) read_key(key);
  } else if (problem.rule == ScanRule::kCentre || r - l == 1) {
    read_key(l + (r - l) / 2);
  } else {
    while (r - l > 1) {
      const std::int32_t m = l + (r - l) / 2;
      const double left = read_key(l + (m - l) / 2);
      const double right = read_key(m + (r - m) / 2);
      (left >= right ? r : l) = m;
    }
  }
  std::vector<double> logits;
  for (const std::vector<double>& of_row : seen) {
    const bool adds =
        problem.rule == ScanRule::kEveryKey && problem.reduction == Reduction::kSoftmaxSum;
    logits.push_back(adds ? log2_of_sum(of_row) : *std::max_element(of_row.begin(), of_row.end()));
  }
  return logits;
}

/// A tensor [pages, page_size, heads, row_elements] whose page for column c of the table is
/// pages - 1 - c, and column ScanProblem::kMissing of the table, which names none.
struct PagedData {
  std::int64_t page_size;
  std::int64_t pages;
  std::int64_t row_elements;
  DeviceBuffer<T> data;
  DeviceBuffer<std::int32_t> table;

  PagedData(std::int64_t page_size_, std::int64_t tokens, std::int64_t row_elements_,
            std::uint64_t seed)
      : page_size(page_size_),
        pages(ceil_div(tokens, page_size_)),
        row_elements(row_elements_),
        data(cuda_device(), make_data(seed)),
        table(cuda_device(), make_table()) {}

  [[nodiscard]] std::vector<T> make_data(std::uint64_t seed) const {
    const std::int64_t heads = ScanProblem::kHeads;
    std::vector<T> values(pages * page_size * heads * row_elements, from_float<T>(kNaN));
    for (std::int64_t token = 0; token < pages * page_size; ++token) {
      const std::int64_t page = pages - 1 - token / page_size;
      const std::int64_t at = ((page * page_size + token % page_size) * heads + 1) * row_elements;
      for (std::int64_t i = 0; i < row_elements; ++i) {
        values[at + i] = ScanProblem::value(seed, token * row_elements + i);
      }
    }
    return values;
  }
  [[nodiscard]] std::vector<std::int32_t> make_table() const {
    std::vector<std::int32_t> columns;
    for (std::int64_t c = 0; c < pages; ++c) {
      columns.push_back(static_cast<std::int32_t>(pages - 1 - c));
    }
    columns.at(ScanProblem::kMissing) = static_cast<std::int32_t>(pages);
    return columns;
  }
  [[nodiscard]] cuda::PagedTensor<T> tensor() const {
    const std::int64_t token = ScanProblem::kHeads * row_elements;
    return {data.data(), page_size * token, token, row_elements};
  }
  [[nodiscard]] PageMap map() const {
    return cuda::page_map(page_size, pages,
                          TensorView<const std::int32_t, 2>(table.data(), {1, pages}));
  }
};

void check_scan(const ScanProblem& problem) {
  CAPTURE(problem.rows, problem.chunk_size, static_cast<int>(problem.rule),
          static_cast<int>(problem.reduction), problem.softcap);
  constexpr std::int32_t kHeadDim = ScanProblem::kHeadDim;
  const Device device = cuda_device();
  const PagedData keys(ScanProblem::kPageSize, ScanProblem::kEnd, kHeadDim, 2);
  const PagedData landmarks(
      ScanProblem::kPageSize / 4,
      std::max<std::int64_t>(ScanProblem::kEnd / problem.chunk_size + 1, ScanProblem::kPageSize),
      2 * kHeadDim, 3);
  std::vector<T> host_queries;
  for (std::int32_t row = 0; row < problem.padded(); ++row) {
    for (std::int32_t d = 0; d < kHeadDim; ++d) {
      host_queries.push_back(ScanProblem::value(1, problem.query(row, d)));
    }
  }
  DeviceBuffer<T> queries(device, host_queries);
  DeviceBuffer<std::uint32_t> in_order(device, problem.padded() * kHeadDim / 2, 0);
  const std::int64_t stride = cuda::RowLogitWriter::padded_chunks(problem.count());
  DeviceBuffer<float> logits(device, problem.padded() * stride, kNaN);
  DeviceBuffer<unsigned> reads(device, 1, 0u);

  ScanMemory memory{};
  memory.kv = {keys.tensor(), {}, keys.map()};
  memory.landmarks = {landmarks.tensor(), kHeadDim, landmarks.map()};
  memory.queries = queries.data();
  memory.rows = {in_order.data(), problem.rows, problem.padded()};
  memory.logits = {logits.data(), stride, problem.rows};
  memory.scale = problem.scale();
  memory.first = ScanProblem::kFirst;
  memory.end = ScanProblem::kEnd;
  memory.chunk_shift = shift_of(problem.chunk_size);
  memory.reads = reads.data();
  run_kernel(scan_kernel, 1, cuda::kSearchThreads, 0, memory, problem.rule, problem.reduction);
  CHECK(logits.guards_intact());

  const std::vector<float> got = logits.read();
  unsigned expected_reads = 0;
  for (std::int32_t chunk = 0; chunk < problem.count(); ++chunk) {
    const std::int32_t l = ScanProblem::kFirst + chunk * problem.chunk_size;
    const std::int32_t r = std::min(l + problem.chunk_size, ScanProblem::kEnd);
    const std::vector<double> expected = expected_logits(problem, l, r, expected_reads);
    for (std::int32_t row = 0; row < problem.rows; ++row) {
      const float logit = got[row * stride + chunk];
      CAPTURE(chunk, row, logit, expected[row]);
      if (expected[row] == kNothing) {
        CHECK(logit == -kInfinity);
      } else {
        CHECK(std::abs(logit - expected[row]) <= 2e-5 * (1 + std::abs(expected[row])));
      }
    }
  }
  CHECK(reads.read().front() == expected_reads);
}

TEST_CASE("Prefill's rows have the logits of float64", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const ScanRule rule =
      GENERATE(ScanRule::kDescent, ScanRule::kCentre, ScanRule::kLandmark, ScanRule::kEveryKey);
  const Reduction reduction = GENERATE(Reduction::kMaximum, Reduction::kSoftmaxSum);
  for (const std::int32_t chunk_size : {1, 2, 4, 8, 16, 64}) {
    for (const std::int32_t rows : {1, 21}) {
      check_scan({rows, chunk_size, rule, reduction, 0.});
    }
    check_scan({5, chunk_size, rule, reduction, 3.});
  }
}

}  // namespace
}  // namespace hip_attn
