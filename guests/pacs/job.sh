#!/usr/bin/env bash
# The main job: a PACS under pacsvisor takes a CT study in, gives it back, is switched off and on,
# and still has it. The same script runs on a host's own KVM, over the native Linux, and inside the
# nested machine; guests/pacs/run.sh prepares what it is told here, by environment:
#   PACS_IMAGES        folder with root.raw, data.raw, kernel, and initrd if the kernel needs one;
#                      the disks are written to
#   PACS_PACSVISOR     the program (pacsvisor)      PACS_NAME          the machine's name (pacs)
#   PACS_MEMORY        the guest's (1G)             PACS_CPUS          the guest's (1)
#   PACS_DICOM_PORT    on this host (4242)          PACS_HTTP_PORT     on this host (8042)
#   PACS_LISTEN        their address (127.0.0.1)    PACS_TIMEOUT       seconds for one start (120)
#   PACS_CMDLINE       more of the guest's kernel command line
#   PACS_TAP           a TAP interface to use instead of the user-mode network; the guest then
#                      answers at PACS_ADDRESS, on Orthanc's own ports
#   PACS_SLICES        images in the study (6)      PACS_KEEP=yes      stays up at the end
#   PACS_OUT           folder for logs and VM.toml (a new one)
# Needs bash, curl, jq, dcmtk, e2fsck. The study it sends is study.sh's, beside it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

images=${PACS_IMAGES:?the folder of the images}
pacsvisor=${PACS_PACSVISOR:-pacsvisor}
name=${PACS_NAME:-pacs}
timeout_s=${PACS_TIMEOUT:-120}
slices=${PACS_SLICES:-6}
listen=${PACS_LISTEN:-127.0.0.1}
tap=${PACS_TAP:-}
if [ -n "$tap" ]; then
  address=${PACS_ADDRESS:?the guest\'s address on the TAP network} dicom_port=4242 http_port=8042
else
  address=127.0.0.1 dicom_port=${PACS_DICOM_PORT:-4242} http_port=${PACS_HTTP_PORT:-8042}
fi
out=${PACS_OUT:-$(mktemp -d)}
mkdir -p "$out"
study=$out/study received=$out/received
export LC_ALL=C
url=http://$address:$http_port
machine_pid=''
table=()

# --- Telling -----------------------------------------------------------------------------------------

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

# --- The machine -------------------------------------------------------------------------------------

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
kernel = "$images/kernel"
$([ ! -f "$images/initrd" ] || echo "initrd = \"$images/initrd\"")
cmdline = "console=ttyS0 root=/dev/vda ro quiet ${PACS_CMDLINE:-}"
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

start_machine() {
  local deadline=$((SECONDS + timeout_s))
  "$pacsvisor" run "$out/VM.toml" </dev/null >>"$out/console.log" 2>&1 &
  machine_pid=$!
  # A forwarded port accepts connections before anyone listens in the guest: only an answer counts.
  until orthanc system >"$out/system.json" 2>/dev/null; do
    kill -0 "$machine_pid" 2>/dev/null || fail "pacsvisor ended before Orthanc answered"
    [ "$SECONDS" -lt "$deadline" ] || fail "Orthanc did not answer within $timeout_s s"
    sleep 0.2
  done
  note="Orthanc $(jq -r .Version "$out/system.json")"
}

await_power_off() {
  local status=0
  wait "$machine_pid" || status=$?
  machine_pid=''
  [ "$status" -eq 0 ] || fail "pacsvisor ended with status $status instead of 0"
}

# Orderly: the guest has unmounted everything, and a check finds nothing to say.
check_disks() {
  local disk
  for disk in root data; do
    e2fsck -fn "$images/$disk.raw" >"$out/e2fsck-$disk.log" 2>&1 ||
      fail "e2fsck found faults on $disk.raw: $(grep -v '^Pass' "$out/e2fsck-$disk.log" | head -n 3)"
    ! grep -q 'recover' "$out/e2fsck-$disk.log" || fail "$disk.raw was not unmounted"
  done
}

stop_by_command() {
  # By force only after the grace period: then the status above is not 0.
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

# --- The study ---------------------------------------------------------------------------------------

make_study() {
  bash "$here/study.sh" "$study" "$slices"
  note="$slices images, $(du -sk "$study" | cut -f 1) KiB with raw pixels"
}

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
  instance_uids "$study"/*.dcm >"$out/uids-sent"
  find "$answers" -type f | grep -q . || fail "C-FIND found nothing"
  instance_uids "$answers"/* >"$out/uids-found"
  # Two empty lists would also be equal.
  [ "$(wc -l <"$out/uids-found")" -eq "$slices" ] ||
    fail "C-FIND found $(wc -l <"$out/uids-found") images instead of $slices"
  cmp "$out/uids-sent" "$out/uids-found" || fail "C-FIND found other images than were sent"
  note="$(wc -l <"$out/uids-found") images found"
}

# One line a file, sorted.
instance_uids() { dcmdump -q +P SOPInstanceUID -s "$@" | sed -n 's/.*\[\(.*\)\].*/\1/p' | sort; }

find_by_http() {
  local query
  query=$(printf '{"Level":"Instance","Query":{"StudyInstanceUID":"%s"}}' "$(cat "$study/study-uid")")
  orthanc tools/find --data "$query" | jq -r '.[]' >"$out/instances"
  [ "$(wc -l <"$out/instances")" -eq "$slices" ] ||
    fail "HTTP found $(wc -l <"$out/instances") images instead of $slices"
  note="$slices images found"
}

# Every image comes back with the pixels it was sent with.
fetch_and_compare() {
  local instance number
  rm -rf "$received"
  mkdir -p "$received"
  while read -r instance; do
    number=$(orthanc "instances/$instance/simplified-tags" | jq -r .InstanceNumber)
    mkdir "$received/$number"
    orthanc "instances/$instance/file" -o "$received/$number.dcm"
    dcmdump -q +W "$received/$number" "$received/$number.dcm" >/dev/null
    cmp "$received/$number"/*.raw "$study/slice-$number.raw" ||
      fail "the pixels of image $number came back changed"
  done <"$out/instances"
  note="$slices images, pixel data equal byte for byte"
}

# --- The job -----------------------------------------------------------------------------------------

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
  write_config
  step "making a synthetic CT study" make_study
  step "first start, until Orthanc answers" start_machine
  step "sending it (C-STORE)" send_study
  step "finding it by DICOM (C-FIND)" find_by_dicom
  step "finding it by HTTP" find_by_http
  step "fetching and comparing it" fetch_and_compare
  step "power button (pacsvisor stop)" stop_by_command
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
}

main
