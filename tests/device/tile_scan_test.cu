// The scan of decode by landmarks, every key and keys at fixed places, by itself, and the sums of
// row logits: against a plain loop, for every chunk size, page size and number of rows.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "device/device_test.cuh"
#include "hip_attn/cuda/decode/softmax_scores.cuh"
#include "hip_attn/cuda/decode/team.cuh"
#include "hip_attn/cuda/decode/tile_scan.cuh"
#include "hip_attn/cuda/launch/tensors.hpp"
#include "support/device_buffer.hpp"
#include "support/values.hpp"

namespace hip_attn {
namespace {

using namespace test;

using T = bfloat16;
constexpr int kWarps = 4;
constexpr float kScale = 0.03125f;

/// Two keys, at a quarter and at the end of a chunk.
struct TwoKeysRule {
  static constexpr int kKeys = 2;
  __host__ __device__ static std::int32_t position(const cuda::ChunkRange& chunk, int i) {
    return i == 0 ? chunk.l + (chunk.r - chunk.l) / 4 : chunk.r - 1;
  }
};

struct ScanCall {
  cuda::KvTensors<T> kv;
  cuda::LandmarkTensor<T> landmarks;
  ScanRule rule;  ///< kCustom: TwoKeysRule
  cuda::ChunkList chunks;
  std::int32_t end;
  const T* queries;
  int num_rows;
  bool sums;
  float* logits;
  std::int64_t stride;
  int slots;
  unsigned* rows_read;
};

template <int kHeadDim>
__global__ void __launch_bounds__(kWarps * 32) scan_kernel(ScanCall call) {
  using Traits = cuda::AttentionTraits<T, kHeadDim>;
  extern __shared__ __align__(128) std::byte memory[];
  auto* const queries = reinterpret_cast<T*>(memory + call.slots * cuda::slot_bytes(kHeadDim));
  for (int i = static_cast<int>(threadIdx.x);
       i < cuda::padded_rows(call.num_rows) * cuda::kQueryPitch<kHeadDim>; i += kWarps * 32) {
    queries[i] = call.queries[i];
  }
  __syncthreads();
  const cuda::KvRows<T> kv(call.kv, 0, 0);
  const auto scan = [&](const auto& tiles) {
    constexpr int kBytes = cuda::slot_bytes(kHeadDim);
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (warp >= call.slots) return;
    const int warps = min(call.slots, kWarps);
    std::byte* const slot = memory + warp * kBytes;
    const cuda::TileScan<Traits> scan{
        call.kv.k.data,
        queries,
        call.num_rows,
        {{call.logits, call.stride, call.sums ? call.num_rows : 1}, call.sums, {kScale, 0.f}},
        warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x),
        warps * static_cast<int>(gridDim.x),
        slot,
        warp + kWarps < call.slots ? slot + kWarps * kBytes : nullptr};
    atomicAdd(call.rows_read, scan.run(tiles));
  };
  if (call.rule == ScanRule::kLandmark) {
    scan(cuda::LandmarkTiles<T>(call.chunks, call.landmarks, 0, 0));
  } else if (call.rule == ScanRule::kEveryKey) {
    scan(cuda::EveryKeyTiles<T>(call.chunks, kv, call.end));
  } else {
    scan(cuda::FixedKeyTiles<T, TwoKeysRule>(call.chunks, kv, call.end));
  }
}

struct Shape {
  ScanRule rule;
  int chunk_shift;
  int num_chunks;
  int cut;  ///< keys that the last chunk lacks
  int page_size;
  int num_rows;
  bool sums;
  int slots;
  int blocks;
};

/// Small integers, whose products are exact, but for a NaN.
float query(int row, int d) { return static_cast<float>(small_integer(mix(1, row * 1000 + d))); }
float stored(int part, int position, int d, int nan_position) {
  if (position == nan_position && d == 5) return kNaN;
  return static_cast<float>(small_integer(mix(2 + part, position * 1000 + d)));
}

template <int kHeadDim>
void check_scan(const Shape& of) {
  const bool is_landmark = of.rule == ScanRule::kLandmark;
  CAPTURE(kHeadDim, static_cast<int>(of.rule), of.chunk_shift, of.num_chunks, of.cut, of.page_size,
          of.num_rows, of.sums, of.slots, of.blocks);
  const int size = 1 << of.chunk_shift;
  // Every second chunk from the second on is a candidate.
  std::vector<std::int32_t> starts(of.num_chunks);
  for (int i = 0; i < of.num_chunks; ++i) starts[i] = (2 * i + 1) * size;
  const int end = starts.back() + size - of.cut;
  const int num_stored = is_landmark ? 2 * of.num_chunks + 1 : end;
  const int nan_position = is_landmark ? 3 : starts[of.num_chunks / 2] + size / 2;
  const int num_pages = (num_stored + of.page_size - 1) / of.page_size;
  const int bad_column = num_pages > 2 ? 1 : -1;
  std::vector<std::int32_t> table(num_pages);
  std::vector<T> rows(std::size_t(num_pages) * of.page_size * 2 * kHeadDim,
                      from_float<T>(kInfinity));
  for (int column = 0; column < num_pages; ++column) {
    table[column] = num_pages - 1 - column;
    for (int i = 0; i < of.page_size * 2 * kHeadDim; ++i) {
      const int position = column * of.page_size + i / (2 * kHeadDim);
      const int part = i / kHeadDim % 2;
      if (position < num_stored) {
        rows[std::size_t(table[column]) * of.page_size * 2 * kHeadDim + i] =
            from_float<T>(stored(part, position, i % kHeadDim, nan_position));
      }
    }
    if (column == bad_column) table[column] = num_pages;
  }
  const int pitch = cuda::kQueryPitch<kHeadDim>;
  std::vector<T> queries(cuda::padded_rows(of.num_rows) * pitch, from_float<T>(kNaN));
  for (int row = 0; row < cuda::padded_rows(of.num_rows); ++row) {
    for (int d = 0; d < kHeadDim; ++d) {
      queries[row * pitch + d] = from_float<T>(query(row < of.num_rows ? row : 0, d));
    }
  }

  // What row r makes of the row at a position: a logit in units of log 2, or a product.
  const auto logit = [&](int r, int position) {
    if (position / of.page_size == bad_column) return -std::numeric_limits<double>::infinity();
    double sum = 0.;
    for (int d = 0; d < kHeadDim; ++d) {
      const double hi = double{query(r, d)} * stored(0, position, d, nan_position);
      const double lo = double{query(r, d)} * stored(1, position, d, nan_position);
      // Positive parts meet hi and negative ones lo, of any order.
      sum += !is_landmark ? hi : query(r, d) > 0.f ? hi : lo;
      if (is_landmark && hi != hi) sum = hi;
    }
    if (sum != sum) return -std::numeric_limits<double>::infinity();
    return of.sums ? sum * kScale : sum;
  };
  unsigned rows_read = 0;
  std::vector<double> expected(std::size_t(of.num_rows) * of.num_chunks);
  for (int i = 0; i < of.num_chunks; ++i) {
    std::vector<int> positions;
    const cuda::ChunkRange range{starts[i], std::min(starts[i] + size, end)};
    if (is_landmark) {
      positions = {starts[i] >> of.chunk_shift};
    } else if (of.rule == ScanRule::kEveryKey) {
      for (int key = range.l; key < range.r; ++key) positions.push_back(key);
    } else {
      positions = {TwoKeysRule::position(range, 0), TwoKeysRule::position(range, 1)};
    }
    rows_read += static_cast<unsigned>(positions.size());
    for (int r = 0; r < of.num_rows; ++r) {
      double max = -std::numeric_limits<double>::infinity();
      for (const int position : positions) max = std::max(max, logit(r, position));
      double& value = expected[r * of.num_chunks + i];
      value = max;
      if (!of.sums || of.rule != ScanRule::kEveryKey || std::isinf(max)) continue;
      double sum = 0.;
      for (const int position : positions) sum += std::exp2(logit(r, position) - max);
      value += std::log2(sum);
    }
  }
  if (!of.sums) {
    for (int r = 1; r < of.num_rows; ++r) {
      for (int i = 0; i < of.num_chunks; ++i) {
        expected[i] = std::max(expected[i], expected[r * of.num_chunks + i]);
      }
    }
    expected.resize(of.num_chunks);
  }

  const Device device = cuda_device();
  const DeviceBuffer<T> rows_in(device, rows);
  const DeviceBuffer<std::int32_t> table_in(device, table);
  const DeviceBuffer<std::int32_t> starts_in(device, starts);
  const DeviceBuffer<T> queries_in(device, queries);
  const DeviceBuffer<float> logits(device, static_cast<std::int64_t>(expected.size()), kNaN);
  const DeviceBuffer<unsigned> read(device, 1, 0u);
  const TensorView<const std::int32_t, 2> view(table_in.data(), {1, num_pages}, {num_pages, 1});
  const cuda::PagedTensor<T> tensor{rows_in.data(), of.page_size * 2 * kHeadDim, 2 * kHeadDim, 0};
  const PageMap map = cuda::page_map(of.page_size, num_pages, view);
  ScanCall call{};
  call.kv = {tensor, tensor, map};
  call.landmarks = {tensor, kHeadDim, map};
  call.rule = of.rule;
  call.chunks = {starts_in.data(), 0, of.num_chunks, of.chunk_shift, 0};
  call.end = end;
  call.queries = queries_in.data();
  call.num_rows = of.num_rows;
  call.sums = of.sums;
  call.logits = logits.data();
  call.stride = of.num_chunks;
  call.slots = of.slots;
  call.rows_read = read.data();
  run_kernel(
      scan_kernel<kHeadDim>, of.blocks, kWarps * 32,
      static_cast<std::size_t>(of.slots * cuda::slot_bytes(kHeadDim)) + queries.size() * sizeof(T),
      call);
  REQUIRE(logits.guards_intact());
  CHECK(read.read()[0] == rows_read);
  const std::vector<float> actual = logits.read();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double tolerance = of.sums ? 1e-4 : 0.;
    const bool right = std::isinf(expected[i]) ? actual[i] == expected[i]
                                               : std::abs(actual[i] - expected[i]) <= tolerance;
    wrong += !right;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Decode's scan by tiles gives what a plain loop does", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const bool sums = GENERATE(false, true);
  const int page_size = GENERATE(1, 3, 16, 64);
  const int num_rows = GENERATE(1, 4, 8, 17);
  const int slots = GENERATE(1, 3, 8);
  for (const int num_chunks : {1, 15, 16, 37, 140}) {
    check_scan<128>({ScanRule::kLandmark, 4, num_chunks, 0, page_size, num_rows, sums, slots, 2});
    for (const int chunk_shift : {0, 1, 3, 4, 5, 7}) {
      const int cut = chunk_shift < 2 ? 0 : (1 << chunk_shift) / 4 + 1;
      for (const ScanRule rule : {ScanRule::kEveryKey, ScanRule::kCustom}) {
        if (num_chunks << chunk_shift > 4096) continue;
        check_scan<128>({rule, chunk_shift, num_chunks, cut, page_size, num_rows, sums, slots, 2});
      }
    }
  }
}

TEST_CASE("Decode's scan by tiles takes every head dim", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const bool sums = GENERATE(false, true);
  for (const ScanRule rule : {ScanRule::kLandmark, ScanRule::kEveryKey}) {
    check_scan<64>({rule, 3, 100, 0, 16, 4, sums, 8, 1});
    check_scan<96>({rule, 3, 100, 0, 16, 4, sums, 8, 1});
    check_scan<256>({rule, 3, 100, 0, 16, 9, sums, 4, 3});
  }
}

// ---- Sums of tiles ------------------------------------------------------------------------------

__global__ void tile_masses_kernel(cuda::RowLogits logits, std::int32_t num_chunks,
                                   cuda::MassSum* one_by_one, cuda::MassSum* four_at_once) {
  const std::int32_t tiles = cuda::num_sum_tiles(num_chunks);
  for (std::int32_t tile = 0; tile < tiles; ++tile) {
    for (std::int32_t row = 0; row < logits.num_rows; row += 4) {
      cuda::MassSum masses[4];
      cuda::tile_masses_of_4(cuda::LogitsOf4::read(logits, row, num_chunks, tile), masses);
      for (int i = 0; i < 4 && row + i < logits.num_rows; ++i) {
        const std::int32_t at = (row + i) * tiles + tile;
        const cuda::MassSum mass = cuda::tile_mass(logits.at(row + i, 0), num_chunks, tile);
        if (threadIdx.x != 0) continue;
        one_by_one[at] = mass;
        four_at_once[at] = masses[i];
      }
    }
  }
}

TEST_CASE("Masses of four rows at once are those of one, bit for bit", "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  const int num_rows = GENERATE(1, 3, 4, 9);
  const int num_chunks = GENERATE(1, 33, 64, 130, 300);
  std::vector<float> logits(static_cast<std::size_t>(num_rows * num_chunks));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::uint64_t hash = mix(9, i);
    logits[i] = 8.f * gaussian(hash);
    if (hash % 31 == 0) logits[i] = -kInfinity;
    if (hash % 37 == 0) logits[i] = kNaN;
    if (hash % 301 == 0) logits[i] = kInfinity;
    if (static_cast<int>(i) / num_chunks == 2) logits[i] = -kInfinity;
  }
  const Device device = cuda_device();
  const DeviceBuffer<float> in(device, logits);
  const std::int64_t masses = std::int64_t{num_rows} * cuda::num_sum_tiles(num_chunks);
  const DeviceBuffer<float> one_by_one(device, 2 * masses, -1.f);
  const DeviceBuffer<float> four_at_once(device, 2 * masses, -2.f);
  run_kernel(tile_masses_kernel, 1, 32, 0, cuda::RowLogits{in.data(), num_chunks, num_rows},
             num_chunks, reinterpret_cast<cuda::MassSum*>(one_by_one.data()),
             reinterpret_cast<cuda::MassSum*>(four_at_once.data()));
  CHECK(one_by_one.read() == four_at_once.read());
}

}  // namespace
}  // namespace hip_attn
