package vm

import (
	"fmt"
	"strings"
)

// scriptHead finds out what the machine runs on, and where its files are. What a
// machine with UEFI or a TPM keeps lies beside its disks. The test for KVM is whether
// the node can be opened: ACCEL=tcg is for a host where it opens and no guest runs.
const scriptHead = `#!/bin/sh
# Starts the machine %s with QEMU alone. Options of QEMU may follow.
# The disks are written to: -snapshot leaves them as they are.
# ACCEL=tcg does without KVM, ACCEL=kvm insists on it.
set -e
cd "$(dirname "$0")"
if [ -z "$ACCEL" ]; then
	ACCEL=tcg
	if (exec 3<>/dev/kvm) 2>/dev/null; then ACCEL=kvm; fi
fi
CPU=max
if [ "$ACCEL" = kvm ]; then CPU=host; fi
`

// scriptFirmware makes the variables of this machine, once.
const scriptFirmware = `for set in %s; do
	code=%s/${set%%:*} vars=%s/${set#*:}
	if [ -e "$code" ] && [ -e "$vars" ]; then break; fi
done
if [ ! -e "$code" ] || [ ! -e "$vars" ]; then echo "no UEFI in %s: install the package ovmf" >&2; exit 1; fi
if [ ! -e %s ]; then cp "$vars" %s; fi
`

// scriptTPM starts a TPM that ends with the machine.
const scriptTPM = `tpm=$(mktemp -d)
trap 'rm -rf "$tpm"' EXIT
mkdir -p %s
swtpm socket --tpm2 --tpmstate dir="$PWD/%s" --ctrl type=unixio,path="$tpm/socket" --terminate --daemon
`

// Script is a program for a shell that starts the machine with QEMU, in the directory
// that it lies in. Its arguments are passed on to QEMU.
func (m *Machine) Script() string {
	var b strings.Builder
	fmt.Fprintf(&b, scriptHead, m.Name)
	vars, state := m.Name+".vars", m.Name+".tpm"
	if m.Firmware == "uefi" {
		var sets []string
		for _, s := range firmwareSets(m.SecureBoot) {
			sets = append(sets, s[0]+":"+s[1])
		}
		fmt.Fprintf(&b, scriptFirmware, strings.Join(sets, " "), firmwareDir, firmwareDir, firmwareDir, vars, vars)
	}
	run := "exec "
	if m.TPM {
		fmt.Fprintf(&b, scriptTPM, state, state)
		run = "" // so that the trap clears away
	}
	args := m.Args(Host{
		Accel: "$ACCEL", CPU: "$CPU", Code: "$code", Vars: vars, TPM: "path=$tpm/socket",
		Console: []string{"-serial", "mon:stdio"}, Display: []string{"-display", "none"},
	})
	b.WriteString(run + Program)
	for _, a := range args {
		b.WriteString(" ")
		if strings.HasPrefix(a, "-") {
			b.WriteString("\\\n\t")
		}
		b.WriteString(scriptWord(a))
	}
	b.WriteString(" \\\n\t\"$@\"\n")
	return b.String()
}

// scriptVariables are what the script's own words may stand for.
func scriptVariables() []string { return []string{"$ACCEL", "$CPU", "$code", "$tpm"} }

// scriptWord quotes a word, except for the script's variables.
func scriptWord(word string) string {
	quoted := "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=.,:/+@", r))
	}) {
		return word
	}
	for _, v := range scriptVariables() {
		if before, after, ok := strings.Cut(word, v); ok && (before == "" || strings.HasSuffix(before, "=")) && (after == "" || after == "/socket") {
			return strings.ReplaceAll(quoted, v, `'"`+v+`"'`)
		}
	}
	return quoted
}
