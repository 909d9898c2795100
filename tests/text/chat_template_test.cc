#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
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
  EXPECT_EQ(chat.end_of_turn(), "<|im_end|>");
  EXPECT_EQ(render(kSmolLM2, {{"user", "Hi"}}, true),
            "<|im_start|>system\n" + system +
                "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render(kSmolLM2, {{"system", "S"}, {"user", " u\n"}, {"assistant", ""}}),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n u\n<|im_end|>\n"
            "<|im_start|>assistant\n<|im_end|>\n");
}

TEST(ChatTemplate, PlainChatML) {
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
  // The prompt brings a line break of its own, which comes behind that of the last turn.
  EXPECT_EQ(render(spaced, {{"user", "a"}}), "<|im_start|>user\na<|im_end|>\n");
  EXPECT_EQ(render(spaced, {{"user", "a"}}, true),
            "<|im_start|>user\na<|im_end|>\n\n<|im_start|>assistant\n");
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

TEST(ChatTemplate, OtherFamilies) {
  const std::string llama3 =
      "{{- bos_token }}{%- if messages[0].role == 'system' %}{%- set first = "
      "messages[0].content|trim %}{%- set messages = messages[1:] %}{%- else %}{%- set first = '' "
      "%}{%- endif %}{{- '<|system|>' + first + '<|eot_id|>' }}{% for m in messages %}{{ "
      "'<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + "
      "'<|eot_id|>' }}{% endfor %}";
  const ChatTemplate chat = ChatTemplate::from_jinja(llama3, {{"bos_token", "<bos>"}});
  const std::vector<Message> messages = {{"system", " S "}, {"user", " u"}, {"assistant", "a\n"}};
  EXPECT_EQ(chat.render(messages, false),
            "<bos><|system|>S<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nu<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\na<|eot_id|>");
  EXPECT_EQ(chat.end_of_turn(), "<|eot_id|>");
  EXPECT_EQ(ChatTemplate::from_jinja("{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' "
                                     "+ m.content + ' [/INST]' }}{% else %}{{ m.content + ' ' + "
                                     "eos_token }}{% endif %}{% endfor %}",
                                     {{"eos_token", "</s>"}})
                .end_of_turn(),
            "</s>");
  EXPECT_EQ(
      ChatTemplate::from_jinja("{% for m in messages %}{{ m.content }}{% endfor %}").end_of_turn(),
      "");
}

TEST(ChatTemplate, WhatATemplateRefusesIsTheCallersFault) {
  const ChatTemplate chat = ChatTemplate::from_jinja(
      "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% "
      "endif "
      "%}{{ m.content }}{% endfor %}");
  const std::vector<Message> system = {{"system", "S"}, {"user", "u"}};
  try {
    chat.render(system, true);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("no system"), std::string::npos) << error.what();
  }
}

TEST(ChatTemplate, TheDayMayBeFixed) {
  ASSERT_EQ(setenv("SOURCE_DATE_EPOCH", "86400", 1), 0);
  const std::string dated = "{{ strftime_now('%d %b %Y') }} ";
  EXPECT_EQ(render(dated + kChatML, {{"user", "a"}}),
            "02 Jan 1970 <|im_start|>user\na<|im_end|>\n");
  unsetenv("SOURCE_DATE_EPOCH");
}

// Python refuses these as well, or they are not understood.
TEST(ChatTemplate, OtherTemplatesAreRefused) {
  const std::string content = "message['content']", start = "{% for message in messages %}";
  for (const std::string& jinja : std::vector<std::string>{
           "",
           "Hello",
           "{{ messages }}",
           "{{ messages[0].content }}",
           start,
           "{{ tools[0].name }}" + kChatML,
           "{{ 'a' + 1 }}" + kChatML,
           "{{ nothing.name }}" + kChatML,
           "{{ 1 // 0 }}" + kChatML,
           "{{ 9000000000 * 9000000000 }}" + kChatML,
           "{{ 'a' 'b' if }}" + kChatML,
           "{{ 'é' | upper }}" + kChatML,
           "{{ messages | urlize }}" + kChatML,
           "{{ messages.append(1) }}" + kChatML,
           "{{ raise_exception('never') }}" + kChatML,
           "{% set a, b = [1] %}" + kChatML,
           "{% set messages.x = 1 %}" + kChatML,
           "{% include 'x' %}" + kChatML,
           "{% break %}" + kChatML,
           "{% if %}{% endif %}" + kChatML,
           "{% if true %}{% else %}{% else %}{% endif %}" + kChatML,
           "{% macro f(a=1, b) %}{% endmacro %}" + kChatML,
           "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + kChatML,
           "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}" + kChatML,
           "{% set x = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set x.s = x.s ~ x.s "
           "%}{% endfor %}" +
               kChatML,
           kChatML + "{% endif %}",
           kChatML + "{{",
           kChatML + "{# open",
           kChatML + "{% raw %}",
           kChatML + "\xFF",
           replaced(kChatML, content, "'said'")})
    EXPECT_EQ(code_of([&] { ChatTemplate::from_jinja(jinja); }), ErrorCode::kUnsupported) << jinja;
}

TEST(ChatTemplate, DeepNestingIsAnErrorAndNoCrash) {
  std::string blocks, brackets = "{{ ";
  for (int i = 0; i < 100'000; ++i) blocks += "{% if tools %}";
  for (int i = 0; i < 100'000; ++i) brackets += "(";
  std::string nots = "{% if ";
  for (int i = 0; i < 100'000; ++i) nots += "not ";
  std::string chain = "{{ 1";
  for (int i = 0; i < 100'000; ++i) chain += " + 1";
  for (const std::string& jinja :
       {blocks, brackets + "}}", nots + "tools %}{% endif %}", chain + " }}" + kChatML})
    EXPECT_EQ(code_of([&] { ChatTemplate::from_jinja(jinja); }), ErrorCode::kUnsupported);
}

TEST(ChatTemplate, ErrorsNameTheTemplateAndTheReason) {
  try {
    ChatTemplate::from_jinja("{{ bos_token.x }}\nrest");
    FAIL();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("{{ bos_token.x }}"), std::string::npos) << message;
    EXPECT_NE(message.find("\"bos_token\", which is undefined"), std::string::npos) << message;
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
  const auto said = [&] {
    const std::vector<Message> hi = {{"user", "Hi"}};
    return ChatTemplate::from_folder(folder)->render(hi, false);
  };
  const std::string plain = "<|im_start|>user\nHi<|im_end|>\n";
  config({{"chat_template", kSmolLM2}});
  EXPECT_TRUE(said().ends_with(plain) && said() != plain);
  config({{"chat_template", "{{ bos_token }}{{ eos_token }}" + kChatML},
          {"bos_token", "<s>"},
          {"eos_token", {{"content", "</s>"}, {"lstrip", false}}}});
  EXPECT_EQ(said(), "<s></s>" + plain);
  config({{"chat_template",
           {{{"name", "rag"}, {"template", "x"}}, {{"name", "default"}, {"template", kChatML}}}}});
  EXPECT_EQ(said(), plain);
  config({{"chat_template", {{{"name", "rag"}, {"template", "x"}}}}});
  EXPECT_EQ(code_of([&] { ChatTemplate::from_folder(folder); }), ErrorCode::kFormat);
  config({{"chat_template", 3}});
  EXPECT_EQ(code_of([&] { ChatTemplate::from_folder(folder); }), ErrorCode::kFormat);
  write_file_atomically(folder / "chat_template.jinja", kSmolLM2 + "\n");
  EXPECT_NE(said(), plain);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace accrete
