# Shell library of the project's scripts; source it from bash after `set -euo pipefail`.
#
#   PACSVISOR_ROOT          the repository
#   say TEXT…               one line with the time since the script began
#   die WHAT [WHAT-TO-DO]   error on stderr, exit status 1
#   run_step LABEL COMMAND… runs COMMAND with its output in a log; shows time passing; on failure
#                           prints the log's end and returns COMMAND's status
#   limited SECONDS COMMAND… ends COMMAND (TERM, ten seconds later KILL) after SECONDS: status 124
#   need_packages NAME…     installs the Debian packages of these that are missing
#   cache_dir [NAME]        prints build/cache[/NAME], made when missing
#   cached FOLDER COMMAND…  unless FOLDER is there: runs `COMMAND… TEMPORARY` and renames the result
#   build_pacsvisor PRESET TARGET…  configures and builds; the tree is build/PRESET
#   inputs_hash FILE-OR-TEXT…       16 hex digits over files' contents and other words
#
# Give programs to `cached` (a script may name itself): bash ignores `set -e` inside a function that
# is called from a condition, and half a result would be kept.

PACSVISOR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PACSVISOR_STARTED=${PACSVISOR_STARTED:-$EPOCHREALTIME}
# mkfs, depmod and their kind are in sbin, which an ordinary user's PATH lacks.
export PACSVISOR_STARTED LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin

# --- What the project needs of Debian, by purpose -------------------------------------------------

# Compiling pacsvisor and its tests.
BUILD_PACKAGES=(
  cmake ninja-build g++ ccache pkg-config libexpected-dev libfmt-dev libspdlog-dev libcli11-dev
  libtomlplusplus-dev nlohmann-json3-dev libcpp-httplib-dev liburing-dev libzstd-dev libxxhash-dev
  libssl-dev liblz4-dev libslirp-dev libglib2.0-dev libcapstone-dev libseccomp-dev libgtest-dev
  libgmock-dev libbenchmark-dev zstd
)
# Building the guest images and speaking to the guest.
GUEST_PACKAGES=(
  mmdebstrap fakeroot e2fsprogs busybox-static cpio kmod xz-utils zstd curl jq dcmtk
  ca-certificates debian-archive-keyring
)
# The nested machine: QEMU's emulation of an AMD computer with SVM.
NESTED_PACKAGES=(qemu-system-x86 qemu-utils gcc libc6-dev iproute2)
# Tests beyond that: oracles, sanitizers and fuzzing, formatting.
TEST_PACKAGES=(
  clang clang-format clang-tidy libclang-rt-14-dev lld acpica-tools qemu-system-x86 qemu-utils fio
  iperf3 iproute2 python3 python3-cryptography python3-zstandard
  python3-xxhash python3-matplotlib
)
# Building the native Linux where no ready one fits.
NATIVE_LINUX_PACKAGES=(flex bison libelf-dev libssl-dev bc xz-utils gcc make patch zstd)

# --- Talking --------------------------------------------------------------------------------------

# seconds_since START: tenths of seconds since START, a value of EPOCHREALTIME.
seconds_since() {
  local now=$EPOCHREALTIME
  # EPOCHREALTIME always has six decimals: without the dot it counts microseconds.
  local tenths=$(((${now/[.,]/} - ${1/[.,]/}) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

say() { printf '[%7s s] %s\n' "$(seconds_since "$PACSVISOR_STARTED")" "$*"; }

die() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '       %s\n' "${@:2}" >&2
  exit 1
}

run_step() {
  local label=$1 begun=$EPOCHREALTIME log child status=0 ticks=0
  shift
  mkdir -p "$PACSVISOR_ROOT/build/logs"
  log=${label//[^A-Za-z0-9._-]/_}
  log=$(mktemp "$PACSVISOR_ROOT/build/logs/${log:0:60}.XXXXXX")  # names end at 255 bytes
  [ -t 1 ] || say "$label …"
  "$@" >"$log" 2>&1 </dev/null &
  child=$!
  # A background command does not get the terminal's interrupt: pass it on, then leave.
  trap 'kill "$child" 2>/dev/null; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    if [ -t 1 ]; then
      printf '\r[%7s s] %s … %s s ' "$(seconds_since "$PACSVISOR_STARTED")" "$label" \
        "$(seconds_since "$begun")"
    elif [ $((++ticks % 100)) -eq 0 ]; then
      say "$label … $(seconds_since "$begun") s: $(tail -n 1 "$log" | cut -c 1-80)"
    fi
    sleep 0.3
  done
  wait "$child" || status=$?
  trap - INT TERM
  [ ! -t 1 ] || printf '\r\033[K'
  if [ "$status" -ne 0 ]; then
    say "$label: failed with status $status; the end of $log:"
    tail -n 40 "$log" | sed 's/^/    /'
    return "$status"
  fi
  say "$label: done in $(seconds_since "$begun") s"
  rm -f "$log"
}

# --- Running --------------------------------------------------------------------------------------

limited() {
  local seconds=$1 status=0 command
  shift
  command="$*"
  timeout --kill-after=10 "$seconds" "$@" || status=$?
  if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
    printf 'error: not done after %s seconds: %s\n' "$seconds" "${command:0:100}" >&2
    status=124
  fi
  return "$status"
}

# --- Debian packages ------------------------------------------------------------------------------

missing_packages() {
  local installed name
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
    sed -n 's/^installed //p') || installed=
  for name in "$@"; do
    grep -qxF -- "$name" <<<"$installed" || printf '%s\n' "$name"
  done
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo -n -- "$@"
  fi
}

apt_get() {
  # Another apt may be at work on the machine: wait for its lock.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 "$@"
}

# Lists may be absent (a fresh container) or name versions that the mirror no longer has.
apt_install() { apt_get install -y --no-install-recommends "$@"; }
apt_update_and_install() { apt_get update && apt_install "$@"; }

need_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@" | sort -u)
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    die "these Debian packages are missing: ${missing[*]}" \
      "Installing them needs root. Run: sudo apt-get install --no-install-recommends ${missing[*]}"
  fi
  local label="installing ${#missing[@]} Debian packages (${missing[*]:0:4} …)"
  if apt-cache show --no-all-versions "${missing[@]}" >/dev/null 2>&1; then
    run_step "$label" apt_install "${missing[@]}" && return 0
    say "trying again with fresh package lists"
  fi
  run_step "$label" apt_update_and_install "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]}" \
      "Look at the output above: the network, the apt sources, or another apt may be at fault."
}

# --- Cache and build ------------------------------------------------------------------------------

cache_dir() {
  local dir=$PACSVISOR_ROOT/build/cache${1:+/$1}
  mkdir -p "$dir"
  printf '%s\n' "$dir"
}

inputs_hash() {
  local input
  for input in "$@"; do
    if [ -f "$input" ]; then cat -- "$input"; else printf '%s\n' "$input"; fi
  done | sha256sum | cut -c 1-16
}

cached() {
  local target=$1 temporary status=0 lock
  shift
  [ ! -d "$target" ] || return 0
  mkdir -p "$(dirname "$target")"
  # Scripts that run side by side build a thing once: the others wait here.
  exec {lock}>"$target.lock"
  flock "$lock"
  if [ ! -d "$target" ]; then
    temporary=$(mktemp -d "$target.XXXXXX")
    "$@" "$temporary" || status=$?
    if [ "$status" -eq 0 ]; then
      chmod 755 "$temporary" && mv -T "$temporary" "$target" || status=$?
    else
      rm -rf "$temporary"
    fi
  fi
  exec {lock}>&-
  return "$status"
}

build_pacsvisor() {
  local preset=$1
  shift
  need_packages "${BUILD_PACKAGES[@]}"
  cd "$PACSVISOR_ROOT"
  if [ ! -f "build/$preset/build.ninja" ]; then
    run_step "configuring ($preset)" cmake --preset "$preset"
  fi
  local what=$*
  [ $# -le 3 ] || what="$1 and $(($# - 1)) more"
  run_step "building ($preset: $what)" cmake --build "build/$preset" --target "$@"
  cd "$OLDPWD"
}
