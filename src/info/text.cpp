// The report for people.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <iterator>
#include <vector>

#include "report.hpp"

namespace hip_attn::info {
namespace {

class Text {
 public:
  template <typename... Args>
  void title(fmt::format_string<Args...> format, Args&&... args) {
    if (!text_.empty()) text_ += '\n';
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  template <typename... Args>
  void line(const char* label, fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), "  {:<16}", label);
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string words(const Json& list) {
  std::vector<std::string> items;
  for (const Json& item : list)
    items.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  return fmt::format("{}", fmt::join(items, " "));
}

std::string numbers(const Json& list) {
  std::vector<std::string> items;
  for (const Json& item : list) items.push_back(fmt::format("{:.3g}", item.get<double>()));
  return fmt::format("{}", fmt::join(items, ", "));
}

std::string bytes(const Json& value) {
  const double count = value.get<double>();
  constexpr std::array kUnits = {"B", "KB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  double scaled = count;
  while (scaled >= 1000. && unit + 1 < kUnits.size()) {
    scaled /= 1000.;
    ++unit;
  }
  return fmt::format("{:.3g} {}", scaled, kUnits[unit]);
}

std::string number(const Json& value) { return fmt::format("{:.3g}", value.get<double>()); }
std::string string(const Json& value) { return value.get<std::string>(); }

void add_gpu_line(const char* label, const Json& gpu, const std::string& behind, Text& text) {
  text.line(label, "{}: {} multiprocessors, compute capability {:.1f}, {} GB at {} TB/s{}",
            string(gpu["name"]), gpu["multiprocessors"].get<int>(),
            gpu["compute_capability"].get<double>(), number(gpu["memory_gb"]),
            number(gpu["memory_tb_per_s"]), behind);
}

void add_build(const Json& report, Text& text) {
  const Json& build = report["build"];
  text.title("hip_attn {}", string(report["hip_attn"]));
  text.line("types", "{}; head dims {}", words(build["element_types"]), words(build["head_dims"]));
  text.line("CPU kernels", "{}; this machine runs {}", words(build["cpu_instruction_sets"]),
            string(build["cpu_instruction_set_here"]));
  text.line("OpenMP", "{}", build["openmp"].get<bool>() ? "yes" : "no");
  if (build["cuda"].get<bool>()) {
    text.line("CUDA", "for {}", words(build["cuda_architectures"]));
  } else {
    text.line("CUDA", "no");
  }
  for (const Json& device : report["devices"]) {
    add_gpu_line(fmt::format("device {}", device["index"].get<int>()).c_str(), device,
                 device["usable"].get<bool>() ? "" : "; " + string(device["problem"]), text);
  }
  if (report.contains("no_device")) text.line("device", "none: {}", string(report["no_device"]));
}

void add_shared(const Json& report, const Json& plan, Text& text) {
  const Json& shape = report["shape"];
  text.title("{} by {}", string(plan["op"]), string(plan["preset"]));
  text.line(
      "call", "{} x {} keys, {} query rows each; {} query heads, {} KV heads, head dim {}, {}",
      shape["batch"].dump(), shape["context"].dump(), plan["rows"].dump(), shape["q_heads"].dump(),
      shape["kv_heads"].dump(), shape["head_dim"].dump(), string(shape["type"]));
  if (!shape["head_dim_is_built"].get<bool>())
    text.line("", "this build has no head dim {}: HIP_ATTN_HEAD_DIMS", shape["head_dim"].dump());
  if (plan.contains("notes")) {
    for (const Json& note : plan["notes"]) text.line("note", "{}", string(note));
  }
  const Json& config = plan["config"];
  text.line("configuration", "sink {}, window {}, query blocks of {}", config["sink"].dump(),
            config["window"].dump(), config["block_q"].dump());
  const Json& reads = plan["last_unit"]["stages"];
  for (std::size_t s = 0; s < reads.size(); ++s) {
    const Json& stage = config["stages"][s];
    text.line(
        fmt::format("stage {}", s + 1).c_str(),
        "chunks of {}, keeps {} tokens, stride {}, {} by {}; the last query block reads {} {} "
        "of {} chunks",
        stage["chunk_size"].dump(), stage["keep"].dump(), stage["query_stride"].dump(),
        string(stage["rule"]), string(stage["reduction"]), reads[s]["count"].dump(),
        string(reads[s]["reads"]), reads[s]["chunks"].dump());
  }
  text.line("attended", "{} keys by the last query block",
            plan["last_unit"]["attended_keys"].dump());
}

void add_memory(const Json& plan, Text& text) {
  std::string line = fmt::format("a layer: KV cache {}", bytes(plan["kv_cache_bytes"]));
  if (plan["landmark_bytes"].get<double>() > 0.)
    line += fmt::format(", landmarks {}", bytes(plan["landmark_bytes"]));
  if (plan.contains("selection_cache_bytes"))
    line += fmt::format(", selection cache {}", bytes(plan["selection_cache_bytes"]));
  line += fmt::format("; workspace {}", bytes(plan["workspace_bytes"]));
  if (plan.contains("workspace_of")) line += fmt::format(" ({})", string(plan["workspace_of"]));
  text.line("memory", "{}", line);
}

void add_prefill(const Json& plan, Text& text) {
  const Json& kernels = plan["kernels"];
  const Json& times = plan["predicted"];
  text.line("kernels", "search by {}, attention by {} (as {} says)", string(kernels["search"]),
            string(kernels["attention"]), string(kernels["from"]));
  text.line("dense until", "position {}", plan["dense_until"].dump());
  text.line("predicted", "{} ms a layer: attention {}, search {} (stages {}); dense {} ms",
            number(times["total_ms"]), number(times["attend_ms"]), number(times["search_ms"]),
            times["stages_ms"].empty() ? "none" : numbers(times["stages_ms"]),
            number(times["dense_ms"]));
}

void add_decode(const Json& plan, Text& text) {
  const Json& kernels = plan["kernels"];
  const Json& times = plan["predicted"];
  text.line("kernels", "{}, {} thread blocks to a unit, {} of {} units at once (as {} says)",
            string(kernels["decode"]), kernels["team_size"].dump(), kernels["units_at_once"].dump(),
            kernels["units"].dump(), string(kernels["from"]));
  text.line(
      "predicted",
      "{} µs a layer in the mean over {} steps: refreshed {} (stages {}), reused {}; dense {} "
      "µs",
      number(times["mean_us"]), times["refresh_cycle"].dump(), number(times["refreshed_us"]),
      times["stages_us"].empty() ? "none" : numbers(times["stages_us"]), number(times["reused_us"]),
      number(times["dense_us"]));
}

}  // namespace

std::string report_text(const Json& report) {
  Text text;
  add_build(report, text);
  if (!report.contains("plans")) return text.text();
  if (report.contains("gpu")) {
    const Json& gpu = report["gpu"];
    const std::string measured = string(gpu["rates_measured_on"]);
    text.title("cost model");
    add_gpu_line("GPU", gpu, "", text);
    if (gpu["scaled"].get<bool>()) {
      text.line("rates",
                "scaled from those of the {} by multiprocessors, clock and memory: a guess",
                measured);
    } else {
      text.line("rates", "fitted to measurements on it (docs/guide/cost-model.md)");
    }
  }
  for (const Json& plan : report["plans"]) {
    add_shared(report, plan, text);
    if (plan.contains("predicted")) {
      plan["op"] == "prefill" ? add_prefill(plan, text) : add_decode(plan, text);
      text.line("choice", "{}: {}", string(plan["choice"]), string(plan["why"]));
    } else {
      text.line("times", "{}", string(plan["why"]));
    }
    add_memory(plan, text);
  }
  if (report.contains("offload")) {
    const Json& offload = report["offload"];
    text.title("KV offload");
    text.line("helps", "{}: {}", offload["helps"].get<bool>() ? "yes" : "no",
              string(offload["why"]));
    if (offload.contains("nothing_hot_us")) {
      text.line("", "a step that finds nothing on the GPU reads {} µs over the link",
                number(offload["nothing_hot_us"]));
    }
  }
  return text.text();
}

}  // namespace hip_attn::info
