//go:build cgo && libvirt_dlopen

package libvirt

import (
	"os"
	"strings"

	"libvirt.org/go/libvirtxml"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/internal/group"
	"b9.build/b9/engine/container/internal/helper"
)

// domainPlan is what a domain's description is made from.
type domainPlan struct {
	spec   container.Spec
	config container.Config
	slot   *slot
	root   string
	link   *link // to a libvirt network, or nil
}

const (
	// noMemoryLimit is in KiB. libvirt enforces the memory that every
	// domain has to name.
	noMemoryLimit = 1 << 40

	// helperMemory, in bytes, is what the helper may take beside the
	// command: libvirt's limit holds for both.
	helperMemory = 32 << 20
)

// domain describes the container: this program as the first process, in a
// directory that shows it the host's libraries. The images are not named; the
// helper is handed them as mounts.
func (p *domainPlan) domain() *libvirtxml.Domain {
	d := &libvirtxml.Domain{
		Type:        "lxc",
		Name:        p.slot.name(),
		Title:       p.spec.ID,
		Description: group.OwnerTag() + "." + p.spec.ID,
		VCPU:        &libvirtxml.DomainVCPU{Value: 1},
		OS: &libvirtxml.DomainOS{
			Type:     &libvirtxml.DomainOSType{Type: "exe", Arch: p.arch()},
			Init:     "/proc/self/fd/4",
			InitArgs: []string{helper.Arg, "3,5"},
			InitEnv:  []libvirtxml.DomainOSInitEnv{{Name: "container", Value: container.Marker}},
		},
		// The helper needs what a command is not given; it takes it away.
		Features: &libvirtxml.DomainFeatureList{
			Capabilities: &libvirtxml.DomainFeatureCapabilities{
				Policy: "allow",
				MkNod:  &libvirtxml.DomainFeatureCapability{State: "on"},
			},
		},
		Devices: &libvirtxml.DomainDeviceList{
			Emulator:    p.config.LibvirtEmulator,
			Filesystems: p.filesystems(),
			Consoles: []libvirtxml.DomainConsole{{
				Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
				Target: &libvirtxml.DomainConsoleTarget{Type: "lxc"},
			}},
		},
	}
	p.limit(d)
	switch {
	case p.link != nil:
		d.Devices.Interfaces = []libvirtxml.DomainInterface{p.link.device()}
	case p.spec.Network == container.NetworkNone:
		d.Features.PrivNet = &libvirtxml.DomainFeature{}
	}
	return d
}

// arch is what libvirt knows of the command's architecture: an emulator for
// another one is a program of this machine.
func (p *domainPlan) arch() string {
	if container.Narrow(p.spec.Arch) {
		return p.spec.Arch
	}
	return container.MachineArch()
}

// filesystems are the domain's root and the host's libraries in it.
func (p *domainPlan) filesystems() []libvirtxml.DomainFilesystem {
	list := []libvirtxml.DomainFilesystem{bindFilesystem(p.root, "/")}
	for _, lib := range hostLibraries {
		if info, err := os.Lstat(lib); err == nil && info.IsDir() {
			fs := bindFilesystem(lib, lib)
			fs.ReadOnly = &libvirtxml.DomainFilesystemReadOnly{}
			list = append(list, fs)
		}
	}
	return list
}

func bindFilesystem(source, target string) libvirtxml.DomainFilesystem {
	return libvirtxml.DomainFilesystem{
		AccessMode: "passthrough",
		Source:     &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: source}},
		Target:     &libvirtxml.DomainFilesystemTarget{Dir: target},
	}
}

func (p *domainPlan) limit(d *libvirtxml.Domain) {
	d.Memory = &libvirtxml.DomainMemory{Value: noMemoryLimit, Unit: "KiB"}
	if p.spec.Memory > 0 {
		kib := uint64(p.spec.Memory+helperMemory) >> 10
		d.Memory.Value = uint(kib)
		d.MemoryTune = &libvirtxml.DomainMemoryTune{HardLimit: &libvirtxml.DomainMemoryTuneLimit{Value: kib, Unit: "KiB"}}
		if swapAccounted() {
			d.MemoryTune.SwapHardLimit = &libvirtxml.DomainMemoryTuneLimit{Value: kib, Unit: "KiB"}
		}
	}
	if p.spec.CPUs > 0 {
		d.CPUTune = &libvirtxml.DomainCPUTune{
			Period: &libvirtxml.DomainCPUTunePeriod{Value: group.CPUPeriod},
			Quota:  &libvirtxml.DomainCPUTuneQuota{Value: int64(p.spec.CPUs * group.CPUPeriod)},
		}
	}
}

// swapAccounted tells whether the kernel can limit swap.
func swapAccounted() bool {
	if _, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"); err == nil {
		return true
	}
	data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return false
	}
	_, err = os.Stat("/proc/swaps")
	return err == nil && strings.Contains(string(data), "memory")
}
