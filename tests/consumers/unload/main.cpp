// Loads a plugin that uses the library, runs it and unloads it, many times: both are gone after
// each time, and no threads and no memory stay behind but those of the OpenMP runtime.
//
//   unload <plugin> <library>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

namespace {

constexpr int kLoads = 100;
constexpr int kWarmUp = 10;
// What the loader itself may take in 90 loads; one copy of the library is larger.
constexpr long kMaxGrowthKiB = 256;

struct Footprint {
  long threads;
  long resident_kib;
};

Footprint footprint() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  long pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return {std::distance(begin(tasks), end(tasks)), pages * 4};
}

bool is_loaded(const char* file) { return dlopen(file, RTLD_NOW | RTLD_NOLOAD) != nullptr; }

bool load_run_and_unload(const char* plugin) {
  void* handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    std::printf("%s\n", dlerror());
    return false;
  }
  const auto run = reinterpret_cast<int (*)()>(dlsym(handle, "run_plugin"));
  const bool is_right = run && run() == 0;
  return dlclose(handle) == 0 && is_right;
}

}  // namespace

int main() {
  Footprint before{};
  for (int load = 0; load < kLoads; ++load) {
    if (!load_run_and_unload(PLUGIN)) return 1;
    for (const char* file : {PLUGIN, LIBRARY}) {
      if (is_loaded(file)) {
        std::printf("%s is still loaded after dlclose\n", file);
        return 1;
      }
    }
    // A thread of the runtime that still spins would meet code that is gone.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (load == kWarmUp) before = footprint();
  }
  const Footprint after = footprint();
  std::printf("threads %ld then %ld, resident KiB %ld then %ld\n", before.threads, after.threads,
              before.resident_kib, after.resident_kib);
  return after.threads > before.threads || after.resident_kib > before.resident_kib + kMaxGrowthKiB;
}
