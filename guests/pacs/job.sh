#!/usr/bin/env bash
# The main job: a PACS under pacsvisor takes a CT study in, gives it back, is switched off and on,
# and still has it. The same script runs on a host's own KVM, over the native Linux, and inside the
# nested machine; guests/pacs/run.sh prepares what it is told here, by environment:
#   PACS_IMAGES        folder with root.raw and data.raw, which are written to
#   PACS_BOOT          folder with kernel, and initrd if it needs one (PACS_IMAGES)
#   PACS_PACSVISOR     the program (pacsvisor)      PACS_NAME          the machine's name (pacs)
#   PACS_MEMORY        the guest's (1G)             PACS_CPUS          the guest's (1)
#   PACS_DICOM_PORT    on this host (4242)          PACS_HTTP_PORT     on this host (8042)
#   PACS_LISTEN        their address (127.0.0.1)    PACS_TIMEOUT       seconds for one start (120)
#   PACS_CMDLINE       more of the guest's kernel command line
#   PACS_TAP           a TAP interface to use instead of the user-mode network; the guest then
#                      answers at PACS_ADDRESS, on Orthanc's own ports
#   PACS_STUDY         the study to send, a folder of study.sh's
#   PACS_KEEP=yes      stays up at the end          PACS_OUT           for logs (a new folder)
#   PACS_RESTART=no    ends after the first power button
#   PACS_SNAPSHOTS=yes snapshots, a kill, a restore and a clone in between (snapshots.sh beside this)
# Needs bash, curl, jq, dcmtk, e2fsck.
set -euo pipefail
# shellcheck source=guests/pacs/snapshots.sh
. "$(dirname "${BASH_SOURCE[0]}")/snapshots.sh"

images=${PACS_IMAGES:?the folder of the images}
boot=${PACS_BOOT:-$images}
study=$(realpath "${PACS_STUDY:?the folder of the study}")
slices=$(wc -l <"$study/instance-uids")
pacsvisor=${PACS_PACSVISOR:-pacsvisor}
name=${PACS_NAME:-pacs}
timeout_s=${PACS_TIMEOUT:-120}
listen=${PACS_LISTEN:-127.0.0.1}
tap=${PACS_TAP:-}
if [ -n "$tap" ]; then
  address=${PACS_ADDRESS:?the guest\'s address on the TAP network} dicom_port=4242 http_port=8042
else
  address=127.0.0.1 dicom_port=${PACS_DICOM_PORT:-4242} http_port=${PACS_HTTP_PORT:-8042}
fi
out=${PACS_OUT:-$(mktemp -d)}
mkdir -p "$out"
received=$out/received
export LC_ALL=C
url=http://$address:$http_port
watch_ms=${PACS_WATCH_MS:-1}
watch=''
[ "${PACS_SNAPSHOTS:-no}" != yes ] || watch=pacs.watch=$watch_ms
machine_pid=''
power_offs=0
KERNEL_FAULTS='invalid opcode|general protection fault|Oops|kernel BUG|Kernel panic'
KERNEL_FAULTS+='|[Uu]nable to handle|EXT4-fs error|I/O error'
table=()

# --- Telling --------------------------------------------------------------------------------------

seconds_since() {
  local now=$EPOCHREALTIME
  local hundredths=$(((${now/[.,]/} - ${1/[.,]/}) / 10000))
  printf '%d.%02d' $((hundredths / 100)) $((hundredths % 100))
}

step() { # TITLE COMMAND…
  local title=$1 begun=$EPOCHREALTIME seconds
  shift
  printf 'PACS: %s …\n' "$title"
  "$@"
  seconds=$(seconds_since "$begun")
  printf 'PACS: %s: done in %s s%s\n' "$title" "$seconds" "${note:+, $note}"
  table+=("$(printf '%-48s %8s s  %s' "$title" "$seconds" "$note")")
  note=''
}
note=''

fail() {
  printf 'error: %s\n' "$1" >&2
  if [ -f "$out/console.log" ]; then
    printf 'the end of the guest'\''s console (%s):\n' "$out/console.log" >&2
    tail -n 25 "$out/console.log" | tr -d '\r' | sed 's/^/    /' >&2
  fi
  exit 1
}

# Whatever happens, no machine is left behind.
clean_up() {
  if [ -n "$machine_pid" ] && kill -0 "$machine_pid" 2>/dev/null; then
    kill -KILL "$machine_pid"
  fi
}
trap clean_up EXIT

# --- The machine ----------------------------------------------------------------------------------

write_config() {
  local network
  if [ -n "$tap" ]; then
    network="backend = \"tap\"
interface = \"$tap\""
  else
    network="backend = \"user\"
forward = [\"$listen:$dicom_port:4242\", \"$listen:$http_port:8042\"]"
  fi
  cat >"$out/VM.toml" <<END
name = "$name"
cpus = ${PACS_CPUS:-1}
memory = "${PACS_MEMORY:-1G}"
[boot]
kernel = "$boot/kernel"
$([ ! -f "$boot/initrd" ] || echo "initrd = \"$boot/initrd\"")
cmdline = "console=ttyS0 root=/dev/vda ro quiet $watch ${PACS_CMDLINE:-}"
[[disk]]
path = "$images/root.raw"
[[disk]]
path = "$images/data.raw"
serial = "data"
[[net]]
$network
[agent]
enabled = true
END
}

orthanc() { # PATH [curl's options]: a request to Orthanc's REST interface, which must succeed
  local path=$1
  shift
  curl --silent --show-error --fail -m 20 -u pacs:pacs "$@" "$url/$path"
}

# Whether Orthanc answers a request, asked by bash alone: programs started to ask would take the
# emulated machine's one processor from the guest. A forwarded port accepts connections before
# anyone listens in the guest, so only an answer counts.
answers() {
  (
    exec 3<>"/dev/tcp/$address/$http_port"
    printf 'GET /system HTTP/1.0\r\nAuthorization: Basic cGFjczpwYWNz\r\n\r\n' >&3
    read -r -t 5 reply <&3 && [[ $reply == HTTP/*" 200 "* ]]
  ) 2>/dev/null
}

start_machine() { start_program run "$out/VM.toml"; }

start_program() { # pacsvisor's words
  "$pacsvisor" "$@" </dev/null >>"$out/console.log" 2>&1 &
  machine_pid=$!
  await_answer
}

await_answer() {
  local deadline=$((SECONDS + timeout_s))
  until answers; do
    kill -0 "$machine_pid" 2>/dev/null || fail "pacsvisor ended before Orthanc answered"
    [ "$SECONDS" -lt "$deadline" ] || fail "Orthanc did not answer within $timeout_s s"
    sleep 0.3
  done
  orthanc system >"$out/system.json" || fail "Orthanc's answer broke off"
  note="Orthanc $(jq -r .Version "$out/system.json")"
}

await_power_off() {
  local status=0
  wait "$machine_pid" || status=$?
  machine_pid=''
  [ "$status" -eq 0 ] || fail "pacsvisor ended with status $status instead of 0"
  # A machine that was ended by force, its grace being over, also ends with 0: only the guest's
  # kernel can say that it powered off by itself.
  power_offs=$((power_offs + 1))
  [ "$(grep -c 'reboot: Power down' "$out/console.log")" -eq "$power_offs" ] ||
    fail "the guest did not power off by itself"
  # A guest can go on serving for long after a fault in its kernel. Lockup warnings are not among
  # these: on an emulated or crowded processor they say that the host was slow.
  ! grep -E "$KERNEL_FAULTS" "$out/console.log" || fail "the guest's kernel reports a fault"
}

# Orderly: the guest has unmounted everything, and a check finds nothing to say.
check_disks() {
  local disk
  for disk in root data; do
    e2fsck -fn "$images/$disk.raw" >"$out/e2fsck-$disk.log" 2>&1 ||
      fail "e2fsck found faults on $disk.raw: $(grep -v ^Pass "$out/e2fsck-$disk.log" | head -n 3)"
    ! grep -q 'recover' "$out/e2fsck-$disk.log" || fail "$disk.raw was not unmounted"
  done
}

stop_by_command() {
  "$pacsvisor" stop "$name" --grace "$timeout_s" >"$out/stop.log" 2>&1 ||
    fail "pacsvisor stop: $(tail -n 1 "$out/stop.log")"
  await_power_off
  check_disks
}

stop_by_signal() {
  kill -TERM "$machine_pid"
  await_power_off
  check_disks
}

# --- The study ------------------------------------------------------------------------------------

send_study() {
  storescu -to 20 -td 60 -aec ORTHANC "$address" "$dicom_port" "$study"/*.dcm \
    >"$out/storescu.log" 2>&1 || fail "storescu: $(tail -n 2 "$out/storescu.log")"
  note="$slices C-STOREs"
}

# dcmtk writes each answer of the PACS as a file; their instance UIDs must be those that were sent.
find_by_dicom() {
  local answers=$out/answers
  rm -rf "$answers"
  mkdir "$answers"
  findscu -to 20 -td 60 -S -X -od "$answers" -aec ORTHANC -k QueryRetrieveLevel=IMAGE \
    -k StudyInstanceUID="$(cat "$study/study-uid")" \
    -k SeriesInstanceUID="$(cat "$study/series-uid")" -k SOPInstanceUID \
    "$address" "$dicom_port" >"$out/findscu.log" 2>&1 ||
    fail "findscu: $(tail -n 2 "$out/findscu.log")"
  find "$answers" -type f | grep -q . || fail "C-FIND found nothing"
  values_of SOPInstanceUID "$answers"/* | sort >"$out/uids-found"
  cmp "$study/instance-uids" "$out/uids-found" ||
    fail "C-FIND found other images than the $slices that were sent"
  note="$(wc -l <"$out/uids-found") images found"
}

# The value of a tag, one line a file, in the files' order.
values_of() { dcmdump -q -s +P "$@" | sed -n 's/.*\[\(.*\)\].*/\1/p'; }

find_by_http() {
  local query
  query=$(printf '{"Level":"Instance","Query":{"StudyInstanceUID":"%s"}}' \
    "$(cat "$study/study-uid")")
  orthanc tools/find --data "$query" | jq -r '.[]' >"$out/instances"
  [ "$(wc -l <"$out/instances")" -eq "$slices" ] ||
    fail "HTTP found $(wc -l <"$out/instances") images instead of $slices"
  note="$slices images found"
}

# Every image comes back with the pixels it was sent with. One curl and two dcmdumps for all: in an
# emulated machine, starting a program is what takes time.
fetch_and_compare() {
  local instance number count=0 requests=() files=() numbers
  rm -rf "$received"
  mkdir -p "$received"
  while read -r instance; do
    count=$((count + 1))
    files+=("$received/$count.dcm")
    requests+=("$url/instances/$instance/file" -o "$received/$count.dcm")
  done <"$out/instances"
  curl --silent --show-error --fail-early --fail -m 60 -u pacs:pacs "${requests[@]}" ||
    fail "HTTP did not give all images back"
  mapfile -t numbers < <(values_of InstanceNumber "${files[@]}")
  [ "$(printf '%s\n' "${numbers[@]}" | sort -u | wc -l)" -eq "$slices" ] ||
    fail "the images that came back are numbered ${numbers[*]}, not 1 to $slices"
  dcmdump -q +W "$received" "${files[@]}" >/dev/null
  for ((count = 1; count <= slices; count++)); do
    number=${numbers[count - 1]}
    cmp "$received/$count.dcm.0.raw" "$study/slice-$number.raw" ||
      fail "the pixels of image $number came back changed"
  done
  note="$slices images, pixel data equal byte for byte"
}

# --- The job --------------------------------------------------------------------------------------

keep_running() {
  printf '%s\n' "" "The PACS stays up; Ctrl-C presses its power button." \
    "  web      $url/app/explorer.html   (user pacs, password pacs)" \
    "  DICOM    storescu -aec ORTHANC $address $dicom_port FILE.dcm" \
    "  console  $out/console.log" \
    "  stop     $pacsvisor stop $name"
  trap 'kill -TERM "$machine_pid" 2>/dev/null || :' INT TERM
  local status=0
  # A signal ends wait early, with a status above 128, while the guest still shuts down.
  while kill -0 "$machine_pid" 2>/dev/null; do
    status=0
    wait "$machine_pid" || status=$?
  done
  machine_pid=''
  [ "$status" -eq 0 ] || fail "pacsvisor ended with status $status instead of 0"
}

main() {
  : >"$out/console.log"
  write_config
  write_store_config
  step "first start, until Orthanc answers" start_machine
  step "sending it (C-STORE)" send_study
  step "finding it by DICOM (C-FIND)" find_by_dicom
  step "finding it by HTTP" find_by_http
  step "fetching and comparing it" fetch_and_compare
  do_snapshots
  step "power button (pacsvisor stop)" stop_by_command
  if [ "${PACS_RESTART:-yes}" = no ]; then
    printf '%s\n' "" "${table[@]}"
    print_snapshots
    return
  fi
  step "second start, until Orthanc answers" start_machine
  step "finding it again by DICOM" find_by_dicom
  step "finding it again by HTTP" find_by_http
  step "fetching and comparing it again" fetch_and_compare
  if [ "${PACS_KEEP:-no}" = yes ]; then
    printf '%s\n' "" "${table[@]}"
    keep_running
    return
  fi
  step "power button (SIGTERM)" stop_by_signal
  printf '%s\n' "" "${table[@]}"
  print_snapshots
}

main
