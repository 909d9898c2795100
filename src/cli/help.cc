// How --help looks: what an option takes, its default, one paragraph each, wrapped.
#include <algorithm>
#include <cctype>

#include "cli/cli.h"

namespace accrete::cli {
namespace {

constexpr size_t kLine = 100, kOptionColumn = 30, kVerbColumn = 14;

std::string wrapped(const std::string& text, size_t column) {
  std::string out;
  size_t used = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const size_t length = end - at;
    if (used > 0 && used + 1 + length > kLine - column) {
      out += '\n';
      used = 0;
    } else if (used > 0) {
      out += ' ';
      ++used;
    }
    out.append(text, at, length);
    used += length;
    at = end + 1;
  }
  return out;
}

class Formatter : public CLI::Formatter {
 public:
  Formatter() { column_width(kOptionColumn); }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_items_expected_max() == 0 || option->get_positional()) return "";
    std::string label = option->get_type_name();
    if (!choices(*option).empty() && !option->get_lnames().empty()) {
      label = option->get_lnames().front();
      for (char& c : label) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
    }
    label = label.substr(0, label.find(':'));  // validators follow a colon
    if (label == "INT" || label == "UINT") label = "N";
    if (label == "FLOAT") label = "X";
    return " " + label;
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    const auto words = choices(*option);
    for (size_t i = 0; i < words.size(); ++i)
      text += (i == 0 ? ": " : i + 1 == words.size() ? " or " : ", ") + words[i];
    if (const auto value = option->get_default_str(); !value.empty()) text += " [" + value + "]";
    if (option->get_required() && !option->get_positional()) text += " (required)";
    return wrapped(text, kOptionColumn);
  }

  std::string make_subcommand(const CLI::App* verb) const override {
    std::stringstream out;
    CLI::detail::format_help(out, verb->get_name(), wrapped(verb->get_description(), kVerbColumn),
                             kVerbColumn);
    return out.str();
  }
};

}  // namespace

std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

std::shared_ptr<CLI::FormatterBase> help_formatter() {
  return std::make_shared<Formatter>();
}

}  // namespace accrete::cli
