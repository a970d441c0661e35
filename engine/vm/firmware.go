package vm

// firmware is the two files of a UEFI: its code, which is only read, and the variables
// that a machine begins with, of which every machine has a copy.
type firmware struct{ Code, Vars string }

// firmwareDir is where Debian's package ovmf has them.
const firmwareDir = "/usr/share/OVMF"

// firmwareSets are the names that its files have had, code and variables, the newest first.
func firmwareSets(secure bool) [][2]string {
	if secure {
		return [][2]string{{"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"}}
	}
	return [][2]string{{"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"}, {"OVMF_CODE.fd", "OVMF_VARS.fd"}}
}
