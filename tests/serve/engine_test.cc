// Whose turn it is: rows are taken from the keys in turn.
#include "serve/engine.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"

namespace accrete::serve {
namespace {

using accrete::testing::TemporaryFolder;

TEST(Engine, ARequestOfManyRowsDoesNotHoldUpTheOthers) {
  TemporaryFolder folder;
  accrete::testing::write_tiny_chat_model(folder / "model", 1, false);
  const auto model =
      std::make_shared<const LanguageModel>(LanguageModel::open(folder / "model", {.threads = 1}));
  std::mutex mutex;
  std::condition_variable all;
  std::vector<std::string> order;
  std::promise<void> begin;
  const std::shared_future<void> begun = begin.get_future().share();
  constexpr size_t kRows = 1 + 6 + 1;
  {
    Engine engine(model, {.rows = 1, .queue = 8});
    const auto submit = [&](const std::string& key, int rows, bool wait) {
      EngineWork work;
      work.key = key;
      work.prepare = [&, key, rows, wait] {
        if (wait) begun.wait();
        std::vector<StepRequest> out(static_cast<size_t>(rows));
        for (StepRequest& row : out) {
          row.model = model;
          row.prompt = {97, 98};
          row.options.max_tokens = 3;
          row.on_done = [&, key](const StepAnswer&) {
            const std::lock_guard lock(mutex);
            order.push_back(key);
            all.notify_all();
          };
        }
        return out;
      };
      work.failed = [](const std::exception_ptr&) { ADD_FAILURE(); };
      EXPECT_TRUE(engine.submit(std::move(work)));
    };
    submit("first", 1, true);  // the others are there when it goes on
    submit("many", 6, false);
    submit("one", 1, false);
    EXPECT_FALSE(engine.idle());
    begin.set_value();
    std::unique_lock lock(mutex);
    ASSERT_TRUE(
        all.wait_for(lock, std::chrono::seconds(60), [&] { return order.size() == kRows; }));
    lock.unlock();
    for (int i = 0; i < 600 && !engine.idle(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_TRUE(engine.idle());
  }
  EXPECT_EQ(order[0], "first");
  EXPECT_EQ(order[1], "many");
  EXPECT_EQ(order[2], "one");
}

}  // namespace
}  // namespace accrete::serve
