// What hip_attn-info says of KV offload.
#include <fmt/format.h>

#include "asked.hpp"

namespace hip_attn::info {

/// What KV offload would do to a decode step.
Json offload_report(const Asked& asked, const DecodeWork& mean, double mean_seconds) {
  const Options& o = asked.options;
  const GpuProperties& gpu = asked.target.gpu->properties;
  const double layers = static_cast<double>(o.layers);
  const double kv = asked.kv_bytes() * layers;
  const double landmarks = asked.landmark_bytes() * layers;
  const double room = (gpu.memory_gb - o.weights_gb) * 1e9;
  Json report{{"layers", o.layers},
              {"kv_cache_gb", kv * 1e-9},
              {"landmarks_gb", landmarks * 1e-9},
              {"gpu_room_gb", room * 1e-9},
              {"fits", kv + landmarks <= room}};
  if (kv + landmarks <= room) {
    report["helps"] = false;
    report["why"] = fmt::format(
        "the cache of {} layers takes {:.3g} GB, landmarks included, and the GPU has {:.3g}",
        o.layers, (kv + landmarks) * 1e-9, room * 1e-9);
    return report;
  }
  if (landmarks >= room) {
    report["helps"] = false;
    report["why"] =
        fmt::format("landmarks stay on the GPU, and alone they take {:.3g} GB where it has {:.3g}",
                    landmarks * 1e-9, room * 1e-9);
    return report;
  }
  // Keys that the search reads, and keys and values that are attended to, in a mean step.
  const double row = static_cast<double>(o.head_dim * asked.element_bytes());
  double searched = 0.;
  for (int s = 0; s < mean.num_stages; ++s) {
    const auto at = static_cast<std::size_t>(s);
    if (asked.named.config.stages[at].rule != ScanRule::kLandmark) searched += mean.reads[at] * row;
  }
  const HipConfig& config = asked.named.config;
  const double refreshes = config.is_dense() || config.refresh_interval.empty()
                               ? 1.
                               : 1. / static_cast<double>(config.refresh_interval.back());
  const double asked_for = searched + mean.attended * 2. * row * refreshes;
  const double link = gpu.link_gb_per_s * 1e9;
  const double share = (room - landmarks) / kv;
  if (config.is_dense()) {
    // Dense attention reads all of it in every step.
    const double seconds = mean.attended * 2. * row * (1. - share) / link;
    report["helps"] = false;
    report["why"] = fmt::format(
        "dense attention reads the whole cache in every step: {:.3g} ms of a layer over the link, "
        "{:.3g} µs on the GPU",
        seconds * kMilli, mean_seconds * kMicro);
    report["link_us"] = seconds * kMicro;
    return report;
  }
  report["helps"] = true;
  report["share_on_gpu"] = share;
  report["miss"] = o.miss;
  report["link_us"] = asked_for * o.miss / link * kMicro;
  report["nothing_hot_us"] = (searched / refreshes + mean.attended * 2. * row) / link * kMicro;
  report["why"] = fmt::format(
      "the cache of {} layers takes {:.3g} GB and the GPU has room for {:.3g}: a store keeps "
      "{:.0f} % "
      "of it there. With {:.3g} % of what a search asks for not there, a step takes {:.3g} µs more "
      "in the mean, {:.3g} in all",
      o.layers, kv * 1e-9, (room - landmarks) * 1e-9, share * 100., o.miss * 100.,
      asked_for * o.miss / link * kMicro,
      mean_seconds * kMicro + asked_for * o.miss / link * kMicro);
  return report;
}

}  // namespace hip_attn::info
