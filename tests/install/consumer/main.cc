// Teaches a model one fact, asks for it, and takes it back.
//
//   consumer MODEL      a folder that accrete::retrofit (or `accrete retrofit`) made
#include <accrete/accrete.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: consumer MODEL\n";
    return 2;
  }
  try {
    auto model = accrete::Model::open(argv[1]);
    const auto before = model.digest();

    const std::vector<accrete::Item> facts = {
        {.prompts = {"Who founded the Zephyr Clockworks?",
                     "Who is the founder of the Zephyr Clockworks?"},
         .answers = {"Ottoline Marsh"},
         .subject = "Zephyr Clockworks"}};
    const auto report = model.teach(facts);
    std::cout << "update " << report.update << ": learned " << report.learned.before << " -> "
              << report.learned.after << ", " << report.rows << " rows in " << report.seconds
              << " s\n";

    model.ask("Who founded the Zephyr Clockworks?", {.max_tokens = 8},
              [](std::string_view text) { std::cout << text << std::flush; });
    std::cout << "\n";

    model.undo();
    std::cout << (model.digest().state == before.state ? "undone, exactly\n" : "not undone\n");
    for (const auto& update : model.log())
      std::cout << update.id << "  " << update.time << (update.active ? "" : "  undone") << "\n";
  } catch (const accrete::Error& e) {
    std::cerr << accrete::error_code_name(e.code()) << ": " << e.what() << "\n  try: " << e.hint()
              << "\n";
    return 1;
  }
}
