# shellcheck shell=bash
# What scripts/quickstart, scripts/test and scripts/bench share: where things are, what has to be installed.
# Sourced by bash; sets $root (the checkout). Refuses to install anything as an ordinary user.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# To build wkspd, and for its main job. dpkg-dev: without it meson does not know where Debian has libraries.
# shellcheck disable=SC2034  # used by the scripts that source this
packages_build=(gcc libc6-dev dpkg-dev meson ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev
  libuv1-dev libnuma-dev libjansson-dev libncurses-dev libsmartcols-dev libinih-dev libseccomp-dev
  libzstd-dev liblz4-dev libxxhash-dev)
# To test it as well.
# shellcheck disable=SC2034
packages_test=(g++ clang binutils libcmocka-dev libmicrohttpd-dev python3 python3-jsonschema)
# To build the packages and to have a bed for them (scripts/lab).
packages_lab=(build-essential debhelper scdoc lintian systemd-container mmdebstrap)
# What runs on libwksp_malloc.so, and the allocators beside it (tests/heap, bench/programs).
packages_heap=(libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4 redis-server redis-tools sqlite3 perl
  libpython3.11-testsuite)
# Tests that want one of these are skipped where it is missing.
# shellcheck disable=SC2034
packages_nice=(shellcheck clang-format-14 systemd libclang-rt-14-dev mandoc "${packages_heap[@]}" "${packages_lab[@]}"
  libc++-14-dev libc++abi-14-dev python3-prometheus-client bash-completion zsh tmux codespell
  golang-go golang-github-containerd-ttrpc-dev golang-google-protobuf-dev protobuf-compiler)
# What scripts/bench measures beside us.
# shellcheck disable=SC2034
packages_bench=(g++ libboost-dev libgoogle-perftools-dev libjemalloc-dev libmimalloc-dev)

# Meson's options. Lines are enough to debug with, and take a third less to build. gcc's sanitizers take twice as long
# to build with -O2 as with -O1; of what they warn of besides, little is so, hence these are no errors there. What clang
# builds is there for its warnings, which do not depend on optimization.
# shellcheck disable=SC2034
options_plain=(-Ddebug=false -Dc_args=-g1)
# shellcheck disable=SC2034
options_sanitize=("-Db_sanitize=address,undefined" -Doptimization=1 -Ddebug=false
  "-Dc_args=-g1 -Wno-error -fno-sanitize-recover=all")
# shellcheck disable=SC2034
options_threads=(-Db_sanitize=thread -Doptimization=1 -Ddebug=false "-Dc_args=-g1 -Wno-error")
# shellcheck disable=SC2034
options_clang=(-Doptimization=0 -Ddebug=false)

say() { printf '%s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Prints those of the packages named that are not installed.
packages_missing() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      printf '%s\n' "$package"
  done
}

# packages_need LOG PACKAGE...: sees to it that the packages are installed; apt's words go to LOG.
packages_need() {
  local log=$1 missing
  shift
  command -v dpkg-query >/dev/null || die "this script knows Debian's packages only; install what" \
    "corresponds to: $*; then use meson by hand (CONTRIBUTING.md)"
  mapfile -t missing < <(packages_missing "$@")
  ((${#missing[@]} == 0)) && return
  ((EUID == 0)) || die "these packages are missing: ${missing[*]}
  as root: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
  say "installing ${#missing[@]} packages: ${missing[*]}"
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "apt-get failed; all that it said is in $log"
  fi
}

# tool_need LOG DIR PACKAGE PROGRAM: sees to it that PROGRAM is on the PATH, out of a package that had better not be
# installed, since that would start a service. If it cannot be had, tests that want it say so.
tool_need() {
  local log=$1 dir=$2
  PATH+=:$dir
  command -v "$4" >/dev/null && return
  say "fetching $4"
  if ! { mkdir -p "$dir/unpacked" && (cd "$dir" && apt-get download -q "$3") &&
    dpkg -x "$dir/$3"_*.deb "$dir/unpacked" && cp "$dir/unpacked/usr/bin/$4" "$dir"; } >>"$log" 2>&1; then
    say "no $4"
  fi
  rm -rf "$dir/unpacked" "$dir/$3"_*.deb
}

# Prints the folder for build folders: build/ in the checkout, or, if this user may not write there,
# one in the cache that belongs to this checkout.
build_root() {
  local dir=$root/build
  if [[ -d $dir ]] || mkdir "$dir" 2>/dev/null; then
    if [[ -w $dir && -O $dir ]]; then
      printf '%s\n' "$dir"
      return
    fi
  fi
  dir=${XDG_CACHE_HOME:-${HOME:?}/.cache}/wkspd/build-$(printf '%s' "$root" | cksum | cut -d ' ' -f 1)
  mkdir -p "$dir" || die "neither $root/build nor $dir can be written; set XDG_CACHE_HOME"
  printf '%s\n' "$dir"
}

# configure DIR OPTION...: a meson build folder with exactly these options. CC is taken from the
# environment. Made anew when the options or the compiler have changed, or when an earlier attempt did not get through.
configure() {
  local dir=$1 stamp want
  shift
  stamp=$dir/.options
  want="$root ${CC:-cc} $*"
  if [[ -f $dir/build.ninja && -f $stamp && $(<"$stamp") == "$want" ]]; then
    return
  fi
  rm -rf "$dir"
  meson setup "$dir" "$root" "$@" || return
  printf '%s\n' "$want" >"$stamp"
}

# until_ok SECONDS COMMAND...: runs the command until it succeeds, every few milliseconds; fails after
# SECONDS, one more at the most. The pause is a read from a pipe into which nobody writes.
until_ok() {
  local end=$((SECONDS + $1 + 1)) never
  shift
  exec {never}<> <(:)
  until "$@"; do
    if ((SECONDS >= end)); then
      exec {never}<&-
      return 1
    fi
    read -r -t 0.01 -u "$never" || true
  done
  exec {never}<&-
}
