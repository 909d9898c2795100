#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "text_testing.h"

namespace accrete {
namespace {

using text_testing::code_of;
using text_testing::json;

const std::string kSmolLM2 =
    R"({% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %})";

const std::string kChatML =
    R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";

std::string render(const std::string& jinja, const std::vector<Message>& messages,
                   bool prompt = false) {
  return ChatTemplate::from_jinja(jinja).render(messages, prompt);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ChatTemplate, SmolLM2PutsItsSystemMessageFirst) {
  const ChatTemplate chat = ChatTemplate::from_jinja(kSmolLM2);
  const std::string system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
  EXPECT_EQ(chat.default_system(), system);
  EXPECT_EQ(chat.end_of_turn(), "<|im_end|>");
  EXPECT_EQ(render(kSmolLM2, {{"user", "Hi"}}, true),
            "<|im_start|>system\n" + system +
                "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render(kSmolLM2, {{"system", "S"}, {"user", " u\n"}, {"assistant", ""}}),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n u\n<|im_end|>\n"
            "<|im_start|>assistant\n<|im_end|>\n");
}

TEST(ChatTemplate, PlainChatML) {
  EXPECT_EQ(ChatTemplate::from_jinja(kChatML).default_system(), std::nullopt);
  EXPECT_EQ(render(kChatML, {{"user", "a"}}), "<|im_start|>user\na<|im_end|>\n");
  EXPECT_EQ(render(kChatML, {{"user", "<|im_end|>{{ x }}"}}, true),
            "<|im_start|>user\n<|im_end|>{{ x }}<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, WhatIsWrittenInAnotherWayIsTheSame) {
  const std::string spaced = R"({#- comment #}
{%- for m in messages -%}
    {% if m.role == "nobody" %}
        {% for call in m.tool_calls %}{{ call | tojson }}{% endfor %}
    {% endif %}
    {{- "<|im_start|>" ~ m["role"] ~ "\n" }}{{ (m.content) }}<|im_end|>
{% endfor %}
{%- if not (not add_generation_prompt) and not tools %}
{{ '\n<|im_start|>assistant\n' if true else 'x' }}
{%- endif %}
)";
  // "-" ate the line break behind "<|im_end|>" of the last turn: the prompt brings its own, so that
  // without a prompt the last turn stays without a line break, which is no ChatML.
  EXPECT_EQ(code_of([&] { ChatTemplate::from_jinja(spaced); }), ErrorCode::kUnsupported);
  const std::string whole = replaced(replaced(spaced, "{% endfor %}\n{%-", "{% endfor %}{%"),
                                     "'\\n<|im_start|>", "'<|im_start|>");
  EXPECT_EQ(render(whole, {{"user", "a"}, {"assistant", "b"}}, true),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(ChatTemplate, LastTurnLeftOpen) {
  const std::string jinja =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}"
      "{{ '<|im_end|>' + '\n'}}{% endif %}{% endfor %}{% if add_generation_prompt and "
      "messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  EXPECT_EQ(render(jinja, {{"user", "a"}}), "<|im_start|>user\na");
  EXPECT_EQ(render(jinja, {{"user", "a"}}, true),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render(jinja, {{"assistant", "a"}}, true), "<|im_start|>assistant\na<|im_end|>\n");
}

TEST(ChatTemplate, OtherTemplatesAreRefused) {
  const std::string role = "message['role']", content = "message['content']";
  const std::string start = "{% for message in messages %}";
  for (const std::string& jinja : std::vector<std::string>{
           "",
           "Hello",
           "{{ messages }}",
           kChatML + ".",
           "x" + kChatML,
           start,
           replaced(kChatML, content, content + " | trim"),
           replaced(kChatML, content, content + ".strip()"),
           replaced(kChatML, content, content + "[:10]"),
           replaced(kChatML, role, "'user'"),
           replaced(kChatML, "in messages", "in messages[1:]"),
           replaced(kChatML, "<|im_end|>", "<|end|>"),
           replaced(kChatML, "assistant\\n", "assistant\\n<think>\\n"),
           replaced(kChatML, start, start + "{% if loop.index == 4 %}x{% endif %}"),
           replaced(kChatML, start, start + "{% if message.content %}{% endif %}"),
           replaced(kChatML, start, start + "{% if messages|length > 3 %}x{% endif %}"),
           replaced(kChatML, start, start + "{% if messages[1].role == 'user' %}x{% endif %}"),
           replaced(kChatML, start, start + "{{ bos_token }}"),
           replaced(kChatML, start, start + "{{ message.items }}"),
           replaced(kChatML, "{% endif %}", "{% else %}x{% endif %}"),
           replaced(kChatML, "{% endfor %}", "{% else %}x{% endfor %}"),
           "{% set x = 1 %}" + kChatML,
           "{% macro f() %}{% endmacro %}" + kChatML,
           "{{ 'a' 'b' if }}" + kChatML,
           "{% if %}{% endif %}" + kChatML,
           "{% raw %}{% endraw %}" + kChatML,
           kChatML + "{% endif %}",
           kChatML + "{{",
           kChatML + "{# open",
           kChatML + "\xFF",
           replaced(kSmolLM2, "!= 'system'", "== 'user'"),
           replaced(kSmolLM2, "loop.first", "not loop.first"),
           replaced(kSmolLM2, "messages[0]", "message")}) {
    if (jinja == replaced(kSmolLM2, "messages[0]", "message")) {
      EXPECT_NO_THROW(ChatTemplate::from_jinja(jinja));  // says the same in other words
      continue;
    }
    EXPECT_EQ(code_of([&] { ChatTemplate::from_jinja(jinja); }), ErrorCode::kUnsupported) << jinja;
  }
}

TEST(ChatTemplate, DeepNestingIsAnErrorAndNoCrash) {
  std::string blocks, brackets = "{{ ";
  for (int i = 0; i < 100'000; ++i) blocks += "{% if tools %}";
  for (int i = 0; i < 100'000; ++i) brackets += "(";
  std::string nots = "{% if ";
  for (int i = 0; i < 100'000; ++i) nots += "not ";
  for (const std::string& jinja : {blocks, brackets + "}}", nots + "tools %}{% endif %}"})
    EXPECT_EQ(code_of([&] { ChatTemplate::from_jinja(jinja); }), ErrorCode::kUnsupported);
}

TEST(ChatTemplate, ErrorsNameTheTemplateAndTheReason) {
  try {
    ChatTemplate::from_jinja("{{ bos_token }}\nrest");
    FAIL();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("{{ bos_token }}"), std::string::npos) << message;
    EXPECT_NE(message.find("variable \"bos_token\""), std::string::npos) << message;
    EXPECT_EQ(message.find("rest"), std::string::npos) << message;
  }
}

TEST(ChatTemplate, BadConversationsAreErrors) {
  const ChatTemplate chat = ChatTemplate::from_jinja(kChatML);
  EXPECT_EQ(code_of([&] { chat.render({}, true); }), ErrorCode::kInvalidArgument);
  const std::vector<Message> tool = {{"tool", "x"}};
  EXPECT_EQ(code_of([&] { chat.render(tool, true); }), ErrorCode::kInvalidArgument);
}

TEST(ChatTemplate, FromAFolder) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "chat_template_from_a_folder";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  EXPECT_FALSE(ChatTemplate::from_folder(folder));
  const auto config = [&](const json& content) {
    write_file_atomically(folder / "tokenizer_config.json", content.dump());
  };
  config(json::object());
  EXPECT_FALSE(ChatTemplate::from_folder(folder));
  config({{"chat_template", kSmolLM2}});
  EXPECT_TRUE(ChatTemplate::from_folder(folder)->default_system());
  config({{"chat_template",
           {{{"name", "rag"}, {"template", "x"}}, {{"name", "default"}, {"template", kChatML}}}}});
  EXPECT_FALSE(ChatTemplate::from_folder(folder)->default_system());
  config({{"chat_template", {{{"name", "rag"}, {"template", "x"}}}}});
  EXPECT_EQ(code_of([&] { ChatTemplate::from_folder(folder); }), ErrorCode::kFormat);
  config({{"chat_template", 3}});
  EXPECT_EQ(code_of([&] { ChatTemplate::from_folder(folder); }), ErrorCode::kFormat);
  write_file_atomically(folder / "chat_template.jinja", kSmolLM2 + "\n");
  EXPECT_TRUE(ChatTemplate::from_folder(folder)->default_system());
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace accrete
