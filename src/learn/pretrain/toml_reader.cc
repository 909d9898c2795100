#include "learn/pretrain/toml_reader.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"

namespace accrete {

struct TomlTable::Node {
  std::shared_ptr<const toml::table> root;  // keeps `table` alive
  const toml::table* table = nullptr;
  std::string source;
};

TomlTable TomlTable::open(const std::filesystem::path& path) {
  return parse(read_file(path), path.string());
}

TomlTable TomlTable::parse(const std::string& text, const std::string& source) {
  TomlTable out;
  out.node_ = std::make_shared<Node>();
  out.node_->source = source;
  try {
    out.node_->root = std::make_shared<const toml::table>(toml::parse(text));
  } catch (const toml::parse_error& e) {
    throw Error(ErrorCode::kFormat,
                accrete::format("{}:{}: {}", source, e.source().begin.line, e.description()),
                "it must be TOML: see docs/pretrain.md");
  }
  out.node_->table = out.node_->root.get();
  return out;
}

void TomlTable::fail(const std::string& key, const std::string& what,
                     const std::string& hint) const {
  std::string where = node_->source;
  if (node_->table != nullptr) {
    const toml::node* node = node_->table->get(key);
    const auto line = (node != nullptr ? node : node_->table)->source().begin.line;
    if (line > 0) where += accrete::format(":{}", line);
  }
  if (!name_.empty()) where += ": " + name_;
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", where, what), hint);
}

bool TomlTable::has(const std::string& key) const {
  return node_->table != nullptr && node_->table->contains(key);
}

void TomlTable::require(const std::string& key) const {
  if (!has(key)) fail(key, accrete::format("`{}` is missing", key), "see docs/pretrain.md");
}

int64_t TomlTable::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
  known_.push_back(key);
  if (!has(key)) return fallback;
  const auto value = node_->table->get(key)->value_exact<int64_t>();
  if (!value)
    fail(key, accrete::format("`{}` must be an integer", key), "write it without a point");
  if (*value < low || *value > high)
    fail(key, accrete::format("`{}` = {} is not between {} and {}", key, *value, low, high),
         "see docs/pretrain.md");
  return *value;
}

double TomlTable::number(const std::string& key, double fallback, double low, double high) {
  known_.push_back(key);
  if (!has(key)) return fallback;
  const toml::node& node = *node_->table->get(key);
  std::optional<double> value = node.value_exact<double>();
  if (const auto whole = node.value_exact<int64_t>()) value = static_cast<double>(*whole);
  if (!value) fail(key, accrete::format("`{}` must be a number", key), "write it without quotes");
  if (!(*value >= low && *value <= high))
    fail(key, accrete::format("`{}` = {} is not between {} and {}", key, *value, low, high),
         "see docs/pretrain.md");
  return *value;
}

std::string TomlTable::text(const std::string& key, const std::string& fallback) {
  known_.push_back(key);
  if (!has(key)) return fallback;
  const auto value = node_->table->get(key)->value_exact<std::string>();
  if (!value) fail(key, accrete::format("`{}` must be text", key), "put it in quotes");
  return *value;
}

std::string TomlTable::choice(const std::string& key, const std::string& fallback,
                              const std::vector<std::string>& choices) {
  const std::string value = text(key, fallback);
  if (std::find(choices.begin(), choices.end(), value) == choices.end())
    fail(key, accrete::format("`{}` = \"{}\" is not known", key, value),
         accrete::format("use {}", accrete::joined(choices, " or ")));
  return value;
}

TomlTable TomlTable::table(const std::string& key) {
  known_.push_back(key);
  TomlTable out;
  out.node_ = std::make_shared<Node>(*node_);
  out.node_->table = nullptr;
  out.name_ = accrete::format("[{}]", key);
  if (!has(key)) return out;
  out.node_->table = node_->table->get(key)->as_table();
  if (out.node_->table == nullptr)
    fail(key, accrete::format("`{}` must be a table", key),
         accrete::format("begin it with [{}]", key));
  return out;
}

std::vector<TomlTable> TomlTable::tables(const std::string& key) {
  known_.push_back(key);
  std::vector<TomlTable> out;
  if (!has(key)) return out;
  const toml::array* array = node_->table->get(key)->as_array();
  const auto refuse = [&] {
    fail(key, accrete::format("`{}` must be a list of tables", key),
         accrete::format("begin each with [[{}]]", key));
  };
  if (array == nullptr) refuse();
  for (const toml::node& element : *array) {
    if (element.as_table() == nullptr) refuse();
    TomlTable one;
    one.node_ = std::make_shared<Node>(*node_);
    one.node_->table = element.as_table();
    one.name_ = accrete::format("[[{}]]", key);
    out.push_back(std::move(one));
  }
  return out;
}

void TomlTable::finish() const {
  if (node_->table == nullptr) return;
  for (const auto& [key, value] : *node_->table) {
    const std::string name(key.str());
    if (std::find(known_.begin(), known_.end(), name) == known_.end())
      fail(name, accrete::format("there is no key `{}`", name),
           accrete::format("the keys here are {}", accrete::joined(known_, ", ")));
  }
}

}  // namespace accrete
