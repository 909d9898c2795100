# Everything comes from package managers: see scripts/setup.sh for the names.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(SQLite3 REQUIRED)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(xml2 REQUIRED IMPORTED_TARGET libxml-2.0)

if(NOT ACCRETE_FUZZ)
  pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
  find_package(CLI11 REQUIRED)
  find_package(Boost 1.74 REQUIRED)  # headers: Asio and Beast
  pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)

  # at::parallel_for is made by the compiler of who calls it: without OpenMP's flag it is a plain
  # loop, and nothing says so.
  find_package(OpenMP REQUIRED COMPONENTS CXX)

  if(ACCRETE_CUDA)
    include(cmake/cuda.cmake)
  else()
    # A Torch_DIR or CMAKE_PREFIX_PATH of the user's wins; else the wheel in the checkout's .venv.
    if(NOT DEFINED Torch_DIR)
      file(GLOB _accrete_wheel
           ${CMAKE_CURRENT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake)
      list(APPEND CMAKE_PREFIX_PATH ${_accrete_wheel})
    endif()
    find_package(Torch QUIET)
    if(NOT Torch_FOUND)
      message(FATAL_ERROR "libtorch was not found. Run `make setup`, or give "
                          "-DTorch_DIR=.../share/cmake/Torch of a libtorch >= 2.6.")
    endif()
  endif()
  message(STATUS "libtorch: ${TORCH_INSTALL_PREFIX}")
endif()
