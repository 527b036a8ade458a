#include "report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>

#include "gpus.hpp"
#include "hip_attn/build_info.hpp"
#include "plans.hpp"

namespace hip_attn::info {
namespace {

Json list_of(const char* words) {
  Json list = Json::array();
  std::istringstream stream(words);
  for (std::string word; stream >> word;) list.push_back(word);
  return list;
}

Json build_report() {
  Json types = Json::array();
  for (const ElementType type : built_element_types()) types.push_back(to_string(type));
  Json build;
  build["element_types"] = types;
  build["head_dims"] =
      Json(std::vector<std::int64_t>(built_head_dims().begin(), built_head_dims().end()));
  build["cpu_instruction_sets"] = list_of(HIP_ATTN_INFO_INSTRUCTION_SETS);
  build["cpu_instruction_set_here"] = cpu_instruction_set();
  build["openmp"] = HIP_ATTN_INFO_OPENMP != 0;
  build["cuda"] = built_with_cuda();
  build["cuda_architectures"] = list_of(HIP_ATTN_INFO_CUDA_ARCHITECTURES);
  return build;
}

Json properties_report(const GpuProperties& of) {
  return {{"multiprocessors", of.multiprocessors},
          {"compute_capability", of.compute_capability / 10.},
          {"clock_ghz", of.clock_ghz},
          {"memory_tb_per_s", of.memory_tb_per_s},
          {"memory_gb", of.memory_gb},
          {"link_gb_per_s", of.link_gb_per_s},
          {"shared_bytes", of.shared_bytes},
          {"l2_bytes", of.l2_bytes},
          {"cluster_multiprocessors", of.cluster_multiprocessors}};
}

Json devices_report(const std::vector<FoundDevice>& devices) {
  Json list = Json::array();
  for (const FoundDevice& device : devices) {
    Json one{{"index", device.index}, {"name", device.name}};
    one.update(properties_report(device.properties));
    one["usable"] = device.status.ok();
    if (!device.status.ok()) one["problem"] = device.status.message();
    list.push_back(one);
  }
  return list;
}

}  // namespace

Json make_report(const Options& options) {
  Json report;
  report["hip_attn"] = version();
  report["build"] = build_report();
  std::string problem;
  const std::vector<FoundDevice> devices = find_devices(problem);
  report["devices"] = devices_report(devices);
  if (devices.empty()) report["no_device"] = problem.empty() ? "CUDA finds no device" : problem;

  Target target;
  const bool here = options.gpu.empty();
  if (!here) {
    target.gpu = gpu_by_name(options.gpu);
  } else {
    for (const FoundDevice& device : devices) {
      if (device.index != options.device || !device.status.ok()) continue;
      target.gpu = gpu_of_device(device);
      target.device = cuda_device(device.index);
    }
  }
  if (target.gpu) {
    const std::string name = here ? devices[static_cast<std::size_t>(options.device)].name
                                  : std::string(target.gpu->properties.name);
    Json gpu{{"name", name},
             {"rates_measured_on", target.gpu->measured_on},
             {"scaled", target.gpu->properties.name != std::string(target.gpu->measured_on)}};
    gpu.update(properties_report(target.gpu->properties));
    if (options.terms) {
      for (int i = 0; i < kNumCostTerms; ++i) {
        const auto at = static_cast<std::size_t>(i);
        gpu["rates"][kCostTerms[at].name] = target.gpu->rates.ns[at];
        gpu["units"][kCostTerms[at].name] = kCostTerms[at].unit;
      }
    }
    report["gpu"] = gpu;
  }
  if (options.context > 0) add_plans(options, target, report);
  return report;
}

}  // namespace hip_attn::info
