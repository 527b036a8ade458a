// Uses what needs no compiled library: views, conversions and the CPU backend's templates.
#include <array>
#include <cmath>
#include <cstdio>

#include "hip_attn/cpu/merge.hpp"
#include "hip_attn/hip_attn.hpp"

int main() {
  using namespace hip_attn;
  std::array<float, 2 * 64> partial_out;
  for (int d = 0; d < 64; ++d) partial_out[d] = 1.f, partial_out[64 + d] = 5.f;
  const std::array<float, 2> partial_lse{0.f, std::log(3.f)};
  std::array<float, 64> out{};
  const MergeStatesArgs<float> args{
      .partial_out = {partial_out.data(), {2, 1, 1, 64}},
      .partial_lse = {partial_lse.data(), {2, 1, 1}},
      .out = {out.data(), {1, 1, 64}},
      .lse = {},
  };
  cpu::merge_row(args, 0, 0);
  std::printf("hip_attn headers %d.%d.%d: merged %g\n", HIP_ATTN_VERSION_MAJOR,
              HIP_ATTN_VERSION_MINOR, HIP_ATTN_VERSION_PATCH, out[0]);
  return std::abs(out[0] - 4.f) < 1e-5f ? 0 : 1;
}
