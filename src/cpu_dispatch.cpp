// Chooses the instruction set of the CPU backend, once, by what the processor says it has.
#include "hip_attn/build_info.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

namespace hip_attn {
namespace cpu {

#define HIP_ATTN_DECLARE_KERNELS(isa)   \
  namespace isa {                       \
  extern const TileKernels kKernels64;  \
  extern const TileKernels kKernels128; \
  extern const TileKernels kKernels256; \
  }
HIP_ATTN_DECLARE_KERNELS(baseline)
#if defined(HIP_ATTN_CPU_X86_LEVELS)
HIP_ATTN_DECLARE_KERNELS(x86_64_v3)
HIP_ATTN_DECLARE_KERNELS(x86_64_v4)
#endif
#undef HIP_ATTN_DECLARE_KERNELS

namespace {

struct InstructionSet {
  const char* name;
  const TileKernels* head_dim_64;
  const TileKernels* head_dim_128;
  const TileKernels* head_dim_256;
};

InstructionSet choose() noexcept {
#if defined(HIP_ATTN_CPU_X86_LEVELS)
  // The features of the x86-64 psABI levels v3 and v4 that compilers generate code for.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4) {
    return {"x86-64-v4", &x86_64_v4::kKernels64, &x86_64_v4::kKernels128, &x86_64_v4::kKernels256};
  }
  if (v3) {
    return {"x86-64-v3", &x86_64_v3::kKernels64, &x86_64_v3::kKernels128, &x86_64_v3::kKernels256};
  }
#endif
  return {"baseline", &baseline::kKernels64, &baseline::kKernels128, &baseline::kKernels256};
}

const InstructionSet& instruction_set() noexcept {
  static const InstructionSet chosen = choose();
  return chosen;
}

}  // namespace

const TileKernels& tile_kernels(std::int64_t head_dim) noexcept {
  const InstructionSet& chosen = instruction_set();
  return head_dim == 64 ? *chosen.head_dim_64
                        : (head_dim == 128 ? *chosen.head_dim_128 : *chosen.head_dim_256);
}

}  // namespace cpu

const char* cpu_instruction_set() noexcept { return cpu::instruction_set().name; }

}  // namespace hip_attn
