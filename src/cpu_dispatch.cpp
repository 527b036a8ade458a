// Chooses the instruction set of the CPU backend, once, by what the processor says it has.
#include <algorithm>

#include "hip_attn/build_info.hpp"
#include "hip_attn/cpu/tile_kernels.hpp"

#if defined(HIP_ATTN_CPU_X86_LEVELS)
#include <cpuid.h>
#endif

namespace hip_attn {
namespace cpu {

// One per built head dim.
#define HIP_ATTN_DECLARE_KERNELS(isa)  \
  namespace isa {                      \
  extern const TileKernels kKernels[]; \
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
  const TileKernels* kernels;
};

#if defined(HIP_ATTN_CPU_X86_LEVELS)
// Clang's __builtin_cpu_supports does not know it.
bool has_f16c() noexcept {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

InstructionSet choose() noexcept {
#if defined(HIP_ATTN_CPU_X86_LEVELS)
  // The features of the x86-64 psABI levels v3 and v4 that compilers generate code for.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_f16c();
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4) return {"x86-64-v4", x86_64_v4::kKernels};
  if (v3) return {"x86-64-v3", x86_64_v3::kKernels};
#endif
  return {"baseline", baseline::kKernels};
}

const InstructionSet& instruction_set() noexcept {
  static const InstructionSet chosen = choose();
  return chosen;
}

}  // namespace

const TileKernels& tile_kernels(std::int64_t head_dim) noexcept {
  const auto built = built_head_dims();
  return instruction_set().kernels[std::ranges::find(built, head_dim) - built.begin()];
}

}  // namespace cpu

const char* cpu_instruction_set() noexcept { return cpu::instruction_set().name; }

}  // namespace hip_attn
