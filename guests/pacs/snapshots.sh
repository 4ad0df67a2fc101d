# The part of the main job about snapshots; job.sh sources it. The PACS is snapshotted while studies are
# being stored, its process is killed, and what comes of the snapshot is the PACS as it was: every study
# that was confirmed before is there, index and files agree. A clone beside it answers as well, cut off;
# the running PACS is rolled back to the first snapshot.
#
#   PACS_SNAPSHOTS=yes   does it; the store is $out/store
#   PACS_SNAPSHOT_COUNT  increments taken under load (3)
#   PACS_WATCH_MS        how often the guest looks at its clock for the table's stall (1)

snapshot_rows=()
snapshot_id=''
first_id=''
studies_before=0 # confirmed before the last snapshot began

write_store_config() {
  [ "${PACS_SNAPSHOTS:-no}" = yes ] || return 0
  rm -rf "$out/store"
  printf '[store]\npath = "%s"\n' "$out/store" >>"$out/VM.toml"
}

# The longest time that the guest's watcher (gap-watch) could not look at its clock, between two
# times of the host's clock; "-" where it saw none above its limit. Host and guest agree on the time:
# kvm-clock gives the guest the host's.
longest_gap() { # BEGIN END
  tr -d '\r' <"$out/console.log" | grep -o 'stood still [0-9.]* ms until [0-9.]*' |
    awk -v begin="$1" -v end="$2" '$6 >= begin && $6 - $3 / 1000 <= end && $3 > longest { longest = $3 }
      END { print longest == "" ? "-" : longest }'
}

# Its windows of a quarter of a second are printed at their ends.
check_watch() {
  local since
  # Read to its end: a reader that leaves early fails the pipe.
  since=$(tr -d '\r' <"$out/console.log" |
    awk '/looks at its clock every/ && !found++ { print $NF }')
  [ -n "$since" ] || fail "the guest does not watch its clock"
  awk -v since="$since" -v now="$EPOCHREALTIME" 'BEGIN { exit !(since <= now + 0.1 && since > now - 3600) }' ||
    fail "the guest's clock said $since at its start, and it is $EPOCHREALTIME here"
}

take_snapshot() { # MESSAGE
  local begin=$EPOCHREALTIME end
  studies_before=$(wc -l <"$out/load-confirmed")
  "$pacsvisor" snapshot "$name" --message "$1" --json >"$out/snapshot.json" 2>"$out/snapshot.err" ||
    fail "pacsvisor snapshot: $(tail -n 1 "$out/snapshot.err")"
  end=$EPOCHREALTIME
  snapshot_id=$(jq -re .result.id "$out/snapshot.json") || fail "a snapshot without an id"
  sleep 0.5 # until the guest has said what it saw
  snapshot_rows+=("$(jq -r --arg message "$1" --arg gap "$(longest_gap "$begin" "$end")" \
    '.result.figures | [$message, .pause_ns / 1e6, $gap, .durable_ns / 1e6, .dirty_bytes / 1048576,
    .unique_bytes / 1048576] | @tsv' "$out/snapshot.json")")
}

take_first_snapshot() {
  : >"$out/load-confirmed"
  check_watch
  take_snapshot "first"
  first_id=$snapshot_id
}

# The study as another one, NUMBER: identifiers of its own, the rest as it is.
make_variant() { # NUMBER FOLDER
  local uid slice
  uid=$(cat "$study/study-uid").9.$1
  rm -rf "$2"
  mkdir "$2"
  for ((slice = 1; slice <= slices; slice++)); do
    cp "$study/slice-$slice.dcm" "$2"
    dcmodify -nb -ma "(0020,000d)=$uid" -ma "(0020,000e)=$uid.1" -ma "(0008,0018)=$uid.1.$slice" \
      "$2/slice-$slice.dcm" || return 1
  done
  printf '%s\n' "$uid" >"$2/study-uid"
}

# Studies without a pause; each is confirmed as a whole, or this fails.
send_variants() {
  local number
  for ((number = 1; ; number++)); do
    make_variant "$number" "$out/variant" >"$out/load.log" 2>&1 || return 1
    storescu -to 20 -td 120 -aec ORTHANC "$address" "$dicom_port" "$out"/variant/*.dcm \
      >"$out/load.log" 2>&1 || return 1
    cat "$out/variant/study-uid" >>"$out/load-confirmed"
    [ ! -e "$out/load-stop" ] || return 0
  done
}

# A TCP connection that is open across the snapshots: an upload begun before the first of them, a part
# after each, and the rest and the answer after the last.
open_upload() {
  exec {upload}<>"/dev/tcp/$address/$http_port" || fail "no connection for the upload"
  upload_file=$study/slice-1.dcm
  upload_bytes=$(wc -c <"$upload_file")
  upload_sent=0
  printf 'POST /instances HTTP/1.1\r\nHost: pacs\r\nAuthorization: Basic %s\r\nContent-Length: %s\r\n\r\n' \
    cGFjczpwYWNz "$upload_bytes" >&"$upload"
}

send_upload() { # BYTES
  upload_sent=$((upload_sent + $1))
  head -c "$upload_sent" "$upload_file" | tail -c "$1" >&"$upload" ||
    fail "the connection open across the snapshots is lost"
}

finish_upload() {
  local reply
  send_upload $((upload_bytes - upload_sent))
  read -r -t 60 reply <&"$upload" || fail "no answer over the connection open across the snapshots"
  [[ $reply == HTTP/1.1\ 200* ]] || fail "the upload across the snapshots was answered by $reply"
  exec {upload}>&-
}

# So that the last snapshot has one to hold, however slow the host.
wait_for_confirmed_study() {
  local tenths
  for ((tenths = 0; tenths < 900; tenths++)); do
    [ ! -s "$out/load-confirmed" ] || return 0
    sleep 0.1
  done
  fail "no study was confirmed in 90 s"
}

snapshots_under_load() {
  local number sender count=${PACS_SNAPSHOT_COUNT:-3}
  rm -f "$out/load-stop"
  send_variants &
  sender=$!
  open_upload
  for ((number = 1; number <= count; number++)); do
    send_upload $((upload_bytes / (count + 1)))
    [ "$number" -lt "$count" ] || wait_for_confirmed_study
    take_snapshot "under load, $number"
  done
  finish_upload
  : >"$out/load-stop"
  wait "$sender" || fail "a C-STORE across a snapshot was not confirmed: $(tail -n 2 "$out/load.log")"
  note="$count snapshots, $(wc -l <"$out/load-confirmed") x $slices C-STOREs confirmed, an upload across all"
}

# Every study that was confirmed before the snapshot, and every file that the index knows.
check_confirmed() {
  local uid urls=() instance
  [ "$studies_before" -gt 0 ] || fail "no study was confirmed before the last snapshot"
  while read -r uid; do
    orthanc tools/find --data \
      "$(printf '{"Level":"Instance","Query":{"StudyInstanceUID":"%s"}}' "$uid")" >"$out/instances.json"
    [ "$(jq length "$out/instances.json")" -eq "$slices" ] ||
      fail "$uid was confirmed before the snapshot; $(jq length "$out/instances.json") of $slices images are there"
  done < <(head -n "$studies_before" "$out/load-confirmed")
  orthanc instances | jq -r '.[]' >"$out/all-instances"
  while read -r instance; do
    urls+=("$url/instances/$instance/attachments/dicom/verify-md5")
  done <"$out/all-instances"
  curl --silent --show-error --fail-early --fail -m 120 -u pacs:pacs --data '' "${urls[@]}" >/dev/null ||
    fail "a file is not what Orthanc's index says of it"
  note="$studies_before studies confirmed before it, ${#urls[@]} files as the index says"
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
    --directory "$images/clone" --forward "$listen:$http_port:8042"
  find_by_http
  "$pacsvisor" stop "$name-clone" --force >/dev/null 2>&1 || fail "the clone cannot be stopped"
  wait "$machine_pid" || fail "the clone ended with status $?"
  rm -rf "$images/clone"
  machine_pid=$main_pid http_port=$main_http url=$main_url
  note="answers under another name, $slices images found"
}

# In place of the running one, which goes on until the restored one is ready.
roll_back_running() {
  local old=$machine_pid deadline=$((SECONDS + timeout_s)) uid
  "$pacsvisor" restore "$first_id" --store "$out/store" </dev/null >>"$out/console.log" 2>&1 &
  machine_pid=$!
  while kill -0 "$old" 2>/dev/null; do
    kill -0 "$machine_pid" 2>/dev/null || fail "the roll-back ended, and the old machine runs"
    [ "$SECONDS" -lt "$deadline" ] || fail "the old machine is not replaced after $timeout_s s"
    sleep 0.1
  done
  await_answer
  uid=$(head -n 1 "$out/load-confirmed")
  orthanc tools/find --data \
    "$(printf '{"Level":"Study","Query":{"StudyInstanceUID":"%s"}}' "$uid")" >"$out/instances.json"
  [ "$(jq length "$out/instances.json")" -eq 0 ] ||
    fail "$uid was sent after the first snapshot, and is there after the roll-back to it"
  find_by_http
}

verify_store() {
  "$pacsvisor" verify --store "$out/store" >"$out/verify.log" 2>&1 ||
    fail "pacsvisor verify: $(tail -n 3 "$out/verify.log")"
  note=$(head -n 1 "$out/verify.log")
}

do_snapshots() {
  [ "${PACS_SNAPSHOTS:-no}" = yes ] || return 0
  step "first snapshot, whole" take_first_snapshot
  step "snapshots while studies are stored" snapshots_under_load
  step "its process is killed (SIGKILL)" kill_machine
  step "restored in place, until Orthanc answers" restore_machine
  step "what was confirmed before, index and files" check_confirmed
  step "finding it in the restored PACS by DICOM" find_by_dicom
  step "finding it in the restored PACS by HTTP" find_by_http
  step "fetching and comparing it there" fetch_and_compare
  # A guest behind a TAP interface is reached by its address, which the clone must not have.
  [ -n "$tap" ] || step "a clone beside it (restore --name)" try_clone
  step "rolled back to the first snapshot while it runs" roll_back_running
  step "verifying the store" verify_store
}

print_snapshots() {
  [ "${#snapshot_rows[@]}" -gt 0 ] || return 0
  printf '\n%-20s %12s %12s %12s %12s %12s\n' snapshot 'pause ms' 'stall ms' 'durable ms' 'dirty MiB' \
    'unique MiB'
  printf '%s\n' "${snapshot_rows[@]}" | awk -F'\t' \
    '{printf "%-20s %12.2f %12s %12.1f %12.1f %12.1f\n", $1, $2, $3, $4, $5, $6}'
  printf 'stall: the longest gap in the guest'\''s own looks at its clock from the command to its return,\n'
  printf 'by a real-time process that looks every %s ms; "-": none above twice that\n' "$watch_ms"
}
