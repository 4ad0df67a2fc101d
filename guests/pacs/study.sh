#!/usr/bin/env bash
# Makes a small synthetic CT study with dcmtk and has dcmtk check it.
# usage: study.sh FOLDER [SLICES]
# FOLDER then holds slice-N.dcm, slice-N.raw (its pixel data, little endian), study-uid, series-uid,
# and instance-uids, one a line, sorted.
# Needs bash, dump2dcm, dcmftest, dcmdump. The same arguments make the same study.
set -euo pipefail

SIZE=256 # rows and columns
# Stored values of 16 bits, little endian, as printf escapes; with intercept -1024 in Hounsfield
# units: air -1000, soft tissue 40, bone 700.
AIR='\x18\x00' TISSUE='\x28\x04' BONE='\xbc\x06'
# PS3.5, section B.2: below 2.25 a UID needs no registration; the number is a UUID's.
UID_ROOT=2.25.204517293847710265139427750129834712

repeated() { # TEXT COUNT
  local text
  printf -v text '%*s' "$2" ''
  printf '%s' "${text// /$1}"
}

# Half the width of a disc of this radius, this far from its centre's row; nothing outside it.
half_width() { # RADIUS DISTANCE
  local square=$(($1 * $1 - $2 * $2)) width=0
  if [ "$square" -gt 0 ]; then
    while [ $(((width + 1) * (width + 1))) -le "$square" ]; do width=$((width + 1)); done
  fi
  half=$width
}

# A body with a rib cage's ring and a lesion that grows from slice to slice.
write_pixels() { # SLICE FILE
  local slice=$1 row middle=$((SIZE / 2)) half outer inner lesion edge ring core
  for ((row = 0; row < SIZE; row++)); do
    half_width 110 $((row - middle)) && outer=$half
    half_width 100 $((row - middle)) && inner=$half
    half_width $((8 + 4 * slice)) $((row - middle)) && lesion=$half
    edge=$((middle - outer)) ring=$((outer - inner)) core=$((inner - lesion))
    # Each escape is eight characters of the prepared rows.
    printf '%b' "${air_row:0:8*edge}${bone_row:0:8*ring}${tissue_row:0:8*core}" \
      "${bone_row:0:16*lesion}${tissue_row:0:8*core}${bone_row:0:8*ring}${air_row:0:8*edge}"
  done >"$2"
}

write_dump() { # SLICE RAW-FILE
  cat <<END
(0008,0008) CS [ORIGINAL\\PRIMARY\\AXIAL]
(0008,0016) UI =CTImageStorage
(0008,0018) UI [$UID_ROOT.1.1.$1]
(0008,0020) DA [20250101]
(0008,0030) TM [120000]
(0008,0050) SH [PV-1]
(0008,0060) CS [CT]
(0008,0070) LO [pacsvisor]
(0008,0090) PN []
(0008,1030) LO [Synthetic phantom]
(0010,0010) PN [PHANTOM^PACSVISOR]
(0010,0020) LO [PV-0001]
(0010,0030) DA [19700101]
(0010,0040) CS [O]
(0018,0050) DS [5]
(0018,0060) DS [120]
(0020,000d) UI [$UID_ROOT.1]
(0020,000e) UI [$UID_ROOT.1.1]
(0020,0010) SH [1]
(0020,0011) IS [1]
(0020,0012) IS [1]
(0020,0013) IS [$1]
(0020,0032) DS [-128\\-128\\$((5 * $1))]
(0020,0037) DS [1\\0\\0\\0\\1\\0]
(0020,0052) UI [$UID_ROOT.2]
(0020,1040) LO []
(0028,0002) US 1
(0028,0004) CS [MONOCHROME2]
(0028,0010) US $SIZE
(0028,0011) US $SIZE
(0028,0030) DS [1\\1]
(0028,0100) US 16
(0028,0101) US 16
(0028,0102) US 15
(0028,0103) US 0
(0028,1050) DS [40]
(0028,1051) DS [400]
(0028,1052) DS [-1024]
(0028,1053) DS [1]
(7fe0,0010) OW =$2
END
}

main() {
  local folder=$1 slices=${2:-6} slice file
  mkdir -p "$folder"
  air_row=$(repeated "$AIR" "$SIZE")
  tissue_row=$(repeated "$TISSUE" "$SIZE")
  bone_row=$(repeated "$BONE" "$SIZE")
  printf '%s\n' "$UID_ROOT.1" >"$folder/study-uid"
  printf '%s\n' "$UID_ROOT.1.1" >"$folder/series-uid"
  for ((slice = 1; slice <= slices; slice++)); do
    file=$folder/slice-$slice
    write_pixels "$slice" "$file.raw"
    write_dump "$slice" "$file.raw" >"$file.dump"
    dump2dcm -q +te "$file.dump" "$file.dcm"
    dcmftest "$file.dcm" >/dev/null
    # The second opinion: as dcmdump reads it, the file holds the pixels that were meant.
    mkdir "$file.check"
    dcmdump -q +W "$file.check" "$file.dcm" >/dev/null
    grep -qF "[$UID_ROOT.1.1.$slice]" <(dcmdump -q +P SOPInstanceUID "$file.dcm")
    cmp "$file.check"/*.raw "$file.raw"
    rm -rf "$file.check" "$file.dump"
    printf '%s\n' "$UID_ROOT.1.1.$slice"
  done | sort >"$folder/instance-uids"
}

main "$@"
