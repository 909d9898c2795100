#include "io/documents.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/dataset_formats.h"
#include "io/utf8.h"

// The environment, for pdftotext's place.
extern char** environ;

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargest = size_t{64} << 20;  // of a document

enum class Kind { kItems, kText, kMarkdown, kHtml, kPdf, kOther };

Kind kind_of(const fs::path& path) {
  fs::path name = path.filename();
  if (name.extension() == ".zst") name = name.stem();
  std::string extension = name.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool packed = path.extension() == ".zst";
  if (extension == ".jsonl" || extension == ".json") return Kind::kItems;
  if (extension == ".txt") return Kind::kText;
  if (packed) return Kind::kOther;
  if (extension == ".md" || extension == ".markdown") return Kind::kMarkdown;
  if (extension == ".html" || extension == ".htm") return Kind::kHtml;
  if (extension == ".pdf") return Kind::kPdf;
  return Kind::kOther;
}

[[noreturn]] void refuse(const fs::path& path, const std::string& what, const std::string& hint) {
  throw Error(ErrorCode::kInvalidArgument, accrete::format("{}: {}", path.string(), what), hint);
}

// Standard output of a program; none: it is not there. Throws kIo, kFormat (it fails).
std::optional<std::string> output_of(const std::vector<std::string>& command,
                                     const fs::path& about) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw Error(ErrorCode::kIo, accrete::format("no pipe: {}", std::strerror(errno)));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, words[0], &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string out;
  if (failed == 0) {
    std::array<char, 65536> part{};
    for (;;) {
      const ssize_t n = read(ends[0], part.data(), part.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      if (out.size() < kLargest) out.append(part.data(), static_cast<size_t>(n));
    }
  }
  close(ends[0]);
  if (failed == ENOENT) return std::nullopt;
  if (failed != 0)
    throw Error(ErrorCode::kIo,
                accrete::format("{} cannot be started: {}", command[0], std::strerror(failed)));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    refuse(about, accrete::format("{} cannot read it", command[0]),
           "is it whole, and without a password? save it as text and teach that");
  return out;
}

std::string text_of_pdf(const fs::path& path) {
  // "./" before a name that begins with '-'.
  const auto text =
      output_of({"pdftotext", "-enc", "UTF-8", "-q",
                 path.is_absolute() ? path.string() : (fs::path(".") / path).string(), "-"},
                path);
  if (!text)
    throw Error(ErrorCode::kUnsupported,
                accrete::format("{}: reading a PDF needs pdftotext", path.string()),
                "install poppler (Debian: apt-get install poppler-utils)");
  if (is_blank(*text))
    refuse(path, "there is no text in it, its pages may be pictures",
           "run text recognition on it first (for example ocrmypdf)");
  return *text;
}

// Bytes as text. Files of Windows are often in its code page: that is said, not guessed.
std::string checked_text(std::string text, const fs::path& path) {
  if (text.find('\0') != std::string::npos) refuse(path, "it is no text", "leave it out");
  text.erase(0, after_byte_order_mark(text));
  if (!is_utf8(text))
    refuse(path, "its text is not UTF-8",
           accrete::format("convert it: iconv -f WINDOWS-1252 -t UTF-8 {}", path.string()));
  if (is_blank(text)) refuse(path, "it is empty", "leave it out");
  return text;
}

Item document_of(const fs::path& path, Kind kind) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (!error && size > kLargest)
    refuse(path, accrete::format("it has {} MB, a document at most {}", size >> 20, kLargest >> 20),
           "split it");
  Item item;
  item.kind = Item::Kind::kText;
  item.line = 1;
  item.source = path.lexically_normal().generic_string();
  const std::string bytes = read_file(path);
  item.digest = sha256_hex(bytes);
  if (kind == Kind::kPdf) {
    item.text = checked_text(text_of_pdf(path), path);
  } else {
    item.text = checked_text(bytes, path);
    item.markdown = kind != Kind::kText;
    if (kind == Kind::kHtml) item.text = markdown_of_html(item.text, path.string(), &item.title);
    if (is_blank(item.text)) refuse(path, "there is no text in it", "leave it out");
  }
  return item;
}

// The readable files below a folder, in order of their names.
void list(const fs::path& folder, std::vector<fs::path>& out, std::vector<std::string>& remarks,
          int depth = 0) {
  constexpr int kDeepest = 64;
  constexpr size_t kMostFiles = 100'000;
  std::vector<fs::directory_entry> entries;
  try {
    for (const auto& entry : fs::directory_iterator(folder)) entries.push_back(entry);
  } catch (const fs::filesystem_error& e) {
    throw Error(ErrorCode::kIo, accrete::format("{}: {}", folder.string(), e.code().message()));
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.path() < b.path(); });
  for (const auto& entry : entries) {
    const fs::path& path = entry.path();
    if (path.filename().string().starts_with('.')) continue;
    std::error_code error;
    if (entry.is_directory(error)) {
      if (entry.is_symlink(error))
        remarks.push_back(accrete::format("{}: a link to a folder, left out", path.string()));
      else if (depth < kDeepest)
        list(path, out, remarks, depth + 1);
      continue;
    }
    if (!entry.is_regular_file(error) || kind_of(path) == Kind::kOther) {
      remarks.push_back(accrete::format("{}: no kind that is read, left out", path.string()));
      continue;
    }
    if (out.size() >= kMostFiles)
      refuse(folder, accrete::format("over {} files", kMostFiles), "teach parts of it");
    out.push_back(path);
  }
}

bool is_table(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".csv" || extension == ".tsv" || extension == ".xlsx" || extension == ".ods";
}

void append(const fs::path& path, Dataset& to) {
  const Kind kind = kind_of(path);
  if (kind == Kind::kOther)
    refuse(path, "no kind of file that is read",
           is_table(path)
               ? "write the rows of a table into a .jsonl file, one {\"question\": ..., "
                 "\"answer\": ...} a line"
               : "documents are .md, .txt, .html and .pdf files, teach sets .jsonl and .json, both "
                 "of these also packed as .zst");
  if (kind == Kind::kItems || kind == Kind::kText) {
    if (kind == Kind::kText && path.extension() != ".zst")
      (void)checked_text(read_file(path), path);
    Dataset one = read_dataset(path);
    for (Item& item : one.items) {
      if (item.kind == Item::Kind::kText && kind == Kind::kText) {
        // Documents of one file: the first has the file's name, the others their number too.
        item.source = path.lexically_normal().generic_string();
        if (one.items.size() > 1) item.source += accrete::format("#{}", item.line);
        item.digest = sha256_hex(item.text);
      }
      to.items.push_back(std::move(item));
    }
    to.digest += one.digest;
  } else {
    Item item = document_of(path, kind);
    to.digest += item.digest;
    to.items.push_back(std::move(item));
  }
}

}  // namespace

Dataset read_teach_sets(std::span<const fs::path> paths) {
  Dataset out;
  if (paths.empty())
    throw Error(ErrorCode::kInvalidArgument, "there is nothing to teach",
                "name a file or a folder");
  out.path = paths.front();
  size_t files = 0;
  std::set<fs::path> met;
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path)) {
      if (met.insert(path.lexically_normal()).second) append(path, out);
      ++files;
      continue;
    }
    std::vector<fs::path> below;
    list(path, below, out.remarks);
    for (const fs::path& file : below) {
      if (!met.insert(file.lexically_normal()).second) continue;
      ++files;
      // One unreadable page of many is no reason to teach none; a line of a teach set is.
      if (kind_of(file) == Kind::kItems) {
        append(file, out);
        continue;
      }
      try {
        append(file, out);
      } catch (const Error& e) {
        if (e.code() != ErrorCode::kInvalidArgument && e.code() != ErrorCode::kFormat) throw;
        out.remarks.push_back(accrete::format("{}; left out", e.what()));
      }
    }
  }
  if (out.items.empty())
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{}: there is nothing to read in it", out.path.string()),
                "documents are .md, .txt, .html and .pdf files, teach sets .jsonl and .json");
  if (files > 1) out.digest = sha256_hex(out.digest);
  return out;
}

}  // namespace accrete
