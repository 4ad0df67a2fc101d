#!/usr/bin/env bash
# Runs inside the nested machine: a guest that takes all it can get (the dirtier), under [limits] and
# [sandbox]; what the kernel says of its cgroup is held against what VM.toml says.
set -euo pipefail

failed=no
expect() { # WHAT CONDITION
  if (($2)); then
    echo "ok: $1"
  else
    echo "error: not so: $1" >&2
    failed=yes
  fi
}
# The number behind KEY in FILE. usage: value FILE KEY
value() { sed -n "s/^$2 //p" "$1"; }
wait_for() { # SECONDS COMMAND…
  local left=$(($1 * 10))
  shift
  until "$@"; do
    ((left-- > 0)) || {
      echo "error: waited in vain for: $*" >&2
      cat /tmp/run.log >&2
      exit 1
    }
    sleep 0.1
  done
}

mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 'nobody:x:65534:65534:nobody:/:/bin/false' >>/etc/passwd
cat >/tmp/VM.toml <<'EOF'
name = "greedy"
memory = "256M"
[boot]
kernel = "/job/dirtier.elf"
cmdline = "run=dirty,pages=20000,pattern=random"
[[net]]
backend = "user"
[sandbox]
user = "nobody"
namespaces = ["pid", "mount"]
[limits]
cpu_percent = 40
memory = "320M"
threads = 150
EOF

pacsvisor run /tmp/VM.toml </dev/null >/tmp/run.log 2>&1 &
supervisor=$!
wait_for 30 grep -q 'ok dirty' /tmp/run.log
group=/sys/fs/cgroup/pacsvisor/greedy
machine=$(pacsvisor ps --json | jq -r '.[0].pid')
child=$(cat "/proc/$supervisor/task/$supervisor/children")
child=${child%% *}

expect "the machine is known by its supervisor's number" "machine == supervisor"
expect "cpu.max is 40000 of 100000" "$([ "$(cat $group/cpu.max)" = "40000 100000" ] && echo 1 || echo 0)"
expect "memory.max is 320M" "$(cat $group/memory.max) == 320 << 20"
expect "pids.max is 150" "$(cat $group/pids.max) == 150"
expect "the machine's process is in the cgroup" "$(grep -c "^$child$" $group/cgroup.procs || true) == 1"
expect "its supervisor is not" "$(grep -c "^$supervisor$" $group/cgroup.procs || true) == 0"
expect "its threads are counted" "$(cat $group/pids.current) > 5"
for status in /proc/"$child"/task/*/status; do
  text=$(cat "$status" 2>/dev/null) || continue # one that served a connection, and has ended
  if [[ $text != Name:?kvm-* ]]; then
    expect "$(sed -n 's/^Name:\t//p' <<<"$text") is nobody's, filtered, without capabilities" \
      "$(grep -cE '^(Uid:.65534|Seccomp:.2|CapEff:.0000000000000000)' <<<"$text" || true) == 3"
  fi
done

# The guest's processor never sleeps. What it gets over a while is a share of that while.
usage=$(value $group/cpu.stat usage_usec)
begin=$(cut -d ' ' -f 1 /proc/uptime)
sleep 5
used=$(($(value $group/cpu.stat usage_usec) - usage))
end=$(cut -d ' ' -f 1 /proc/uptime)
elapsed=$(((${end/./} - ${begin/./}) * 10000))
echo "used $used us in $elapsed us"
# A period's quota may fall into the while at either end, and the kernel hands it out in slices.
expect "it gets no more than its share" "used <= elapsed / 2"
expect "it was held back" "$(value $group/cpu.stat nr_throttled) > 0"

pacsvisor stop greedy --force
wait $supervisor
expect "the cgroup is gone with the machine" "$([ -d $group ] && echo 0 || echo 1)"

# A limit that the guest outgrows: the kernel ends the machine, the supervisor says why.
pacsvisor run /tmp/VM.toml </dev/null >/tmp/run.log 2>&1 &
supervisor=$!
wait_for 30 grep -q 'ok dirty' /tmp/run.log
echo 16M >$group/memory.max 2>/dev/null || true # the write itself may kill
status=0
wait $supervisor || status=$?
cat /tmp/run.log
expect "it ended with status 1" "status == 1"
expect "it says that the memory limit was reached" "$(grep -c 'reached its memory limit' /tmp/run.log || true) == 1"
expect "nothing is left of it" "$(pacsvisor ps --json | jq length) == 0"
expect "its cgroup is gone as well" "$([ -d $group ] && echo 0 || echo 1)"

pacsvisor doctor --json >/tmp/doctor.json || true
expect "doctor knows that limits can be kept" \
  "$([ "$(jq -r .containment.cgroup_limits.usable /tmp/doctor.json)" = true ] && echo 1 || echo 0)"
[ "$failed" = no ]
