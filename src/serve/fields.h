// The body of a request: strict JSON whose fields are read by name and type, and what was not read.
//
// Every error is kInvalidArgument or kFormat, names the field by its path ("messages[1].role"), and
// carries it in `RequestError::param`.
//
// Non-goals: schemas, writing JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace accrete::serve {

// An error of a request with what OpenAI's shape says beside the message.
class RequestError : public Error {
 public:
  RequestError(int status, std::string code, std::string param, const std::string& message,
               std::string hint = "")
      : Error(ErrorCode::kInvalidArgument, message, std::move(hint)),
        status_(status),
        code_(std::move(code)),
        param_(std::move(param)) {}
  int status() const { return status_; }
  const std::string& code_text() const { return code_; }
  const std::string& param() const { return param_; }

 private:
  int status_;
  std::string code_, param_;
};

class Fields {
 public:
  // The object that a body is. Throws RequestError (400).
  static Fields of_body(std::string_view body);
  Fields(nlohmann::json object, std::string path);

  // Absent or null: nullopt. Throws RequestError on another type or a number out of range.
  std::optional<std::string> text(const std::string& name);
  std::optional<bool> flag(const std::string& name);
  std::optional<int64_t> integer(const std::string& name, int64_t least, int64_t most);
  std::optional<double> number(const std::string& name, double least, double most);
  // One text or a list of them.
  std::optional<std::vector<std::string>> texts(const std::string& name, size_t most);
  std::optional<Fields> object(const std::string& name);
  // As it is; null where it is absent.
  const nlohmann::json& any(const std::string& name);
  bool has(const std::string& name) const;
  // Fields that are known and not supported: 400 if one is there with another value than `neutral`.
  void refuse(const std::string& name, const nlohmann::json& neutral = nullptr,
              const std::string& hint = "");

  // What was never asked for, as "a, b".
  std::string ignored() const;
  std::string path(const std::string& name) const;
  RequestError wrong(const std::string& name, const std::string& what) const;

 private:
  nlohmann::json object_;
  std::string path_;
  std::set<std::string> read_;
};

}  // namespace accrete::serve
