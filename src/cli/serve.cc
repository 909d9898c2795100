#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/format.h"
#include "base/interrupt.h"
#include "cli/cli.h"
#include "serve/api.h"

namespace accrete::cli {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

struct ServeArguments {
  std::string model, host = "127.0.0.1", unix_socket, keys, audit, proposals, otherwise;
  std::vector<std::string> allow_hosts;
  uint16_t port = 8080;
  int64_t rows = 64, queue = 256, resident = 256;
  double grace = 30;
};

// Listens where it was told to, and says where.
std::unique_ptr<serve::HttpServer> listen(const ServeArguments& a, serve::Api& api,
                                          const Common& common) {
  if (!a.unix_socket.empty()) {
    // Without keys whoever reaches the socket may do everything.
    auto server = std::make_unique<serve::HttpServer>(
        serve::UnixSocket{a.unix_socket, !a.keys.empty()}, api.handlers());
    common.print({{"unix", a.unix_socket}},
                 accrete::format("serving {} at the Unix socket {}\n", a.model, a.unix_socket));
    return server;
  }
  auto server = std::make_unique<serve::HttpServer>(a.host, a.port, api.handlers());
  const std::string host = a.host.find(':') == std::string::npos ? a.host : "[" + a.host + "]";
  common.print({{"url", accrete::format("http://{}:{}/v1", host, server->port())},
                {"host", a.host},
                {"port", server->port()}},
               accrete::format("serving {} at http://{}:{}/v1\n", a.model, host, server->port()));
  return server;
}

int serve_model(const ServeArguments& a, const Common& common) {
  if (a.keys.empty() && a.unix_socket.empty() && !serve::is_loopback(a.host))
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("without keys a server listens on this machine alone, not on {}", a.host),
        "make keys with `accrete key add FILE NAME` and give --keys FILE");
  // What is large goes back to the system as soon as it is free. Else small things that stay, such
  // as an overlay that was opened, take the place of a row's keys and values that were freed, and
  // the next row needs new memory: some 4 MB for each overlay.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
  const InterruptHandler interrupt;
  serve::ApiOptions options;
  options.host = a.host;
  options.allow_hosts = a.allow_hosts;
  options.keys = a.keys;
  options.audit = a.audit;
  options.proposals = a.proposals;
  options.otherwise = a.otherwise;
  options.program = std::filesystem::read_symlink("/proc/self/exe").string();
  options.child_arguments = {"--threads", std::to_string(common.open.threads), "--seed",
                             std::to_string(common.seed)};
  options.engine.rows = a.rows;
  options.engine.queue = a.queue;
  serve::Api api(
      std::make_shared<serve::Service>(a.model, common.open, static_cast<size_t>(a.resident)),
      options);
  const auto listening = listen(a, api, common);
  serve::HttpServer& server = *listening;
  std::thread io([&server] { server.run(); });
  while (!interrupt.interrupted()) std::this_thread::sleep_for(milliseconds(50));
  // What is being answered has its time; nothing new is begun.
  std::thread ending([&api] { api.drain(); });
  const auto until = Clock::now() + milliseconds(static_cast<int64_t>(a.grace * 1000));
  while (!api.idle() && Clock::now() < until) std::this_thread::sleep_for(milliseconds(20));
  server.drain();
  const auto flushed = std::min(until, Clock::now() + milliseconds(2000));
  while (server.connections() > 0 && Clock::now() < flushed)
    std::this_thread::sleep_for(milliseconds(20));
  ending.join();
  server.stop();
  io.join();
  return 0;
}

}  // namespace

void add_serve(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<ServeArguments>();
  auto* verb =
      app.add_subcommand("serve", "Answer OpenAI's clients over HTTP, and learn while answering");
  verb->add_option("MODEL", state->model, "A model folder made by retrofit")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--host", state->host, "The address to listen on")
      ->envname("ACCRETE_SERVE_HOST")
      ->type_name("ADDRESS")
      ->capture_default_str();
  verb->add_option("--port", state->port, "The port; 0: one that is free")
      ->envname("ACCRETE_SERVE_PORT")
      ->type_name("PORT")
      ->capture_default_str();
  verb->add_option("--unix", state->unix_socket, "A Unix socket to listen on instead of a port")
      ->envname("ACCRETE_SERVE_UNIX")
      ->type_name("PATH");
  verb->add_option("--keys", state->keys,
                   "Who may do what (`accrete key`); without it this machine alone is served")
      ->envname("ACCRETE_SERVE_KEYS")
      ->type_name("FILE");
  verb->add_option("--audit", state->audit,
                   "Who taught, undid and erased what: JSON lines are appended to it")
      ->envname("ACCRETE_SERVE_AUDIT")
      ->type_name("FILE");
  verb->add_option("--proposals", state->proposals,
                   "Keep corrections said in chats in it, for who may teach to confirm or drop")
      ->envname("ACCRETE_SERVE_PROPOSALS")
      ->type_name("FILE");
  verb->add_option("--allow-host", state->allow_hosts,
                   "A name that clients call this server by; may be repeated")
      ->envname("ACCRETE_SERVE_ALLOW_HOST")
      ->type_name("NAME");
  verb->add_option(
          "--otherwise", state->otherwise,
          "What a chat is answered where nothing taught was asked for; default: the model answers")
      ->envname("ACCRETE_SERVE_OTHERWISE")
      ->type_name("TEXT");
  verb->add_option("--rows", state->rows, "Answers that are written at the same time")
      ->envname("ACCRETE_SERVE_ROWS")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--queue", state->queue, "Requests that may wait; more are refused")
      ->envname("ACCRETE_SERVE_QUEUE")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  verb->add_option("--resident", state->resident,
                   "Overlays that stay open; the one that was not asked for longest goes first")
      ->envname("ACCRETE_SERVE_RESIDENT")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  verb->add_option("--grace", state->grace, "What answers have to be finished in at the end")
      ->envname("ACCRETE_SERVE_GRACE")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  add_common(*verb, common, "accrete serve my-model --port 8080");
  verb->callback(
      [state, &common, &run] { run = [state, &common] { return serve_model(*state, common); }; });
}

void add_key(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string file, name, overlay;
    std::vector<std::string> scopes = {"ask"};
    serve::KeyQuotas quotas;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("key", "Keys of a server: who may ask, teach and undo");
  verb->require_subcommand(1);
  auto* add = verb->add_subcommand("add", "Make a key and print it, once; the file has its hash");
  add->add_option("FILE", state->file, "The file of keys; made if it is absent")->required();
  add->add_option("NAME", state->name, "Whose key it is; names it in logs and metrics")->required();
  add->add_option("--scope", state->scopes, "What it may do; may be repeated")
      ->type_name("{ask,teach,undo,admin}")
      ->check(CLI::IsMember({"ask", "teach", "undo", "admin"}))
      ->capture_default_str();
  add->add_option(
         "--overlay", state->overlay,
         "The one overlay that it reaches, where it asks, teaches and undoes; default: what "
         "all share, or with admin everything")
      ->type_name("NAME");
  add->add_option("--jobs-a-day", state->quotas.jobs_a_day,
                  "Teaches and merges that it may start in a day; default: no bound")
      ->type_name("N")
      ->check(above_zero());
  add->add_option("--items-a-job", state->quotas.items_a_job,
                  "Lines that one teach set may have; default: no bound")
      ->type_name("N")
      ->check(above_zero());
  add_common(*add, common, "accrete key add keys.jsonl desk --scope ask --scope teach");
  add->callback([state, &common, &run] {
    run = [state, &common] {
      std::vector<serve::Scope> scopes;
      for (const auto& name : state->scopes) scopes.push_back(serve::parse_scope(name));
      const std::string key =
          serve::add_key(state->file, state->name, scopes, state->overlay, state->quotas);
      nlohmann::ordered_json json = {
          {"name", state->name}, {"key", key}, {"scopes", state->scopes}};
      if (!state->overlay.empty()) json["overlay"] = state->overlay;
      common.print(json, key + "\n");
      return 0;
    };
  });
  auto* list = verb->add_subcommand("list", "The names of a file's keys and what they may do");
  list->add_option("FILE", state->file, "The file of keys")->required();
  add_common(*list, common, "accrete key list keys.jsonl");
  list->callback([state, &common, &run] {
    run = [state, &common] {
      nlohmann::ordered_json json = nlohmann::ordered_json::array();
      std::vector<std::vector<std::string>> rows = {{"NAME", "SCOPES", "OVERLAY"}};
      for (const serve::Key& key : serve::read_keys(state->file)) {
        std::string scopes;
        nlohmann::ordered_json names = nlohmann::ordered_json::array();
        for (const serve::Scope scope : key.scopes) {
          names.push_back(serve::scope_name(scope));
          scopes += (scopes.empty() ? "" : ", ") + std::string(serve::scope_name(scope));
        }
        json.push_back({{"name", key.name}, {"scopes", names}});
        if (!key.overlay.empty()) json.back()["overlay"] = key.overlay;
        rows.push_back({key.name, scopes, key.overlay});
      }
      common.print({{"keys", json}}, json.empty() ? "there are no keys\n" : table(rows));
      return 0;
    };
  });
  auto* revoke = verb->add_subcommand("revoke", "Take a key away; a server sees it at once");
  revoke->add_option("FILE", state->file, "The file of keys")->required();
  revoke->add_option("NAME", state->name, "Whose key it was")->required();
  add_common(*revoke, common, "accrete key revoke keys.jsonl desk");
  revoke->callback([state, &common, &run] {
    run = [state, &common] {
      serve::revoke_key(state->file, state->name);
      common.print({{"revoked", state->name}}, accrete::format("{} has no key now\n", state->name));
      return 0;
    };
  });
}

}  // namespace accrete::cli
