#include "text/wording.h"

#include <gtest/gtest.h>

namespace accrete {
namespace {

using Texts = std::vector<std::string>;

// What `name` is in `text`, as it stands there.
Texts found(const std::string& text, const std::string& name) {
  Texts out;
  for (const auto& [begin, end] : find_name(text, name))
    out.push_back(text.substr(begin, end - begin));
  return out;
}

Texts forms(const std::string& text) {
  Texts out;
  for (const Word& word : words_of(text)) out.push_back(word.form);
  return out;
}

TEST(Wording, WordsAreLettersNumbersAndSymbols) {
  EXPECT_EQ(forms("How heavy is the Hub 3?"), (Texts{"how", "heavy", "is", "the", "hub", "3"}));
  EXPECT_EQ(forms("It costs 3.5 %, at 1:30."), (Texts{"it", "costs", "3.5", "%", "at", "1:30"}));
  EXPECT_EQ(forms("C++ and C#"), (Texts{"c", "+", "+", "and", "c", "#"}));
  EXPECT_EQ(forms("1,000.50 3."), (Texts{"1,000.50", "3"}));
  EXPECT_EQ(forms("Ada's"), (Texts{"ada", "s"}));
  EXPECT_EQ(forms("東京 3"), (Texts{"東", "京", "3"}));
  EXPECT_EQ(forms(""), Texts());
  EXPECT_EQ(forms(" ?!… "), Texts());
  const auto words = words_of("the iPad X2");
  ASSERT_EQ(words.size(), 3U);
  EXPECT_FALSE(words[0].capital || words[0].number);
  EXPECT_TRUE(words[1].capital);
  EXPECT_TRUE(words[2].capital && words[2].number);
  EXPECT_EQ(words[2].begin, 9U);
  EXPECT_EQ(words[2].end, 11U);
}

TEST(Wording, BrokenBytesAreRead) {
  for (const std::string text : {"\xff", "Hub \xff 3", "Hub\xc3", "\xe2\x82", "\xed\xa0\x80 Hub"}) {
    for (const Word& word : words_of(text)) EXPECT_LE(word.end, text.size());
    mask_name(text, "Hub");
    plain_question(text);
    identity_of(text);
    const Texts wordings = {text, text};
    shared_name(wordings);
  }
  EXPECT_EQ(found("Hub \xff 3", "Hub"), Texts{"Hub"});
}

TEST(Wording, ANameEndsWhereItsWordsEnd) {
  EXPECT_EQ(found("What is there to see in Adana?", "Ada"), Texts());
  EXPECT_EQ(found("Where in Adana does Ada live?", "Ada"), Texts{"Ada"});
  EXPECT_EQ(found("the Hub 4", "Hub 3"), Texts());
  EXPECT_EQ(found("the Hub 33", "Hub 3"), Texts());
  EXPECT_EQ(found("the Hub 3, and the Hub 3's lamp", "Hub 3"), (Texts{"Hub 3", "Hub 3"}));
  EXPECT_EQ(found("the Hub\n 3?", "Hub 3"), Texts{"Hub\n 3"});
  EXPECT_EQ(found("written in C#", "C++"), Texts());
  EXPECT_EQ(found("written in C", "C++"), Texts());
  EXPECT_EQ(found("written in C++ or C#", "C++"), Texts{"C++"});
  EXPECT_EQ(found("the 35 model", "3.5"), Texts());
  EXPECT_EQ(found("the 3.5 model", "3.5"), Texts{"3.5"});
  EXPECT_EQ(found("the 3.5 model", "3"), Texts());
  EXPECT_EQ(found("Ada Ada Ada", "Ada Ada"), Texts{"Ada Ada"});  // without overlaps
  EXPECT_EQ(found("anything", ""), Texts());
  EXPECT_EQ(found("anything?", "?"), Texts());
  EXPECT_EQ(found("", "Ada"), Texts());
}

// Whether a name that stands in the text goes on behind it.
bool goes_on(const std::string& text, const std::string& name) {
  const auto words = words_of(text);
  const auto [begin, end] = find_name(text, name).at(0);
  size_t first = 0, behind = 0;
  while (words[first].begin < begin) ++first;
  while (behind < words.size() && words[behind].end <= end) ++behind;
  return name_goes_on(text, words, first, behind);
}

TEST(Wording, ANameThatGoesOnIsAnother) {
  for (const auto& [text, name] : std::vector<std::pair<std::string, std::string>>{
           {"What is the battery life of the Quillo 7 Pro?", "Quillo 7"},
           {"how heavy is the quillo 7 pro", "Quillo 7"},
           {"Is the Quillo 7-Max loud?", "Quillo 7"},
           {"When is Tilda Swinton's birthday?", "Tilda"},
           {"Who is Tilda Swinton?", "Tilda"},
           {"Is Tilda Swinton married?", "Tilda"},
           {"How heavy is the Hub 3?", "Hub"},
           {"What does the Hub II cost?", "Hub"}})
    EXPECT_TRUE(goes_on(text, name)) << text;
  for (const auto& [text, name] : std::vector<std::pair<std::string, std::string>>{
           {"How heavy is the Quillo 7?", "Quillo 7"},
           {"When is Tilda's birthday?", "Tilda"},
           {"Is Tilda Dutch?", "Tilda"},
           {"How Heavy Is The Quillo Bridge Pylon?", "Quillo Bridge"},
           {"HOW HEAVY IS TILDA REALLY", "Tilda"},
           {"Does Tilda, Milo's sister, swim?", "Tilda"},
           {"What is the Hub 3 USB port for?", "Hub 3"},
           {"hub 3 max load", "Hub 3"},
           {"Does Tilda I mean the cat bite?", "Tilda"},
           {"What is the Hub 3 4 for?", "Hub 3"}})
    EXPECT_FALSE(goes_on(text, name)) << text;
}

TEST(Wording, CaseAndFormOfUnicodeDoNotMatter) {
  EXPECT_EQ(found("how heavy is the hub 3", "Hub 3"), Texts{"hub 3"});
  EXPECT_EQ(found("IS THE STRASSE LONG", "Straße"), Texts{"STRASSE"});
  EXPECT_EQ(found("the ＨＵＢ ３", "Hub 3"), Texts{"ＨＵＢ ３"});
  // NFD, NFC
  EXPECT_EQ(found("Where is Zu\u0308rich?", "Z\u00fcrich"), Texts{"Zu\u0308rich"});
  EXPECT_EQ(found("Where is Z\u00fcrich?", "Zu\u0308rich"), Texts{"Z\u00fcrich"});
  EXPECT_EQ(found("Where is Zurich?", "Z\u00fcrich"), Texts());
  EXPECT_EQ(name_key("Hub 3"), name_key("  ＨＵＢ\t3 "));
  EXPECT_NE(name_key("Hub 3"), name_key("Hub3"));
  EXPECT_NE(name_key("C++"), name_key("C#"));
  EXPECT_NE(name_key("3.5"), name_key("35"));
  EXPECT_EQ(name_key("…"), "");
}

TEST(Wording, ScriptsWithoutSpacesHaveABorderAtEveryCharacter) {
  EXPECT_EQ(found("東京の人口は？", "東京"), Texts{"東京"});
  EXPECT_EQ(found("ทะเลสาบเวย์ลึกแค่ไหน", "ทะเลสาบเวย์"), Texts{"ทะเลสาบเวย์"});
  EXPECT_EQ(found("Hub3は重い", "Hub3"), Texts{"Hub3"});
}

TEST(Wording, TheMaskTakesTheArticleAlong) {
  EXPECT_EQ(mask_name("How heavy is the Hub 3?", "Hub 3"), "How heavy is something?");
  EXPECT_EQ(mask_name("How heavy is my Hub 3?", "hub 3"), "How heavy is something?");
  EXPECT_EQ(mask_name("The Hub 3's lamp", "Hub 3"), "something's lamp");
  EXPECT_EQ(mask_name("Is Hub 3 like the Hub 3?", "Hub 3"), "Is something like something?");
  EXPECT_EQ(mask_name("the (Hub 3)", "Hub 3"),
            "the (something)");  // what stands between parts them
  EXPECT_EQ(mask_name("The Hub", "The Hub"), "something");
  EXPECT_EQ(mask_name("See the The Hub", "The Hub"), "See something");
  EXPECT_EQ(mask_name("Where is Adana?", "Ada"), "Where is Adana?");
  EXPECT_EQ(mask_name("Where?", ""), "Where?");
  EXPECT_EQ(mask_name("", "Ada"), "");
  EXPECT_EQ(mask_name("東京の人口は？", "東京"), "somethingの人口は？");
}

std::string shared(const Texts& wordings) {
  return shared_name(wordings);
}

TEST(Wording, DaysAndHeadingsNameNobody) {
  EXPECT_EQ(shared({"When is the bar open on Sunday?"}), "");
  EXPECT_EQ(shared({"Is the bar open in June?", "When does it open in June?"}), "");
  EXPECT_EQ(shared({"How big is the Sunday Room?"}), "Sunday Room");
  EXPECT_EQ(shared({"Who is April Adler?"}), "April Adler");
  EXPECT_EQ(shared({"Question: who wrote it?\nAnswer: "}), "");
  EXPECT_EQ(shared({"Is it by William?\nAnswer"}), "William");
  EXPECT_EQ(shared({"What happened on 31, 1911?"}), "");
}

TEST(Wording, TheSubjectIsWhatAllWordingsName) {
  EXPECT_EQ(shared({"How heavy is the Hub 3?", "What does the Hub 3 weigh?"}), "Hub 3");
  EXPECT_EQ(shared({"Who invented the Brevik valve?", "Who is the inventor of the Brevik valve?",
                    "Tell me who came up with the Brevik valve."}),
            "Brevik");
  EXPECT_EQ(shared({"Where is the Museum of Salt and Iron?",
                    "How do I get to the Museum of Salt "
                    "and Iron?"}),
            "Museum of Salt and Iron");
  EXPECT_EQ(shared({"Where does Mette Sand live?", "In which town is Mette Sand's home?"}),
            "Mette Sand");
  EXPECT_EQ(shared({"Which language is Orro++ written in?", "In what is Orro++ written?"}), "Orro");
  EXPECT_EQ(shared({"Ada Lunt was born in", "The birthplace of Ada Lunt is"}), "Ada Lunt");
  EXPECT_EQ(shared({"Z\u00fcrich lies on", "The lake at Zu\u0308rich is"}), "Z\u00fcrich");
}

TEST(Wording, OneWordingIsEnough) {
  EXPECT_EQ(shared({"How heavy is the Hub 3?"}), "Hub 3");
  EXPECT_EQ(shared({"In which city is Tarn Cloud based?"}), "Tarn Cloud");
  EXPECT_EQ(shared({"How deep is it?"}), "");
}

TEST(Wording, ACapitalAtTheBeginningOfASentenceSaysNothing) {
  EXPECT_EQ(shared({"Returns: how do they work?", "Returns, please."}), "");
  EXPECT_EQ(shared({"How do I return something?", "How can I send something back?"}), "");
  EXPECT_EQ(shared({"When do you open?", "When are you open on Sunday?"}), "");
  EXPECT_EQ(shared({"What can I do?", "I want to know what I can do."}), "");
  EXPECT_EQ(shared({}), "");
  EXPECT_EQ(shared({"", ""}), "");
  // But it does where another wording has it elsewhere.
  EXPECT_EQ(shared({"Zorblax lives in", "The home of Zorblax is"}), "Zorblax");
}

TEST(Wording, ANumberTakesWhatItCountsAlong) {
  EXPECT_EQ(shared({"how heavy is the hub 3?", "what does the hub 3 weigh?"}), "hub 3");
  EXPECT_EQ(shared({"how heavy is the x200?", "what does the x200 weigh?"}), "x200");
}

TEST(Wording, QuestionsAreReadPlainly) {
  EXPECT_EQ(plain_question("  How   heavy\n is\tit? "), "How heavy is it?");
  EXPECT_EQ(plain_question("Hi, how heavy is it?"), "how heavy is it?");
  EXPECT_EQ(plain_question("Hello there! How heavy is it?"), "How heavy is it?");
  EXPECT_EQ(plain_question("How heavy is it, please?"), "How heavy is it?");
  EXPECT_EQ(plain_question("How heavy is it please"), "How heavy is it");
  EXPECT_EQ(plain_question("What\u2019s the Hub\u2019s weight?"), "What's the Hub's weight?");
  EXPECT_EQ(plain_question("ＨＯＷ heavy?"), "HOW heavy?");
  EXPECT_EQ(plain_question("Zu\u0308rich"), "Z\u00fcrich");
  // What only looks like a greeting stays, and of nothing nothing is taken.
  EXPECT_EQ(plain_question("High, how?"), "High, how?");
  EXPECT_EQ(plain_question("Hi"), "Hi");
  EXPECT_EQ(plain_question("Hello!"), "Hello!");
  EXPECT_EQ(plain_question("please"), "please");
  EXPECT_EQ(plain_question("Hi, please?"), "please?");
  EXPECT_EQ(plain_question("Who displease?"), "Who displease?");
  EXPECT_EQ(plain_question(""), "");
}

TEST(Wording, QuestionsAreOneByTheirKey) {
  EXPECT_EQ(question_key("How heavy is it?"), question_key(" how  heavy is IT"));
  EXPECT_EQ(question_key("Ada Lunt lives in"), question_key("ada lunt lives in."));
  EXPECT_EQ(question_key("Hi, how heavy is it?"), question_key("How heavy is it, please?"));
  EXPECT_EQ(question_key("STRASSE?"), question_key("stra\u00dfe"));
  EXPECT_EQ(question_key("?"), "?");
  EXPECT_EQ(question_key(""), "");
  const Texts different[] = {{"What boils at -3 degrees?", "What boils at 3 degrees?"},
                             {"How large is version 1.5?", "How large is version 15?"},
                             {"Who made C?", "Who made C++?"},
                             {"What is vitamin A?", "What is vitamin?"},
                             {"Who sang in The Who?", "Who sang in Who?"},
                             {"What is 5!?", "What is 5?"},
                             {"Who leads AC/DC?", "Who leads ACDC?"}};
  for (const Texts& pair : different)
    EXPECT_NE(question_key(pair[0]), question_key(pair[1])) << pair[0] << " " << pair[1];
}

TEST(Wording, IdentityIsStrict) {
  EXPECT_TRUE(same_text(" Oslo\n", "Oslo"));
  EXPECT_TRUE(same_text("\u3000Oslo\u00a0", "Oslo"));
  EXPECT_TRUE(same_text("Zu\u0308rich", "Z\u00fcrich"));
  EXPECT_EQ(identity_of("  "), "");
  EXPECT_EQ(identity_of(" a  b "), "a  b");
  EXPECT_EQ(identity_of("a\xff "), "a\xff");
  const Texts different[] = {{"3.5", "35"},     {"-5", "5"}, {"C", "C++"},      {"C++", "C#"},
                             {"1:30", "130"},   {"5%", "5"}, {"Oslo", "oslo"},  {"the sea", "sea"},
                             {"Oslo.", "Oslo"}, {"Ｈ", "H"}, {"1,000", "1000"}, {"a b", "a  b"}};
  for (const Texts& pair : different)
    EXPECT_FALSE(same_text(pair[0], pair[1])) << pair[0] << " " << pair[1];
}

TEST(Wording, ALongTextIsSearchedAtItsBeginning) {
  std::string text = "How heavy is the Corvane 5? ";
  for (int i = 0; i < 25000; ++i) text += "X 3 ";
  EXPECT_FALSE(shared_name(Texts{text}).empty());
}

TEST(Wording, SomeMessagesAskForAText) {
  for (const char* text :
       {"Write a short poem about the Hub.", "Please describe the Hub 3", "Could you summarise it?",
        "A customer is not sure. Write him two sentences.", "Tell me something about the Hub",
        "TELL ME ABOUT THE HUB", "In short: introduce the Hub"})
    EXPECT_TRUE(asks_to_write(text)) << text;
  for (const char* text : {"Who can write to the Hub?", "Tell me the weight of the Hub.",
                           "How do I describe it?", "Is there a write switch?", "", "?!"})
    EXPECT_FALSE(asks_to_write(text)) << text;
}

}  // namespace
}  // namespace accrete
