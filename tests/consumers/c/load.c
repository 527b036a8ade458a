// Loads the shared library, calls it by names of version 0.1 of the C interface, and unloads it.
//
//   load <library>
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "hip_attn/c/hip_attn.h"

int main(int argc, char** argv) {
  const char* file = argc > 1 ? argv[1] : "libhip_attn.so";
  for (int load = 0; load < 3; ++load) {
    void* handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
      printf("%s\n", dlerror());
      return 1;
    }
    const char* (*version)(void);
    HipAttnStatus (*check_device)(DLDevice, char*, size_t);
    void* symbols[2];
    symbols[0] = dlvsym(handle, "hip_attn_version", "HIP_ATTN_C_0.1");
    symbols[1] = dlvsym(handle, "hip_attn_check_device", "HIP_ATTN_C_0.1");
    if (symbols[0] == NULL || symbols[1] == NULL) {
      printf("%s\n", dlerror());
      return 1;
    }
    memcpy(&version, &symbols[0], sizeof(version));
    memcpy(&check_device, &symbols[1], sizeof(check_device));
    char message[256];
    const DLDevice cpu = {kDLCPU, 0};
    const DLDevice metal = {kDLMetal, 0};
    if (check_device(cpu, message, sizeof(message)) != HIP_ATTN_OK) return 1;
    if (check_device(metal, message, sizeof(message)) != HIP_ATTN_UNSUPPORTED) return 1;
    printf("hip_attn %s: %s\n", version(), message);
    if (dlclose(handle) != 0) return 1;
  }
  return dlopen(file, RTLD_NOW | RTLD_NOLOAD) != NULL;
}
