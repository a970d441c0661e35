package doctor

import (
	"context"
	"path/filepath"
	"strings"

	"b9.build/b9/engine/container"
)

// narrow is the architecture of 32-bit containers.
const narrow = "i686"

// architectures tries programs of every architecture: what the kernel was built
// for says little.
func (d *Host) architectures(ctx context.Context) []check {
	const name = "32-bit containers"
	var checks []check
	if container.MachineArch() == "x86_64" {
		emulator, err := d.Emulator(ctx, narrow)
		switch {
		case err != nil:
			checks = append(checks, warn(name, err.Error(), `only arch="i686" and arch="i386" need it: do what the message says`))
		case emulator != nil:
			checks = append(checks, ok(name, emulator.String()))
		default:
			checks = append(checks, ok(name, "the kernel runs programs of "+narrow))
		}
	}
	return append(checks, d.foreign(ctx))
}

// foreign is about the architectures that no kernel of this machine's kind runs.
func (d *Host) foreign(ctx context.Context) check {
	const name = "other architectures"
	var have, lack []string
	var why error
	for _, arch := range container.Archs() {
		if arch == container.MachineArch() || arch == narrow {
			continue
		}
		emulator, err := d.Emulator(ctx, arch)
		switch {
		case err != nil:
			lack, why = append(lack, arch), err
		case emulator != nil:
			have = append(have, byEmulator(emulator))
		default:
			have = append(have, arch+" by the kernel")
		}
	}
	if len(have) == 0 {
		return warn(name, why.Error(), "only arch= of another kind of machine needs it: do what the message says")
	}
	c := ok(name, strings.Join(have, ", "))
	if len(lack) > 0 {
		c.Detail += "; not " + strings.Join(lack, ", ")
	}
	return c
}

func byEmulator(e *container.Emulator) string {
	by := e.Arch + " by " + filepath.Base(e.Path)
	if !e.Own {
		by += " as this machine has it registered"
	}
	return by
}
