// SharedTile: what is copied into it is what both products and single reads find, for every head
// dim.
#include <cstddef>
#include <cstdint>

#include "device/device_test.cuh"
#include "device/matrix.cuh"
#include "hip_attn/cuda/decode/layout.cuh"
#include "hip_attn/cuda/ptx/cp_async.cuh"
#include "hip_attn/cuda/ptx/mma.cuh"
#include "hip_attn/cuda/ptx/shared_memory.cuh"
#include "hip_attn/cuda/rows/shared_tile.cuh"

namespace hip_attn {
namespace {

using namespace test;

constexpr int kTileRows = cuda::kKeysPerTile;

template <int kHeadDim>
using TileOf = cuda::SharedTile<cuda::AttentionTraits<bfloat16, kHeadDim>>;

/// Row i of a tile is row row_of(i) in memory, `shift` bytes further.
__host__ __device__ constexpr int row_of(int i) { return i * 5 % kTileRows; }

struct TileSource {
  const bfloat16* rows;
  int stride;
  std::ptrdiff_t shift = 0;
  int count = -1;       ///< negative: copy() without a count
  bool listed = false;  ///< lanes find their rows in a list in shared memory
};

/// Fills a tile by one warp, where there was NaN before.
template <int kHeadDim>
__device__ TileOf<kHeadDim> load_tile(std::byte* memory, const TileSource& from) {
  using Tile = TileOf<kHeadDim>;
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < cuda::kTileBytes<kHeadDim> / 4; i += 32) {
    reinterpret_cast<std::uint32_t*>(memory)[i] = 0x7fff7fffu;
  }
  __syncwarp();
  const auto row = [&](int i) { return from.rows + row_of(i) * from.stride; };
  const int m = lane / 8;
  typename Tile::Rows rows{{row(2 * m), row(2 * m + 1), row(2 * m + 8), row(2 * m + 9)}};
  if (from.listed) {
    // Where the copies will go; the second tile is this one.
    const std::uint32_t list =
        Tile::list(memory, lane < kTileRows ? from.rows : row(lane - kTileRows));
    __syncwarp();
    rows = Tile::Rows::from_list(list, 1);
    __syncwarp();
  }
  const Tile tile(memory);
  if (from.count < 0) {
    tile.copy(rows + from.shift);
  } else {
    tile.copy(rows + from.shift, from.count);
  }
  cuda::commit_copies();
  cuda::wait_for_copies();
  __syncwarp();
  return tile;
}

/// out [16][kHeadDim]: the elements after the rows in `cleared`, a bit each, were made zeros.
template <int kHeadDim>
__global__ void elements_kernel(TileSource from, std::uint32_t cleared, float* out) {
  __shared__ __align__(128) std::byte memory[cuda::kTileBytes<kHeadDim>];
  const auto tile = load_tile<kHeadDim>(memory, from);
  for (int row = 0; row < kTileRows; ++row) {
    if (cleared >> row & 1u) tile.clear_row(row);
  }
  __syncwarp();
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * kHeadDim; i += 32) {
    out[i] = tile.element(i / kHeadDim, i % kHeadDim);
  }
}

/// out [16][8] = the tile's rows times the query rows [8][kHeadDim].
template <int kHeadDim>
__global__ void multiply_kernel(TileSource from, const bfloat16* queries, bool from_shared,
                                float* out) {
  using Tile = TileOf<kHeadDim>;
  constexpr int kPitch = cuda::query_pitch(kHeadDim);
  __shared__ __align__(128) std::byte memory[cuda::kTileBytes<kHeadDim>];
  __shared__ __align__(16) bfloat16 shared_queries[8 * kPitch];
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 8 * kHeadDim; i += 32) {
    shared_queries[i / kHeadDim * kPitch + i % kHeadDim] = queries[i];
  }
  const auto tile = load_tile<kHeadDim>(memory, from);
  float c[4];
  if (from_shared) {
    tile.multiply(typename Tile::Queries(shared_queries, kPitch), c);
  } else {
    tile.multiply(typename Tile::Queries(queries + lane / 4 * kHeadDim), c);
  }
  for (int i = 0; i < 4; ++i) {
    out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
  }
}

/// out [kHeadDim][8] = the tile, transposed, times weights [16][8].
template <int kHeadDim>
__global__ void transposed_kernel(TileSource from, const bfloat16* weights, float* out) {
  __shared__ __align__(128) std::byte memory[cuda::kTileBytes<kHeadDim>];
  const auto tile = load_tile<kHeadDim>(memory, from);
  const int lane = static_cast<int>(threadIdx.x);
  const int g = lane / 4;
  const int t = lane % 4;
  const auto weight_pair = [&](int row) {
    return weights[row * 8 + g].bits | std::uint32_t{weights[(row + 1) * 8 + g].bits} << 16;
  };
  for (int m = 0; m < kHeadDim / 16; ++m) {
    std::uint32_t a[4];
    tile.load_transposed(m, a);
    float c[4] = {};
    cuda::mma_16x8x16<bfloat16>(c, a[0], a[1], a[2], a[3], weight_pair(2 * t),
                                weight_pair(2 * t + 8));
    for (int i = 0; i < 4; ++i) {
      out[(16 * m + g + i / 2 * 8) * 8 + t * 2 + i % 2] = c[i];
    }
  }
}

template <int kHeadDim>
void check_shared_tile() {
  CAPTURE(kHeadDim);
  constexpr int kStride = kHeadDim + 8;
  const Matrix rows(2 * kTileRows, kHeadDim, kStride, 1);  // keys, then values
  const std::ptrdiff_t to_values = std::ptrdiff_t{kTileRows} * kStride * 2;
  for (const bool values : {false, true}) {
    for (const bool listed : {false, true}) {
      for (const int count : {-1, 0, 1, 7, 8, 9, 15, 16}) {
        CAPTURE(values, listed, count);
        const TileSource from{rows.data(), kStride, values ? to_values : 0, count, listed};
        const auto element = [&](int row, int column) {
          if (count >= 0 && row >= count) return 0.;
          return rows(row_of(row) + (values ? kTileRows : 0), column);
        };
        const DeviceBuffer<float> elements = output(kTileRows, kHeadDim);
        run_kernel(elements_kernel<kHeadDim>, 1, 32, 0, from, 0u, elements.data());
        check_matrix(elements, kTileRows, kHeadDim, element);
      }
    }
  }

  const TileSource from{rows.data(), kStride};
  const auto key = [&](int row, int column) { return rows(row_of(row), column); };
  for (const std::uint32_t cleared : {0x0001u, 0x8000u, 0x5a24u, 0xffffu}) {
    CAPTURE(cleared);
    const DeviceBuffer<float> elements = output(kTileRows, kHeadDim);
    run_kernel(elements_kernel<kHeadDim>, 1, 32, 0, from, cleared, elements.data());
    check_matrix(elements, kTileRows, kHeadDim,
                 [&](int row, int column) { return cleared >> row & 1u ? 0. : key(row, column); });
  }

  const Matrix queries(8, kHeadDim, 2);
  for (const bool from_shared : {false, true}) {
    const DeviceBuffer<float> product = output(kTileRows, 8);
    run_kernel(multiply_kernel<kHeadDim>, 1, 32, 0, from, queries.data(), from_shared,
               product.data());
    check_matrix(product, kTileRows, 8, [&](int row, int query) {
      double sum = 0;
      for (int d = 0; d < kHeadDim; ++d) sum += key(row, d) * queries(query, d);
      return sum;
    });
  }

  const Matrix weights(kTileRows, 8, 3);
  const DeviceBuffer<float> product = output(kHeadDim, 8);
  run_kernel(transposed_kernel<kHeadDim>, 1, 32, 0, from, weights.data(), product.data());
  check_matrix(product, kHeadDim, 8, [&](int d, int query) {
    double sum = 0;
    for (int row = 0; row < kTileRows; ++row) sum += key(row, d) * weights(row, query);
    return sum;
  });
}

TEST_CASE("SharedTile holds the rows that were copied, for single reads and both products",
          "[cuda][device]") {
  REQUIRE_CUDA_DEVICE();
  check_shared_tile<64>();
  check_shared_tile<96>();
  check_shared_tile<128>();
  check_shared_tile<192>();
  check_shared_tile<256>();
}

}  // namespace
}  // namespace hip_attn
