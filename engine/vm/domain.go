package vm

import (
	"strings"

	"libvirt.org/go/libvirtxml"
)

// Domain describes the machine for libvirt, as its schema for domains has it. Files are
// named below dir, an absolute path of the host that runs it.
func (m *Machine) Domain(dir string) (string, error) {
	m = m.In(dir)
	d := &libvirtxml.Domain{
		Type: "kvm", Name: m.Name,
		Memory: &libvirtxml.DomainMemory{Value: uint(m.Memory >> 20), Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: uint(m.CPUs)},
		CPU:    &libvirtxml.DomainCPU{Mode: "host-passthrough"},
		OS:     m.domainOS(),
		Features: &libvirtxml.DomainFeatureList{
			ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{},
		},
		Devices: m.domainDevices(),
	}
	if args := m.nvmeArgs(); len(args) > 0 {
		d.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{}
		for _, a := range args {
			d.QEMUCommandline.Args = append(d.QEMUCommandline.Args, libvirtxml.DomainQEMUCommandlineArg{Value: a})
		}
	}
	if m.SecureBoot {
		d.Features.SMM = &libvirtxml.DomainFeatureSMM{State: "on"}
	}
	text, err := d.Marshal()
	return text + "\n", err
}

// nvmeArgs puts disks to NVMe by words for QEMU: libvirt has a bus for them only since
// its version 11.5.
func (m *Machine) nvmeArgs() []string {
	own := *m
	own.Seed = ""
	all, next := own.diskArgs(), ""
	var args []string
	for i := 0; i+1 < len(all); i += 2 { // a drive, and the device behind it
		if strings.HasPrefix(all[i+1], "nvme,") {
			args = append(args, "-drive", next, all[i], all[i+1])
		}
		next = all[i+1]
	}
	return args
}

func (m *Machine) domainOS() *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{
		Type:   &libvirtxml.DomainOSType{Type: "hvm", Arch: "x86_64", Machine: m.Type},
		Kernel: m.Kernel, Initrd: m.Initrd, Cmdline: m.Cmdline,
	}
	if m.Firmware != "uefi" {
		return os
	}
	// libvirt chooses a firmware of the host with these features.
	os.Firmware = "efi"
	state := map[bool]string{true: "yes", false: "no"}[m.SecureBoot]
	os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
		{Enabled: state, Name: "enrolled-keys"}, {Enabled: state, Name: "secure-boot"},
	}}
	return os
}

func (m *Machine) domainDevices() *libvirtxml.DomainDeviceList {
	port := uint(0)
	l := &libvirtxml.DomainDeviceList{
		Serials:  []libvirtxml.DomainSerial{{Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}, Target: &libvirtxml.DomainSerialTarget{Port: &port}}},
		Channels: []libvirtxml.DomainChannel{{Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}}, Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: AgentPort}}}},
		Videos:   []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}},
		Graphics: []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{AutoPort: "yes", Listen: "127.0.0.1"}}},
		RNGs:     []libvirtxml.DomainRNG{{Model: "virtio", Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}},
	}
	l.Controllers, l.Disks = m.domainDisks()
	for _, n := range m.NICs {
		nic := libvirtxml.DomainInterface{
			Source: &libvirtxml.DomainInterfaceSource{User: &libvirtxml.DomainInterfaceSourceUser{}},
			Model:  &libvirtxml.DomainInterfaceModel{Type: n.Model},
		}
		if n.MAC != "" {
			nic.MAC = &libvirtxml.DomainInterfaceMAC{Address: n.MAC}
		}
		l.Interfaces = append(l.Interfaces, nic)
	}
	for _, s := range m.Shares {
		fs := libvirtxml.DomainFilesystem{
			AccessMode: "passthrough",
			Source:     &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: s.Dir}},
			Target:     &libvirtxml.DomainFilesystemTarget{Dir: s.Tag},
		}
		if !s.Writable {
			fs.ReadOnly = &libvirtxml.DomainFilesystemReadOnly{}
		}
		l.Filesystems = append(l.Filesystems, fs)
	}
	if m.TPM {
		l.TPMs = []libvirtxml.DomainTPM{{Model: "tpm-crb", Backend: &libvirtxml.DomainTPMBackend{Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: "2.0"}}}}
	}
	return l
}

// domainDisks are the disks, each at a place of its own, and the controllers that the
// place needs.
func (m *Machine) domainDisks() ([]libvirtxml.DomainController, []libvirtxml.DomainDisk) {
	disks := m.Disks
	if m.Seed != "" {
		disks = append(disks[:len(disks):len(disks)], Disk{File: m.Seed, Format: "raw", Controller: m.SeedController(), CD: true})
	}
	var list []libvirtxml.DomainDisk
	var controllers []libvirtxml.DomainController
	indices, used, named := map[string]uint{}, map[string]uint{}, map[string]int{}
	for i, d := range disks {
		c, _ := controllerOf(d.Controller)
		if c.bus == "nvme" {
			continue // see nvmeArgs
		}
		if _, ok := indices[c.name]; !ok && !c.one && c.bus != "ide" && c.bus != "usb" {
			index := uint(0)
			for _, other := range controllers {
				if other.Type == c.bus {
					index++
				}
			}
			indices[c.name] = index
			controllers = append(controllers, libvirtxml.DomainController{Type: c.bus, Index: &index, Model: c.model})
		}
		prefix := map[string]string{"virtio": "vd", "ide": "hd"}[c.bus]
		if prefix == "" {
			prefix = "sd"
		}
		disk := libvirtxml.DomainDisk{
			Device: "disk", Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: driverOf(d.Format), Discard: "unmap"},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.File}},
			Target: &libvirtxml.DomainDiskTarget{Dev: deviceName(prefix, named[prefix]), Bus: c.bus},
		}
		named[prefix]++
		if !c.one && c.bus != "usb" {
			disk.Address = &libvirtxml.DomainAddress{Drive: driveAddress(c, indices[c.name], used[c.name])}
		}
		used[c.name]++
		if d.CD {
			disk.Device, disk.ReadOnly = "cdrom", &libvirtxml.DomainDiskReadOnly{}
		}
		if i < len(m.Disks) {
			disk.Boot = &libvirtxml.DomainDeviceBoot{Order: uint(i + 1)}
		}
		list = append(list, disk)
	}
	return controllers, list
}

// driveAddress is the n-th place at a controller.
func driveAddress(c controller, index, n uint) *libvirtxml.DomainAddressDrive {
	bus, target, unit := uint(0), uint(0), n
	if c.bus == "ide" {
		bus, unit = n/2, n%2
	}
	return &libvirtxml.DomainAddressDrive{Controller: &index, Bus: &bus, Target: &target, Unit: &unit}
}

// deviceName is the n-th name of a kind of disks: vda, ..., vdz, vdaa.
func deviceName(prefix string, n int) string {
	var b strings.Builder
	if n >= 26 {
		b.WriteByte(byte('a' + n/26 - 1))
	}
	return prefix + b.String() + string(rune('a'+n%26))
}
