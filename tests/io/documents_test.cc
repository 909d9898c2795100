#include "io/documents.h"

#include <gtest/gtest.h>

#include <fstream>

#include "../base/testing.h"
#include "base/error.h"
#include "base/sha256.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TemporaryFolder;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

template <typename Action>
void refuses(ErrorCode code, Action&& action, const std::string& part) {
  const std::string message = expect_error(code, action);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

Dataset read(std::vector<fs::path> paths) {
  return read_teach_sets(paths);
}

TEST(Documents, AFolderIsReadInOrderAndWhatIsNoneIsSaid) {
  const TemporaryFolder folder;
  write(folder / "b.md", "# B\n\nText of b.\n");
  write(folder / "a.txt", "Text of a.\n");
  write(folder / "sub" / "c.html", "<title>C</title><p>Text of c.</p>");
  write(folder / "facts.jsonl", "{\"question\": \"Q?\", \"answer\": \"A\"}\n");
  write(folder / "picture.png", std::string("\x89PNG\0", 5));
  write(folder / "empty.md", "  \n");
  write(folder / ".hidden.md", "Hidden.\n");
  write(folder / "latin.txt", "caf\xe9\n");
  fs::create_directory_symlink(folder / "sub", folder / "sub" / "loop");
  const Dataset data = read({folder / "."});
  ASSERT_EQ(data.items.size(), 4U);
  EXPECT_EQ(data.items[0].text, "Text of a.");
  EXPECT_FALSE(data.items[0].markdown);
  EXPECT_EQ(data.items[1].source, (folder / "b.md").generic_string());
  EXPECT_EQ(data.items[1].digest, sha256_hex(std::string_view("# B\n\nText of b.\n")));
  EXPECT_EQ(data.items[2].kind, Item::Kind::kFact);
  EXPECT_EQ(data.items[3].title, "C");
  std::string remarks;
  for (const std::string& remark : data.remarks) remarks += remark + "\n";
  for (const char* part : {"picture.png", "empty.md: it is empty",
                           "latin.txt: its text is not UTF-8", "loop: a link to a folder"})
    EXPECT_NE(remarks.find(part), std::string::npos) << part << "\n" << remarks;
  EXPECT_EQ(remarks.find("hidden"), std::string::npos);
}

TEST(Documents, AFileThatWasNamedIsRefusedForWhatItIs) {
  const TemporaryFolder folder;
  write(folder / "empty.md", "\n");
  write(folder / "zero.md", std::string("a\0b", 3));
  write(folder / "a.docx", "x");
  write(folder / "broken.pdf", "no pdf");
  fs::create_directory(folder / "bare");
  refuses(ErrorCode::kInvalidArgument, [&] { (void)read({folder / "empty.md"}); }, "empty.md");
  refuses(ErrorCode::kInvalidArgument, [&] { (void)read({folder / "zero.md"}); }, "no text");
  refuses(ErrorCode::kInvalidArgument, [&] { (void)read({folder / "a.docx"}); }, "a.docx");
  refuses(
      ErrorCode::kInvalidArgument, [&] { (void)read({folder / "broken.pdf"}); },
      "pdftotext cannot read it");
  refuses(ErrorCode::kInvalidArgument, [&] { (void)read({folder / "bare"}); }, "nothing to read");
  refuses(ErrorCode::kNotFound, [&] { (void)read({folder / "gone.md"}); }, "gone.md");
}

TEST(Documents, OneTeachSetIsReadAsItAlwaysWas) {
  const TemporaryFolder folder;
  write(folder / "a.jsonl", "{\"question\": \"Q?\", \"answer\": \"A\"}\n");
  EXPECT_EQ(read({folder / "a.jsonl"}).digest, read_dataset(folder / "a.jsonl").digest);
}

// A page of one line of text, as small as PDF allows.
std::string small_pdf(const std::string& text) {
  const std::string content = "BT /F1 12 Tf 20 100 Td (" + text + ") Tj ET";
  const std::vector<std::string> objects = {
      "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
      "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Contents 4 0 R /Resources << /Font << "
      "/F1 5 0 R >> >> >>",
      "<< /Length " + std::to_string(content.size()) + " >>\nstream\n" + content + "\nendstream",
      "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"};
  std::string out = "%PDF-1.4\n", table = "0000000000 65535 f \n";
  for (size_t i = 0; i < objects.size(); ++i) {
    std::string at = std::to_string(out.size());
    table += std::string(10 - at.size(), '0') + at + " 00000 n \n";
    out += std::to_string(i + 1) + " 0 obj\n" + objects[i] + "\nendobj\n";
  }
  const std::string start = std::to_string(out.size());
  return out + "xref\n0 6\n" + table + "trailer << /Size 6 /Root 1 0 R >>\nstartxref\n" + start +
         "\n%%EOF\n";
}

TEST(Documents, APdfIsReadByPoppler) {
  const TemporaryFolder folder;
  write(folder / "-a b.pdf", small_pdf("The Hub weighs 310 grams."));
  const Dataset data = read({folder / "-a b.pdf"});
  EXPECT_NE(data.items.at(0).text.find("The Hub weighs 310 grams."), std::string::npos);
  write(folder / "scan.pdf", small_pdf(""));
  refuses(
      ErrorCode::kInvalidArgument, [&] { (void)read({folder / "scan.pdf"}); },
      "pages may be pictures");
}

TEST(Html, SaysWhatThePageSays) {
  std::string title;
  const std::string text = markdown_of_html(
      "<html><head><title>The  Hub</title><style>p{}</style></head><body><nav>Home</nav>"
      "<h1>Hub &amp; more</h1><p>It costs <b>249</b> euros.<br>Or *less*.</p>"
      "<ul><li>light</li><li># small</li></ul><script>x()</script>"
      "<table><tr><th>Model</th><th>Price</th></tr><tr><td>Hub 3</td><td>2|3</td></tr></table>"
      "<footer>(c)</footer></body></html>",
      "a.html", &title);
  EXPECT_EQ(title, "The Hub");
  EXPECT_EQ(text,
            "# Hub & more\n\nIt costs 249 euros. Or \\*less\\*.\n\n- light\n\n- \\# small\n\n"
            "| Model | Price |\n|---|---|\n| Hub 3 | 2\\|3 |\n\n");
}

TEST(Html, DeepAndBrokenPagesAreReadAsFarAsTheyGo) {
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "<div>";
  EXPECT_NO_THROW((void)markdown_of_html(deep + "x", "a.html", nullptr));
  EXPECT_NE(markdown_of_html("<p>open <b>tags", "a.html", nullptr).find("open tags"),
            std::string::npos);
}

}  // namespace
}  // namespace accrete
