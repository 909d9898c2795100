// Products with weights in few bits against plain products, for every kind and number of rows; and
// a model that has codes against the same one without.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "base/file.h"
#include "model/coded_matrix.h"
#include "model/generate.h"
#include "tiny_model.h"

namespace accrete {
namespace {

using kernels::CodedRows;
using testing::expect_error;

struct Coded {
  CodedRows rows;
  at::Tensor codes, scales, minima, values;  // values [out, in] float32
};

Coded random_coded(CodedRows::Kind kind, int64_t out, int64_t in, int64_t block, bool minima) {
  Coded c;
  c.rows = {kind, out, in, block, nullptr, nullptr, nullptr};
  if (kind == CodedRows::Kind::kBFloat16) {
    c.codes = at::randn({out, in}).to(at::kBFloat16);
    c.values = c.codes.to(at::kFloat);
    c.rows.codes = c.codes.const_data_ptr();
    return c;
  }
  c.scales = at::randn({out, in / block});
  c.rows.scales = c.scales.const_data_ptr<float>();
  at::Tensor code;
  if (kind == CodedRows::Kind::kCodes4) {
    code = at::randint(0, 16, {out, in / block, block}, at::kByte);
    c.codes =
        at::bitwise_or(code.narrow(2, 0, block / 2), code.narrow(2, block / 2, block / 2) * 16)
            .contiguous();
  } else {
    code = at::randint(-128, 128, {out, in / block, block}, at::kChar);
    c.codes = code;
  }
  c.rows.codes = c.codes.const_data_ptr();
  c.values = code.to(at::kFloat) * c.scales.unsqueeze(2);
  if (minima) {
    c.minima = at::randn({out, in / block});
    c.rows.minima = c.minima.const_data_ptr<float>();
    c.values = c.values + c.minima.unsqueeze(2);
  }
  c.values = c.values.reshape({out, in});
  return c;
}

TEST(Coded, ProductsAreThoseOfTheValues) {
  at::manual_seed(3);
  using Kind = CodedRows::Kind;
  const std::tuple<Kind, int64_t, bool> kinds[] = {{Kind::kCodes4, 32, true},
                                                   {Kind::kCodes8, 32, true},
                                                   {Kind::kCodes8, 32, false},
                                                   {Kind::kCodes8, 16, false},
                                                   {Kind::kBFloat16, 32, false}};
  for (const auto& [kind, block, minima] : kinds)
    for (const int64_t in : {32, 96, 576}) {
      const Coded c = random_coded(kind, 37, in, block, minima);
      EXPECT_TRUE(at::allclose(CodedMatrix(c.rows).values(), c.values, 1e-5, 1e-5));
      for (const int64_t n : {1, 2, 3, 5, 8, 11, 16, 32, 33, 70}) {
        const auto x = at::randn({n, in});
        const auto want = at::linear(x.to(at::kDouble), c.values.to(at::kDouble));
        const auto got = CodedMatrix(c.rows).product(x);
        ASSERT_EQ(got.sizes(), want.sizes());
        const double scale = want.abs().max().item<double>();
        EXPECT_LT((got.to(at::kDouble) - want).abs().max().item<double>(), 1e-5 * scale)
            << static_cast<int>(kind) << " in " << in << " rows " << n;

        const auto y = at::randn({n, 37});
        const auto back = at::mm(y.to(at::kDouble), c.values.to(at::kDouble));
        auto out = at::full({n, in}, NAN);
        CodedMatrix(c.rows).back_product_to(out, y);
        EXPECT_LT((out.to(at::kDouble) - back).abs().max().item<double>(),
                  1e-5 * back.abs().max().item<double>())
            << static_cast<int>(kind) << " back, in " << in << " rows " << n;
      }
    }
}

// What a server needs: a row among any others is that row alone, to the bit.
TEST(Coded, EachRowIsWhatItIsAlone) {
  at::manual_seed(4);
  using Kind = CodedRows::Kind;
  const std::tuple<Kind, int64_t, bool> kinds[] = {{Kind::kCodes4, 32, true},
                                                   {Kind::kCodes8, 32, true},
                                                   {Kind::kCodes8, 32, false},
                                                   {Kind::kCodes8, 16, false},
                                                   {Kind::kBFloat16, 32, false}};
  for (const auto& [kind, block, minima] : kinds) {
    const Coded c = random_coded(kind, 37, 576, block, minima);
    const CodedMatrix matrix(c.rows);
    const auto x = at::randn({70, 576});
    std::vector<at::Tensor> alone;
    for (int64_t i = 0; i < 70; ++i) alone.push_back(matrix.product(x.narrow(0, i, 1)));
    for (const int64_t n : {1, 2, 3, 7, 8, 9, 33, 64, 70}) {
      auto got = at::full({n, 37}, NAN);
      matrix.each_product_to(got, x.narrow(0, 0, n));
      for (int64_t i = 0; i < n; ++i)
        ASSERT_TRUE(at::equal(got[i], alone[static_cast<size_t>(i)][0]))
            << static_cast<int>(kind) << " row " << i << " of " << n;
    }
  }
}

// A matrix whose values are turned into float32 in several parts.
TEST(Coded, ManyRowsOfALargeMatrix) {
  at::manual_seed(5);
  const Coded c = random_coded(CodedRows::Kind::kCodes4, 4001, 576, 32, true);
  const auto x = at::randn({3, 17, 576}), y = at::randn({51, 4001});
  const auto want = at::linear(x, c.values), back = at::mm(y, c.values);
  const auto got = CodedMatrix(c.rows).product(x);
  ASSERT_EQ(got.sizes(), want.sizes());
  EXPECT_LT((got - want).abs().max().item<float>(), 1e-5 * want.abs().max().item<float>());
  auto out = at::full({51, 576}, NAN);
  CodedMatrix(c.rows).back_product_to(out, y);
  EXPECT_LT((out - back).abs().max().item<float>(), 1e-5 * back.abs().max().item<float>());
}

TEST(Coded, ApplyWithoutGradientsInFloat32) {
  const Coded c = random_coded(CodedRows::Kind::kCodes4, 8, 32, 32, true);
  const Coded stored = random_coded(CodedRows::Kind::kBFloat16, 8, 32, 32, false);
  const CodedMatrix codes(c.rows), half(stored.rows);
  const auto x = at::randn({2, 50, 32});
  EXPECT_TRUE(codes.applies(x));
  EXPECT_FALSE(half.applies(x));
  EXPECT_TRUE(half.applies(x.narrow(1, 0, 16)));
  EXPECT_FALSE(codes.applies(x.to(at::kBFloat16)));
  EXPECT_FALSE(codes.applies(x.clone().requires_grad_(true)));
}

// The tiny model with every weight in the values that 4-bit codes have, and these codes.
class CodedModel : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_tiny_model(folder_ / "plain");
    const auto file = SafetensorsFile::open(folder_ / "plain" / "model.safetensors");
    std::vector<at::Tensor> kept;
    std::vector<TensorView> weights, codes;
    const auto add = [&kept](std::vector<TensorView>& to, const std::string& name, DType dtype,
                             const at::Tensor& t) {
      kept.push_back(t.contiguous());
      to.push_back({name,
                    dtype,
                    t.sizes().vec(),
                    {static_cast<const std::byte*>(kept.back().const_data_ptr()),
                     static_cast<size_t>(kept.back().nbytes())}});
    };
    at::manual_seed(4);
    for (const TensorView& t : file.tensors()) {
      if (t.shape.size() != 2 || t.shape[1] % 32 != 0) {
        weights.push_back(t);
        continue;
      }
      Coded c = random_coded(CodedRows::Kind::kCodes4, t.shape[0], t.shape[1], 32, true);
      c.scales = c.scales.abs() * 0.02;
      c.minima = c.scales * -7.5;
      const auto low = at::bitwise_and(c.codes, 15), high = at::bitwise_right_shift(c.codes, 4);
      const auto code = at::cat({low, high}, 2).to(at::kFloat);
      // In double, rounded once: as the kernel's fused multiply-add does.
      const auto values = (code.to(at::kDouble) * c.scales.unsqueeze(2).to(at::kDouble) +
                           c.minima.unsqueeze(2).to(at::kDouble))
                              .to(at::kFloat);
      add(weights, t.name, DType::kF32, values.reshape(t.shape));
      add(codes, t.name + ".codes", DType::kU8, c.codes.reshape({t.shape[0], t.shape[1] / 2}));
      add(codes, t.name + ".scales", DType::kF32, c.scales);
      add(codes, t.name + ".minima", DType::kF32, c.minima);
    }
    for (const char* name : {"coded", "plain"}) {
      if (std::string(name) == "coded")
        std::filesystem::copy(folder_ / "plain", folder_ / "coded",
                              std::filesystem::copy_options::recursive);
      write_safetensors(folder_ / name / "model.safetensors", weights);
    }
    std::filesystem::create_directories(folder_ / "coded" / "accrete");
    write_safetensors(codes_file(), codes);
  }
  std::filesystem::path codes_file() const {
    return folder_ / "coded" / "accrete" / "codes.safetensors";
  }
  testing::TemporaryFolder folder_;
};

TEST_F(CodedModel, WritesWhatItWritesWithout) {
  const LanguageModel plain = LanguageModel::open(folder_ / "plain", {.threads = 1});
  const LanguageModel coded = LanguageModel::open(folder_ / "coded", {.threads = 1});
  const auto ids = at::tensor({72, 101, 108, 108, 111}, at::kLong).unsqueeze(0);
  const auto a = plain.net().forward(ids), b = coded.net().forward(ids);
  EXPECT_TRUE(at::allclose(a, b, 1e-4, 1e-4)) << (a - b).abs().max().item<float>();
  EXPECT_FALSE(at::equal(a, b)) << "the codes are not used";
  GenerateOptions options;
  options.max_tokens = 12;
  const std::vector<std::vector<int32_t>> prompts = {{72, 105}, {65, 66, 67}};
  const auto said = generate(plain, prompts, options), again = generate(coded, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(said[i].tokens, again[i].tokens);
}

// A baseline that trains the weights computes with what it trained.
TEST_F(CodedModel, ReplacedWeightsHaveNoCodes) {
  LanguageModel model = LanguageModel::open(folder_ / "coded", {.threads = 1});
  Transformer net = model.net();
  net.each_weight([](const std::string&, at::Tensor& w) { w = at::zeros_like(w); });
  const auto ids = at::tensor({72, 101}, at::kLong).unsqueeze(0);
  EXPECT_EQ(net.forward(ids).abs().max().item<float>(), 0);
  EXPECT_GT(model.net().forward(ids).abs().max().item<float>(), 0);
}

TEST_F(CodedModel, CodesOfOtherWeightsAreRefused) {
  std::string bytes = read_file(codes_file());
  const std::string good = bytes;
  // Scales and minima of the first weight come first.
  const size_t header = 8 + static_cast<size_t>(static_cast<unsigned char>(bytes[0]) |
                                                static_cast<unsigned char>(bytes[1]) << 8);
  bytes[header + 2] = static_cast<char>(bytes[header + 2] ^ 0x40);
  write_file_atomically(codes_file(), bytes);
  expect_error(ErrorCode::kFormat,
               [&] { (void)LanguageModel::open(folder_ / "coded", {.threads = 1}); });
  write_file_atomically(codes_file(), good.substr(0, good.size() - 1));
  expect_error(ErrorCode::kFormat,
               [&] { (void)LanguageModel::open(folder_ / "coded", {.threads = 1}); });
}

// Opening looks at first blocks only; the whole comparison finds one flipped bit anywhere.
TEST_F(CodedModel, EveryCodeIsChecked) {
  const auto check = [&] {
    const LanguageModel model = LanguageModel::open(folder_ / "coded", {.threads = 1});
    const auto codes = CodedWeights::open(folder_ / "coded");
    for (const TensorView* t : model.net().base_tensors()) codes.check(t->name, *t);
  };
  check();
  std::string bytes = read_file(codes_file());
  bytes.back() = static_cast<char>(bytes.back() ^ 0x10);
  write_file_atomically(codes_file(), bytes);
  expect_error(ErrorCode::kFormat, check);
}

}  // namespace
}  // namespace accrete
