# Builds the C tests. Called by scripts/c-tests and scripts/fuzz with MODE and CLANG set.
#   MODE   plain, asan (with UBSan), tsan, fuzz (libFuzzer with ASan and UBSan)
# Every folder Sources/C* becomes an archive; every Tests/C/test-*.c (or fuzz-*.c) becomes a program
# linked with all of them. test-fleet*.c see CFleet's own headers, test-http2*.c those of CHTTP2,
# the others those of CSCP.
out := .build/c/$(MODE)

flags_plain := -O1
flags_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
flags_tsan := -O1 -fsanitize=thread
flags_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
# gold warns of hundreds of the sanitizers' symbols; the toolchain's own linker does not.
link_asan := -fuse-ld=lld
link_fuzz := -fsanitize=fuzzer -fuse-ld=lld
# The toolchain's TSan intercepts libdispatch and therefore wants it, used or not.
swift_libs := $(abspath $(dir $(realpath $(CLANG)))../lib/swift/linux)
late_tsan := -L$(swift_libs) -Wl,-rpath,$(swift_libs) -Wl,--no-as-needed -ldispatch -lBlocksRuntime

libraries := $(shell pkg-config --libs libnghttp2 openssl libmicrohttpd hiredis libsystemd)
CFLAGS := -std=gnu17 -g -fno-omit-frame-pointer -D_GNU_SOURCE -Wall -Wextra -Wconversion -Werror \
	-pthread $(flags_$(MODE)) -ITests/C $(patsubst %,-I%,$(wildcard Sources/*/include)) \
	$(shell pkg-config --cflags libnghttp2 openssl libmicrohttpd hiredis libsystemd)

kind := $(if $(filter fuzz,$(MODE)),fuzz,test)
programs := $(patsubst Tests/C/%.c,$(out)/%,$(wildcard Tests/C/$(kind)-*.c))
support := $(filter-out Tests/C/test-% Tests/C/fuzz-% Tests/C/bench-%,$(wildcard Tests/C/*.c))
modules := $(sort $(patsubst Sources/%/,%,$(dir $(wildcard Sources/C*/*.c))))
archives := $(patsubst %,$(out)/lib%.a,$(modules))
support_objects := $(patsubst %.c,$(out)/%.o,$(support))

.PHONY: all
all: $(programs)

# An archive is made anew, lest an object of a file that is gone stays in it.
define archive
$(out)/lib$(1).a: $(patsubst %.c,$(out)/%.o,$(wildcard Sources/$(1)/*.c))
	@rm -f $$@
	@ar crs $$@ $$^
endef
$(foreach module,$(modules),$(eval $(call archive,$(module))))

private_fleet := -ISources/CFleet
private_http2 := -ISources/CHTTP2
private = $(or $(private_$(word 2,$(subst -, ,$(notdir $*)))),-ISources/CSCP)

$(out)/%.o: %.c scripts/c-tests.mk
	@mkdir -p $(@D)
	@$(CLANG) $(CFLAGS) -I$(<D) $(if $(filter Tests/C/%,$<),$(private)) -MMD -MP -c $< -o $@

$(out)/%: $(out)/Tests/C/%.o $(support_objects) $(archives)
	@$(CLANG) $(CFLAGS) $(link_$(MODE)) $< $(support_objects) \
		-Wl,--start-group $(archives) -Wl,--end-group -Wl,--as-needed $(libraries) -lm $(late_$(MODE)) -o $@

.SECONDARY:
-include $(shell find $(out) -name '*.d' 2>/dev/null)
