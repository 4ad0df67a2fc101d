# The part of the main job about snapshots; job.sh sources it. The PACS is snapshotted while studies are
# being stored, its process is killed, and what comes of the snapshot is the PACS as it was: the study
# that was confirmed before is there, index and files agree. A clone beside it answers as well, cut off.
#
#   PACS_SNAPSHOTS=yes   does it; the store is $out/store
#   PACS_SNAPSHOT_COUNT  increments taken under load (3)

snapshot_rows=()
snapshot_id=''

write_store_config() {
  [ "${PACS_SNAPSHOTS:-no}" = yes ] || return 0
  rm -rf "$out/store"
  printf '[store]\npath = "%s"\n' "$out/store" >>"$out/VM.toml"
}

take_snapshot() { # MESSAGE
  "$pacsvisor" snapshot "$name" --message "$1" --json >"$out/snapshot.json" 2>"$out/snapshot.err" ||
    fail "pacsvisor snapshot: $(tail -n 1 "$out/snapshot.err")"
  snapshot_id=$(jq -re .result.id "$out/snapshot.json") || fail "a snapshot without an id"
  snapshot_rows+=("$(jq -r --arg message "$1" '.result.figures |
    [$message, .pause_ns / 1e6, .durable_ns / 1e6, .dirty_bytes / 1048576, .unique_bytes / 1048576] |
    @tsv' "$out/snapshot.json")")
}

# C-STOREs without a pause while snapshots are taken; every one of them must be confirmed.
snapshots_under_load() {
  local number sender
  (
    sent=0
    while [ ! -e "$out/load-stop" ]; do
      storescu -to 20 -td 120 -aec ORTHANC "$address" "$dicom_port" "$study"/*.dcm \
        >"$out/load.log" 2>&1 || exit 1
      sent=$((sent + 1))
    done
    echo "$sent" >"$out/load-sent"
  ) &
  sender=$!
  for ((number = 1; number <= ${PACS_SNAPSHOT_COUNT:-3}; number++)); do
    take_snapshot "under load, $number"
  done
  : >"$out/load-stop"
  wait "$sender" || fail "a C-STORE across a snapshot was not confirmed: $(tail -n 2 "$out/load.log")"
  rm -f "$out/load-stop"
  note="${PACS_SNAPSHOT_COUNT:-3} snapshots, $(cat "$out/load-sent") x $slices C-STOREs confirmed meanwhile"
}

kill_machine() {
  kill -KILL "$machine_pid"
  wait "$machine_pid" 2>/dev/null || :
  machine_pid=''
}

# In place, from the last snapshot; runs as start_machine's does.
restore_machine() {
  start_program restore "$snapshot_id" --store "$out/store"
}

# Beside it: another name, other ports, nothing that it could reach.
try_clone() {
  local main_pid=$machine_pid main_http=$http_port main_url=$url
  http_port=$((http_port + 10000))
  url=http://$address:$http_port
  start_program restore "$snapshot_id" --store "$out/store" --name "$name-clone" \
    --directory "$out/clone" --forward "$listen:$http_port:8042"
  find_by_http
  "$pacsvisor" stop "$name-clone" --force >/dev/null 2>&1 || fail "the clone cannot be stopped"
  wait "$machine_pid" || fail "the clone ended with status $?"
  rm -rf "$out/clone"
  machine_pid=$main_pid http_port=$main_http url=$main_url
  note="answers under another name, $slices images found"
}

verify_store() {
  "$pacsvisor" verify --store "$out/store" >"$out/verify.log" 2>&1 ||
    fail "pacsvisor verify: $(tail -n 3 "$out/verify.log")"
  note=$(head -n 1 "$out/verify.log")
}

do_snapshots() {
  [ "${PACS_SNAPSHOTS:-no}" = yes ] || return 0
  step "first snapshot, whole" take_snapshot "first"
  step "snapshots while studies are stored" snapshots_under_load
  step "its process is killed (SIGKILL)" kill_machine
  step "restored in place, until Orthanc answers" restore_machine
  step "finding it in the restored PACS by DICOM" find_by_dicom
  step "finding it in the restored PACS by HTTP" find_by_http
  step "fetching and comparing it there" fetch_and_compare
  # A guest behind a TAP interface is reached by its address, which the clone must not have.
  [ -n "$tap" ] || step "a clone beside it (restore --name)" try_clone
  step "verifying the store" verify_store
}

print_snapshots() {
  [ "${#snapshot_rows[@]}" -gt 0 ] || return 0
  printf '\n%-20s %12s %12s %12s %12s\n' snapshot 'pause ms' 'durable ms' 'dirty MiB' 'unique MiB'
  printf '%s\n' "${snapshot_rows[@]}" |
    awk -F'\t' '{printf "%-20s %12.2f %12.1f %12.1f %12.1f\n", $1, $2, $3, $4, $5}'
}
