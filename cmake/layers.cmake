# add_layer(NAME HEADERS h... SOURCES c... [PRIVATE_HEADERS h...] [USES layer...] [LIBS target...])
#
# One static library per folder.  USES is the arrow of docs/ARCHITECTURE.md: a
# layer can only include from and link with the layers named there.  HEADERS are
# public: each must compile alone (CMAKE_VERIFY_INTERFACE_HEADER_SETS).
function(add_layer name)
  cmake_parse_arguments(L "" "" "HEADERS;PRIVATE_HEADERS;SOURCES;USES;LIBS" ${ARGN})
  add_library(${name} STATIC ${L_SOURCES})
  target_sources(${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${L_HEADERS})
  if(L_PRIVATE_HEADERS)
    target_sources(${name} PRIVATE ${L_PRIVATE_HEADERS})
  endif()
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE C)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${L_USES} PRIVATE ${L_LIBS} lifeboat_flags)
endfunction()

# add_unit_test(NAME LAYERS layer... [SOURCES c...] [LIBS ...] [LABELS ...] [ARGS ...])
# builds tests/unit/.../test_NAME and registers it with CTest as unit.NAME.
function(add_unit_test name)
  cmake_parse_arguments(T "" "" "LAYERS;SOURCES;LIBS;ARGS" ${ARGN})
  add_executable(test_${name} ${T_SOURCES})
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(test_${name} PRIVATE ${T_LAYERS} ${T_LIBS} PkgConfig::CMOCKA lifeboat_flags)
  add_test(NAME unit.${name} COMMAND test_${name} ${T_ARGS})
  set_tests_properties(unit.${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()

# add_fuzz_target(NAME LAYERS layer... SOURCES c...): with clang's libFuzzer in the
# preset "fuzz"; elsewhere linked with tests/fuzz/replay.c, which feeds it the
# seed corpus (tests/fuzz/corpus/NAME/) and seeded mutations of it for a short time.
function(add_fuzz_target name)
  cmake_parse_arguments(F "" "" "LAYERS;SOURCES;LIBS" ${ARGN})
  add_executable(fuzz_${name} ${F_SOURCES})
  target_include_directories(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(fuzz_${name} PRIVATE ${F_LAYERS} ${F_LIBS} lifeboat_flags)
  if(LIFEBOAT_FUZZ)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
    add_test(NAME fuzz.${name} COMMAND fuzz_${name} --runs=20000 ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 300)
  endif()
endfunction()
