#include "io/vector_set_formats.h"

#include <charconv>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/format.h"
#include "io/strict_json.h"
#include "io/utf8.h"

namespace accrete {
namespace {

// Calls f with each line that is not blank, and its number from 1.
void each_line(std::string_view text, const std::function<void(std::string_view, int64_t)>& f) {
  text.remove_prefix(after_byte_order_mark(text));
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) f(line, number);
  }
}

// Names of labels by the order of their first appearance.
class Labels {
 public:
  int32_t index(const std::string& name, VectorSet& set) {
    const auto [at, is_new] = index_.emplace(name, static_cast<int32_t>(set.labels.size()));
    if (is_new) set.labels.push_back(name);
    return at->second;
  }

 private:
  std::map<std::string, int32_t> index_;
};

std::string where(std::string_view source, int64_t line) {
  return accrete::format("{}:{}", source, line);
}

void append_numbers(const nlohmann::json& list, const char* key, const std::string& at,
                    int64_t& width, std::vector<float>& out) {
  if (!list.is_array()) refuse_set(at, accrete::format("\"{}\" is no list of numbers", key));
  const auto n = static_cast<int64_t>(list.size());
  if (width == 0) width = n;
  if (n != width || n == 0)
    refuse_set(at, accrete::format("{} {}, and {} in the rows before", n, key, width));
  for (const auto& value : list) {
    if (!value.is_number()) refuse_set(at, accrete::format("\"{}\" is no list of numbers", key));
    out.push_back(value.get<float>());
  }
}

std::string label_of(const nlohmann::json& label, const std::string& at) {
  if (label.is_string() && !label.get<std::string>().empty()) return label.get<std::string>();
  if (label.is_number_integer()) return std::to_string(label.get<int64_t>());
  refuse_set(at, "\"label\" is neither a name nor a whole number");
}

std::vector<std::string> cells_of(std::string_view line) {
  std::vector<std::string> cells;
  while (true) {
    const size_t end = line.find(',');
    std::string_view cell = line.substr(0, end);
    while (cell.starts_with(' ')) cell.remove_prefix(1);
    while (cell.ends_with(' ')) cell.remove_suffix(1);
    if (cell.size() > 1 && cell.starts_with('"') && cell.ends_with('"'))
      cell = cell.substr(1, cell.size() - 2);
    cells.emplace_back(cell);
    if (end == std::string_view::npos) return cells;
    line.remove_prefix(end + 1);
  }
}

std::optional<float> number_of(const std::string& cell) {
  float value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size()) return std::nullopt;
  return value;
}

}  // namespace

VectorSet parse_vector_lines(std::string_view text, std::string_view source) {
  VectorSet set;
  Labels labels;
  int with_targets = -1;  // of the first line: 0 none, 1 a label, 2 values
  each_line(text, [&](std::string_view line, int64_t number) {
    const std::string at = where(source, number);
    auto json = parse_json(line, source, {}, number);
    if (json.is_array()) json = {{"inputs", json}};
    if (!json.is_object() || !json.contains("inputs")) refuse_set(at, "it has no \"inputs\"");
    for (const auto& [key, value] : json.items())
      if (key != "inputs" && key != "label" && key != "targets" && key != "id")
        refuse_set(at, accrete::format("a row has no {}", shown(key)));
    append_numbers(json["inputs"], "inputs", at, set.width, set.inputs);
    const int kind = json.contains("label") + 2 * json.contains("targets");
    if (kind == 3) refuse_set(at, "it has a label and targets");
    if (with_targets < 0) with_targets = kind;
    if (kind != with_targets) refuse_set(at, "it has other targets than the rows before");
    if (kind == 1) set.classes.push_back(labels.index(label_of(json["label"], at), set));
    if (kind == 2) append_numbers(json["targets"], "targets", at, set.outputs, set.values);
    ++set.rows;
  });
  return set;
}

VectorSet parse_vector_table(std::string_view text, std::string_view source) {
  VectorSet set;
  Labels labels;
  size_t target = std::string::npos, columns = 0;
  each_line(text, [&](std::string_view line, int64_t number) {
    const std::string at = where(source, number);
    const auto cells = cells_of(line);
    if (columns == 0) {
      columns = cells.size();
      for (size_t i = 0; i < columns; ++i)
        if (cells[i] == "label" || cells[i] == "target") {
          if (target != std::string::npos) refuse_set(at, "it has two columns of labels");
          target = i;
        }
      if (target == std::string::npos) refuse_set(at, "no column is called label or target");
      set.width = static_cast<int64_t>(columns) - 1;
      return;
    }
    if (cells.size() != columns)
      refuse_set(at, accrete::format("{} cells, and {} in the header", cells.size(), columns));
    for (size_t i = 0; i < columns; ++i) {
      if (i == target) {
        if (cells[i].empty()) refuse_set(at, "its label is empty");
        set.classes.push_back(labels.index(cells[i], set));
        continue;
      }
      const auto value = number_of(cells[i]);
      if (!value) refuse_set(at, accrete::format("{} is no number", shown(cells[i])));
      set.inputs.push_back(*value);
    }
    ++set.rows;
  });
  return set;
}

}  // namespace accrete
