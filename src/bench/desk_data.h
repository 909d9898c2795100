// What `bench desk` teaches and asks, section by section, from data/desk and data/facts.
//
// Which facts are taught and which are left out is drawn by the seed; everything is a function of
// split, section and seed.
//
// Non-goals: asking (desk_measure.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "bench/desk_use.h"
#include "io/dataset.h"

namespace accrete {

struct DeskSet {
  std::string section;
  std::vector<Item> taught;          // `line` is the index + 1; `asked` are the untaught wordings
  bool raw = false;                  // without the chat template
  std::vector<std::string> left;     // about the same things, not taught
  std::vector<std::string> twins;    // what was taught, asked about others of nearly the same name
  std::vector<std::string> open;     // open requests about the things
  std::vector<UseItem> use;          // instead of all these: facts to be used
  std::vector<std::string> correct;  // new answers for the first of `taught`; else empty
  // Of a question its kind, where a section has several.
  std::map<std::string, std::string> kinds;
};

// "thing12", ...: what run_desk knows, in order.
const std::vector<std::string>& desk_sections();

// At most `limit` of them, drawn by `rng`, in their order.
template <typename T>
std::vector<T> desk_sample(const std::vector<T>& all, int64_t limit, Rng rng) {
  if (static_cast<int64_t>(all.size()) <= limit) return all;
  std::vector<size_t> order(all.size());
  std::iota(order.begin(), order.end(), size_t{0});
  rng.shuffle(std::span(order));
  order.resize(static_cast<size_t>(limit));
  std::sort(order.begin(), order.end());
  std::vector<T> out;
  for (const size_t i : order) out.push_back(all[i]);
  return out;
}

class DeskData {
 public:
  // Throws what reading throws.
  DeskData(std::filesystem::path data, std::string split);

  // Throws kInvalidArgument for a section that does not exist, and what reading throws. Of the uses
  // at most so many are drawn, with the facts that they need.
  DeskSet section(const std::string& name, uint64_t seed,
                  int64_t most_uses = std::numeric_limits<int64_t>::max()) const;

  // What every section is held to.
  std::vector<std::string> unrelated, systems;
  std::vector<std::vector<Message>> conversations;  // which end in the user's second message

 private:
  DeskSet things(int64_t things, int64_t facts, uint64_t seed) const;
  DeskSet shop() const;
  DeskSet messages() const;
  DeskSet clinc(size_t wordings, uint64_t seed) const;
  DeskSet distinct(size_t facts, bool raw, uint64_t seed) const;
  DeskSet long_answers() const;
  DeskSet uses(uint64_t seed, int64_t most) const;
  std::vector<std::vector<Item>> by_thing() const;
  void add_open(DeskSet& set, std::vector<std::string> names) const;

  std::filesystem::path data_;
  std::string split_;
  std::vector<std::string> open_;  // with a slot {}
};

}  // namespace accrete
