#!/bin/sh
# Runs every recorded launch of a folder in the emulator: sh run.sh FOLDER [COMMAND]. What ran before is kept.
cd "$1" || exit 2
emulator=${2:-cotangent-emulator}
mkdir -p res
for launch in k*_*.toml; do
  result=res/${launch%.toml}.txt
  [ -s "$result" ] && continue
  timeout 120 "$emulator" "${launch%%_*}.metal" "$launch" > "$result" 2>&1
  echo "rc=$?" >> "$result"
done
