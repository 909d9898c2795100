#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "base/interrupt.h"
#include "cli/cli.h"

namespace accrete::cli {
namespace {

// Draws one line per stage: in place on a terminal; in a pipe at the start of a stage's tenths.
class ProgressPrinter {
 public:
  ~ProgressPrinter() { end_line(); }
  void operator()(const ProgressEvent& e) {
    if (stage_ != e.stage) {
      end_line();
      stage_ = e.stage;
      start_ = std::chrono::steady_clock::now();
      last_tenth_ = -1;
    }
    const double share =
        e.total > 0
            ? std::clamp(static_cast<double>(e.done) / static_cast<double>(e.total), 0.0, 1.0)
            : 0;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    std::string time = accrete::format("{:.0f} s", seconds);
    constexpr double kSoon = 3;  // seconds before which nothing can be said
    if (share > 0 && share < 1 && seconds > kSoon)
      time += accrete::format(", {:.0f} s left", seconds * (1 - share) / share);
    if (::isatty(2) != 0) {
      constexpr int kWidth = 30;
      const int full = static_cast<int>(share * kWidth);
      const std::string bar = std::string(static_cast<size_t>(full), '#') +
                              std::string(static_cast<size_t>(kWidth - full), '.');
      std::fprintf(stderr, "\r\033[K%-16s [%s] %3.0f %%  %s  %s", stage_.c_str(), bar.c_str(),
                   100 * share, time.c_str(), e.detail.c_str());
      open_line_ = true;
      if (e.total > 0 && e.done >= e.total) end_line();
    } else {
      const int tenth = static_cast<int>(share * 4);
      if (tenth == last_tenth_) return;
      last_tenth_ = tenth;
      std::fprintf(stderr, "%s: %.0f %% (%s) %s\n", stage_.c_str(), 100 * share, time.c_str(),
                   e.detail.c_str());
    }
  }

 private:
  void end_line() {
    if (open_line_) std::fputc('\n', stderr);
    open_line_ = false;
  }
  std::string stage_;
  std::chrono::steady_clock::time_point start_;
  int last_tenth_ = -1;
  bool open_line_ = false;
};

}  // namespace

Reporter Common::reporter() const {
  Reporter reporter;
  if (progress == "json") {
    reporter.progress = [](const ProgressEvent& e) {
      const nlohmann::ordered_json event = {
          {"stage", e.stage}, {"done", e.done}, {"total", e.total}, {"detail", e.detail}};
      std::fprintf(stderr, "%s\n",
                   event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    };
  } else if (!quiet) {
    auto printer = std::make_shared<ProgressPrinter>();
    reporter.progress = [printer](const ProgressEvent& e) { (*printer)(e); };
  }
  auto handler = std::make_shared<InterruptHandler>();
  reporter.cancelled = [handler] { return handler->interrupted(); };
  return reporter;
}

api::Callbacks Common::callbacks() const {
  const Reporter own = reporter();
  api::Callbacks callbacks;
  if (own.progress)
    callbacks.progress = [own](const api::Progress& p) {
      own.progress({p.stage, p.done, p.total, p.detail});
    };
  callbacks.cancelled = own.cancelled;
  return callbacks;
}

void Common::print(const nlohmann::ordered_json& object, const std::string& text) const {
  const std::string out =
      json ? object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n" : text;
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
}

void add_common(CLI::App& verb, Common& common, const std::string& example) {
  constexpr const char* kGroup = "Every verb";
  verb.add_flag("--json", common.json,
                "One JSON object on standard output; progress and messages on standard error")
      ->group(kGroup);
  verb.add_flag("--quiet,-q", common.quiet, "No progress on standard error")->group(kGroup);
  verb.add_option("--seed", common.seed, "Seed of everything random")
      ->group(kGroup)
      ->capture_default_str();
  verb.add_option("--device", common.open.device, "Where to compute: cpu, cuda or cuda:N")
      ->type_name("DEVICE")
      // What cuBLAS needs to repeat a product to the bit; it reads this when it starts.
      ->each([](const std::string& device) {
        if (device != "cpu") ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
      })
      ->group(kGroup)
      ->capture_default_str();
  verb.add_option("--dtype", common.open.dtype, "What the base computes in")
      ->type_name("{float32,bfloat16,float16}")
      ->group(kGroup)
      ->capture_default_str();
  verb.add_option("--threads", common.open.threads, "Threads to compute with; 0: every core")
      ->check(zero_or_above())
      ->group(kGroup)
      ->capture_default_str();
  if (!example.empty()) verb.footer("Example:\n  " + example);
}

namespace {

CLI::Validator number_check(bool zero) {
  return {[zero](std::string& text) {
            char* end = nullptr;
            const double value = std::strtod(text.c_str(), &end);
            const bool number = end != text.c_str() && *end == '\0' && std::isfinite(value);
            if (number && (value > 0 || (zero && value == 0))) return std::string();
            return accrete::format("a number {} is expected, not {}",
                                   zero ? "from 0 up" : "above 0", text);
          },
          ""};
}

}  // namespace

CLI::Validator above_zero() {
  return number_check(false);
}

CLI::Validator zero_or_above() {
  return number_check(true);
}

void add_overlay(CLI::App& verb, Common& common) {
  verb.add_option(
          "--overlay", common.open.overlay,
          "The facts of one person or tenant (`accrete overlay create`) over what all share; "
          "default: what all share")
      ->check(CLI::Validator(
          [](std::string& name) {
            return name.empty() ? std::string("a name is expected") : std::string();
          },
          ""))
      ->type_name("NAME");
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (width.size() <= i) width.push_back(0);
      width[i] = std::max(width[i], row[i].size());
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      line += i + 1 < row.size() ? accrete::format("{:<{}}  ", row[i], width[i]) : row[i];
    out += line + "\n";
  }
  return out;
}

std::string percent(double share) {
  return accrete::format("{:.1f} %", 100 * share);
}

}  // namespace accrete::cli
