// Documents as a memory of facts learns them: passages (text/passages.h), found by their words and
// by the reader's keys, and told to the model in front of a question. Nothing is trained.
//
// A document that was taught before, by its source, is replaced when its bytes are others, and left
// alone when they are the same.
//
// Non-goals: reading files (io/documents.h), choosing (memory/passage_index.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"
#include "ledger/update_file.h"
#include "memory/fact_store.h"
#include "model/reader.h"

namespace accrete {

struct DocumentLessons {
  std::vector<TaughtItem> passages;  // as they will be stored
  int64_t documents = 0;             // that are taught
  int64_t replaced = 0;              // of these, in the place of an earlier version
  int64_t unchanged = 0;             // others, that are there as they are
  std::vector<std::string> remarks;

  bool empty() const { return documents == 0 && unchanged == 0; }
};

// Of the texts of a set. Throws kInvalidArgument with FILE:LINE (a text without a word).
DocumentLessons make_document_lessons(const Dataset& data, const FactStore& store);

// Keys of passages, appended to an update with the passages themselves. Throws kInterrupted.
void append_passages(const Reader& reader, std::vector<TaughtItem> passages, Update& update,
                     const Reporter& reporter = {});

// An update that takes away what was taught from a source: a document by its name, or all below a
// folder. Throws kNotFound, and names sources that are nearly so.
Update forget_source(const FactStore& store, const std::string& source,
                     std::vector<std::string>* documents = nullptr);

}  // namespace accrete
