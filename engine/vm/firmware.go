package vm

import (
	"fmt"
	"os"
	"path/filepath"
)

// firmwareDir is where Debian's package ovmf has a UEFI.
const firmwareDir = "/usr/share/OVMF"

// firmwareSets are the names that its files have had, code and variables, the newest first.
func firmwareSets(secure bool) [][2]string {
	if secure {
		return [][2]string{{"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"}}
	}
	return [][2]string{{"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"}, {"OVMF_CODE.fd", "OVMF_VARS.fd"}}
}

// FindFirmware finds the two files of this host's UEFI: its code, which is only read, and
// the variables that a machine begins with, of which every machine has a copy.
func FindFirmware(secure bool) (code, vars string, err error) {
	for _, set := range firmwareSets(secure) {
		code, vars = filepath.Join(firmwareDir, set[0]), filepath.Join(firmwareDir, set[1])
		_, err = os.Stat(code)
		if _, verr := os.Stat(vars); err == nil && verr == nil {
			return code, vars, nil
		}
	}
	return "", "", fmt.Errorf("no UEFI in %s: install the package ovmf", firmwareDir)
}
