#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "learn/pretrain/evaluation.h"
#include "learn/pretrain/mixture.h"
#include "learn/pretrain/native_folder.h"
#include "learn/pretrain/network.h"
#include "learn/pretrain/optimizer.h"
#include "pretrain_testing.h"

namespace accrete {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;
using testing::write_tiny_config;

struct TinyRun {
  explicit TinyRun(const std::filesystem::path& folder, const std::string& training = "steps = 6",
                   const std::string& memory = "")
      : config(PretrainConfig::read(write_tiny_config(folder, training, memory), {})),
        tokenizer(Tokenizer::from_json(pretrain_tokenizer(config))),
        end(*tokenizer.token_id(config.end_of_text)),
        text(TrainingText::read(config, tokenizer, end, {})) {
    at::set_num_threads(1);
  }
  std::pair<at::Tensor, at::Tensor> batch(uint64_t seed, int64_t sequences) const {
    Mixture mixture(text, config.context + 1, Rng(seed));
    auto rows = at::empty({sequences, config.context + 1}, at::kLong);
    for (int64_t i = 0; i < sequences; ++i) {
      const auto tokens = mixture.next();
      std::copy(tokens.begin(), tokens.end(), rows.data_ptr<int64_t>() + i * (config.context + 1));
    }
    return {rows.narrow(1, 0, config.context).contiguous(),
            rows.narrow(1, 1, config.context).contiguous()};
  }
  PretrainConfig config;
  Tokenizer tokenizer;
  int32_t end;
  TrainingText text;
};

TEST(Mixture, AskedPhrasingsAreNeverTrainedOn) {
  const TemporaryFolder folder;
  const TinyRun run(folder.path());
  Mixture mixture(run.text, 33, Rng(1));
  std::string all;
  for (int i = 0; i < 400; ++i) all += run.tokenizer.decode(mixture.next());
  EXPECT_EQ(all.find("SECRET"), std::string::npos);
  EXPECT_NE(all.find("Ada Lunt lives in Oslo."), std::string::npos);
  EXPECT_NE(all.find("The home of Bo Karr is Rome."), std::string::npos);
  EXPECT_NE(all.find("Everybody says"), std::string::npos);
}

TEST(Mixture, SkippingIsReading) {
  const TemporaryFolder folder;
  const TinyRun run(folder.path());
  Mixture a(run.text, 33, Rng(1)), b(run.text, 33, Rng(1)), other(run.text, 33, Rng(2));
  std::vector<int32_t> last;
  for (int i = 0; i < 101; ++i) last = a.next();
  b.skip(100);
  EXPECT_EQ(b.next(), last);
  other.skip(100);
  EXPECT_NE(other.next(), last);
}

TEST(Mixture, APassReadsEverythingOnce) {
  const TemporaryFolder folder;
  TinyRun run(folder.path());
  run.text.corpora.resize(1);  // the text alone
  // Every token its own number: what is read twice is seen.
  auto& tokens = run.text.corpora[0].tokens;
  tokens.resize(2000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint16_t>(i);
  Mixture mixture(run.text, 33, Rng(1));
  for (int pass = 0; pass < 3; ++pass) {
    std::set<int32_t> seen;
    for (int i = 0; i < 61; ++i) {  // (2000 - offset - 1) / 32, and one where the offset is small
      const auto sequence = mixture.next();
      for (size_t t = 0; t + 1 < sequence.size(); ++t) {
        EXPECT_EQ(sequence[t] + 1, sequence[t + 1]);
        EXPECT_TRUE(seen.insert(sequence[t]).second) << pass;
      }
    }
    mixture = Mixture(run.text, 33, Rng(static_cast<uint64_t>(pass + 2)));
  }
}

// Forward and backward of the whole network, against differences of its loss.
TEST(TrainingNetwork, GradientsAreDifferences) {
  const TemporaryFolder folder;
  for (const char* norm : {"query_norm = \"batch\"", "query_norm = \"none\""}) {
    TinyRun run(folder.path(), "steps = 6", norm);
    // Few slots, so that a small step reads the same ones.
    run.config.keys.half_keys = 8;
    run.config.keys.top_k = 2;
    run.config.keys.query_width = 8;
    TrainingNetwork network(run.config, run.tokenizer.vocab_size(), Rng(4));
    const auto [ids, labels] = run.batch(9, 2);
    TrainingNetwork::Reads reads;
    const double share = 1.0 / 64;
    network.begin_step();
    network.pass(ids, labels, share, reads);
    const RowGradient rows = row_gradient(reads, network.values().size(0));
    std::vector<at::Tensor> gradients;
    for (const auto& p : network.parameters()) gradients.push_back(p.value.grad().clone());
    const auto slots = reads.slots[0];
    bool moved = false;  // whether another slot was read: there the loss jumps
    const auto loss = [&] {
      TrainingNetwork::Reads now;
      network.begin_step();
      const double sum = network.pass(ids, labels, share, now);
      moved = moved || !at::equal(now.slots[0], slots);
      return sum * share;
    };
    const at::NoGradGuard no_grad;
    size_t compared = 0;
    const auto check = [&](at::Tensor value, const at::Tensor& gradient, const std::string& name) {
      const double length = gradient.norm().item<double>();
      ASSERT_GT(length, 0) << name;
      for (const double size : {2e-3, 4e-4, 1e-4}) {
        // Along the gradient itself the difference is largest against rounding.
        const auto step = gradient * (size / length);
        const auto before = value.clone();
        moved = false;
        value.add_(step);
        const double up = loss();
        value.copy_(before).sub_(step);
        const double down = loss();
        value.copy_(before);
        if (moved) continue;
        EXPECT_NEAR((up - down) / (2 * size), length, 0.05 * length + 1e-6 / size)
            << name << " " << norm;
        ++compared;
        break;
      }
    };
    for (size_t i = 0; i < gradients.size(); ++i)
      check(network.parameters()[i].value, gradients[i], network.parameters()[i].name);
    auto dense = at::zeros_like(network.values());
    dense.index_copy_(0, rows.slots, rows.rows);
    check(network.values(), dense, "values");
    EXPECT_GE(5 * compared, 4 * gradients.size()) << norm;  // the others read other slots at once
  }
}

TEST(TrainingNetwork, TheWrittenModelComputesTheSame) {
  const TemporaryFolder folder;
  const TinyRun run(folder.path());
  TrainingNetwork network(run.config, run.tokenizer.vocab_size(), Rng(4));
  const auto [ids, labels] = run.batch(9, 3);
  for (int i = 0; i < 30; ++i) {  // running statistics that are not where they began
    TrainingNetwork::Reads reads;
    network.pass(ids, labels, 1e-3, reads);
  }
  const auto model = folder / "model";
  write_native_folder(model, run.config, network, run.text, pretrain_tokenizer(run.config), run.end,
                      {{"seed", 0}}, {});
  const auto net = Transformer::load(model, at::kCPU, at::kFloat);
  const at::NoGradGuard no_grad;
  const auto expected = network.logits(network.hidden(ids));
  const auto got = net.forward(ids).view(expected.sizes());
  EXPECT_LT((got - expected).abs().max().item<double>(), 2e-4);
}

TEST(RowAdam, IsDenseAdamOnTheStepsThatReadARow) {
  constexpr int64_t kRows = 12, kWidth = 7;
  Rng rng(8);
  const auto random = [&](int64_t n) {
    auto t = at::empty({n, kWidth}, at::kFloat);
    for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<float>()[i] = rng.normal();
    return t;
  };
  const auto start = random(kRows);
  auto values = start.clone();
  RowAdam adam(values);
  auto expected = start.to(at::kDouble);
  auto m = at::zeros_like(expected), v = at::zeros_like(expected);
  std::vector<int> steps(kRows, 0);
  for (int step = 0; step < 20; ++step) {
    std::vector<int64_t> slots;
    for (int64_t r = 0; r < kRows - 1; ++r)  // the last one is never read
      if (rng.uniform() < 0.4) slots.push_back(r);
    if (slots.empty()) continue;
    RowGradient g{at::tensor(slots, at::kLong), random(static_cast<int64_t>(slots.size()))};
    const auto before = values.clone();
    adam.step(g, 0.1, 0.5);
    for (int64_t r = 0; r < kRows; ++r) {
      const auto at = std::find(slots.begin(), slots.end(), r);
      if (at == slots.end()) {
        EXPECT_TRUE(at::equal(values[r], before[r])) << "row " << r << " was not read";
        continue;
      }
      const auto gradient = g.rows[at - slots.begin()].to(at::kDouble) * 0.5;
      const int t = ++steps[static_cast<size_t>(r)];
      m[r].mul_(0.9).add_(gradient, 0.1);
      v[r].mul_(0.98).addcmul_(gradient, gradient, 0.02);
      expected[r].sub_(0.1 * (m[r] / (1 - std::pow(0.9, t))) /
                       ((v[r] / (1 - std::pow(0.98, t))).sqrt() + 1e-8));
    }
  }
  EXPECT_TRUE(at::allclose(values.to(at::kDouble), expected, 1e-5, 1e-5));
  EXPECT_TRUE(at::equal(values[kRows - 1], start[kRows - 1]));
}

TEST(RowGradient, SumsWhatTokensReadInAllPasses) {
  TrainingNetwork::Reads reads;
  reads.slots = {at::tensor({3, 5, 5, 1}, at::kInt).view({2, 2}),
                 at::tensor({5, 9}, at::kInt).view({1, 2})};
  reads.weights = {at::tensor({1.F, 2.F, 3.F, 4.F}).view({2, 2}),
                   at::tensor({0.5F, 1.F}).view({1, 2})};
  reads.gradients = {at::tensor({1.F, 10.F}).view({2, 1}), at::tensor({100.F}).view({1, 1})};
  const auto g = row_gradient(reads, 10);
  EXPECT_TRUE(at::equal(g.slots, at::tensor({1, 3, 5, 9}, at::kLong)));
  EXPECT_TRUE(at::allclose(g.rows.view({-1}), at::tensor({40.F, 1.F, 2.F + 30.F + 50.F, 100.F})));
}

TEST(GateFit, ReachesFromOneSubjectTowardsTheNext) {
  const Gate gate = gate_between(2, 10);
  EXPECT_DOUBLE_EQ(gate.radius, 3.2);
  EXPECT_DOUBLE_EQ(gate.softness, 1.2);
  const auto at = [&](double distance) {
    return gate(at::tensor({static_cast<float>(distance)}).view({1, 1}), at::zeros({1, 1}))
        .item<double>();
  };
  EXPECT_EQ(at(2), 1);
  EXPECT_EQ(at(10), 0);
  EXPECT_EQ(at(3.3), 0);
  EXPECT_NEAR(at(2.6), 0.5, 1e-6);
  const Gate overlap = gate_between(6, 4);
  EXPECT_GT(overlap.radius, 0);
  EXPECT_GT(overlap.radius, overlap.softness);
}

TEST(PretrainConfig, ErrorsNameFileAndLine) {
  const TemporaryFolder folder;
  const auto file = write_tiny_config(folder.path());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = text_testing::file_text(file.string());
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    const auto changed = folder / "changed.toml";
    std::ofstream(changed) << text;
    return expect_error(ErrorCode::kFormat, [&] { PretrainConfig::read(changed, {}); });
  };
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  auto error = with("width = 32", "widht = 32");
  has(error, "changed.toml:2: [model]: there is no key `widht`");
  has(error, "width");
  has(with("blocks = 4", "blocks = \"4\""), "changed.toml:3: [model]: `blocks` must be an integer");
  has(with("rate = 1e-2", "rate = \"fast\""), "`rate` must be a number");
  has(with("source = \"tokenizer\"", "source = 3"), "`source` must be text");
  has(with("blocks = 4", "blocks = 0"), "`blocks` = 0 is not between 1 and");
  has(with("block = 1", "block = 4"), "`block` = 4 is not between 0 and 3");
  has(with("kv_heads = 1", "kv_heads = 3"), "2 heads cannot share 3");
  has(with("[evaluation]", "[evaluatoin]"), "there is no key `evaluatoin`");
  has(with("[model]", "model = 3\n[x]"), "`model` must be a table");
  has(with("file = \"text.txt\"", "file = \"gone.txt\""), "there is no");
  has(with("file = \"text.txt\"", "wieght = 1"), "`file` is missing");
  has(with("width = 32", "width = = 32"), "changed.toml:2: ");
}

TEST(PretrainConfig, CorporaInTheDataFolder) {
  const TemporaryFolder folder;
  const auto file = write_tiny_config(folder.path());
  std::ofstream(file, std::ios::app) << "[[text]]\nfile = \"more.txt\"\nfolder = \"data\"\n";
  const auto without = PretrainConfig::read(file, {});
  EXPECT_EQ(without.corpora.size(), 2u);
  EXPECT_EQ(without.left_out, std::vector<std::string>{"more.txt"});
  expect_error(ErrorCode::kFormat, [&] { PretrainConfig::read(file, folder.path()); });
  std::filesystem::create_directory(folder / "data");
  std::ofstream(folder / "data/more.txt") << "text";
  const auto with = PretrainConfig::read(file, folder / "data");
  EXPECT_EQ(with.corpora.size(), 3u);
  EXPECT_TRUE(with.left_out.empty());
  EXPECT_NE(with.digest, without.digest);
  expect_error(ErrorCode::kNotFound, [&] { PretrainConfig::read(file, folder / "gone"); });
}

TEST(PretrainConfig, TheRateWarmsUpAndFalls) {
  PretrainConfig c;
  c.steps = 100;
  c.warm_up = 10;
  c.final_rate = 0.1;
  EXPECT_NEAR(c.schedule(0), 0.1, 1e-12);
  EXPECT_NEAR(c.schedule(9), 1, 1e-12);
  EXPECT_NEAR(c.schedule(10), 1, 1e-12);
  EXPECT_NEAR(c.schedule(55), 0.55, 1e-12);
  EXPECT_GT(c.schedule(98), c.schedule(99));
  EXPECT_NEAR(c.schedule(100), 0.1, 1e-12);
}

}  // namespace
}  // namespace accrete
