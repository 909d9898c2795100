// Models of vectors on disk: taught, refused, undone, found again.
#include "vector/vector_teach.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <fstream>

#include "../base/testing.h"
#include "vector_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::cloud;
using ::testing::ElementsAre;
using testing::expect_error;
using ::testing::HasSubstr;
using testing::together;

class VectorTeach : public ::testing::Test {
 protected:
  VectorTeach() {
    at::set_num_threads(1);  // a forked child has no other threads to wait for
    testing::write_classifier(folder_ / "source");
    retrofit_vectors(folder_ / "source", path(), testing::small_memory());
  }
  fs::path path() const { return folder_ / "model"; }

  static VectorState state_of(const VectorModel& model, bool with_sums = false) {
    const Ledger ledger = Ledger::open(model.place().folder, Ledger::Mode::kRead);
    return make_state(model.place(), ledger, ledger.active(), with_sums, nullptr);
  }
  static TeachVectorsResult teach(const fs::path& folder, const VectorSet& set,
                                  double max_seconds = 0) {
    const VectorModel model = VectorModel::open(folder);
    TeachVectorsOptions options;
    options.max_seconds = max_seconds;
    return teach_vectors(model, set, from_disk(model), options);
  }
  static VectorStateOf from_disk(const VectorModel& model) {
    return [&model](const Ledger& ledger, const std::vector<UpdateRecord>& active, bool sums) {
      return make_state(model.place(), ledger, active, sums, nullptr);
    };
  }
  // Of the update files alone.
  static std::string digest(const fs::path& folder) {
    const VectorModel model = VectorModel::open(folder);
    const Ledger ledger = Ledger::open(folder, Ledger::Mode::kRead);
    return model.digest(sums_of_files(model.place(), ledger, ledger.active()));
  }
  // Of what a reader has, from the file of sums or wherever.
  static std::string digest_as_read(const fs::path& folder) {
    const VectorModel model = VectorModel::open(folder);
    return model.digest(*state_of(model, true).sums);
  }
  static double score(const fs::path& folder, const VectorSet& set) {
    const VectorModel model = VectorModel::open(folder);
    return model.score(state_of(model), set);
  }
  static std::set<std::string> files(const fs::path& folder) {
    std::set<std::string> out;
    for (const auto& name : testing::names_under(folder))
      if (name.find("ledger.db") == std::string::npos) out.insert(name);
    return out;
  }

  const VectorSet red_ = cloud("red", 1, 0, 40, 1), blue_ = cloud("blue", -1, 0, 40, 2),
                  green_ = cloud("green", 0, 1.5F, 40, 3);
  testing::TemporaryFolder folder_{testing::TemporaryFolder::Place::kMemory};
};

TEST_F(VectorTeach, ClassesOneAfterAnotherAreKept) {
  EXPECT_EQ(score(path(), red_), 0);
  const auto first = teach(path(), red_);
  EXPECT_EQ(first.learned_before, 0);
  EXPECT_EQ(first.learned_after, 1);
  EXPECT_EQ(first.metric, "accuracy");
  teach(path(), blue_);
  const auto last = teach(path(), green_);
  EXPECT_THAT(last.after.outputs, ElementsAre("blue", "green", "red"));
  for (const auto& [label, x, y] :
       {std::tuple("red", 1.0F, 0.0F), {"blue", -1.0F, 0.0F}, {"green", 0.0F, 1.5F}})
    EXPECT_GE(score(path(), cloud(label, x, y, 100, 9)), .98) << label;
}

TEST_F(VectorTeach, TheStateIsThatOfTheSetsWhateverTheirOrder) {
  retrofit_vectors(folder_ / "source", folder_ / "other", testing::small_memory());
  retrofit_vectors(folder_ / "source", folder_ / "once", testing::small_memory());
  for (const auto* set : {&red_, &blue_, &green_}) teach(path(), *set);
  for (const auto* set : {&green_, &red_, &blue_}) teach(folder_ / "other", *set);
  teach(folder_ / "once", together(together(red_, blue_), green_));
  EXPECT_EQ(digest(path()), digest(folder_ / "other"));
  EXPECT_EQ(digest(path()), digest(folder_ / "once"));
  EXPECT_EQ(digest(path()), digest_as_read(path()));
}

TEST_F(VectorTeach, WhatIsTakenBackIsGoneToTheBit) {
  const std::string none = digest(path());
  teach(path(), red_);
  const std::string red = digest(path());
  const std::string blue = teach(path(), blue_).update;
  teach(path(), green_);
  const std::string all = digest(path());
  const VectorModel model = VectorModel::open(path());
  const auto values = state_of(model).values;
  Ledger::open(path(), Ledger::Mode::kWrite).set_active(blue, false);
  // Teach, undo, teach another: the other alone.
  retrofit_vectors(folder_ / "source", folder_ / "without", testing::small_memory());
  teach(folder_ / "without", red_);
  teach(folder_ / "without", green_);
  EXPECT_EQ(digest(path()), digest(folder_ / "without"));
  EXPECT_EQ(digest_as_read(path()), digest(folder_ / "without"));
  EXPECT_THAT(state_of(model).outputs, ElementsAre("green", "red"));
  Ledger::open(path(), Ledger::Mode::kWrite).set_active(blue, true);
  EXPECT_EQ(digest_as_read(path()), all);
  EXPECT_TRUE(state_of(model).values.equal(values));
  Ledger::open(path(), Ledger::Mode::kWrite).undo(2);
  EXPECT_EQ(digest_as_read(path()), red);
  Ledger::open(path(), Ledger::Mode::kWrite).undo(1);
  EXPECT_EQ(digest_as_read(path()), none);
}

TEST_F(VectorTeach, TheFileOfSumsSaysNothingNew) {
  teach(path(), red_);
  teach(path(), blue_);
  const std::string all = digest(path());
  const fs::path sums = path() / "accrete" / kSumsFile;
  ASSERT_TRUE(fs::exists(sums));
  // Damaged anywhere it is as if it were not there.
  std::string bytes = read_file(sums);
  for (const size_t at : {size_t{3}, bytes.size() / 2, bytes.size() - 3}) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x40);
    write_file_atomically(sums, changed);
    EXPECT_EQ(digest_as_read(path()), all);
  }
  fs::remove(sums);
  EXPECT_EQ(digest_as_read(path()), all);
  teach(path(), green_);
  EXPECT_EQ(digest_as_read(path()), digest(path()));
}

TEST_F(VectorTeach, AFloorThatWouldBreakRefusesAndNothingIsChanged) {
  teach(path(), red_);
  const VectorModel model = VectorModel::open(path());
  ProbeRecord record;
  record.name = "red";
  record.floor = .9;
  record = add_vector_probe(model, red_, record, false, from_disk(model));
  EXPECT_EQ(record.base, 1);
  const std::string before = digest(path());
  const auto names = files(path());
  // Many rows of another class at the same place.
  const VectorSet rude = cloud("rude", 1, 0, 400, 8);
  const auto plan = plan_vectors(model, rude, from_disk(model));
  EXPECT_FALSE(plan.probes.at(0).holds(plan.probes.at(0).after));
  EXPECT_THAT(expect_error(ErrorCode::kRefused, [&] { teach(path(), rude); }),
              HasSubstr("the floor of probe red would break"));
  EXPECT_EQ(digest(path()), before);
  EXPECT_EQ(files(path()), names);
  EXPECT_EQ(score(path(), red_), 1);
  const auto fine = teach(path(), blue_);
  EXPECT_EQ(fine.probes.at(0).after, 1);
  // A limit of time likewise.
  EXPECT_THAT(expect_error(ErrorCode::kRefused, [&] { teach(path(), green_, 1e-9); }),
              HasSubstr("nothing was changed"));
}

TEST_F(VectorTeach, ContradictionsAndRepetitionsAreFound) {
  const std::string id = teach(path(), red_).update;
  EXPECT_THAT(expect_error(ErrorCode::kConflict, [&] { teach(path(), red_); }),
              HasSubstr("was taught already, by update " + id));
  VectorSet other = red_;
  other.labels = {"pink"};
  other.digest = sha256_hex(std::string_view("pink"));
  EXPECT_THAT(
      expect_error(ErrorCode::kConflict, [&] { teach(path(), other); }),
      HasSubstr("row 1 is \"pink\", and the same input is \"red\" in row 1 of update " + id));
  other.labels = {"red"};
  EXPECT_THAT(teach(path(), other).remarks, ElementsAre(HasSubstr("40 of its rows")));
  // Once it is taken back there is no contradiction.
  Ledger::open(path(), Ledger::Mode::kWrite).undo(2);
  other.labels = {"pink"};
  EXPECT_EQ(teach(path(), other).learned_after, 1);
}

TEST_F(VectorTeach, SetsThatDoNotFitAreRefused) {
  VectorSet wide = red_;
  wide.width = 4;
  wide.rows = 20;
  wide.classes.resize(20);
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { teach(path(), wide); }),
              HasSubstr("its rows have 4 inputs, and the model 2"));
  VectorSet values = red_;
  values.labels.clear();
  values.classes.clear();
  values.outputs = 1;
  values.values.assign(40, .5F);
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { teach(path(), values); }),
              HasSubstr("a classifier learns classes"));
  testing::write_policy(folder_ / "arm");
  retrofit_vectors(folder_ / "arm", folder_ / "policy", testing::small_memory());
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { teach(folder_ / "policy", red_); }),
              HasSubstr("a policy learns values"));
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { teach(folder_ / "policy", values); }),
              HasSubstr("1 targets, and the model 2 outputs"));
  values.outputs = 2;
  values.values.assign(80, 1e6F);
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { teach(folder_ / "policy", values); }),
              HasSubstr("row 1: a target of 1000000 is too large"));
}

TEST_F(VectorTeach, APolicyLearnsWhatIsMissing) {
  testing::write_policy(folder_ / "arm");
  const fs::path arm = folder_ / "policy";
  retrofit_vectors(folder_ / "arm", arm, testing::small_memory());
  const VectorModel model = VectorModel::open(arm);
  VectorSet set = cloud("", .5F, .5F, 60, 4);
  set.labels.clear();
  set.classes.clear();
  set.outputs = 2;
  for (int64_t i = 0; i < set.rows; ++i) {
    const float x = set.inputs[static_cast<size_t>(2 * i)];
    set.values.insert(set.values.end(), {x * x, 1 - x});
  }
  // Until something is taught it is the network, to the bit.
  const auto before = model.answer(state_of(model), set.inputs);
  EXPECT_EQ(before, model.net().run(set.inputs).outputs);
  const auto result = teach(arm, set);
  EXPECT_EQ(result.metric, "fit");
  EXPECT_GT(result.learned_after, .97);
  EXPECT_LT(result.learned_before, .5);
  Ledger::open(arm, Ledger::Mode::kWrite).undo(1);
  EXPECT_EQ(model.answer(state_of(model), set.inputs), before);
}

TEST_F(VectorTeach, AGateKeepsTasksApartThatAskTheSame) {
  // Inputs: x and two numbers of the task. Both tasks see the same x and want the opposite.
  const auto learned = [&](const std::string& name, const std::string& gate) {
    testing::write_vector_folder(
        folder_ / name, R"({"model_type": "policy_mlp", "inputs": 3, "outputs": 1)" + gate + "}",
        {{"standardize.mean", {{3}, {0, 0, 0}}},
         {"standardize.scale", {{3}, {1, 1, 1}}},
         {"layers.0.weight", {{2, 3}, {1, 0, 0, -1, 0, 0}}},
         {"layers.0.bias", {{2}, {0, 0}}},
         {"features.mean", {{2}, {0, 0}}},
         {"features.scale", {{2}, {1, 1}}}});
    auto options = testing::small_memory();
    options.winners = 64;
    retrofit_vectors(folder_ / name, folder_ / (name + "-taught"), options);
    VectorSet sets[2];
    Rng rng(4);
    for (const int task : {0, 1}) {
      VectorSet& set = sets[task];
      set.path = "task.npz";
      set.rows = 80;
      set.width = 3;
      set.outputs = 1;
      for (int i = 0; i < 80; ++i) {
        const float x = rng.normal();
        set.inputs.insert(set.inputs.end(), {x, task == 0 ? 1.F : 0.F, task == 0 ? 0.F : 1.F});
        set.values.push_back(task == 0 ? std::abs(x) : -std::abs(x));
      }
      set.digest = sha256_hex(accrete::format("{} {}", name, task));
      teach(folder_ / (name + "-taught"), set);
    }
    return std::min(score(folder_ / (name + "-taught"), sets[0]),
                    score(folder_ / (name + "-taught"), sets[1]));
  };
  const double none = learned("none", R"(, "address": "features")");
  EXPECT_LT(none, .1);
  const double gated = learned(
      "gated", R"(, "address": "features", "gate": {"first": 1, "count": 2, "share": 0.25})");
  EXPECT_GT(gated, .9);
  EXPECT_GT(learned("both", R"(, "address": "inputs+features")"), none);
  const auto bad = [&](const char* gate) {
    return expect_error(ErrorCode::kFormat, [&] { learned("bad", gate); });
  };
  EXPECT_THAT(bad(R"(, "address": "features", "gate": {"first": 2, "count": 2, "share": 0.25})"),
              HasSubstr("its gate is not of its inputs"));
  EXPECT_THAT(bad(R"(, "address": "features", "gate": {"first": 1, "count": 2, "share": 0})"),
              HasSubstr("the share of its gate"));
  EXPECT_THAT(bad(R"(, "address": "output")"), HasSubstr("its address is"));
}

TEST_F(VectorTeach, ABackgroundHoldsTheAnswersThere) {
  testing::write_policy(folder_ / "arm");
  VectorSet there = cloud("", 2, -2, 300, 6);
  std::string lines;
  for (size_t i = 0; i < 300; ++i)
    lines += accrete::format("{{\"inputs\": [{}, {}], \"targets\": [0, 0]}}\n", there.inputs[2 * i],
                             there.inputs[2 * i + 1]);
  write_file_atomically(folder_ / "there.jsonl", lines);
  double change[2];
  for (const bool kept : {false, true}) {
    const fs::path arm = folder_ / (kept ? "kept" : "free");
    auto options = testing::small_memory();
    if (kept) options.background = folder_ / "there.jsonl";
    retrofit_vectors(folder_ / "arm", arm, options);
    const VectorModel model = VectorModel::open(arm);
    const auto before = model.answer(state_of(model), there.inputs);
    VectorSet set = cloud("", .5F, .5F, 60, 4);
    set.labels.clear();
    set.classes.clear();
    set.outputs = 2;
    for (const float x : set.inputs) set.values.push_back(1 + x);
    EXPECT_GT(teach(arm, set).learned_after, .9);
    const auto after = model.answer(state_of(model), there.inputs);
    change[kept] = 0;
    for (size_t i = 0; i < after.size(); ++i)
      change[kept] = std::max(change[kept], std::abs(double{after[i]} - before[i]));
  }
  EXPECT_LT(change[1], change[0] / 4);
}

TEST_F(VectorTeach, LargeSetsAreKeptAsTheirSums) {
  const VectorSet many = cloud("red", 1, 0, 400, 1);
  const std::string id = teach(path(), many).update;
  const Update update = Ledger::open(path(), Ledger::Mode::kRead).load(id);
  EXPECT_TRUE(update.vectors.as_sums());
  teach(path(), blue_);
  const Update few = Ledger::open(path(), Ledger::Mode::kRead).load(teach(path(), green_).update);
  EXPECT_FALSE(few.vectors.as_sums());
  EXPECT_EQ(digest(path()), digest_as_read(path()));
}

TEST_F(VectorTeach, AKillInTheMiddleLeavesTheOldState) {
  teach(path(), red_);
  const std::string before = digest(path());
  // At every stage that is reported.
  for (const char* stage : {"read", "solve", "measure", "write"}) {
    const int status = testing::wait_for(testing::start_child([&] {
      const VectorModel model = VectorModel::open(path());
      Reporter reporter;
      reporter.progress = [stage](const ProgressEvent& e) {
        if (e.stage == stage) ::kill(::getpid(), SIGKILL);
      };
      teach_vectors(model, blue_, from_disk(model), {}, reporter);
      return 0;
    }));
    ASSERT_TRUE(WIFSIGNALED(status)) << stage;
    EXPECT_EQ(digest(path()), before) << stage;
    EXPECT_EQ(digest_as_read(path()), before) << stage;
  }
  EXPECT_EQ(teach(path(), blue_).learned_after, 1);
}

TEST_F(VectorTeach, FoldersThatAreDamagedAreRefused) {
  const fs::path config = path() / "config.json";
  const std::string was = read_file(config);
  write_file_atomically(config, was + " ");
  EXPECT_THAT(expect_error(ErrorCode::kFormat, [&] { VectorModel::open(path()); }),
              HasSubstr("not the one that its memory was made for"));
  write_file_atomically(config, R"({"model_type": "feature_classifier", "inputs": 3})");
  EXPECT_THAT(expect_error(ErrorCode::kFormat, [&] { VectorModel::open(path()); }),
              HasSubstr("standardize.mean has another type or shape"));
  testing::write_vector_folder(
      folder_ / "bad", R"({"model_type": "feature_classifier", "inputs": 1})",
      {{"standardize.mean", {{1}, {0}}}, {"standardize.scale", {{1}, {0}}}});
  EXPECT_THAT(expect_error(ErrorCode::kFormat,
                           [&] { retrofit_vectors(folder_ / "bad", folder_ / "x", {}); }),
              HasSubstr("standardize.scale is not above 0"));
  EXPECT_FALSE(fs::exists(folder_ / "x"));
  EXPECT_FALSE(is_vector_folder(folder_ / "nowhere"));
}

TEST_F(VectorTeach, TablesAreMeasuredByTheirOrder) {
  testing::write_vector_folder(
      folder_ / "table", R"({"model_type": "table_mlp", "inputs": 2})",
      {{"standardize.mean", {{2}, {0, 0}}}, {"standardize.scale", {{2}, {1, 1}}}});
  retrofit_vectors(folder_ / "table", folder_ / "risks", testing::small_memory());
  VectorSet set = together(cloud("1", .6F, 0, 50, 1), cloud("0", -.6F, 0, 50, 2));
  EXPECT_EQ(score(folder_ / "risks", set), .5);
  const auto result = teach(folder_ / "risks", set);
  EXPECT_EQ(result.metric, "auc");
  EXPECT_GT(result.learned_after, .99);
  set.labels = {"1", "2"};
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { teach(folder_ / "risks", set); }),
              HasSubstr("a table's labels are 0 and 1"));
}

}  // namespace
}  // namespace accrete
