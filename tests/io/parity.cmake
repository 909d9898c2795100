# Side by side with Python's gguf, safetensors, tokenizers and transformers: tests/io/parity_io.py
# drives this executable. Needs a Python with these packages (the checkout's .venv, see `make setup`).
add_executable(io_parity_tool ${CMAKE_CURRENT_LIST_DIR}/parity_tool.cc)
target_link_libraries(io_parity_tool PRIVATE accrete_core accrete_options)

find_program(ACCRETE_PYTHON python3 PATHS ${CMAKE_SOURCE_DIR}/.venv/bin NO_DEFAULT_PATH)
find_program(ACCRETE_PYTHON python3)
add_test(NAME io/parity COMMAND ${ACCRETE_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/parity_io.py
                                $<TARGET_FILE:io_parity_tool>)
# 77: a part was skipped, which the output names; the rest passed.
set_tests_properties(io/parity PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77
  ENVIRONMENT "ACCRETE_SOURCE_DIR=${CMAKE_SOURCE_DIR}")
