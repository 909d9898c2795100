// `accrete completion SHELL`: a script that completes verbs, options, their choices and files. It
// is made from the parser itself, so that it knows every verb.
#include <memory>

#include "cli/cli.h"

namespace accrete::cli {
namespace {

enum class Takes { kNothing, kWord, kChoice, kFolder, kFile };

struct Argument {
  std::vector<std::string> names;  // "--quiet", "-q"; of a positional its name
  std::string description;
  Takes takes = Takes::kNothing;
  std::vector<std::string> choices;
};

// A verb, or the program itself.
struct Node {
  std::string path;                                        // "", "teach", "probe add"
  std::vector<std::pair<std::string, std::string>> verbs;  // name, description
  std::vector<Argument> options, positionals;
};

Argument argument(const CLI::Option& option) {
  Argument a;
  a.description = option.get_description();
  a.choices = choices(option);
  const std::string type = option.get_type_name();
  if (option.get_items_expected_max() > 0)
    a.takes = !a.choices.empty()           ? Takes::kChoice
              : type.starts_with("FOLDER") ? Takes::kFolder
              : type.starts_with("FILE")   ? Takes::kFile
                                           : Takes::kWord;
  if (option.get_positional()) {
    a.names = {option.get_name()};
  } else {
    for (const auto& name : option.get_lnames()) a.names.push_back("--" + name);
    for (const auto& name : option.get_snames()) a.names.push_back("-" + name);
  }
  return a;
}

void collect(const CLI::App& app, const std::string& path, std::vector<Node>& out) {
  Node node;
  node.path = path;
  for (const CLI::Option* option : app.get_options())
    (option->get_positional() ? node.positionals : node.options).push_back(argument(*option));
  const auto verbs = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* verb : verbs)
    node.verbs.emplace_back(verb->get_name(), verb->get_description());
  out.push_back(std::move(node));
  for (const CLI::App* verb : verbs)
    collect(*verb, path.empty() ? verb->get_name() : path + " " + verb->get_name(), out);
}

std::string join(const std::vector<std::string>& words, const std::string& separator = " ") {
  return CLI::detail::join(words, separator);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

// In single quotes, for any of the shells.
std::string in_quotes(const std::string& text, bool fish = false) {
  return "'" +
         (fish ? replaced(replaced(text, "\\", "\\\\"), "'", "\\'")
               : replaced(text, "'", "'\\''")) +
         "'";
}

std::string function_name(const std::string& path) {
  return "_accrete" + (path.empty() ? "" : "_" + replaced(replaced(path, " ", "_"), "-", "_"));
}

// --- bash ------------------------------------------------------------------------------------

// The words before the cursor name the verb; what it offers is looked up in _accrete_verb.
constexpr const char* kBash = R"(
_accrete() {
  local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
  local path= verbs= words= options= files= i word
  # bash takes --option=value apart at the sign.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $previous == = ]]; then
    previous=${COMP_WORDS[COMP_CWORD-2]}
  fi
  _accrete_verb ""
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    [[ $word != -* && " $verbs " == *" $word "* ]] || break
    path="${path:+$path }$word"
    _accrete_verb "$path"
  done
  COMPREPLY=()
  local value=
  [[ $previous == -* ]] && _accrete_value "$path" "$previous"
  if [[ $value == word ]]; then
    return
  elif [[ $value == choice:* ]]; then
    COMPREPLY=($(compgen -W "${value#choice:}" -- "$cur"))
  elif [[ -z $value && $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif [[ -z $value && -n $verbs$words ]]; then
    COMPREPLY=($(compgen -W "$verbs $words" -- "$cur"))
  elif [[ $value == folder ]]; then
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -d -- "$cur"))
  elif [[ $value == file || -n $files ]]; then
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}

complete -F _accrete accrete
)";

std::string bash(const std::vector<Node>& nodes) {
  std::string verb = "_accrete_verb() {\n  case $1 in\n", value;
  value = "_accrete_value() {\n  case \"$1 $2\" in\n";
  for (const Node& node : nodes) {
    std::vector<std::string> verbs, options, words;
    bool files = false;
    for (const auto& [name, description] : node.verbs) verbs.push_back(name);
    for (const Argument& p : node.positionals) {
      files = files || p.takes == Takes::kFile || p.takes == Takes::kFolder;
      words.insert(words.end(), p.choices.begin(), p.choices.end());
    }
    for (const Argument& o : node.options) {
      options.insert(options.end(), o.names.begin(), o.names.end());
      if (o.takes == Takes::kNothing) continue;
      std::vector<std::string> keys;
      for (const auto& name : o.names) keys.push_back("\"" + node.path + " " + name + "\"");
      value += "    " + join(keys, " | ") + ") value=" +
               (o.takes == Takes::kChoice   ? in_quotes("choice:" + join(o.choices))
                : o.takes == Takes::kFile   ? "file"
                : o.takes == Takes::kFolder ? "folder"
                                            : "word") +
               " ;;\n";
    }
    verb += "    " + in_quotes(node.path) + ")\n      verbs=" + in_quotes(join(verbs)) +
            "\n      words=" + in_quotes(join(words)) +
            "\n      options=" + in_quotes(join(options)) + "\n      files=" + (files ? "1" : "") +
            " ;;\n";
  }
  return "# bash completion for accrete, made by `accrete completion bash`.\n\n" + verb +
         "  esac\n}\n\n" + value + "  esac\n}\n" + kBash;
}

// --- zsh -------------------------------------------------------------------------------------

std::string zsh_action(const Argument& a) {
  switch (a.takes) {
    case Takes::kChoice:
      return "(" + join(a.choices) + ")";
    case Takes::kFolder:
      return "_files -/";
    case Takes::kFile:
      return "_files";
    default:
      return " ";
  }
}

// In the text of a specification of _arguments.
std::string zsh_text(std::string text) {
  for (const char* c : {"\\", ":", "[", "]"}) text = replaced(text, c, std::string("\\") + c);
  return text;
}

std::string zsh(const std::vector<Node>& nodes) {
  std::string out =
      "#compdef accrete\ncompdef _accrete accrete\n"
      "# zsh completion for accrete, made by `accrete completion zsh`.\n";
  for (const Node& node : nodes) {
    out += "\n" + function_name(node.path) + "() {\n  local state line\n  _arguments -C";
    for (const Argument& o : node.options)
      for (const auto& name : o.names) {
        std::string spec = "*" + name + "[" + zsh_text(o.description) + "]";
        if (o.takes != Takes::kNothing) spec += ":value:" + zsh_action(o);
        out += " \\\n    " + in_quotes(spec);
      }
    for (const Argument& p : node.positionals)
      out += " \\\n    " + in_quotes(":" + zsh_text(p.names.front()) + ":" + zsh_action(p));
    if (node.verbs.empty()) {
      out += "\n}\n";
      continue;
    }
    out +=
        " \\\n    '1: :->verb' \\\n    '*:: :->rest'\n  case $state in\n    verb)\n"
        "      local -a verbs\n      verbs=(";
    for (const auto& [name, description] : node.verbs)
      out += "\n        " + in_quotes(name + ":" + description);
    out += ")\n      _describe verb verbs ;;\n    rest)\n      case $words[1] in\n";
    for (const auto& [name, description] : node.verbs)
      out += "        " + name + ") " +
             function_name(node.path.empty() ? name : node.path + " " + name) + " ;;\n";
    out += "      esac ;;\n  esac\n}\n";
  }
  // As an autoloaded file it is the function's first call itself; sourced, it only defines.
  return out + "\nif [[ $funcstack[1] == _accrete ]]; then _accrete \"$@\"; fi\n";
}

// --- fish ------------------------------------------------------------------------------------

constexpr const char* kFish = R"(# fish completion for accrete, made by `accrete completion fish`.

# The words so far begin with these verbs.
function __accrete_in
    set -l words (string match -v -- '-*' (commandline -opc))[2..]
    test (count $words) -ge (count $argv); or return 1
    test (count $argv) -eq 0; or test "$words[1..(count $argv)]" = "$argv"
end

# They are these verbs and nothing else yet.
function __accrete_at
    set -l words (string match -v -- '-*' (commandline -opc))[2..]
    test (count $words) -eq (count $argv); and __accrete_in $argv
end

complete -c accrete -f
)";

std::string fish(const std::vector<Node>& nodes) {
  std::string out = kFish;
  for (const Node& node : nodes) {
    const std::string separator = node.path.empty() ? "" : " ";
    const std::string at = "complete -c accrete -n '__accrete_at" + separator + node.path + "'";
    // The program's own options are for before a verb.
    const std::string in =
        node.path.empty() ? at : "complete -c accrete -n '__accrete_in " + node.path + "'";
    for (const auto& [name, description] : node.verbs)
      out += at + " -a " + name + " -d " + in_quotes(description, true) + "\n";
    for (const Argument& o : node.options) {
      out += in;
      for (const auto& name : o.names)
        out += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      if (o.takes == Takes::kFile)
        out += " -r -F";
      else if (o.takes == Takes::kFolder)
        out += " -x -a '(__fish_complete_directories)'";
      else if (o.takes == Takes::kChoice)
        out += " -x -a " + in_quotes(join(o.choices), true);
      else if (o.takes == Takes::kWord)
        out += " -x";
      out += " -d " + in_quotes(o.description, true) + "\n";
    }
    bool files = false;
    for (const Argument& p : node.positionals) {
      files = files || p.takes == Takes::kFile || p.takes == Takes::kFolder;
      if (p.takes == Takes::kChoice) out += at + " -a " + in_quotes(join(p.choices), true) + "\n";
    }
    if (files) out += in + " -F\n";
  }
  return out;
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  std::vector<Node> nodes;
  collect(app, "", nodes);
  return shell == "bash" ? bash(nodes) : shell == "zsh" ? zsh(nodes) : fish(nodes);
}

void add_completion(CLI::App& app, Common& common, Run& run) {
  auto shell = std::make_shared<std::string>();
  auto* verb = app.add_subcommand("completion", "Print a script that completes accrete in a shell");
  verb->add_option("SHELL", *shell, "The shell that the script is for")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  add_common(*verb, common,
             "source <(accrete completion bash)    (in ~/.bashrc)\n"
             "  accrete completion fish > ~/.config/fish/completions/accrete.fish");
  verb->callback([shell, &app, &common, &run] {
    run = [shell, &app, &common] {
      const std::string script = completion_script(app, *shell);
      common.print({{"shell", *shell}, {"script", script}}, script);
      return 0;
    };
  });
}

}  // namespace accrete::cli
