// The parts of a message that ask for something: "Hello, I bought a Hub last week and like it. How
// heavy is it? Thanks!" asks "How heavy is it?", behind the words before it.
//
// Non-goals: what a part means (memory/fact_store.h), languages other than English but for "?".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

struct MessagePart {
  std::string text;
  std::string before, behind;  // the rest of the message
  bool full = false;           // a sentence with two words of its own at least, no clause
  size_t sentence = 0;         // of the message
  bool clause = false;         // a part of that sentence
};

// In order; at most eight, the last. Sentences with "?" and those that begin or ask as questions do
// ("Tell me ...", "I need to know ..."), without courtesies and without what only says how to
// answer ("Reply as JSON."). Of a sentence also each clause that asks by itself ("In one
// sentence: how heavy is it, and what does it cost?"). Empty where the message is one sentence,
// which asks as it stands.
std::vector<MessagePart> asking_parts(std::string_view message);

}  // namespace accrete
