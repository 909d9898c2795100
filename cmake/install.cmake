# cmake --install: the program, its data and completions, and the library for find_package(accrete).
include(CMakePackageConfigHelpers)

install(TARGETS accrete_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS accrete_verbs accrete_bench_program
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/accrete
        RUNTIME DESTINATION ${CMAKE_INSTALL_LIBDIR}/accrete)
# The libtorch that they were built with stays where it is.
set_target_properties(accrete_verbs accrete_bench_program PROPERTIES INSTALL_RPATH "${TORCH_INSTALL_PREFIX}/lib")
if(NOT CMAKE_CROSSCOMPILING)
  install(FILES ${CMAKE_BINARY_DIR}/lib/accrete/texts.json
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/accrete)
endif()
install(DIRECTORY data/ DESTINATION ${CMAKE_INSTALL_DATADIR}/accrete)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Shell completions, written by the program itself.
if(NOT CMAKE_CROSSCOMPILING)
  set(_scripts)
  foreach(_shell bash zsh fish)
    set(_script ${CMAKE_CURRENT_BINARY_DIR}/completions/accrete.${_shell})
    add_custom_command(OUTPUT ${_script}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/completions
      COMMAND accrete_cli completion ${_shell} > ${_script}
      DEPENDS accrete_cli accrete_verbs VERBATIM)
    list(APPEND _scripts ${_script})
  endforeach()
  add_custom_target(accrete_completions ALL DEPENDS ${_scripts})
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/completions/accrete.bash RENAME accrete
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/completions/accrete.zsh RENAME _accrete
          DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/completions/accrete.fish
          DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

# The library. include/accrete/error.h only stands in for base/error.h in the source tree.
install(FILES include/accrete/accrete.h include/accrete/model.h include/accrete/types.h include/accrete/ledger_types.h
              src/base/error.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/accrete)
set_target_properties(accrete_core PROPERTIES EXPORT_NAME core)
add_library(accrete::accrete ALIAS accrete)
install(TARGETS accrete accrete_core EXPORT accreteTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
set(_package ${CMAKE_INSTALL_LIBDIR}/cmake/accrete)
install(EXPORT accreteTargets NAMESPACE accrete:: DESTINATION ${_package})
set(ACCRETE_DATA_DIR ${CMAKE_INSTALL_DATADIR}/accrete)
configure_package_config_file(cmake/accreteConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/accreteConfig.cmake INSTALL_DESTINATION ${_package}
  PATH_VARS ACCRETE_DATA_DIR)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/accreteConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/accreteConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/accreteConfigVersion.cmake
        DESTINATION ${_package})

# The reader, where `make setup` brought it.
if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/models/all-MiniLM-L6-v2/model.safetensors)
  install(DIRECTORY models/all-MiniLM-L6-v2/ DESTINATION ${CMAKE_INSTALL_DATADIR}/accrete/reader)
endif()
