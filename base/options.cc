#include "base/options.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>

namespace perigee {

namespace po = boost::program_options;

namespace {

constexpr const char* kPositional = "=positional";  // no user can spell it

Status Bad(std::string message) { return Status(Code::kInvalidArgument, std::move(message)); }

// The shortest text that parses back.
std::string ShortBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"", "K", "M", "G", "T", "P"};
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + kUnits[unit];
}

std::string ShortDuration(Nanos d) {
  static constexpr std::pair<const char*, Nanos> kUnits[] = {{"h", 3600 * kSecond},
                                                             {"m", 60 * kSecond},
                                                             {"s", kSecond},
                                                             {"ms", kMillisecond},
                                                             {"us", kMicrosecond}};
  for (auto [name, nanos] : kUnits) {
    if (d != 0 && d % nanos == 0) return std::to_string(d / nanos) + name;
  }
  return d == 0 ? "0s" : std::to_string(d) + "ns";
}

Result<bool> ParseBool(const std::string& text) {
  if (text == "true" || text == "yes" || text == "on" || text == "1") return true;
  if (text == "false" || text == "no" || text == "off" || text == "0") return false;
  return Bad("'" + text + "' is not true or false");
}

std::string EnvironmentName(const std::string& option) {
  std::string name = "PERIGEE_";
  for (char c : option)
    name.push_back(c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
  return name;
}

std::vector<std::string> SplitCommas(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) parts.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

struct Option {
  std::string name;
  std::string help;
  std::string value_name;    // empty: a flag
  std::string default_text;  // empty: none shown
  bool many = false;
  bool default_on = false;  // a flag that --no-NAME turns off
  std::function<Status(const std::vector<std::string>&)> set;
};

// What one source gave, by option.
using Given = std::map<std::string, std::vector<std::string>>;

// Boost's exceptions as one line that names the option and what it wants.
Status Rewrite(const po::error& e, const std::vector<Option>& options) {
  auto with_value_name = [&](std::string name) {
    while (name.starts_with('-')) name.erase(0, 1);
    name = name.substr(0, name.find('='));
    for (const Option& o : options) {
      if (o.name == name) return "--" + name + " needs a value: " + o.value_name;
    }
    return "--" + name + " needs a value";
  };
  if (auto* unknown = dynamic_cast<const po::unknown_option*>(&e)) {
    std::string name = unknown->get_option_name();
    if (!name.starts_with('-')) name.insert(0, "--");
    return Bad("unknown option " + name + "; --help lists them");
  }
  if (auto* syntax = dynamic_cast<const po::invalid_command_line_syntax*>(&e)) {
    std::string name = syntax->get_option_name();
    switch (syntax->kind()) {
      case po::invalid_syntax::missing_parameter:
      case po::invalid_syntax::empty_adjacent_parameter:
        return Bad(with_value_name(name));
      case po::invalid_syntax::extra_parameter:
        return Bad(name + " is a flag and takes no value");
      default:
        return Bad("cannot read '" + syntax->tokens() + "' as an option; --help lists them");
    }
  }
  if (auto* syntax = dynamic_cast<const po::invalid_config_file_syntax*>(&e)) {
    return Bad("'" + syntax->tokens() + "' is not of the form name = value");
  }
  std::string what = e.what();
  std::replace(what.begin(), what.end(), '\n', ' ');
  return Bad(what);
}

}  // namespace

struct Options::State {
  std::string program;
  std::string summary;
  std::string examples;
  std::string config;  // --config; empty: the default path
  std::vector<Option> options;
  std::vector<std::string>* positional = nullptr;
  std::string positional_name;
  size_t positional_least = 0;
  size_t positional_most = 0;

  void Add(Option option) { options.push_back(std::move(option)); }

  // A verb of a larger program: "perigee ls".
  bool is_verb() const { return program.find(' ') != program.npos; }
  std::string default_config() const {
    return "/etc/perigee/" + program.substr(0, program.find(' ')) + ".conf";
  }

  po::options_description Describe(bool command_line) const {
    po::options_description description;
    for (const Option& o : options) {
      if (o.value_name.empty()) {
        description.add_options()(o.name.c_str(), "");
        if (o.default_on && command_line) description.add_options()(("no-" + o.name).c_str(), "");
      } else {
        description.add_options()(o.name.c_str(), po::value<std::string>(), "");
      }
    }
    if (command_line) {
      description.add_options()("help,h", "")("version", "");
      description.add_options()(kPositional, po::value<std::vector<std::string>>(), "");
    }
    return description;
  }

  Result<Given> ReadCommandLine(int argc, const char* const* argv) const {
    namespace style = po::command_line_style;
    po::options_description description = Describe(true);
    po::positional_options_description positionals;
    positionals.add(kPositional, -1);
    Given given;
    try {
      auto parsed = po::command_line_parser(argc, argv)
                        .options(description)
                        .positional(positionals)
                        .style(style::unix_style & ~style::allow_guessing & ~style::allow_sticky)
                        .run();
      for (const auto& o : parsed.options) {
        std::vector<std::string>& values = given[o.string_key];
        values.insert(values.end(), o.value.begin(), o.value.end());
        if (o.value.empty()) values.push_back("true");
      }
    } catch (const po::error& e) {
      return Rewrite(e, options);
    }
    return given;
  }

  Given ReadEnvironment() const {
    Given given;
    for (const Option& o : options) {
      const char* value = std::getenv(EnvironmentName(o.name).c_str());
      if (value == nullptr) continue;
      given[o.name] = o.many ? SplitCommas(value) : std::vector<std::string>{value};
    }
    return given;
  }

  Result<Given> ReadConfig(const std::string& path, bool must_exist) const {
    Given given;
    std::ifstream in(path);
    if (!in) {
      int err = errno;
      if (err == ENOENT && !must_exist) return given;
      return Bad("configuration file: " + Status::FromErrno(err, path).message());
    }
    try {
      // A verb reads the file of the whole program, which also names options of other verbs.
      auto parsed = po::parse_config_file(in, Describe(false), /*allow_unregistered=*/is_verb());
      for (const auto& o : parsed.options) {
        if (o.unregistered) continue;
        std::vector<std::string>& values = given[o.string_key];
        values.insert(values.end(), o.value.begin(), o.value.end());
      }
    } catch (const po::unknown_option& e) {
      return Bad(path + ": unknown option '" + e.get_option_name() + "'");
    } catch (const po::error& e) {
      return Rewrite(e, options).With(path);
    }
    if (in.bad()) return Bad("configuration file: cannot read " + path);
    return given;
  }

  // One source's value of `o`, if it has any. `label` names the option as that source spells it.
  static Result<bool> Apply(const Option& o, const Given& given, const std::string& label) {
    auto it = given.find(o.name);
    if (it == given.end()) return false;
    if (!o.many && !o.value_name.empty() && it->second.size() > 1)
      return Bad(label + " is given more than once");
    Status set = o.set(it->second);
    if (!set.ok()) return Bad(label + ": " + set.message());
    return true;
  }

  Status TakePositional(const Given& given) {
    auto it = given.find(kPositional);
    std::vector<std::string> values = it == given.end() ? std::vector<std::string>() : it->second;
    if (positional == nullptr) {
      return values.empty() ? Status::Ok() : Bad("unexpected argument '" + values[0] + "'");
    }
    if (values.size() < positional_least) {
      return Bad("needs " +
                 (positional_least == 1
                      ? positional_name
                      : std::to_string(positional_least) + " " + positional_name) +
                 (positional_most == positional_least ? "" : " or more"));
    }
    if (positional_most != 0 && values.size() > positional_most) {
      return Bad("unexpected argument '" + values[positional_most] + "'");
    }
    if (!values.empty() || positional_least > 0) *positional = std::move(values);
    return Status::Ok();
  }
};

Options::Options(std::string program, std::string summary) : state_(std::make_unique<State>()) {
  state_->program = std::move(program);
  state_->summary = std::move(summary);
  AddString("config", &state_->config,
            "read options from FILE (default " + state_->default_config() + ")", "FILE");
}

Options::~Options() = default;

void Options::AddString(const std::string& name, std::string* target, const std::string& help,
                        const std::string& value_name) {
  state_->Add({name, help, value_name, *target, false, false,
               [target](const std::vector<std::string>& values) {
                 *target = values.back();
                 return Status::Ok();
               }});
}

void Options::AddStrings(const std::string& name, std::vector<std::string>* target,
                         const std::string& help, const std::string& value_name) {
  std::string shown;
  for (const std::string& value : *target) shown += (shown.empty() ? "" : ",") + value;
  state_->Add({name, help + " (may be repeated)", value_name, shown, true, false,
               [target](const std::vector<std::string>& values) {
                 std::vector<std::string> all;
                 for (const std::string& value : values) {
                   PERIGEE_ASSIGN(std::vector<std::string> names, ExpandBraces(value));
                   all.insert(all.end(), names.begin(), names.end());
                 }
                 *target = std::move(all);
                 return Status::Ok();
               }});
}

void Options::AddBytes(const std::string& name, uint64_t* target, const std::string& help) {
  state_->Add({name, help, "SIZE", ShortBytes(*target), false, false,
               [target](const std::vector<std::string>& values) {
                 PERIGEE_ASSIGN(*target, ParseBytes(values.back()));
                 return Status::Ok();
               }});
}

void Options::AddCount(const std::string& name, uint64_t* target, uint64_t least, uint64_t most,
                       const std::string& help) {
  state_->Add({name, help, "N", std::to_string(*target), false, false,
               [target, least, most](const std::vector<std::string>& values) {
                 const std::string& text = values.back();
                 bool digits = !text.empty() && text.size() <= 20 &&
                               text.find_first_not_of("0123456789") == text.npos;
                 errno = 0;
                 uint64_t value = digits ? std::strtoull(text.c_str(), nullptr, 10) : 0;
                 if (!digits || errno != 0 || value < least || value > most) {
                   return Bad("'" + text + "' is not a number from " + std::to_string(least) +
                              " to " + std::to_string(most));
                 }
                 *target = value;
                 return Status::Ok();
               }});
}

void Options::AddDuration(const std::string& name, Nanos* target, const std::string& help) {
  state_->Add({name, help, "TIME", ShortDuration(*target), false, false,
               [target](const std::vector<std::string>& values) {
                 PERIGEE_ASSIGN(*target, ParseDuration(values.back()));
                 return Status::Ok();
               }});
}

void Options::AddFlag(const std::string& name, bool* target, const std::string& help) {
  state_->Add({name, help, "", *target ? "on" : "", false, *target,
               [target](const std::vector<std::string>& values) {
                 PERIGEE_ASSIGN(*target, ParseBool(values.back()));
                 return Status::Ok();
               }});
}

void Options::AddPositional(std::vector<std::string>* target, const std::string& value_name,
                            size_t least, size_t most) {
  state_->positional = target;
  state_->positional_name = value_name;
  state_->positional_least = least;
  state_->positional_most = most;
}

void Options::SetExamples(std::string examples) { state_->examples = std::move(examples); }

Result<Options::Outcome> Options::Parse(int argc, const char* const* argv) {
  PERIGEE_ASSIGN(Given flags, state_->ReadCommandLine(argc, argv));
  if (flags.contains("help")) {
    std::fputs(Help().c_str(), stdout);
    return Outcome::kDone;
  }
  if (flags.contains("version")) {
    std::printf("%s %s\n", state_->program.c_str(), PERIGEE_VERSION);
    return Outcome::kDone;
  }
  Given environment = state_->ReadEnvironment();
  for (const Option& o : state_->options) {
    if (!o.default_on || !flags.contains("no-" + o.name)) continue;
    if (flags.contains(o.name))
      return Bad("--" + o.name + " and --no-" + o.name + " exclude each other");
    flags[o.name] = {"false"};
  }
  std::string path = state_->default_config();
  bool explicit_path = false;
  for (const auto* source : {&flags, &environment}) {
    auto it = source->find("config");
    if (it == source->end() || explicit_path) continue;
    path = it->second.back();
    explicit_path = true;
  }
  PERIGEE_ASSIGN(Given config, state_->ReadConfig(path, explicit_path));
  for (const Option& o : state_->options) {
    PERIGEE_ASSIGN(bool by_flag, State::Apply(o, flags, "--" + o.name));
    if (by_flag) continue;
    PERIGEE_ASSIGN(bool by_environment, State::Apply(o, environment, EnvironmentName(o.name)));
    if (by_environment || o.name == "config") continue;
    PERIGEE_ASSIGN(bool by_config, State::Apply(o, config, path + ": " + o.name));
    (void)by_config;
  }
  PERIGEE_TRY(state_->TakePositional(flags));
  return Outcome::kRun;
}

std::string Options::Help() const {
  const State& s = *state_;
  std::string out = s.summary + "\n\nUsage: " + s.program + " [options]";
  if (s.positional != nullptr) {
    std::string name = s.positional_name + (s.positional_most == 1 ? "" : "...");
    out += s.positional_least == 0 ? " [" + name + "]" : " " + name;
  }
  out += "\n\nOptions:\n";
  std::vector<std::pair<std::string, std::string>> lines;
  for (const Option& o : s.options) {
    std::string left = o.default_on ? "--no-" + o.name : "--" + o.name;
    if (!o.value_name.empty()) left += " " + o.value_name;
    std::string right = o.default_on ? "without: " + o.help : o.help;
    if (!o.default_text.empty() && !o.default_on) right += " (default " + o.default_text + ")";
    lines.emplace_back(std::move(left), std::move(right));
  }
  lines.emplace_back("--help", "show this");
  lines.emplace_back("--version", "show the version");
  size_t width = 0;
  for (const auto& [left, right] : lines) width = std::max(width, left.size());
  for (const auto& [left, right] : lines)
    out += "  " + left + std::string(width - left.size() + 2, ' ') + right + "\n";
  out += "\nSizes: 4096, 64K, 512M, 10G. Times: 500ms, 2s, 10m, 1h.\n";
  out +=
      "An option --some-name is also PERIGEE_SOME_NAME in the environment, and some-name = VALUE "
      "in the configuration file.\n";
  if (!s.examples.empty()) {
    out += "\nExamples:\n" + s.examples;
    if (!s.examples.ends_with('\n')) out += "\n";
  }
  return out;
}

}  // namespace perigee
