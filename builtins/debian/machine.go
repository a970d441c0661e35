package debian

import (
	"cmp"
	"context"
	"errors"
	"os"

	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
)

// Machine implements engine.OfMachine.
func (b *bootstrap) Machine() string { return machineOf(b.Arch) }

// machineOf is what uname(2) calls a machine of an architecture of Debian.
func machineOf(arch string) string {
	names := map[string]string{
		"amd64": "x86_64", "i386": "i686", "arm64": "aarch64", "armhf": "armv7l", "armel": "armv7l",
		"ppc64el": "ppc64le", "mips64el": "mips64", "loong64": "loongarch64",
	}
	return cmp.Or(names[arch], arch)
}

// chooseEmulator finds what runs the programs of the system, nil for the kernel.
func (b *bootstrap) chooseEmulator(ctx context.Context, job *engine.Job) (*container.Emulator, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("installing packages needs root: run b9 as root, for example with sudo")
	}
	emulator, err := job.World().Emulator(ctx, b.Machine())
	if emulator != nil {
		job.Logf("b9: %v", emulator)
	}
	return emulator, err
}
