// What accrete is told and what it reports, as plain data: the options and reports of the C++
// interface (accrete.h), of the workspace that does the work, of the command line and the server.
// As JSON: src/workspace/json.h, which has the same names.
//
// A share is in [0, 1]. Updates are named by their id (16 hex digits); where one is asked for, the
// beginning of an id and a tag will do too.
//
// Non-goals: behaviour; types of libtorch or of a JSON library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "accrete/ledger_types.h"

namespace accrete::api {

// "0.1.0": of the library, also recorded with every update.
std::string_view version();

// How far a long operation is.
struct Progress {
  std::string_view stage;  // "fit keys", "write", ...: one after the other
  int64_t done = 0;        // of `total`, in whatever the stage counts
  int64_t total = 0;       // 0: not known
  std::string detail;      // "loss 0.31", ...; may be empty
};

// For long operations; both may be empty. They are called by the thread that called the operation.
struct Callbacks {
  std::function<void(const Progress&)> progress;
  // Asked between steps, a few times a second. True: the operation throws kInterrupted.
  std::function<bool()> cancelled;
};

// --- Making a model --------------------------------------------------------------------------

struct RetrofitOptions {
  // The sentence encoder that reads questions, a folder of the BERT family. Empty: the one that is
  // installed with accrete, or the one that $ACCRETE_READER names.
  std::filesystem::path reader = {};
  std::optional<int64_t> block = {};  // whose output values are added to; empty: chosen by depth
  std::string tell = {};              // "value", "note", "both"; empty: by what the model can
  double caution = 0;                 // above 0: accept fewer questions as taught; log-odds
  std::string device = "cpu";         // "cpu", "cuda", "cuda:N"
  std::string dtype = "float32";      // "float32", "bfloat16", "float16"
  int threads = 0;                    // 0: every core this process may use
  // Of a model of vectors (a policy, a classifier, a table model), which takes none of the above:
  int64_t columns = 4096;                 // slots of the memory
  int64_t winners = 0;                    // that a row may use at most; 0: a quarter of `columns`
  double ridge = 1;                       // of the closed form; larger: smaller values
  std::filesystem::path background = {};  // inputs at which the answers should stay; may be empty
  uint64_t seed = 0;                      // of the random projection
};

struct RetrofitReport {
  std::string model;   // the new folder
  int64_t block = 0;   // whose output values are added to
  std::string tell;    // how an accepted fact is told
  std::string reader;  // its digest
  double seconds = 0;
  int64_t columns = 0, winners = 0;  // of a model of vectors, which has none of the three above
};

struct UpgradeReport {
  struct Update {
    std::string old, id;  // of the update before and now; `id` empty: nothing of it was taught
    std::string source;   // where its lessons came from
    int64_t facts = 0;    // taught again
  };
  // What could not be taught again: running text and conversations, of which an update keeps the
  // beginning alone, and what a teach refuses.
  struct Left {
    std::string update, source;
    int64_t line = 0;  // 0: a whole update
    std::string what, why;
  };
  std::string model;  // the new folder
  std::vector<Update> updates;
  std::vector<Left> left;
  std::vector<std::string> probes;  // measured anew; their floors stay
};

struct OpenOptions {
  std::string device = "cpu";     // "cpu", "cuda", "cuda:N"
  std::string dtype = "float32";  // "float32", "bfloat16", "float16"
  int threads = 0;                // of the whole process; 0: every core it may use
  // The facts of one person or tenant over what the model has for all: what is taught is theirs
  // alone, and answers them first. Empty: what all share.
  std::string overlay = {};
};

// What an open model is.
struct Info {
  std::string base;  // digest that memory.json has of it; empty: a model without a memory
  // "questions": a memory of facts; "rows": memory layers; "winners": of vectors; empty: none
  std::string kind;
  std::vector<std::string> outputs;  // of a memory of vectors: actions, classes, a risk
  // Of a memory of facts:
  std::string reader;  // digest
  std::string tell;    // "value", "note", "both"
  int64_t block = 0;
  double caution = 0;
  int64_t facts = 0, wordings = 0;
  int64_t documents = 0, passages = 0;
  std::string state;    // the name of the state: equal names, equal states
  int64_t updates = 0;  // that are active by the ledger
  bool chat = false;    // it has a chat template
  // Of an overlay, whose own are counted above: its name, and the facts and passages beneath it.
  std::string overlay;
  int64_t shared_facts = 0;
};

// --- Asking ----------------------------------------------------------------------------------

struct Message {
  std::string role = {};  // "system", "user", "assistant"
  std::string content = {};
};

// A question, or a conversation whose last message is the user's. Fill in one of the two.
struct Request {
  std::string prompt = {};
  std::vector<Message> messages = {};
};

struct AskOptions {
  int64_t max_tokens = 256;            // longest answer
  double temperature = 0;              // 0: greedy, always the same answer
  int64_t top_k = 0;                   // choose among the k best tokens; 0: all
  double top_p = 1;                    // choose within this probability mass, (0, 1]
  double min_p = 0;                    // drop tokens below this share of the best one's probability
  double repetition_penalty = 1;       // > 1: say less of what was said; 1: off
  std::vector<std::string> stop = {};  // the answer ends before the first of these
  uint64_t seed = 0;                   // matters with temperature > 0
  bool raw = false;                    // continue the prompt as it is, without the chat template
  double caution = 0;                  // above 0: accept fewer questions as taught; log-odds
  bool explain = false;                // say what the answer leans on
  // The answer to what was not taught, word for word; empty: the model answers it.
  std::string otherwise = {};
};

// Why a question was answered by what was taught, or was not. Of a model with a memory of facts.
struct FactExplanation {
  struct Candidate {
    std::string update, source;  // where it was taught; behind a fold, the update that it came with
    int64_t line = 0;            // of the source
    std::string wording;         // the taught one that lies nearest
    std::string subject;         // may be empty
    std::string answer;
    bool leave = false;        // it has no answer: the question is left to the model
    double probability = 0;    // that it is meant
    double masked_cosine = 0;  // of question and wording, without the subject
    double whole_cosine = 0;   // with it
    bool contrast = false;     // a word of the question asks for another thing ("red" for "green")
    std::optional<double> cross;  // log-odds that question and fact, read together, go together
    std::string overlay;          // whose it is; empty: it is shared
  };
  bool accepted = false;
  std::optional<Candidate> nearest;  // the accepted one, or the one that was not
  std::optional<Candidate> runner_up;
  std::vector<Candidate> also;  // accepted for other parts of the message
  std::string read;   // the question as it was compared: slips mended, what it left out filled in
  double needed = 0;  // the probability that accepts
  bool left = false;  // not accepted because a question that is left to the model lies nearer
  bool only_told = false;  // not accepted because the message asks for something else than it tells
  int64_t about = 0;  // facts that stand in front of the question beside it, for a model that reads
};

// Which updates an answer leans on. Of a model with memory layers.
struct RowExplanation {
  struct Line {
    int64_t line = 0;
    std::string question, answer;
    double similarity = 0;
  };
  struct Influence {
    std::string update, tag, source;
    double effect = 0;  // nats: log p(answer) with all updates less that without this one
    std::vector<Line> lines;
  };
  double log_probability = 0;       // of the answer
  double base_log_probability = 0;  // without any update
  std::vector<Influence> updates;   // greatest effect first
};

// A passage of a taught document, with what of it lies nearest the question.
struct PassageSource {
  std::string update;          // where it was taught
  std::string source;          // the document: a path, an address
  int64_t line = 0;            // of a teach set of texts
  std::string section;         // its headings, outermost first; may be empty
  std::string quote;           // the piece that lies nearest
  double probability = 0;      // that the passage answers
  double covered = 0;          // share of the weight of the question's words that stand in it
  double cosine = 0;           // of question and the nearest piece
  std::optional<double> read;  // log-odds by which question and passage, read together, go together
  std::string overlay;         // whose it is; empty: it is shared
};

struct Explanation {  // `fact` or `rows`
  std::optional<FactExplanation> fact;
  std::optional<RowExplanation> rows;
  // Of a model with documents the nearest passage, whether it was told or not.
  std::optional<PassageSource> nearest_passage;
};

struct Answer {
  std::string text;
  bool fact = false;                   // it was answered by a fact that was taught
  std::vector<PassageSource> sources;  // passages that it was answered from, the likeliest first
  bool has_facts = false;              // the model has a memory of facts at all
  int64_t tokens = 0;
  std::string finish_reason;               // "stop": it ended; "length": max_tokens were written
  std::optional<Explanation> explanation;  // with AskOptions::explain
};

struct EvalOptions {
  bool raw = false;    // prompts as they are, without the chat template
  bool asked = false;  // ask in the phrasings that are never taught
  int64_t max_tokens = 48;
  double caution = 0;
  uint64_t seed = 0;
};

struct EvalReport {
  struct Question {
    std::string prompt, answer, output;
    bool exact = false;
    double f1 = 0;
    bool begins = false;                // with an answer
    std::vector<double> logprobs = {};  // of each choice, where there are some
  };
  struct Shares {
    double exact = 0, f1 = 0, begins = 0;
    std::optional<double> by_facts;      // answered by a fact that was taught
    std::optional<double> by_documents;  // answered from passages
  };
  int64_t items = 0;
  std::optional<double> bits_per_byte;  // of the texts, if there are any
  std::optional<Shares> shares;         // of the questions, if there are any
  std::optional<double> accuracy;       // of questions with choices
  std::vector<Question> questions;
};

// --- Teaching --------------------------------------------------------------------------------

// One thing to learn, as one line of a teach set: a fact (prompts and answers), a conversation
// (messages) or running text. Fill in one of the three kinds.
struct Item {
  std::vector<std::string> prompts = {};  // phrasings of one question; several make it stick better
  std::vector<std::string> answers = {};  // the first is taught, the others count as right too
  std::string subject = {};               // whom it is about, as in the prompts; empty: found
  bool verbatim = false;                  // its answer is written word for word
  bool leave = false;                     // without answers: a question that is left to the model
  std::string corrects = {};              // a question whose fact this corrects; may be empty
  std::vector<std::string> asked = {};    // phrasings to measure with, never taught; may be empty
  std::vector<Message> messages = {};     // ends with the assistant, whose turns are learned
  std::string text = {};
  // Of a text, which a memory of facts learns as a document: what stands over it, and where it was
  // read. Teaching a source again replaces it.
  std::string title = {}, url = {};
};

struct TeachOptions {
  bool raw = false;   // prompts as they are, without the chat template: for sentences to complete
  uint64_t seed = 0;  // the same seed, set and state give the same update
  double max_seconds = 0;  // refuse rather than take longer; 0: no limit
  int64_t steps = 0;       // of a fact's value at most; 0: by the model
  double rate = 0;         // first step length of values; 0: by the model
  // Of models with memory layers:
  int64_t slots = 0;  // rows per memory layer at most; 0: by the size of the set
  // Which slots are written: "interference", or for comparison "tfidf", "gradient", "fisher", "kl",
  // "tf", "random", "all".
  std::string ranking = "interference";
  double lambda = 1e-5;     // learning (small, 1e-6) against keeping (large, 1e-4)
  int64_t neighbours = 20;  // prompts about other subjects that are kept, per phrasing
  bool gated = true;        // false: the update speaks everywhere
  double text_share = 0.5;  // of a text's tokens, the rarest, that it may speak at; 1: everywhere
  bool stepwise = false;    // preconditioned steps for facts too
};

struct Change {
  double before = 0;
  double after = 0;
};

// What a probe of the model measured: a share, or bits per byte for running text.
struct Kept {
  double before = 0;
  double after = 0;
  double kept = 1;              // `after` relative to the probe's base; 1: nothing was lost
  std::optional<double> floor;  // smallest `kept` that is allowed; empty: none
};

// A correction: what an active update answers otherwise.
struct Conflict {
  std::string question;
  std::string answer;  // of the new set
  int64_t line = 0;    // in the new set
  std::string update;
  int64_t update_line = 0;  // in the set that it was taught from
  std::string update_answer;
  std::string update_source;
  // Further wordings of that, which now ask for the new answer.
  std::vector<std::string> taken = {};
};

// Slots that an update writes and an earlier one wrote too.
struct Overlap {
  std::string update, tag, source;
  int64_t shared = 0;
  double share = 0;   // of the rows of the new update
  double cosine = 0;  // of both updates' rows there
};

// What an update would change about a probe. Exact for a memory of facts.
struct Forecast {
  int64_t examples = 0;      // of the probe
  int64_t touched = 0;       // that read something else
  int64_t tried = 0;         // of these, scored exactly
  double now = 0;            // the probe's score
  double predicted = 0;      // change of the score; low <= predicted <= high
  double low = 0, high = 0;  // about 90 %
  double first_order = 0, second_order = 0;
};

// What became of the documents of a set.
struct Documents {
  int64_t taught = 0;     // new, or in the place of an earlier version
  int64_t replaced = 0;   // of these the latter
  int64_t unchanged = 0;  // there already, as they are
  int64_t passages = 0;   // of those that are taught
};

// What a model of vectors answers to one row of inputs.
struct Action {
  std::string label;           // of a classifier the class; empty: of the others
  std::vector<float> outputs;  // actions, scores of the classes, or a risk: as Info::outputs
};

struct PlanReport {
  struct Probe {
    Forecast forecast;
    std::optional<double> floor;
    bool holds = true;  // whether the floor would
  };
  int64_t items = 0;
  std::map<std::string, Probe> probes;
  int64_t rows = 0;        // that a teach would write
  int64_t parameters = 0;  // numbers in them
  std::vector<Overlap> overlaps;
  std::vector<Conflict> conflicts;
  int64_t companions = 0;                   // facts of earlier updates that would be learned along
  std::vector<std::string> remarks;         // on the set, in words
  std::map<std::string, int64_t> subjects;  // of facts: how many each has; "": those without one
  Documents documents;
  double seconds = 0;
};

struct TeachReport {
  // Id, for log() and the command line; empty: nothing was new, all of it was taught already.
  std::string update;
  int64_t items = 0;
  Change learned;                    // in the taught phrasings; of vectors by `metric`
  std::string metric;                // "accuracy", "auc" or "fit"; empty: of facts
  std::optional<Change> asked;       // in those that are asked and never taught, if there are any
  std::map<std::string, Kept> kept;  // by probe
  std::vector<Conflict> conflicts;
  int64_t companions = 0;                    // facts of earlier updates that were learned along
  std::map<std::string, Forecast> forecast;  // by probe; made before `kept` was measured
  std::vector<Overlap> overlaps;             // most slots first
  std::string change;                        // what was changed to hold the floors; may be empty
  std::vector<int64_t> dropped;              // lines that were left out for them
  std::vector<std::string> remarks;          // on the set, in words
  std::map<std::string, int64_t> subjects;   // of facts: how many each has; "": those without one
  int64_t left = 0;                          // of these, questions that are left to the model
  Documents documents;
  double check_share = 0;    // of the steps' time that looking at probes took
  int64_t rows = 0;          // keys and value vectors written
  int64_t parameters = 0;    // numbers in them
  int64_t teach_tokens = 0;  // passed forward and backward
  double seconds = 0;
  double measuring_seconds = 0;  // of these
  int64_t peak_bytes = 0;        // largest resident memory of the process so far
};

// Questions and answers that the model made of documents.
struct MadeReport {
  int64_t passages = 0;  // of the documents
  int64_t before = 0;    // of these done by an earlier run
  int64_t asked = 0;     // questions that the model wrote, in this run
  int64_t kept = 0;      // of these in the file
};

struct ForgetReport {
  std::string update;  // that takes them away; undo brings them back
  std::vector<std::string> documents;
  int64_t passages = 0;
};

}  // namespace accrete::api
