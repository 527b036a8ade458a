// What the build has, from C.
#include <stdio.h>

#include "hip_attn/c/hip_attn.h"

int main(void) {
  char message[256];
  const DLDevice cpu = {kDLCPU, 0};
  const HipAttnStatus status = hip_attn_check_device(cpu, message, sizeof(message));
  printf("hip_attn %s: %s\n", hip_attn_version(), hip_attn_status_name(status));
  return status != HIP_ATTN_OK;
}
