// A program that uses the compiled library.
//
//   consumer [cuda|no-cuda]     also checks what the library was built with
#include <cstdio>
#include <string_view>

#include "decode_step.hpp"

int main(int argc, char** argv) {
  std::printf("hip_attn %s, CPU %s, CUDA %s\n", hip_attn::version(),
              hip_attn::cpu_instruction_set(), hip_attn::built_with_cuda() ? "built" : "not built");
  if (argc > 1) {
    const bool expects_cuda = std::string_view(argv[1]) == "cuda";
    if (expects_cuda != hip_attn::built_with_cuda()) {
      std::printf("expected %s\n", argv[1]);
      return 1;
    }
  }
  return decode_finds_the_keys() ? 0 : 1;
}
