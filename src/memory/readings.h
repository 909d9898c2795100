// A message is read whole, and part by part (text/message.h): what it asks for may stand behind a
// greeting, a story, or the wish for a form of answer.
//
// A message may ask for several facts ("How heavy is it? And what does it cost?"): then all of them
// answer, in its order.
//
// Non-goals: what facts have to do with one another.
#pragma once

#include <span>
#include <vector>

#include "memory/acceptance.h"
#include "memory/fact_store.h"

namespace accrete {

struct Reading {
  Question question;
  bool full = false;    // a part that asks by itself (MessagePart)
  size_t sentence = 0;  // of a part (MessagePart)
  bool clause = false;
};

// The question itself first, then its parts. What a part leaves out stands in the rest of the
// message or in the conversation before it. A text to go on with has no parts.
std::vector<Reading> readings_of(const Question& question);

// What the message asks for, of its readings and of what each of them asks for. Where several parts
// are accepted for different facts the first is `fact`, the others are `also`.
Choice decided_by(std::span<const Reading> readings, std::span<const Choice> choices);

}  // namespace accrete
