#!/usr/bin/env bash
# Runs inside the nested machine: one host of several that a guest goes through, a store in its
# hands. Environment:
#   STEP     start: the guest is booted. go-on: it is restored from the newest snapshot of /job/store
#   ID       of that snapshot
#   REFUSED  the restore must be refused, with these words in what is said
# Takes a snapshot at the end; /out/store is for the next host, /out/id names it.
set -euo pipefail

fail() {
  printf 'error: %s\n' "$1" >&2
  tail -n 20 /tmp/console >&2
  exit 1
}
wait_for_pass() { # NUMBER: the guest has said that it has passed it
  local left=1200 line
  until line=$(tr -d '\r' </tmp/console | grep -m 1 "two-hosts pass $1 "); do
    ((left-- > 0)) || fail "pass $1 of the guest did not come"
    kill -0 "$machine" 2>/dev/null || fail "the machine has ended"
    sleep 0.1
  done
  echo "$line"
}
last_pass() { tr -d '\r' </tmp/console | sed -n 's/.*two-hosts pass \([0-9]*\) .*/\1/p' | tail -n 1; }

echo "host: Linux $(uname -r), STEP=$STEP"
mkdir -p /tmp/vm
: >/tmp/console
if [ "$STEP" = start ]; then
  truncate -s 16M /tmp/vm/disk.raw
  cat >/tmp/vm/VM.toml <<EOF
name = "traveller"
memory = "160M"
cpu = "x86-64-v2"
[boot]
kernel = "/job/kernel"
initrd = "/job/initrd"
cmdline = "console=ttyS0 quiet panic=-1"
[[disk]]
path = "disk.raw"
[store]
path = "/out/store"
EOF
  pacsvisor run /tmp/vm/VM.toml </dev/null >/tmp/console 2>&1 &
  machine=$!
  first=1
else
  cp -r /job/store /out/store
  set -- pacsvisor restore "$ID" --store /out/store --name traveller --directory /tmp/vm/new
  if [ -n "${REFUSED:-}" ]; then
    if "$@" </dev/null >/tmp/console 2>&1; then
      fail "it was restored, and should have been refused"
    fi
    grep -q -- "$REFUSED" /tmp/console || fail "the refusal does not say '$REFUSED'"
    grep -- "$REFUSED" /tmp/console
    [ ! -e /tmp/vm/new ] || fail "something is left of what was refused"
    exit 0
  fi
  "$@" </dev/null >/tmp/console 2>&1 &
  machine=$!
  first=$PASS
fi
wait_for_pass $((first + 1))
wait_for_pass $((first + 3))
pacsvisor snapshot traveller --message "on $(uname -r)" --json >/tmp/snapshot.json 2>/tmp/snapshot.log ||
  fail "no snapshot: $(tail -n 2 /tmp/snapshot.log)"
jq -c '{id: .result.id, pause_ns: .result.figures.pause_ns, dirty: .result.figures.dirty_bytes}' \
  /tmp/snapshot.json
[ "$(jq -r .result.figures.dirty_bytes /tmp/snapshot.json)" -gt 0 ] || fail "an empty snapshot"
jq -r .result.id /tmp/snapshot.json >/out/id
last_pass >/out/pass
wait_for_pass $(($(last_pass) + 2))
if tr -d '\r' </tmp/console | grep "two-hosts pass" | grep -qv ' ok up '; then
  fail "the guest found a wrong byte"
fi
if grep -qiE 'soft lockup|rcu.*stall|clocksource.*unstable|Oops|panic' /tmp/console; then
  fail "the guest's kernel complains"
fi
pacsvisor stop traveller --force
wait "$machine" || true
pacsvisor verify --store /out/store >/tmp/verify 2>&1 || fail "verify: $(cat /tmp/verify)"
