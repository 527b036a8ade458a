// A program in C that uses the compiled library.
#include "store_step.h"

int main(void) {
  printf("hip_attn %s, CPU %s, CUDA %d\n", hip_attn_version(), hip_attn_cpu_instruction_set(),
         hip_attn_built_with_cuda());
  return decode_finds_the_keys() || store_step_finds_the_key() || cells_are_in_order();
}
