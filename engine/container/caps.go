package container

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"b9.build/b9/engine/near"
)

// capabilityNames are the kernel's, in the order of their numbers, without
// the prefix: capabilities(7), linux/capability.h.
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL",
	"SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE",
	"NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
	"SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL",
	"SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
	"BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// defaultCapabilities let package managers and their scripts work: owners,
// modes and file capabilities of any kind, device nodes, chroot, and another
// user's identity. Mounting, the clock, modules and the network's
// configuration are not among them.
var defaultCapabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
	"SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD",
	"AUDIT_WRITE", "SETFCAP", "LINUX_IMMUTABLE",
}

// capabilities is the default set and the extra ones, as "CAP_" names, sorted.
func capabilities(extra []string) ([]string, error) {
	set := make(map[string]bool)
	for _, name := range defaultCapabilities {
		set["CAP_"+name] = true
	}
	for _, given := range extra {
		name := capabilityName(given)
		if !slices.Contains(capabilityNames[:], name) {
			return nil, fmt.Errorf("unknown capability %q%s", given, near.Hint(name, capabilityNames[:]))
		}
		set["CAP_"+name] = true
	}
	return slices.Sorted(maps.Keys(set)), nil
}

// capabilityName is a capability's name in capital letters and without its prefix.
func capabilityName(given string) string { return strings.TrimPrefix(strings.ToUpper(given), "CAP_") }

// CheckCapabilities reports the first name that is no Linux capability.
func CheckCapabilities(names []string) error {
	_, err := capabilities(names)
	return err
}
